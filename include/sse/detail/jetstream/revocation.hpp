// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Users whose tokens hold no more, on all nodes: keys of a bucket that live as long as a token may,
// and a copy of them here that admission reads without waiting. What is written to the bucket comes
// to every node as a plain message at once, also where no server can store it just now; once a
// second each node looks whether it has all that is stored.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP
#define SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/detail/base/decimal.hpp>
#include <sse/detail/jetstream/nats.hpp>
#include <sse/detail/jetstream/stream.hpp>
#include <sse/function.hpp>
#include <sse/jetstream_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class order_revocations {
 public:
  static constexpr std::size_t max_user = 500;  ///< bytes of a name
  /// As long without a look at the bucket: this node is cut off.
  static constexpr std::chrono::milliseconds heartbeat{3500};

  /// `end`: closes a user's streams on this node.
  order_revocations(const jetstream_options& o, const jetstream_link& link,
                    function<void(std::string_view user)> end)
      : options_{&o},
        link_{&link},
        bucket_{link.stream() + "_revoked"},
        subjects_{"$KV." + bucket_ + '.'},
        end_{std::move(end)} {}

  [[nodiscard]] jetstream_error open() {
    const std::int64_t ttl = options_->revoke_for.ms() * 1'000'000;
    nats_bucket made;
    if (jetstream_error e =
            link_->patiently([&](jsErrCode&) { return link_->open_bucket(made, bucket_, ttl); }))
      return e;
    const auto has = link_->bucket_ttl(bucket_);
    if (has && *has != 0 && *has < ttl)
      return {jetstream_errc::settings,
              "bucket " + bucket_ +
                  " keeps its keys for a shorter time than revoke_for says: "
                  "change it with the nats tool"};
    heard_ = link_->subscribe(subjects_ + '>');
    if (heard_ == nullptr)
      return {jetstream_errc::denied,
              "may not subscribe to " + subjects_ + ">: look at the user's permissions"};
    return link_->patiently([this](jsErrCode&) {
      look();
      return is_fresh() ? jetstream_error{}
                        : jetstream_error{jetstream_errc::unreachable,
                                          "bucket " + bucket_ + " cannot be read"};
    });
  }
  /// See jetstream::revoke().
  [[nodiscard]] bool revoke(std::string_view user) {
    if (user.empty() || user.size() > max_user) return false;
    const std::uint64_t now = now_ms();
    apply(std::string{user}, now);
    const std::scoped_lock<std::mutex> lock{mutex_};
    unstored_[std::string{user}] = {now, {}};
    to_send_.notify_one();
    return true;
  }
  /// See jetstream::admits().
  [[nodiscard]] jetstream_admission ask(std::string_view user, std::uint64_t issued_ms) const {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const auto at = revoked_.find(std::string{user});
      if (at != revoked_.end() && holds(at->second, now_ms()) &&
          (issued_ms == 0 || issued_ms <= at->second))
        return jetstream_admission::revoked;
    }
    return is_fresh() ? jetstream_admission::admitted : jetstream_admission::unknown;
  }
  /// Takes plain messages, in a thread of its own, until it is stopped.
  void hear() {
    detail::hear(heard_.get(), stopping_, [this](natsMsg* m) { take(m); });
  }
  /// Sends what is not stored yet, and looks at the bucket, in a thread of its own.
  void keep() {
    while (!stopping_) {
      send();
      if (clock::now() - looked_ >= std::chrono::seconds{1}) {
        looked_ = clock::now();
        look();
        forget_old();
      }
      std::unique_lock<std::mutex> lock{mutex_};
      to_send_.wait_for(lock, std::chrono::milliseconds{250});
    }
  }
  void stop() noexcept {
    stopping_ = true;
    to_send_.notify_all();
  }
  /// REQUIRES: the threads ended, and nothing comes any more.
  void close() noexcept { heard_.reset(); }
  void tell(jetstream_stats& s) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    s.revoked = revoked_.size();
  }

 private:
  using clock = std::chrono::steady_clock;

  struct pending {
    std::uint64_t at_ms = 0;
    clock::time_point sent{};
  };
  [[nodiscard]] static std::uint64_t now_ms() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
  }
  [[nodiscard]] bool holds(std::uint64_t at_ms, std::uint64_t now) const noexcept {
    return now < at_ms + static_cast<std::uint64_t>(options_->revoke_for.ms());
  }
  [[nodiscard]] bool is_fresh() const noexcept {
    const clock::duration at{fresh_.load(std::memory_order_relaxed)};
    return at.count() != 0 && clock::now().time_since_epoch() - at < heartbeat;
  }
  void apply(std::string user, std::uint64_t at_ms) {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      std::uint64_t& known = revoked_[user];
      if (known >= at_ms) return;
      known = at_ms;
    }
    end_(user);
  }
  /// A put of the bucket, or a deletion: somebody took a revocation back.
  void take(natsMsg* m) {
    const std::string_view subject = text_of(natsMsg_GetSubject(m));
    if (!subject.starts_with(subjects_)) return;
    const auto user = read_token(subject.substr(subjects_.size()));
    if (!user) return;
    std::uint64_t at = 0;
    if (!header_of(m, "KV-Operation").empty()) {
      const std::scoped_lock<std::mutex> lock{mutex_};
      revoked_.erase(*user);
      unstored_.erase(*user);
    } else if (read_decimal(data_of(m), UINT64_MAX / 2, at) == decimal::number) {
      apply(*user, at);
    }
  }
  void send() {
    std::vector<std::pair<std::string, std::uint64_t>> due;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      const clock::time_point now = clock::now();
      for (auto& [user, p] : unstored_) {
        if (p.sent != clock::time_point{} && now - p.sent < std::chrono::seconds{2}) continue;
        p.sent = now;
        due.emplace_back(user, p.at_ms);
      }
    }
    for (const auto& [user, at] : due)
      (void)natsConnection_PublishString(link_->connection(), (subjects_ + as_token(user)).c_str(),
                                         std::to_string(at).c_str());
  }
  /// All that the bucket has is here then, as of when it was asked.
  void look() {
    const clock::time_point asked = clock::now();
    const std::string stream = "KV_" + bucket_;
    std::string why;
    const auto seen = link_->look(stream, why);
    if (!seen) return;
    if (seen->created_ns != created_ns_ || seen->last < read_) read_ = 0;  // it was made anew
    created_ns_ = seen->created_ns;
    if (seen->last > read_ && seen->first <= seen->last) {
      std::uint64_t came = 0;
      const bool ok = link_->read(stream, (std::max)(read_ + 1, seen->first), seen->last,
                                  [&](natsMsg* m, const delivery& d) {
                                    came = d.sequence;
                                    take(m);
                                    stored(m);
                                  });
      if (!ok || came != seen->last) return;
    }
    read_ = seen->last;
    fresh_.store(asked.time_since_epoch().count(), std::memory_order_relaxed);
  }
  void stored(natsMsg* m) {
    const auto user = read_token(text_of(natsMsg_GetSubject(m)).substr(subjects_.size()));
    if (!user) return;
    std::uint64_t at = 0;
    const bool put = read_decimal(data_of(m), UINT64_MAX / 2, at) == decimal::number;
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto p = unstored_.find(*user);
    if (put && p != unstored_.end() && at >= p->second.at_ms) unstored_.erase(p);
  }
  void forget_old() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const std::uint64_t now = now_ms();
    std::erase_if(revoked_, [&](const auto& r) { return !holds(r.second, now); });
    std::erase_if(unstored_, [&](const auto& p) { return !holds(p.second.at_ms, now); });
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  std::string bucket_;
  std::string subjects_;  // what is in front of a user's token
  function<void(std::string_view user)> end_;
  nats_subscription heard_;
  std::atomic<bool> stopping_{false};
  std::atomic<clock::rep> fresh_{0};  // when the bucket was asked last, and all of it is here

  // Of the thread that keeps.
  clock::time_point looked_{};
  std::int64_t created_ns_ = 0;
  std::uint64_t read_ = 0;  // the last sequence of the bucket that is here

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable to_send_;
  std::unordered_map<std::string, std::uint64_t> revoked_;  // when, in ms since 1970
  std::unordered_map<std::string, pending> unstored_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_REVOCATION_HPP
