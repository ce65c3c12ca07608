// A hub over the memory transport with a clock that stands still: who connects and what it gets, in
// a line each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/sse.hpp>
#include <sse/testing.hpp>

#include "without_position.hpp"

namespace test {

/// One event on the wire; an id of 0 and an empty type are left out.
inline std::string frame(std::uint64_t id, std::string_view type, std::string_view data) {
  std::string s;
  if (id != 0) s += "id: " + std::to_string(id) + "\n";
  if (!type.empty()) s += "event: " + std::string(type) + "\n";
  return s + "data: " + std::string(data) + "\n\n";
}

/// Events first..last as stage::put writes them.
inline std::string frames(std::uint64_t first, std::uint64_t last) {
  std::string s;
  for (; first <= last; ++first) s += frame(first, "e", std::to_string(first));
  return s;
}

/// A channel that sends nothing by itself.
inline sse::channel_options quiet(std::uint64_t keep = 1000) {
  return {.keep = keep, .heartbeat = {.mode = sse::heartbeat_options::pace::off}};
}

/// A gap frame; `lost` below 0: null.
inline std::string gap_frame(std::uint64_t id, std::uint64_t requested, std::uint64_t first,
                             std::int64_t lost) {
  return "id: " + std::to_string(id) +
         "\nevent: gap\ndata: {\"requested\":" + std::to_string(requested) +
         ",\"first\":" + std::to_string(first) +
         ",\"lost\":" + (lost < 0 ? "null" : std::to_string(lost)) + "}\n\n";
}

/// The numbers of all `id:` lines.
inline std::vector<std::uint64_t> ids_in(std::string_view stream) {
  std::vector<std::uint64_t> ids;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find('\n', at);
    const std::string_view line = stream.substr(at, end - at);
    if (line.starts_with("id: ")) ids.push_back(std::stoull(std::string(line.substr(4))));
    if (end == stream.npos) break;
    at = end + 1;
  }
  return ids;
}

/// first, first + 1, ..., last and nothing else.
inline bool consecutive(const std::vector<std::uint64_t>& ids, std::uint64_t first,
                        std::uint64_t last) {
  if (ids.size() != last + 1 - first) return false;
  for (const std::uint64_t id : ids) {
    if (id != first++) return false;
  }
  return true;
}

inline std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size()))
    ++n;
  return n;
}

/// What a client asks for, and how fast it reads.
struct ask {
  std::string key{};
  std::string query{};
  std::string last_event_id{};  ///< header; empty: absent
  std::string address{};
  std::string preamble{};
  bool chunked = false;
  int minor_version = 1;
  std::string method = "GET";
  std::string accept{};  ///< header; empty: absent
  std::size_t window = SIZE_MAX;
  std::size_t max_write = SIZE_MAX;
};

/// Calls f(request); the request's views end with the call.
template <class F>
auto with_request(const ask& a, F&& f) {
  std::vector<sse::header> headers;
  if (!a.last_event_id.empty()) headers.push_back({"Last-Event-ID", a.last_event_id});
  if (!a.accept.empty()) headers.push_back({"Accept", a.accept});
  sse::request r;
  r.method = a.method;
  r.query = a.query;
  r.headers = headers;
  r.address = a.address;
  r.preamble = a.preamble;
  r.chunked = a.chunked;
  r.minor_version = a.minor_version;
  return f(r);
}

/// One connection: its peer in the transport, and what accept said.
struct caller {
  std::size_t peer = 0;
  sse::session_id id{};
  bool head_only = false;
  sse::response refusal{};
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(id); }
};

inline caller to_caller(std::size_t peer, sse::accept_result r) {
  return {peer, r.id, r.head_only, std::move(r.refusal)};
}

template <class Transport>
struct basic_stage {
  Transport net;
  sse::hub<Transport> hub;

  explicit basic_stage(const sse::hub_options& o = {})
      : basic_stage{without_position(o), as_given{}} {}
  struct as_given {};
  basic_stage(const sse::hub_options& o, as_given) : hub{net, o} { at(0); }

  /// Time goes to `ms`; what is due happens and is sent.
  void at(std::int64_t ms) {
    hub.tick(sse::time_point::milliseconds(ms));
    flush();
  }
  void flush() {
    while (hub.flush()) {
    }
  }

  sse::channel open(std::string_view name, sse::channel_options o = {}) {
    sse::channel c = hub.open_channel(name, std::move(o));
    if (!c) throw std::string("open_channel failed");
    return c;
  }

  /// Publishes `data`, or else its own id, as type "e".
  sse::event_id put(sse::channel c, std::string_view data = {}, std::string_view audience = {}) {
    const std::string own = std::to_string(c.last_id() + 1);
    const sse::publish_result r =
        c.publish({.type = "e", .data = data.data() == nullptr ? std::string_view{own} : data},
                  {.audience = audience});
    if (!r) throw "publish: " + std::string(to_string(r.error));
    return r.id;
  }
  void put_many(sse::channel c, int n) {
    for (int i = 0; i < n; ++i) put(c);
  }

  caller join(const ask& a, std::initializer_list<sse::channel> channels) {
    auto v = sse::admit(a.key);
    for (sse::channel c : channels) v.join(c);
    return accept(a, std::move(v));
  }
  caller join(sse::channel c, const ask& a = {}) { return join(a, {c}); }
  caller accept(const ask& a, sse::verdict<> v) {
    const std::size_t peer = connect(a);
    return to_caller(peer, with_request(a, [&](const sse::request& r) {
                       return hub.accept({peer}, r, std::move(v));
                     }));
  }
  /// Through the admit hook.
  caller request(const ask& a) {
    const std::size_t peer = connect(a);
    return to_caller(peer,
                     with_request(a, [&](const sse::request& r) { return hub.accept({peer}, r); }));
  }

  sse::testing::peer& peer(const caller& k) { return net.at(k.peer); }
  /// What it got since last asked.
  std::string take(const caller& k) { return std::exchange(peer(k).received, {}); }
  bool closed(const caller& k) { return peer(k).is_closed; }
  /// It reads `n` more bytes.
  void let(const caller& k, std::size_t n = SIZE_MAX) {
    peer(k).window = n;
    hub.writable(k.id);
    flush();
  }

 private:
  std::size_t connect(const ask& a) {
    const std::size_t i = net.connect();
    net.at(i).window = a.window;
    net.at(i).max_write = a.max_write;
    return i;
  }
};

using stage = basic_stage<sse::testing::memory_transport>;
using completion_stage = basic_stage<sse::testing::memory_completion_transport>;

}  // namespace test
