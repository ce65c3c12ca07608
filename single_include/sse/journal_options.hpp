// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/journal_options.hpp
//
// What a journal (sse/journal.hpp) is told and what it says.
#ifndef SSEHUB_JOURNAL_OPTIONS_HPP
#define SSEHUB_JOURNAL_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "sse.hpp"
#include "shards.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// When an event may be shown to subscribers, and so what survives (docs/guide/durability.md).
enum class durability : std::uint8_t {
  none,         ///< at once; it is written soon after: a crash of the process may lose the newest
  page_cache,   ///< once the kernel has it: a crash of the process loses nothing that was shown
  interval,     ///< once fdatasync said so, every journal_options::interval
  every_batch,  ///< the same after each batch: what comes meanwhile shares the next one
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(durability d) noexcept {
  switch (d) {
    case durability::none: return "none";
    case durability::page_cache: return "page_cache";
    case durability::interval: return "interval";
    case durability::every_batch: return "every_batch";
  }
  return "unknown";
}

/// What is kept, how safely, and for how long.
struct journal_options {
  /// Names of the channels, by number; a journal that exists may get more of them, behind these.
  std::vector<std::string> channels{"events"};
  /// See sequencer_options. `backfill` is the journal's.
  shard_channel_options channel{};
  sse::durability durability = durability::page_cache;  ///< when an event counts as stored
  duration interval = duration::milliseconds(50);       ///< of durability::interval, at least 1 ms
  /// A new file begins behind so many bytes; 64 KiB to 1 GiB.
  std::uint64_t segment_bytes = std::uint64_t{64} << 20;
  // What is kept, in whole files; the newest file always is. 0, off: no limit.
  std::uint64_t keep_bytes = 0;         ///< of the files
  std::uint64_t keep_events = 0;        ///< newest events
  duration keep_age = duration::off();  ///< of an event
  /// Bytes of events that wait to be written, or for their fdatasync; then publish answers `full`.
  std::size_t queue_bytes = std::size_t{16} << 20;
  /// Of the newest events, so many bytes are in the hubs' memory again after a start, at most half
  /// of `lane_bytes`.
  std::size_t preload_bytes = std::size_t{256} << 10;
  /// Of the events that clients came back for, so many bytes stay in memory: they are read once for
  /// all who need them, as long as they fit.
  std::size_t replay_bytes = std::size_t{16} << 20;
  std::size_t lane_bytes = std::size_t{1} << 20;  ///< see sequencer_options
  encode_limits limits{};                         ///< of events
  /// When writing fails: true: events go out without having been stored, until it works again.
  /// false: publish answers `not_stored`, and what waits goes out once it is stored.
  bool live_without = false;
  /// All events up to `id` are as durable as the options say. Called in the journal's thread; it
  /// must not wait.
  function<void(event_id id)> on_durable{};
};

/// Kinds of failures of a journal.
enum class journal_errc : std::uint8_t {
  none,
  system,   ///< a call of the operating system failed, see journal_error::system
  in_use,   ///< somebody writes here
  format,   ///< written by a newer version, or by a machine of the other byte order, or no journal
  corrupt,  ///< what was durable is not there, or not what was written
};

/// What went wrong, where, and what to do about it.
struct journal_error {
  journal_errc what = journal_errc::none;  ///< the kind of failure
  std::error_code system{};                ///< what the system said; none: it said nothing
  std::string text{};                      ///< a sentence or two, with the file
  [[nodiscard]] explicit operator bool() const noexcept { return what != journal_errc::none; }
};

/// A stored event. Its views stand during the call that brings it.
struct journal_event {
  event_id id = no_id;        ///< its id
  std::int64_t time_ms = 0;   ///< since 1970, when the first was published that it was written with
  std::uint16_t channel = 0;  ///< number of its channel
  std::string_view audience{};  ///< empty: for all
  std::string_view key{};       ///< empty: none
  /// As they go to subscribers (WHATWG HTML 9.2.5). Empty: it cannot be read, or is not what was
  /// written, nor are those between it and the next that comes; then nothing is known but the id.
  std::string_view bytes{};
  key_role role = key_role::value;  ///< publish_options::role
};

/// What a start found.
struct journal_start {
  event_id recovered = no_id;    ///< the newest event that is there
  event_id next = no_id;         ///< the first id of this run
  bool clean = true;             ///< the run before ended by itself
  std::uint64_t cut_events = 0;  ///< at least so many were cut off: a torn tail
  std::uint64_t cut_bytes = 0;   ///< of these
};

/// What a journal counted, and where it stands.
struct journal_stats {
  event_id last = no_id;            ///< given out
  event_id durable = no_id;         ///< as the options say
  event_id oldest_gone = no_id;     ///< retention let go what is at or below it
  std::uint64_t files = 0;          ///< segments that are there
  std::uint64_t bytes = 0;          ///< of the files
  std::uint64_t events = 0;         ///< written by this run
  std::uint64_t batches = 0;        ///< times that events were written
  std::uint64_t syncs = 0;          ///< times that they were brought to the disk
  std::uint64_t waiting_bytes = 0;  ///< accepted, and not written yet
  std::uint64_t failures = 0;       ///< writes and syncs that failed
  bool failing = false;             ///< the last write or sync failed; it is tried again
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JOURNAL_OPTIONS_HPP
