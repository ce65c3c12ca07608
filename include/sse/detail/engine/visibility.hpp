// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Which entry a session may see next. Where the audience is the key of a user, which is the rule
// unless the host has one of its own, the stream's index tells; else the host is asked for each
// entry, for so many in a turn.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP
#define SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP

#include <cstdint>
#include <string_view>

#include <sse/detail/engine/ends.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

inline bool engine::sees(std::uint32_t slot, std::string_view audience) noexcept {
  const std::string_view key = caps_.key_of(slot);
  if (!ask_who_sees_) return key == audience;
  const quiet q{*this};
  return host_.sees(host_.self, slot, key, audience);
}

/// From a private entry to the next of its segment that may be seen, whoever's it is; count: none.
/// `own`: ordinal of the reader's next private one.
inline std::uint32_t engine::next_in_segment(const segment& s, std::uint32_t k,
                                             std::uint64_t own) noexcept {
  const std::uint32_t next = s.next_public(k);
  return own < s.first + next ? static_cast<std::uint32_t>(own - s.first) : next;
}

/// False: the host is asked for each entry.
inline bool engine::own_entries_of(std::uint32_t slot, const stream& st,
                                   own_entries& own) noexcept {
  if (ask_who_sees_ || st.ask) return false;
  const std::uint32_t user = caps_.user_of(slot);
  own = user == none ? own_entries::nobody()
                     : st.audiences->of(caps_.key_of(slot), caps_.hash_of_user(user));
  return true;
}

/// Moves `p` to the first entry from there on that the session may see: `entry`; else to the end of
/// the log: `nothing`. `paused`: it was asked often enough for now, go on from `p` in another turn.
/// `own`: its private entries, from one call to the next.
inline engine::found engine::next_visible(std::uint32_t slot, const stream& st, log_place& p,
                                          own_entries& own) noexcept {
  while (p.find_entry()) {
    if (p.get().audience == 0) return found::entry;
    if (!own.known() && !own_entries_of(slot, st, own)) {
      if (asks_left_ == 0) return found::paused;
      --asks_left_;
      if (sees(slot, p.seg->audience(p.get()))) return found::entry;
      ++p.k;
      continue;
    }
    p.k = next_in_segment(*p.seg, p.k, own.from(p.ordinal()));
    if (p.k != p.seg->count) return found::entry;
  }
  return found::nothing;
}

inline engine::found engine::next_visible(std::uint32_t slot, const stream& st,
                                          log_place& p) noexcept {
  own_entries own;
  return next_visible(slot, st, p, own);
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

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_VISIBILITY_HPP
