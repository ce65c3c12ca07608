// The memory transports of sse::testing, watched: what the hub may not do to a transport is noted,
// and the simulation hears of each session that begins and ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <sse/testing.hpp>

namespace simulation {

/// Who is told. Called inside the hub: must not throw.
class observer {
 public:
  virtual void session_begins(std::size_t peer, sse::session_id id) noexcept = 0;
  virtual void session_ends(std::size_t peer, sse::close_reason why) noexcept = 0;
  virtual void wrong(const char* what) noexcept = 0;

 protected:
  ~observer() = default;
};

template <bool Completes>
class watched_transport : public sse::testing::basic_memory_transport<Completes> {
 public:
  using base = sse::testing::basic_memory_transport<Completes>;
  using connection = typename base::connection;

  explicit watched_transport(observer& o) : observer_{&o} {}

  void opened(connection& c, sse::session_id id) noexcept {
    base::opened(c, id);
    observer_->session_begins(c.index, id);
  }
  [[nodiscard]] sse::write_result write(connection& c, std::span<const sse::buffer> b) noexcept {
    std::size_t size = 0;
    for (const sse::buffer& one : b) size += one.size;
    if (size == 0) observer_->wrong("a write of nothing");
    if (this->at(c.index).is_closed) observer_->wrong("a write after close");
    if (this->at(c.index).in_flight_bytes != 0) observer_->wrong("two writes at once");
    return base::write(c, b);
  }
  void close(connection& c, sse::close_reason why) noexcept {
    if (this->at(c.index).is_closed) observer_->wrong("closed twice");
    base::close(c, why);
    observer_->session_ends(c.index, why);
  }

 protected:
  void wrong(const char* what) noexcept { observer_->wrong(what); }

 private:
  observer* observer_;
};

using ready_transport = watched_transport<false>;
/// Completes writes later; can be peeked at.
using completion_transport = watched_transport<true>;
/// Takes one buffer at a time, as TLS does.
struct one_buffer_transport : watched_transport<false> {
  using watched_transport::watched_transport;
  static constexpr std::size_t max_buffers = 1;
  [[nodiscard]] sse::write_result write(connection& c, std::span<const sse::buffer> b) noexcept {
    if (b.size() > 1) wrong("more buffers than the transport takes");
    return watched_transport::write(c, b);
  }
};

}  // namespace simulation
