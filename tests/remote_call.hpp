// A call that another thread makes, while this one waits for what it returns or throws. Plainer
// than std::packaged_task, which makes 40 functions of each lambda: half of the time that it took
// to compile the hosts' tests.
//
//   test::remote_call call{f};
//   post(call);  // has it run there: call.run()
//   return call.result();
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

namespace test {

/// What does not depend on the function.
class remote_call_base {
 public:
  /// In the other thread, once.
  void run() {
    std::exception_ptr error;
    try {
      body_(*this);
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock{mutex_};
    error_ = error;
    done_ = true;
    changed_.notify_one();  // with the lock: who waits may end this object at once
  }

 protected:
  explicit remote_call_base(void (*body)(remote_call_base&)) noexcept : body_{body} {}
  ~remote_call_base() = default;

  void wait() {
    std::unique_lock lock{mutex_};
    while (!done_) changed_.wait(lock);
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void (*body_)(remote_call_base&);
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::exception_ptr error_;
};

template <class F>
class remote_call : public remote_call_base {
  using returned = std::invoke_result_t<F&>;
  static constexpr bool returns = !std::is_void_v<returned>;

 public:
  explicit remote_call(F& f) noexcept : remote_call_base{&remote_call::call}, f_{&f} {}

  /// Waits until it ran.
  returned result() {
    wait();
    if constexpr (returns) return std::move(*value_);
  }

 private:
  static void call(remote_call_base& b) {
    auto& self = static_cast<remote_call&>(b);
    if constexpr (returns) {
      self.value_.emplace((*self.f_)());
    } else {
      (*self.f_)();
    }
  }

  F* f_;
  std::optional<std::conditional_t<returns, returned, char>> value_{};
};

}  // namespace test
