// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Which entry a session may see next. Where the audience is the key of a user, which is the rule
// unless the host has one of its own, the stream's index tells; else the host is asked for each
// entry, for so many in a turn.
#pragma once

#include <cstdint>
#include <string_view>

#include <sse/detail/engine/channels.hpp>

namespace sse::inline v0::detail {

inline bool engine::sees(std::uint32_t slot, std::string_view audience) noexcept {
  const std::string_view key = caps_.key_of(slot);
  if (!ask_who_sees_) return key == audience;
  const quiet q{*this};
  return host_.sees(host_.self, slot, key, audience);
}

/// Moves `p` to the first entry from there on that the session may see: `entry`; else to the end of
/// the log: `nothing`. `paused`: it was asked often enough for now, go on from `p` in another turn.
/// `own`: ordinal of its next private entry, 0 while that is not known; from one call to the next.
inline engine::found engine::next_visible(std::uint32_t slot, const stream& st, log_place& p,
                                          std::uint64_t& own) noexcept {
  while (p.find_entry()) {
    if (p.get().audience == 0) return found::entry;
    if (ask_who_sees_ || st.ask || st.audiences == nullptr) {
      if (asks_left_ == 0) return found::paused;
      --asks_left_;
      if (sees(slot, p.seg->audience(p.get()))) return found::entry;
      ++p.k;
      continue;
    }
    if (own < p.ordinal() || own == 0) {
      const std::uint32_t user = caps_.user_of(slot);
      own = user == none
                ? UINT64_MAX
                : st.audiences->next(caps_.key_of(slot), caps_.hash_of_user(user), p.ordinal());
    }
    const std::uint32_t next = p.seg->next_public(p.k);
    if (own < p.seg->first + next) {
      p.k = static_cast<std::uint32_t>(own - p.seg->first);
      return found::entry;
    }
    p.k = next;
  }
  return found::nothing;
}

inline engine::found engine::next_visible(std::uint32_t slot, const stream& st,
                                          log_place& p) noexcept {
  std::uint64_t own = 0;
  return next_visible(slot, st, p, own);
}

/// Whether a subscription has something to send, now or once it was asked.
inline bool engine::behind(std::uint32_t slot, const subscription& sub) noexcept {
  if (sub.from() != source::log || sub.rest != 0) return true;
  log_place p = sub.at();
  return next_visible(slot, stream_of(sub), p) != found::nothing;
}

inline bool engine::has_pending(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (s.lane != none || s.flight != none) return true;
  asks_left_ = UINT32_MAX;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    if (behind(slot, subs_[i])) return true;
  }
  return false;
}

/// Moves a cursor past what its session may not see, so that it holds nothing for that.
inline void engine::pass_hidden(subscription& sub) noexcept {
  const session& s = sessions_[sub.session];
  if (sub.from() != source::log || sub.rest != 0 || s.flight != none || !serving(s)) return;
  asks_left_ = UINT32_MAX;
  log_place p = sub.at();
  (void)next_visible(sub.session, stream_of(sub), p);
  move_cursor(sub, p);
}

}  // namespace sse::inline v0::detail
