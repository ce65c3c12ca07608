// Proxies: their URLs, those who are reached without, and what one answers to CONNECT.
// Input: lines with a proxy, exceptions, and a URL; then what the proxy sends.
#include <sse/client.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using sse::client_action;
using sse::client_state;
using sse::time_point;
using text = std::string_view;

void require(bool ok) {
  if (!ok) std::abort();
}

text take_line(text& in) {
  const std::size_t end = in.find('\n');
  const text line = in.substr(0, end);
  in.remove_prefix(end == text::npos ? in.size() : end + 1);
  return line;
}

struct nothing {
  void on_event(const sse::event&) {}
};

/// A request has one empty line, at its end, and no line that somebody else made.
void check_request(text request) {
  require(request.ends_with("\r\n\r\n"));
  require(request.find("\r\n\r\n") == request.size() - 4);
  std::size_t lines = 0;
  for (std::size_t at = 0; at < request.size(); ++at) {
    require(request[at] != '\0');
    require(request[at] != '\n' || request[at - 1] == '\r');
    require(request[at] != '\r' || request[at + 1] == '\n');
    lines += request[at] == '\n';
  }
  require(lines <= 9);  // the request line, at most seven headers, and the empty one
}

/// What becomes of a source whose proxy sends `answer` in pieces of that size.
std::string run(text proxy, text except, text url, text answer, std::size_t step) {
  sse::event_source source{
      url, {.proxy = {.http = proxy, .https = proxy, .except = except}, .max_head = 2000}};
  const time_point now = time_point::milliseconds(0);
  const client_action a = source.poll(now);
  if (a.what != client_action::connect) {
    require(source.state() == client_state::closed);
    return std::string{sse::explain(source.failure())};
  }
  require(!a.host.empty() && a.host.find_first_of(text{" /\\@?#%[]\r\n\0", 12}) == text::npos);
  require(a.port != 0 && !(a.tls && a.tunnel));
  std::string log = std::string{a.host} + ":" + std::to_string(a.port);
  const bool tunnel = a.tunnel;
  std::string request{source.connected(now)};
  check_request(request);
  require(tunnel == request.starts_with("CONNECT "));
  log += request;
  if (!tunnel) return log;
  while (!answer.empty() && source.reads()) {
    const std::string piece{answer.substr(0, step)};
    require(source.received(now, piece, nothing{}) == piece.size());
    answer.remove_prefix(piece.size());
    require(source.buffered() <= 2000 + request.size());
  }
  for (;;) {
    const client_action next = source.poll(now);
    if (next.what == client_action::none) break;
    log += std::to_string(static_cast<int>(next.what));
    if (next.what == client_action::secure) {
      request = source.connected(now);
      check_request(request);
      require(request.starts_with("GET /"));
      require(request.find("Proxy-Authorization") == text::npos);
      return log;
    }
    if (next.what == client_action::failed) log += sse::explain(source.failure());
  }
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  text input{reinterpret_cast<const char*>(data), size};
  const text proxy = take_line(input);
  const text except = take_line(input);
  const text url = take_line(input);
  // A byte behind the head shows only in the piece that it came with: heads that end the input.
  sse::detail::response_reader head{{.head = 2000, .tunnel = true}};
  const text answer = input.substr(0, head.feed(input));
  const std::string seen = run(proxy, except, url, answer, answer.size() + 1);
  require(run(proxy, except, url, answer, 1) == seen);
  require(run(proxy, except, url, answer, 3) == seen);
  (void)run(proxy, except, url, input, input.size() + 1);
  return 0;
}
