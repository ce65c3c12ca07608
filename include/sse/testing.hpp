// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// testing: a transport in memory whose peers take what a test lets them take, and a check for
// transports of your own.
//
//   sse::testing::memory_transport net;
//   sse::hub<sse::testing::memory_transport> hub{net};
//   auto client = net.connect();
//   net.at(client).window = 10;                // ten more bytes, then blocked
//   (void)hub.accept({client}, request);
//   CHECK(net.at(client).received == "...");
//
// For tests only. Not thread-safe.
#pragma once
#ifndef SSEHUB_TESTING_HPP
#define SSEHUB_TESTING_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <sse/session.hpp>
#include <sse/transport.hpp>

/// Transports in memory, and a check of one's own.
namespace sse::inline SSEHUB_INLINE_NAMESPACE::testing {

/// One peer, as the test sees and drives it.
struct peer {
  std::string received{};  ///< all that it got
  /// Bytes it still takes; 0: writes answer flow::blocked.
  std::size_t window = SIZE_MAX;
  /// Bytes it takes of one write, which then answers flow::ready.
  std::size_t max_write = SIZE_MAX;
  bool fails = false;                     ///< the next write answers flow::closed
  bool is_closed = false;                 ///< Transport::close was called
  close_reason why = close_reason::host;  ///< then: why
  session_id session{};                   ///< whose it is
  std::vector<buffer> in_flight{};        ///< completion style: taken, still being read
  std::size_t in_flight_bytes = 0;        ///< of these
  std::size_t writes = 0;                 ///< calls of Transport::write
};

/// `Completes`: writes answer flow::pending and complete() finishes them.
template <bool Completes>
class basic_memory_transport {
 public:
  /// A client, by number.
  struct connection {
    std::size_t index = 0;  ///< of the client
  };
  static constexpr bool completes = Completes;  ///< see transport

  /// A new client; its number.
  [[nodiscard]] std::size_t connect() {
    peers_.emplace_back();
    return peers_.size() - 1;
  }
  [[nodiscard]] peer& at(std::size_t i) noexcept { return peers_[i]; }  ///< REQUIRES: i < size().
  /// Clients, also those that are closed.
  [[nodiscard]] std::size_t size() const noexcept { return peers_.size(); }

  /// See transport.
  void opened(connection& c, session_id id) noexcept { peers_[c.index].session = id; }

  /// See transport.
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    peer& p = peers_[c.index];
    ++p.writes;
    if (p.fails) return {0, flow::closed};
    std::size_t room = p.window < p.max_write ? p.window : p.max_write;
    std::size_t took = 0;
    for (const buffer& b : bytes) {
      const std::size_t n = b.size < room ? b.size : room;
      if (n == 0) continue;
      if constexpr (Completes) {
        p.in_flight.push_back({b.data, n});
      } else {
        p.received.append(b.data, n);
      }
      took += n;
      room -= n;
    }
    if (p.window != SIZE_MAX) p.window -= took;
    if constexpr (Completes) {
      if (took == 0) return {0, flow::blocked};
      p.in_flight_bytes = took;
      return {took, flow::pending};
    }
    return {took, p.window == 0 ? flow::blocked : flow::ready};
  }

  /// Ends the write in flight after `n` of its bytes, reading them only now; returns how many left,
  /// for hub.written().
  [[nodiscard]] std::size_t complete(std::size_t i, std::size_t n = SIZE_MAX) {
    peer& p = peers_[i];
    std::size_t left = n < p.in_flight_bytes ? n : p.in_flight_bytes;
    const std::size_t all = left;
    for (const buffer& b : p.in_flight) {
      const std::size_t take = b.size < left ? b.size : left;
      p.received.append(b.data, take);
      left -= take;
    }
    p.in_flight.clear();
    p.in_flight_bytes = 0;
    return all;
  }

  /// See transport.
  void close(connection& c, close_reason why) noexcept {
    peers_[c.index].is_closed = true;
    peers_[c.index].why = why;
  }

 private:
  std::vector<peer> peers_;
};

using memory_transport = basic_memory_transport<false>;  ///< takes bytes at once
/// Takes them when complete() says so.
using memory_completion_transport = basic_memory_transport<true>;

/// What check_transport found; empty: nothing wrong.
struct transport_report {
  std::string problem{};  ///< a sentence
  [[nodiscard]] explicit operator bool() const noexcept { return problem.empty(); }
};

/// Checks a transport against the contract of sse/transport.hpp on a connection whose other end
/// `read` drains: it must keep the order, take prefixes only, answer blocked when the other end
/// does not read, and go on afterwards, with whatever bytes it is offered then: those that it did
/// not take never come again. `read()` returns what arrived so far, after it gave the transport the
/// time to send what it still holds. Completion-style transports (flow::pending) are not for this.
template <transport T, class Read>
[[nodiscard]] transport_report check_transport(T& t, typename T::connection& c, Read read,
                                               std::size_t total = 1 << 22) {
  std::string sent;
  std::string got;
  bool was_blocked = false;
  for (std::size_t k = 0; sent.size() < total; ++k) {
    // Each time other bytes, of another length, elsewhere.
    std::string offered(1 + (k * 7919) % 20'000, ' ');
    for (std::size_t i = 0; i < offered.size(); ++i) {
      offered[i] = static_cast<char>('!' + (i + k * 31) % 94);
    }
    std::size_t cut = offered.size() < 7 ? offered.size() : 7;
    if constexpr (requires { requires T::max_buffers == 1; }) cut = offered.size();
    const buffer pieces[2] = {{offered.data(), cut}, {offered.data() + cut, offered.size() - cut}};
    const write_result r = t.write(c, {pieces, offered.size() == cut ? 1U : 2U});
    if (r.bytes > offered.size()) return {"write took more bytes than it was given"};
    if (r.next == flow::closed) {
      return {was_blocked ? "write answered closed to other bytes than those it had not taken"
                          : "write answered closed while the peer was there"};
    }
    if (r.next == flow::pending)
      return {"write answered pending: check completion with hub tests of your own"};
    sent.append(offered, 0, r.bytes);
    offered.assign(offered.size(), '\0');  // nobody reads them any more
    if (r.next == flow::blocked) {
      was_blocked = true;
      got += read();
    } else if (r.bytes == 0) {
      return {"write took nothing and answered ready: the hub would spin"};
    }
  }
  for (int i = 0; i < 1000 && got.size() < sent.size(); ++i) got += read();
  if (got != sent)
    return {"the peer did not get the bytes in order: " + std::to_string(got.size()) + " of " +
            std::to_string(sent.size())};
  if (!was_blocked) return {"write never answered blocked although the peer did not read"};
  return {};
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::testing

#endif  // SSEHUB_TESTING_HPP
