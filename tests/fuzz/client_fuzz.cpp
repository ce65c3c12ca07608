// The event source against arbitrary servers: every chunking gives the same events, requests and
// failures, also with a sink that stops at each event; memory is bounded; what it sends is a valid
// request that no id and no Location can forge.
// Input: one byte that chooses options and chunks, then what the server sends on each connection,
// separated by 0xFF.
#include <sse/client.hpp>
#include <sse/http1.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using sse::client_action;
using sse::time_point;
using text = std::string_view;

constexpr std::size_t max_head = 2000;
constexpr std::size_t max_line = 3000;

void require(bool ok) {
  if (!ok) std::abort();
}

/// Writes down everything, each part with its length, so that nothing can hide in another.
struct recorder {
  std::string log{};
  bool stops = false;
  std::size_t calls = 0;

  void put(text what) {
    log.append(std::to_string(what.size())).append(":").append(what).append("\n");
  }
  void on_open(const sse::client_response& r) {
    put("open");
    r.for_each_header([&](text name, text value) {
      require(value.find_first_of(text{"\r\n\0", 3}) == text::npos);
      put(name);
      put(value);
      return true;
    });
  }
  bool on_event(const sse::event& e) {
    ++calls;
    require(e.id.find_first_of(text{"\r\n\0", 3}) == text::npos);
    require(sse::detail::text::is_utf8(e.data) && sse::detail::text::is_utf8(e.type));
    require(e.data.size() <= max_line);
    put("event");
    put(e.id);
    put(e.type);
    put(e.data);
    return !stops;
  }
  bool on_gap(const sse::gap& g) {
    ++calls;
    put("gap " + std::to_string(g.requested) + " " + std::to_string(g.first) + " " +
        std::to_string(g.lost));
    return !stops;
  }
  void on_comment(text t) { put(t); }
  void on_position(text id) { put(id); }
  void on_retry(std::int64_t ms) {
    require(ms >= 0);
    put("retry " + std::to_string(ms));
  }
};

void check_request(text request, const sse::event_source& source) {
  const text id = source.last_event_id();
  require(id.find_first_of(text{"\r\n\0", 3}) == text::npos);
  if (!sse::detail::text::is_field_value(id)) return;  // a strict reader refuses it, rightly
  sse::http1::head_reader reader{{.head = 100'000, .target = 50'000}};
  const std::size_t head = reader.feed(request).consumed;
  // An id or a Location may name what set_target refuses (404); it must not break the frame.
  require(reader.state() == sse::http1::outcome::complete || reader.status() == 404 ||
          reader.status() == 400);
  if (reader.state() != sse::http1::outcome::complete) return;
  require(request.substr(head) == (reader.head().method == "POST" ? "body" : ""));
  require(reader.content_length() == request.size() - head);
  require(reader.head().only_value("Last-Event-ID") == sse::detail::text::trim(id));
  require(source.origin().ends_with(reader.head().only_value("Host")));
  int own = 0;
  for (const sse::header& h : reader.head().headers) own += h.name == "X-Own" ? 1 : 0;
  require(own == 0 || source.origin() == "http://h");
}

/// Runs the connections of the input; each piece lies in memory of its own, so that the sanitizer
/// sees a read behind it.
std::string run(text input, std::size_t step, bool stops, const sse::client_options& options) {
  recorder sink{.stops = stops};
  sse::event_source source{"http://h/a/b?c=d", options};
  std::int64_t ms = 0;
  const auto now = [&ms] { return time_point::milliseconds(ms); };
  std::size_t connections = 0;
  for (;;) {
    const client_action a = source.poll(now());
    if (a.what == client_action::failed) {
      const sse::client_failure& f = source.failure();
      require(!sse::describe(f).empty() &&
              f.final == (source.state() == sse::client_state::closed));
      require(f.final || (f.delay.ms() >= 0 && f.delay.ms() <= 900'000));
      sink.put(sse::to_string(f.error));
      sink.put(std::to_string(f.delay.ms()) + " " + std::to_string(f.attempts));
    } else if (a.what == client_action::connect) {
      require(!a.host.empty() && a.port != 0);
      if (++connections > 40) return sink.log;
      sink.put(source.url());
      const std::string request{source.connected(now())};
      check_request(request, source);
      sink.put(request);
      const std::size_t end = input.find('\xFF');
      text response = input.substr(0, end);
      input.remove_prefix(end == text::npos ? input.size() : end + 1);
      while (!response.empty()) {
        const std::string piece{response.substr(0, step)};
        response.remove_prefix(piece.size());
        text rest = piece;
        for (;;) {
          const std::size_t calls = sink.calls;
          const std::size_t taken = source.received(now(), rest, sink);
          require(taken <= rest.size());
          require(stops || taken == rest.size());
          require(!stops || sink.calls <= calls + 1);
          rest.remove_prefix(taken);
          require(source.buffered() <= max_head + 10 * max_line + request.size());
          if (sink.calls == calls || !stops) break;
        }
        require(rest.empty());
      }
      source.ended(now());
    } else if (a.what == client_action::none) {
      if (source.state() == sse::client_state::closed || input.empty()) break;
      require(source.next_deadline() < time_point::never());
      require(source.next_deadline().ms() > ms);  // poll() did what was due
      ms = source.next_deadline().ms();
    }
  }
  sink.put(source.last_event_id());
  source.close();
  require(source.buffered() == 0);
  while (source.poll(now()).what != client_action::none) {
  }
  return sink.log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned choice = data[0];
  const text input{reinterpret_cast<const char*>(data) + 1, size - 1};
  const sse::header headers[] = {{"X-Own", "secret"}};
  sse::client_options o;
  o.headers = headers;
  o.method = (choice & 1U) != 0 ? "POST" : "GET";
  o.body = (choice & 1U) != 0 ? "body" : "";
  o.resume_query = (choice & 2U) != 0 ? "last_id" : "";
  if ((choice & 4U) == 0) o.retry_statuses = "";
  o.allow_insecure_redirect = (choice & 8U) != 0;
  o.max_head = max_head;
  o.stream.limits = {
      .line = max_line, .event = max_line, .data_lines = 100, .id = 200, .type = 200};

  const std::string seen = run(input, input.size() + 1, false, o);
  for (const std::size_t step : {std::size_t{1}, std::size_t{2 + (choice >> 4U)}}) {
    require(run(input, step, false, o) == seen);
    require(run(input, step, true, o) == seen);
  }
  require(run(input, input.size() + 1, true, o) == seen);
  return 0;
}
