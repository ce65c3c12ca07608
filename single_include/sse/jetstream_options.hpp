// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/jetstream_options.hpp
//
// What an order over NATS JetStream (sse/jetstream.hpp) is told and what it says.
#ifndef SSEHUB_JETSTREAM_OPTIONS_HPP
#define SSEHUB_JETSTREAM_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sse.hpp"
#include "shards.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Where the cluster is, and what the stream in it shall be.
struct jetstream_options {
  /// Of one cluster: "nats://host:4222", "tls://...", with user:password@ or token@ if need be.
  std::vector<std::string> servers{"nats://127.0.0.1:4222"};
  std::string credentials{};  ///< file with a user's JWT and seed; empty: none
  std::string tls_ca{};       ///< file; empty: the system's. With one TLS is used whatever the URL.
  std::string tls_cert{};     ///< file with the client's chain; empty: none
  std::string tls_key{};      ///< file with its key; empty: none
  /// An event's subject is `<prefix>.<hub>.<channel>`. Tokens without '.', '*', '>' and white
  /// space; names of channels may have dots.
  std::string prefix = "sse";
  std::string hub = "events";  ///< the subject's second token
  /// Of the stream, and of the key-value bucket beside it, `<stream>_epoch`. Empty:
  /// `<prefix>_<hub>`.
  std::string stream{};
  /// What this process is called in message ids; empty: something random. No two at a time may have
  /// the same.
  std::string node{};
  /// Names of the channels, by number. What comes for others is passed.
  std::vector<std::string> channels{"events"};
  /// See sequencer_options. `backfill` is the order's.
  copyable_function<channel_options(std::string_view name)> channel{};
  /// Of the stream: 3 survives the loss of any server of three, 1 is for one server. Another number
  /// than the stream has is an error.
  std::uint32_t replicas = 3;
  // What the stream keeps, where this process makes it; 0, off: no limit. One that is there keeps
  // what it was told to.
  std::uint64_t keep_events = 0;                      ///< newest events
  std::uint64_t keep_bytes = std::uint64_t{1} << 30;  ///< of all events
  duration keep_age = duration::off();                ///< of an event
  /// open() waits so long for leaders and answers; for one server, then and later, at most 2 s.
  duration connect_wait = duration::seconds(5);
  /// A client that is ahead of this process waits so long; see sequencer_options.
  duration wait_ahead = duration::seconds(2);
  bool retry_ahead = false;  ///< see sequencer_options
  /// Of the newest events, so many bytes are in the hubs' memory after a start, at most half of
  /// `lane_bytes`.
  std::size_t preload_bytes = std::size_t{256} << 10;
  /// Of the events that clients came back for, so many bytes stay in memory: they are read once for
  /// all who need them, as long as they fit.
  std::size_t replay_bytes = std::size_t{16} << 20;
  std::size_t lane_bytes = std::size_t{1} << 20;  ///< see sequencer_options
  /// Bytes of events that wait to be stored; then publish answers `full`.
  std::size_t queue_bytes = std::size_t{16} << 20;
  std::uint32_t max_in_flight = 4096;  ///< events that were sent and not yet acknowledged
  /// No acknowledgement: sent again, with the same message id.
  duration ack_wait = duration::seconds(2);
  /// Then it is given up: it may be stored or not. Less than the stream's duplicate window of 5
  /// min.
  duration give_up = duration::seconds(60);
  duration stop_wait = duration::seconds(5);  ///< stop() waits so long for acknowledgements
  /// More events behind the stream than this: not ready.
  std::uint64_t ready_lag = 1000;
  encode_limits limits{};  ///< of events
  /// revoke() holds so long: the longest life of a token. off(): there is none, and no bucket.
  duration revoke_for = duration::off();
  /// Streams of each user are counted over all nodes, for presence and for the cap per user. All
  /// nodes say the same.
  bool presence = false;
  /// The user has a first stream, or no more one, on all nodes together. In a thread of the
  /// order's, within a second or two; a node that died counts for 30 s.
  copyable_function<void(std::string_view user, bool here)> on_presence{};
};

/// What revocations say of a user.
enum class jetstream_admission : std::uint8_t {
  admitted,
  revoked,
  unknown,  ///< this node is cut off: what was revoked meanwhile has not come here
};

/// Kinds of failures of a jetstream.
enum class jetstream_errc : std::uint8_t {
  none,
  options,       ///< these options cannot work
  unreachable,   ///< no server answers
  denied,        ///< the servers do not know these credentials, or they do not allow it
  no_jetstream,  ///< the server, or this account, has no JetStream
  too_old,       ///< the server does not know what is needed: 2.9 does
  settings,      ///< the stream is there, with settings that would break what is promised
  full,          ///< no room for the stream, or not enough servers for its replicas
  refused,       ///< the server says no for another reason
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(jetstream_errc e) noexcept {
  switch (e) {
    case jetstream_errc::none: return "none";
    case jetstream_errc::options: return "options";
    case jetstream_errc::unreachable: return "unreachable";
    case jetstream_errc::denied: return "denied";
    case jetstream_errc::no_jetstream: return "no_jetstream";
    case jetstream_errc::too_old: return "too_old";
    case jetstream_errc::settings: return "settings";
    case jetstream_errc::full: return "full";
    case jetstream_errc::refused: return "refused";
  }
  return "unknown";
}

/// What went wrong, where, and what to do about it.
struct jetstream_error {
  jetstream_errc what = jetstream_errc::none;  ///< the kind of failure
  std::string text{};                          ///< for a person
  [[nodiscard]] explicit operator bool() const noexcept { return what != jetstream_errc::none; }
};

/// What became of an event that was accepted. Views are valid during the call.
struct jetstream_receipt {
  bool stored = false;     ///< by a majority of the stream's replicas
  event_id id = no_id;     ///< where it is stored
  std::string_view why{};  ///< it is not, or nobody knows
};

/// What a node counted, and where it stands.
struct jetstream_stats {
  event_id last = no_id;          ///< shown, or being shown
  std::uint64_t sequence = 0;     ///< of the stream, of the same
  std::uint64_t lag = 0;          ///< events of the stream behind that, when it was last looked at
  std::uint64_t events = 0;       ///< shown by this run
  std::uint64_t passed = 0;       ///< of channels that are not here
  std::uint64_t invalid = 0;      ///< messages that cannot be an event, such as over the limits
  std::uint64_t lost = 0;         ///< events that the stream's limits removed before they came here
  std::uint64_t gaps = 0;         ///< told to all readers
  std::uint64_t epochs = 0;       ///< the same, since the stream's history is another one
  std::uint64_t follows = 0;      ///< times that it began to follow, the first one too
  std::uint64_t reads = 0;        ///< of old events, each of up to `max_run` blocks
  std::uint64_t read_events = 0;  ///< by these
  std::uint64_t published = 0;    ///< accepted by publish
  std::uint64_t stored = 0;       ///< of these
  std::uint64_t resent = 0;       ///< sent once more, since no receipt came
  std::uint64_t failed = 0;       ///< not stored, or given up
  std::uint64_t waiting = 0;      ///< not yet acknowledged
  std::uint64_t waiting_bytes = 0;  ///< of these
  std::uint64_t revoked = 0;        ///< revocations that hold
  bool connected = false;           ///< to one of the servers
  bool following = false;           ///< the stream is followed: what is stored comes
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JETSTREAM_OPTIONS_HPP
