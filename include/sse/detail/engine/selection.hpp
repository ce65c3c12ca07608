// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Readers that chose their keys of a channel: who chose what, and who is woken by which event. What
// they get of it is in passes.hpp.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_SELECTION_HPP
#define SSEHUB_DETAIL_ENGINE_SELECTION_HPP

#include <cstdint>
#include <span>
#include <string_view>

#include <sse/detail/engine/lag.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// One more key, unless the reader has it: what value it has is the last that waits. Its values are
/// to be chained then (fresh_keys_). False: memory is out.
inline bool engine::watch_key(std::uint32_t index, std::string_view key) noexcept {
  if (key.empty()) return true;  // events without a key come anyway
  key_watchers& all = *stream_of(subs_[index]).owner->newest_->watchers();
  watch_list& list = selections_[subs_[index].record].keys;
  const std::uint32_t known = all.find(key);
  if (known != none && all.find(list, known) != none) return true;
  if (!fresh_keys_.reserve(fresh_keys_.size() + 1)) return false;
  const std::uint32_t w = all.add(list, index, key);
  if (w == none) return false;
  if (known == none) fresh_keys_.push_reserved(all[w].key);
  all.begin(list, w);
  return true;
}

/// The values of keys that nobody chose before are found by their keys from now on.
inline void engine::chain_fresh_keys(const channel_state& c) noexcept {
  if (!fresh_keys_.empty()) c.newest_->chain_values(fresh_keys_);
  fresh_keys_.clear();
}

/// The keys that a verdict named. False: memory is out.
inline bool engine::watch_keys(std::uint32_t index, const watch_requests::request& w) noexcept {
  bool ok = true;
  w.each_key([&](std::string_view key) { ok = ok && watch_key(index, key); });
  chain_fresh_keys(*stream_of(subs_[index]).owner);
  return ok;
}

/// The watch of a reader that chose its keys on this one; none: it did not choose it.
inline std::uint32_t engine::find_watch(const subscription& sub,
                                        std::string_view key) const noexcept {
  const key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  const std::uint32_t k = all.find(key);
  return k == none ? none : all.find(selections_[sub.record].keys, k);
}

/// The subscription by which a session chose keys of a channel; none: it did not.
inline std::uint32_t engine::selection_of(std::uint32_t slot,
                                          const channel_state& c) const noexcept {
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    if (subs_[i].stream_index == c.main_.index && subs_[i].from() == source::selected) return i;
  }
  return none;
}

/// Events without a key wait for it, or were lost.
inline bool engine::keyless_waits(const subscription& sub) const noexcept {
  return stream_of(sub).owner->newest_->last_keyless() > selections_[sub.record].keyless;
}

/// A reader that chose its keys can get something now.
inline bool engine::has_more(const subscription& sub) const noexcept {
  const selection& chosen = selections_[sub.record];
  return (chosen.keys.first != none && now_ >= chosen.due()) || keyless_waits(sub);
}

/// Who chose the key of an event, and may see it, is served in the next flush. `position`: of its
/// value; barrier: it is one.
inline void engine::wake_watchers(channel_state& c, std::string_view key, std::uint64_t position,
                                  std::string_view audience) noexcept {
  key_watchers& all = *c.newest_->watchers();
  const std::uint32_t k = all.find(key);
  if (k == none) return;
  if (!audience.empty() && !c.main_.ask) {  // by the user's sessions
    const std::uint32_t user = caps_.find_user(audience);
    std::uint32_t slot = user == none ? none : caps_.first_of(user);
    for (; slot != none; slot = caps_.next_of_user(slot)) {
      const std::uint32_t i = selection_of(slot, c);
      const std::uint32_t w = i == none ? none : all.find(selections_[subs_[i].record].keys, k);
      if (w != none) wake_watch(c, w, position);
    }
    return;
  }
  for (std::uint32_t w = all.key(k).watches; w != none; w = all[w].older) {
    if (audience.empty() || sees(subs_[all[w].reader].session, audience))
      wake_watch(c, w, position);
  }
}

inline void engine::wake_watch(channel_state& c, std::uint32_t w, std::uint64_t position) noexcept {
  key_watchers& all = *c.newest_->watchers();
  const subscription& sub = subs_[all[w].reader];
  if (!serving(sessions_[sub.session])) return;
  if (position == barrier) return enqueue(live_, sub.session);
  selection& chosen = selections_[sub.record];
  const bool waited = chosen.keys.first != none;
  const key_watchers::change did = all.changed(chosen.keys, w, position);
  if (did == key_watchers::change::overtakes) count_conflated(all[w].reader, 1);
  if (did != key_watchers::change::queued) return;
  if (now_ >= chosen.due()) {
    enqueue(live_, sub.session);
  } else if (!waited) {
    arm(sub.session);
  }
}

/// A value of watch `w` is out; none: that of another audience is behind it.
inline void engine::value_sent(std::uint32_t index, std::uint32_t w) noexcept {
  const subscription& sub = subs_[index];
  key_watchers& all = *stream_of(sub).owner->newest_->watchers();
  if (w == none || !all.comes_from_write(w)) return;
  all.sent(selections_[sub.record].keys, w);
  if (sessions_[sub.session].paced) arm(sub.session);
}

inline bool engine::selects(session_id id, channel c) const noexcept {
  const channel_state* const here = find(c);
  return here != nullptr && id.slot < sessions_.extent() && id.generation != 0 &&
         sessions_[id.slot].generation == id.generation && selection_of(id.slot, *here) != none;
}

/// The subscription whose keys are to change: `index`, or why not.
inline select_error engine::find_selection(session_id id, channel c,
                                           std::uint32_t& index) noexcept {
  if (quiet_) return select_error::in_hook;
  if (!alive(id)) return select_error::no_session;
  const channel_state* const here = find(c);
  index = here == nullptr ? none : selection_of(id.slot, *here);
  return index == none ? select_error::no_selection : select_error::none;
}

inline select_error engine::select(session_id id, channel c,
                                   std::span<const std::string_view> keys) noexcept {
  std::uint32_t i = none;
  if (const select_error no = find_selection(id, c, i); no != select_error::none) return no;
  const channel_state& here = *stream_of(subs_[i]).owner;
  selection& chosen = selections_[subs_[i].record];
  if (chosen.keys.count + keys.size() > here.options_.max_selected)
    return select_error::too_many_keys;
  bool ok = true;
  for (const std::string_view key : keys) ok = ok && watch_key(i, key);
  chain_fresh_keys(here);
  if (now_ >= chosen.due()) {
    enqueue(live_, id.slot);
  } else {
    arm(id.slot);
  }
  want();
  return ok ? select_error::none : select_error::no_memory;
}

inline select_error engine::unselect(session_id id, channel c,
                                     std::span<const std::string_view> keys) noexcept {
  std::uint32_t i = none;
  if (const select_error no = find_selection(id, c, i); no != select_error::none) return no;
  key_watchers& all = *stream_of(subs_[i]).owner->newest_->watchers();
  watch_list& list = selections_[subs_[i].record].keys;
  for (const std::string_view key : keys) {
    const std::uint32_t k = all.find(key);
    const std::uint32_t w = k == none ? none : all.find(list, k);
    if (w == none) continue;
    if (all.waits(w)) count_conflated(i, 1);
    all.remove(list, k);
  }
  return select_error::none;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_SELECTION_HPP
