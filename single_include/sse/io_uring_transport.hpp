// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#ifndef SSEHUB_SINGLE_IO_URING_TRANSPORT_HPP
#define SSEHUB_SINGLE_IO_URING_TRANSPORT_HPP

// ---- sse/io_uring_transport.hpp
//
// uring_transport: the transport of a hub over sockets in an epoll loop, whose writes io_uring
// does: all that a flush sends goes to the kernel in one call. For programs that have such a loop;
// a server with one of its own is sse/io_uring.hpp. Linux 5.19 or newer, liburing.

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <vector>

#include <liburing.h>

#include "sse.hpp"
#include "epoll_transport.hpp"

namespace sse::inline v0 {

/// A transport for hub<> over stream sockets, written from the log's own bytes by io_uring
/// (transport::completes). Like epoll_transport, whose loop it runs in, but after each hub.flush():
///
///   net.reap(hub);  // true: flush again
///
/// A write that finds no room completes when there is some. Destroy the hub only after
/// hub.close_all() and settle(), since the kernel reads its bytes until then.
class uring_transport : public epoll_transport {
 public:
  static constexpr bool completes = true;
  static constexpr std::size_t max_buffers = 8;
  static constexpr unsigned writes_per_call = 1024;

  /// Owns a connected socket.
  class connection : public epoll_transport::connection {
   public:
    using epoll_transport::connection::connection;

   private:
    friend class uring_transport;
    session_id session_{};
  };
  static_assert(sizeof(connection) <= 16, "of each stream, also of those that nothing is sent to");

  /// `epoll`: of the host's loop; stays the host's.
  explicit uring_transport(int epoll) : epoll_transport{epoll}, messages_{writes_per_call} {
    io_uring_params p{};
    p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN;
    p.cq_entries = 16 * writes_per_call;
    if (const int e = ::io_uring_queue_init_params(writes_per_call, &ring_, &p); e < 0) {
      throw std::system_error{-e, std::system_category(), "io_uring"};
    }
    if (!detail::watch(epoll, ring_.ring_fd, EPOLLIN, data_of({}), false)) {
      const std::error_code e{errno, std::system_category()};
      ::io_uring_queue_exit(&ring_);
      throw std::system_error{e, "epoll_ctl"};
    }
  }
  ~uring_transport() { ::io_uring_queue_exit(&ring_); }

  template <class Hub>
  bool on_event(Hub& hub, const epoll_event& e) noexcept {
    return e.data.u64 == data_of({}) || epoll_transport::on_event(hub, e);
  }

  /// Tells the hub what was written. True: there was something, flush again.
  template <class Hub>
  bool reap(Hub& hub) noexcept {
    submit();
    std::array<io_uring_cqe*, 128> done;
    unsigned all = 0;
    while (const unsigned n = ::io_uring_peek_batch_cqe(&ring_, done.data(), done.size())) {
      for (unsigned i = 0; i < n; ++i) {
        const session_id id = session_of(done[i]->user_data);
        const int result = done[i]->res;
        if (connection* const c = hub.find(id); c != nullptr) c->writing_ = false;
        hub.written(id, result > 0 ? static_cast<std::size_t>(result) : 0);
        if (result < 0 && result != -EAGAIN && result != -EINTR) hub.closed(id);
      }
      ::io_uring_cq_advance(&ring_, n);
      all += n;
    }
    in_flight_ -= all;
    return all != 0;
  }
  /// Waits until no write is under way. REQUIRES: all streams are closed.
  template <class Hub>
  void settle(Hub& hub) noexcept {
    SSEHUB_ASSERT(hub.sessions() == 0);
    while (static_cast<void>(reap(hub)), in_flight_ != 0) ::io_uring_submit_and_wait(&ring_, 1);
  }
  /// Writes that the hub waits for.
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  /// Calls to the kernel so far that took writes.
  [[nodiscard]] std::uint64_t calls() const noexcept { return calls_; }

  // --- what the hub calls

  void opened(connection& c, session_id id) noexcept {
    c.session_ = id;
    epoll_transport::opened(c, id);
  }

  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    if (!c) return {0, flow::closed};
    io_uring_sqe* s = ::io_uring_get_sqe(&ring_);
    if (s == nullptr) {
      submit();
      s = ::io_uring_get_sqe(&ring_);
      if (s == nullptr) return {0, flow::closed};
    }
    std::size_t total = bytes[0].size;
    if (bytes.size() == 1) {
      ::io_uring_prep_send(s, c.fd(), bytes[0].data, total, MSG_NOSIGNAL);
    } else {  // the message has to stay until it was submitted
      message& m = messages_[static_cast<std::size_t>(s - ring_.sq.sqes)];
      total = gather(bytes, m.pieces, m.header);
      ::io_uring_prep_sendmsg(s, c.fd(), &m.header, MSG_NOSIGNAL);
    }
    s->user_data = data_of(c.session_);
    c.writing_ = true;
    ++in_flight_;
    return {total, flow::pending};
  }
  void end_flush() noexcept { submit(); }

  void close(connection& c, close_reason why) noexcept {
    submit();  // before its descriptor is another's
    // Ends the write, which closing alone would not do.
    if (c.writing_ && why == close_reason::peer) ::shutdown(c.fd(), SHUT_RDWR);
    epoll_transport::close(c, why);
  }

 private:
  struct message {
    msghdr header{};
    std::array<iovec, max_buffers> pieces{};
  };

  void submit() noexcept {
    while (::io_uring_sq_ready(&ring_) != 0) {
      const int n = ::io_uring_submit(&ring_);
      ++calls_;
      if (n < 0 && n != -EINTR) return;  // memory is out: the next flush tries again
    }
  }

  io_uring ring_{};
  std::vector<message> messages_;  // by place in the ring
  std::size_t in_flight_ = 0;
  std::uint64_t calls_ = 0;
};

}  // namespace sse::inline v0
#endif  // SSEHUB_SINGLE_IO_URING_TRANSPORT_HPP
