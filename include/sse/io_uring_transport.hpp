// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// uring_transport: the transport of a hub over sockets in an epoll loop, whose writes io_uring
// does: all that a flush sends goes to the kernel in one call. For programs that have such a loop;
// a server with one of its own is sse/io_uring.hpp. Linux 5.19 or newer, liburing.
#pragma once
#ifndef SSEHUB_IO_URING_TRANSPORT_HPP
#define SSEHUB_IO_URING_TRANSPORT_HPP

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <liburing.h>

#include <sse/detail/base/assert.hpp>
#include <sse/epoll_transport.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// A transport for hub<> over stream sockets, written from the log's own bytes by io_uring
/// (transport::completes). Like epoll_transport, whose loop it runs in, but after each hub.flush():
///
///   net.reap(hub);  // true: flush again
///
/// A write that finds no room completes when there is some. Destroy the hub only after
/// hub.close_all() and settle(), since the kernel reads its bytes until then.
///
/// `Layer`: as that of basic_epoll_transport. With one, the small records that it makes are written
/// so, each from a buffer of the transport's own; larger ones are sent at once.
template <class Layer = detail::no_layer>
class basic_uring_transport : public basic_epoll_transport<Layer> {
  using base = basic_epoll_transport<Layer>;

 public:
  using base::secure;
  using typename base::security;
  static constexpr bool completes = true;                     ///< see transport
  static constexpr std::size_t max_buffers = secure ? 1 : 8;  ///< see transport
  /// The ring's entries: so many writes share a call.
  static constexpr unsigned writes_per_call = 1024;
  /// With a layer: more bytes than these are sent by a call of their own. It costs little beside
  /// them, and more if they had to wait outside of the processor's cache for the end of the flush.
  static constexpr std::size_t max_joined = 1024;

  /// Owns a connected socket.
  class connection : public base::connection {
   public:
    using base::connection::connection;
    connection() noexcept = default;
    /// Of one of the epoll transport's.
    explicit connection(typename base::connection c) noexcept : base::connection{std::move(c)} {}

   private:
    friend class basic_uring_transport;
    session_id session_{};
  };
  static_assert(sizeof(connection) <= (secure ? 24 : 16),
                "of each stream, also of those that nothing is sent to");

