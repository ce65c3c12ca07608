// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What other threads ask a server's thread to do: answers that come late. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_INBOX_HPP
#define SSEHUB_DETAIL_SERVER_INBOX_HPP

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <sse/function.hpp>
#include <sse/responder.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Outlives its server where somebody still holds a responder: then nothing happens any more.
class inbox {
 public:
  using task = function<void()>;

  /// `wake`: makes the loop call take() soon; from any thread.
  inbox(void (*wake)(void*) noexcept, void* context) noexcept : wake_{wake}, context_{context} {}

  /// From any thread. Throws std::bad_alloc.
  void post(task t) {
    const std::lock_guard<std::mutex> lock{mutex_};
    if (wake_ == nullptr) return;
    tasks_.push_back(std::move(t));
    any_.store(true, std::memory_order_relaxed);
    if (tasks_.size() == 1) wake_(context_);
  }
  /// What there is to do, on the server's thread. A wake-up follows each post, or was under way.
  [[nodiscard]] std::vector<task> take() noexcept {
    std::vector<task> out;
    if (!any_.load(std::memory_order_relaxed)) return out;
    const std::lock_guard<std::mutex> lock{mutex_};
    any_.store(false, std::memory_order_relaxed);
    out.swap(tasks_);
    return out;
  }
  void close() noexcept {
    std::vector<task> dropped;  // outside of the lock: what they hold may post
    const std::lock_guard<std::mutex> lock{mutex_};
    wake_ = nullptr;
    dropped.swap(tasks_);
  }

 private:
  std::mutex mutex_;
  std::vector<task> tasks_;
  std::atomic<bool> any_{false};
  void (*wake_)(void*) noexcept;
  void* context_;
};

/// A request that is answered later: what its responder and its connection know of each other.
template <class Connection>
struct late_request : late_answer {
  late_request(Connection& c, std::shared_ptr<inbox> i) noexcept : to{&c}, box{std::move(i)} {}

  /// Brings an answer, or that there is none, to the connection, if that still waits for it.
  template <class Answer>
  static function<void(Answer*)> sender(std::shared_ptr<late_request> me) {
    return [me = std::move(me)](Answer* a) {
      std::optional<Answer> answer;
      if (a != nullptr) answer.emplace(std::move(*a));
      me->box->post([me, answer = std::move(answer)]() mutable {
        if (me->to != nullptr) me->to->answered(std::move(answer));
      });
    };
  }

  Connection* to;  ///< the server's thread's; nullptr: it waits no more
  const std::shared_ptr<inbox> box;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_SERVER_INBOX_HPP
