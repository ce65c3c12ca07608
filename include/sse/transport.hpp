// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// transport: all that a host must give the hub: one write that never blocks, and a close.
//
//   struct my_transport {
//     struct connection { int fd; };
//     sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept;
//     void close(connection& c, sse::close_reason why) noexcept;
//   };
//
// write  takes any prefix of `bytes`, never blocks, throws or calls the hub back. What was not
// taken
//        is not promised to come again: the next call may offer other bytes, fewer, or bytes that
//        lie elsewhere, also after {0, flow::blocked}. A layer that has to go on with the bytes it
//        was given (OpenSSL's SSL_write after SSL_ERROR_WANT_WRITE) keeps what it makes of them and
//        says that it took them; sse::tls::session (sse/openssl.hpp) does.
// close  is called exactly once for each session, also for one that the host itself reported as
//        closed(id); after it the hub destroys the connection object. It never calls the hub back.
//
// Optional members, detected:
//   void opened(connection&, session_id)   right after admission: the moment to remember the id
//   void begin_flush() / end_flush()       around a flush: one io_uring submit, one cork
//   flow end(connection&)                  before a clean end, all else is out: says goodbye (TLS
//                                          close_notify); blocked: again after writable(id)
//   bool keep(connection&)                 in place of close, once the last chunk of a stream in
//                                          chunks is out: takes the connection over for the next
//                                          request, or answers false, and close is called
//   void carries_values(connection&)       of a stream that gets the newest values: what waits in
//   the
//                                          kernel ages, and is to be little
//   static constexpr std::size_t max_buffers   buffers per write; default 16, 1 for a TLS stream
//   static constexpr bool completes = true     write may answer flow::pending; peek, consume
#pragma once
#ifndef SSEHUB_TRANSPORT_HPP
#define SSEHUB_TRANSPORT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <sse/config.hpp>
#include <sse/session.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Bytes to be written, as they lie. Valid until write returns, or until written(id, n) after
/// flow::pending.
struct buffer {
  const char* data = nullptr;  ///< the first byte
  std::size_t size = 0;        ///< bytes

  /// The same bytes.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data, size}; }
};

/// What the transport can do next.
enum class flow : std::uint8_t {
  ready,  ///< `bytes` were taken; ask again at once if more is there
  /// `bytes` were taken, the rest was not, or not all that was taken is out: nothing is written
  /// until the host calls hub.writable(id), nor is the session's clean end.
  blocked,
  pending,  ///< `bytes` were taken but are still being read; the host will call hub.written(id, n)
  closed,   ///< the peer is gone
};

/// How much of what write() was given is taken, and what comes next.
struct write_result {
  std::size_t bytes = 0;    ///< taken
  flow next = flow::ready;  ///< what comes next
};

/// Why a session ended.
enum class close_reason : std::uint8_t {
  peer,       ///< the other side is gone, or a write failed
  lag,        ///< too slow: a reconnect resumes where it stopped (channel_options::max_lag)
  hub_full,   ///< too slow while the hub was over its own memory cap (hub_options::max_backlog)
  stalled,    ///< no write progress within hub_options::write_deadline
  idle,       ///< no application event within hub_options::idle
  age,        ///< the connection reached hub_options::max_age
  evicted,    ///< made room for a newer connection (limits::when_full)
  revoked,    ///< hub.revoke(user)
  finished,   ///< hub.finish(id), or the end of a retry stream
  drain,      ///< hub.drain()
  channel,    ///< its channel was closed
  host,       ///< hub.close(id), or the hub was destroyed
  no_memory,  ///< an allocation failed while serving it
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(close_reason r) noexcept {
  switch (r) {
    case close_reason::peer: return "peer";
    case close_reason::lag: return "lag";
    case close_reason::hub_full: return "hub_full";
    case close_reason::stalled: return "stalled";
    case close_reason::idle: return "idle";
    case close_reason::age: return "age";
    case close_reason::evicted: return "evicted";
    case close_reason::revoked: return "revoked";
    case close_reason::finished: return "finished";
    case close_reason::drain: return "drain";
    case close_reason::channel: return "channel";
    case close_reason::host: return "host";
    case close_reason::no_memory: return "no_memory";
  }
  return "unknown";
}
/// For tables of them.
inline constexpr std::size_t close_reason_count =
    static_cast<std::size_t>(close_reason::no_memory) + 1;
static_assert(to_string(static_cast<close_reason>(close_reason_count - 1)) != "unknown" &&
              to_string(static_cast<close_reason>(close_reason_count)) == "unknown");

/// All that a host must give (see the top of this file).
template <class T>
concept transport = std::movable<typename T::connection> &&
    requires(T& t, typename T::connection& c, std::span<const buffer> bytes, close_reason why) {
  { t.write(c, bytes) }
  noexcept->std::same_as<write_result>;
  { t.close(c, why) }
  noexcept;
};

/// One connection of a host that has several kinds of them (plain and TLS, say).
class any_connection {
 public:
  virtual ~any_connection() = default;
  virtual void opened(session_id) noexcept {}  ///< the hub knows it by that id from now on
  /// As Transport::write.
  [[nodiscard]] virtual write_result write(std::span<const buffer> bytes) noexcept = 0;
  virtual void close(close_reason why) noexcept = 0;  ///< as Transport::close
};

/// A transport whose connections bring their own write and close. Costs a virtual call per write.
struct any_transport {
  static constexpr bool completes = true;  ///< a connection may answer flow::pending

  /// Owns one.
  class connection {
   public:
    /// Takes it, which was made by `new`.
    explicit connection(any_connection* owned) noexcept : owned_{owned} {}
    connection(connection&& o) noexcept : owned_{std::exchange(o.owned_, nullptr)} {}
    connection& operator=(connection&& o) noexcept {
      std::swap(owned_, o.owned_);
      return *this;
    }
    ~connection() { delete owned_; }
    any_connection* operator->() const noexcept { return owned_; }  ///< what it owns

   private:
    any_connection* owned_;
  };

  void opened(connection& c, session_id id) noexcept { c->opened(id); }  ///< passes it on
  /// Passes it on.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    return c->write(bytes);
  }
  void close(connection& c, close_reason why) noexcept { c->close(why); }  ///< passes it on
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_TRANSPORT_HPP