  /// As basic_epoll_transport's.
  explicit basic_uring_transport(int epoll, security s = {})
      : base{epoll, s}, messages_(writes_per_call) {
    if constexpr (secure) spare_.reserve(max_spare);
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
  ~basic_uring_transport() { ::io_uring_queue_exit(&ring_); }

  /// See basic_epoll_transport.
  [[nodiscard]] connection adopt(int fd) const { return connection{base::adopt(fd)}; }

  /// As basic_epoll_transport's, and takes what the ring completed.
  template <class Hub>
  bool on_event(Hub& hub, const epoll_event& e) noexcept {
    if (e.data.u64 == data_of({})) return true;
    return base::on_event(hub, e);
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
        if constexpr (secure) {
          if (!id) {
            record_left(hub, *reinterpret_cast<record*>(done[i]->user_data), result);
            continue;
          }
        }
        if (connection* const c = hub.find(id); c != nullptr) c->writing_ = false;
        hub.written(id, result > 0 ? static_cast<std::size_t>(result) : 0);
        if (is_fatal(result)) hub.closed(id);
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

  /// See transport.
  void opened(connection& c, session_id id) noexcept {
    c.session_ = id;
    base::opened(c, id);
  }

  /// See transport: put into the ring, and sent by end_flush().
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    if (!c) return {0, flow::closed};
    if constexpr (secure) {
      if (c.layer()) {
        if (c.writing_) return {0, flow::blocked};
        return bytes[0].size > max_joined ? base::write(c, bytes) : write_record(c, bytes[0]);
      }
    }
    io_uring_sqe* const s = next_entry();
    if (s == nullptr) return {0, flow::closed};
    std::size_t total = bytes[0].size;
    if (bytes.size() == 1) {
      ::io_uring_prep_send(s, c.fd(), bytes[0].data, total, MSG_NOSIGNAL);
    } else {  // the message has to stay until it was submitted
      message& m = messages_[static_cast<std::size_t>(s - ring_.sq.sqes)];
      total = base::gather(bytes, m.pieces, m.header);
      ::io_uring_prep_sendmsg(s, c.fd(), &m.header, MSG_NOSIGNAL);
    }
    s->user_data = data_of(c.session_);
    c.writing_ = true;
    ++in_flight_;
    return {total, flow::pending};
  }
  /// See transport: hands all writes of a flush to the kernel.
  void end_flush() noexcept { submit(); }

  /// See transport.
  void close(connection& c, close_reason why) noexcept {
    submit();  // before its descriptor is another's
    // Ends the write, which closing alone would not do.
    if (c.writing_ && why == close_reason::peer) ::shutdown(c.fd(), SHUT_RDWR);
    base::close(c, why);
  }

 private:
  using base::data_of, base::session_of;

  struct message {
    msghdr header{};
    std::array<iovec, max_buffers> pieces{};
  };
  /// Encrypted bytes under way; meanwhile the layer holds what it has to say of its own. Its
  /// address is what the kernel is told of the write.
  struct record {
    std::string bytes{};
    std::size_t sent = 0;
    session_id session{};
  };
  /// Of those that are not under way so many are kept: what a flush sends at once to many streams
  /// is not allocated anew in each.
  static constexpr std::size_t max_spare = 1024;
  static constexpr std::size_t max_spare_bytes = 2 * max_joined;  // of each

  [[nodiscard]] static bool is_fatal(int result) noexcept {
    return result < 0 && result != -EAGAIN && result != -EINTR;
  }
  [[nodiscard]] io_uring_sqe* next_entry() noexcept {
    if (io_uring_sqe* const s = ::io_uring_get_sqe(&ring_); s != nullptr) return s;
    submit();
    return ::io_uring_get_sqe(&ring_);
  }

  // --- with a layer

  /// What is taken was encrypted, and is nobody's to read again: the hub hears of the rest only.
  [[nodiscard]] write_result write_record(connection& c, const buffer& bytes) noexcept {
    try {
      std::unique_ptr<record> owned = take_record();
      record& r = *owned;
      const auto taken = c.layer().write(bytes.view(), r.bytes);
      if (taken.next != decltype(taken.next)::done) return {0, flow::closed};
      r.session = c.session_;
      if (!send_rest(c, r)) return {0, flow::closed};
      (void)owned.release();
      return {taken.bytes, flow::blocked};
    } catch (...) {
      return {0, flow::closed};
    }
  }
  [[nodiscard]] std::unique_ptr<record> take_record() {
    if (spare_.empty()) return std::make_unique<record>();
    std::unique_ptr<record> r = std::move(spare_.back());
    spare_.pop_back();
    r->bytes.clear();
    r->sent = 0;
    return r;
  }
  void keep_record(std::unique_ptr<record> r) noexcept {
    if (spare_.size() == spare_.capacity() || r->bytes.capacity() > max_spare_bytes) return;
    spare_.push_back(std::move(r));
  }
  [[nodiscard]] bool send_rest(connection& c, record& r) noexcept {
    io_uring_sqe* const s = next_entry();
    if (s == nullptr) return false;
    ::io_uring_prep_send(s, c.fd(), r.bytes.data() + r.sent, r.bytes.size() - r.sent, MSG_NOSIGNAL);
    s->user_data = reinterpret_cast<std::uintptr_t>(&r);
    c.layer().hold(true);
    c.writing_ = true;
    ++in_flight_;
    return true;
  }
  template <class Hub>
  void record_left(Hub& hub, record& r, int result) noexcept {
    std::unique_ptr<record> owned{&r};
    connection* const c = hub.find(r.session);
    if (c != nullptr) {
      c->writing_ = false;
      if (result > 0) r.sent += static_cast<std::size_t>(result);
      if (is_fatal(result)) {
        hub.closed(r.session);
      } else if (r.sent == r.bytes.size()) {
        c->layer().hold(false);
        if (c->layer().flush() != decltype(c->layer().flush())::want_write) hub.writable(r.session);
      } else if (send_rest(*c, r)) {
        (void)owned.release();
        return;
      } else {
        hub.closed(r.session);
      }
    }
    keep_record(std::move(owned));
  }

  void submit() noexcept {
    while (::io_uring_sq_ready(&ring_) != 0) {
      const int n = ::io_uring_submit(&ring_);
      ++calls_;
      if (n < 0 && n != -EINTR) return;  // memory is out: the next flush tries again
    }
  }

  io_uring ring_{};
  std::vector<message> messages_;               // by place in the ring
  std::vector<std::unique_ptr<record>> spare_;  // records that are not under way
  std::size_t in_flight_ = 0;
  std::uint64_t calls_ = 0;
};

using uring_transport = basic_uring_transport<>;  ///< of plain sockets

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_IO_URING_TRANSPORT_HPP
