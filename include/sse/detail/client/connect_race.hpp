// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// connect_race: which of a host's addresses is tried when (RFC 8305, "happy eyeballs"): the
// families alternate, each attempt begins a short time after the one before, or at once when that
// failed, and the first connection wins. Knows no socket and no clock. Not public.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP
#define SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <sse/config.hpp>
#include <sse/detail/client/backoff.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Brings the family of the first address and the other one in turn, each in its own order, which
/// is the resolver's (RFC 8305 4).
template <class Address, class IsV6>
void alternate_families(std::vector<Address>& addresses, IsV6 is_v6) {
  std::vector<Address> families[2];
  const bool first = !addresses.empty() && is_v6(addresses.front());
  for (Address& a : addresses) families[is_v6(a) == first ? 0 : 1].push_back(std::move(a));
  addresses.clear();
  for (std::size_t i = 0; i < families[0].size() || i < families[1].size(); ++i) {
    for (auto& family : families) {
      if (i < family.size()) addresses.push_back(std::move(family[i]));
    }
  }
}

class connect_race {
 public:
  static constexpr std::int64_t least_delay_ms = 10;  // RFC 8305 8

  connect_race() noexcept = default;  // nothing to try yet
  /// `delay`: after the begin of one attempt, the next one begins; off: only when it failed. It is
  /// shortened where all could not begin in half of `patience`, which may be off.
  connect_race(std::size_t addresses, duration delay, duration patience) noexcept
      : count_{addresses}, delay_{delay}, due_{time_point::milliseconds(first_ms)} {
    if (delay.is_off() || patience.is_off()) return;
    const std::int64_t share = patience.ms() / 2 / static_cast<std::int64_t>(addresses + 1);
    if (share < delay.ms()) {
      delay_ = duration::milliseconds(share < least_delay_ms ? least_delay_ms : share);
    }
  }

  /// Whether an attempt is to begin now; at(): which.
  [[nodiscard]] bool begin(time_point now) noexcept {
    if (now < due_ || begun_ == count_) return false;
    ++begun_;
    due_ = begun_ == count_ ? time_point::never() : deadline(now, delay_);
    return true;
  }
  /// The address of the attempt that began last.
  [[nodiscard]] std::size_t at() const noexcept { return begun_ - 1; }

  /// An attempt failed: the next one begins at once.
  void failed(time_point now) noexcept {
    ++failed_;
    if (begun_ != count_) due_ = now;
  }
  [[nodiscard]] bool lost() const noexcept { return failed_ == count_; }
  /// When begin() is needed.
  [[nodiscard]] time_point due() const noexcept { return due_; }
  /// One of them won, or nobody waits any more.
  void stop() noexcept {
    begun_ = count_;
    due_ = time_point::never();
  }

 private:
  std::size_t count_ = 0;
  std::size_t begun_ = 0;
  std::size_t failed_ = 0;
  duration delay_{};
  time_point due_ = time_point::never();
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_CONNECT_RACE_HPP
