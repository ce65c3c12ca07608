// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Which id an event of the stream has: base + sequence. All processes agree on the base by a record
// beside the stream, which is changed by compare-and-set. A stream that was made anew, or that lost
// its tail, gets a base above all ids that anybody gave out, so that an id never means two events.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP
#define SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <sse/detail/base/decimal.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct stream_epoch {
  std::int64_t created_ns = 0;  ///< the stream's creation, since 1970
  event_id base = no_id;        ///< ids are this plus the sequence
  std::uint64_t from = 0;       ///< the epoch began behind this sequence
  std::uint64_t revision = 0;   ///< of the record; 0: it is not there
};

/// As the record has it.
[[nodiscard]] inline std::string epoch_text(const stream_epoch& e) {
  return std::to_string(e.created_ns) + ' ' + std::to_string(e.base) + ' ' + std::to_string(e.from);
}
[[nodiscard]] inline std::optional<stream_epoch> read_epoch(std::string_view text,
                                                            std::uint64_t revision) {
  std::uint64_t n[3] = {};
  for (int i = 0; i < 3; ++i) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    const std::uint64_t most = i == 0 ? INT64_MAX : max_event_id;
    if (read_decimal(word, most, n[i]) != decimal::number || (space == text.npos) != (i == 2))
      return std::nullopt;
    text.remove_prefix(i == 2 ? text.size() : space + 1);
  }
  return stream_epoch{static_cast<std::int64_t>(n[0]), n[1], n[2], revision};
}

/// What the stream says of itself.
struct stream_sight {
  std::int64_t created_ns = 0;
  std::uint64_t first = 0;  ///< the oldest that is there
  std::uint64_t last = 0;
};

/// Where this process stands.
struct stream_place {
  bool known = false;  ///< it followed the stream before
  stream_epoch epoch{};
  std::uint64_t sequence = 0;  ///< the last that came
  event_id head = no_id;       ///< the highest id given out
  bool same = true;            ///< the stream still has what came
};

struct epoch_decision {
  enum class kind : std::uint8_t {
    follow,  ///< go on behind `sequence`, in `epoch`
    write,   ///< `epoch` is to be the record, unless somebody else changed it: then look again
  } what;
  stream_epoch epoch;
  std::uint64_t sequence;
};

/// Ids that others may have given out and that this process does not know of: nobody is so far
/// behind. As microseconds 18 minutes.
inline constexpr std::uint64_t epoch_margin = std::uint64_t{1} << 30;

[[nodiscard]] inline epoch_decision decide_epoch(const std::optional<stream_epoch>& record,
                                                 const stream_sight& seen,
                                                 const stream_place& mine) noexcept {
  using kind = epoch_decision::kind;
  const auto larger = [](event_id a, event_id b) { return a < b ? b : a; };
  const bool same = mine.known && mine.same && mine.epoch.created_ns == seen.created_ns;
  const std::uint64_t revision = record ? record->revision : 0;
  const event_id head = mine.known ? mine.head + epoch_margin : no_id;
  const auto created_us = static_cast<event_id>(seen.created_ns / 1000);
  const auto write = [&](event_id base, std::uint64_t from, std::uint64_t go_on) {
    return epoch_decision{kind::write, {seen.created_ns, base, from, revision}, go_on};
  };
  if (same && (!record || record->created_ns != seen.created_ns || record->base < mine.epoch.base))
    return write(mine.epoch.base, mine.epoch.from, mine.sequence);  // the record was lost
  if (!record) return write(larger(created_us, head), 0, 0);
  if (record->created_ns != seen.created_ns)  // the stream was made anew: all in it is new
    return write(larger(larger(created_us, record->base + epoch_margin), head), 0, 0);
  if (!mine.known) return {kind::follow, *record, 0};
  if (record->base == mine.epoch.base && same) return {kind::follow, *record, mine.sequence};
  const std::uint64_t go_on = same ? mine.sequence : record->from;
  const bool raised = record->base != mine.epoch.base && record->base + go_on > mine.head &&
                      record->from <= seen.last;
  if (raised) return {kind::follow, *record, go_on};  // somebody saw it before
  return write(larger(larger(record->base + epoch_margin, head), created_us), seen.last, seen.last);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_EPOCH_HPP
