// The request-head reader: every chunking reads the same, what it accepts obeys the rules, and what
// it accepted can be written down and read again. Then the writer: no header text changes the frame
// of an answer. Input: one byte that chooses chunks and limits, then the head.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <sse/http1.hpp>

namespace {

namespace http1 = sse::http1;
using text = std::string_view;

void require(bool ok) {
  if (!ok) std::abort();
}

std::size_t feed(http1::head_reader& reader, text input, std::size_t step) {
  std::size_t used = 0;
  while (used < input.size() && reader.state() == http1::outcome::need_more) {
    const text piece = input.substr(used, step);
    const std::string copy{piece};  // its own memory: the sanitizer sees a read behind it
    const http1::feed_result r = reader.feed(copy);
    require(r.state == reader.state() && r.consumed <= piece.size());
    require(r.state != http1::outcome::need_more || r.consumed == piece.size());
    used += r.consumed;
  }
  return used;
}

/// Everything that was read, in one string.
std::string describe(const http1::head_reader& reader) {
  std::string out =
      std::to_string(static_cast<int>(reader.state())) + " " + std::to_string(reader.status());
  if (reader.state() != http1::outcome::complete) return out;
  const sse::request& r = reader.head();
  out.append(" ").append(r.method).append(" ").append(r.target).append(" ").append(r.path);
  out.append(" ").append(r.query).append(" ").append(std::to_string(r.minor_version));
  out.append(" ").append(std::to_string(reader.content_length()));
  out.append(reader.chunked() ? " chunked" : "");
  out.append(reader.expects_continue() ? " expects" : " -")
      .append(reader.keep_alive() ? " keeps\n" : " -\n");
  for (const sse::header& h : r.headers)
    out.append(h.name).append(":").append(h.value).append("\n");
  return out;
}

void check_rules(text input, std::size_t used, const http1::head_reader& reader,
                 const http1::limits& limits) {
  const sse::request& r = reader.head();
  require(used <= input.size() && input.substr(0, used).ends_with("\r\n\r\n"));
  require(!r.method.empty() && r.method.size() <= http1::max_method &&
          r.method.find(' ') == text::npos);
  require(!r.target.empty() && r.target.size() <= limits.target);
  require(r.path == "*" || r.path.starts_with('/'));
  require(r.path.find('\0') == text::npos && r.path.find('\n') == text::npos &&
          r.path.find("/../") == text::npos && !r.path.ends_with("/.."));
  require(r.headers.size() <= limits.headers);
  int hosts = 0;
  int lengths = 0;
  for (const sse::header& h : r.headers) {
    require(h.name.find_first_of(text{" \t\r\n:\0", 6}) == text::npos && !h.name.empty());
    require(h.value.find_first_of(text{"\r\n\0", 3}) == text::npos);
    require(h.value.empty() || (h.value.front() != ' ' && h.value.back() != ' '));
    hosts += sse::detail::text::equal_fold(h.name, "Host") ? 1 : 0;
    lengths += sse::detail::text::equal_fold(h.name, "Content-Length") ? 1 : 0;
    require(reader.chunked() || !sse::detail::text::equal_fold(h.name, "Transfer-Encoding"));
  }
  require(hosts == 1 || (hosts == 0 && r.minor_version == 0));
  require(lengths <= 1 && reader.content_length() <= limits.body);
  require(!reader.chunked() || (lengths == 0 && r.minor_version == 1));
}

void check_again(const http1::head_reader& reader) {
  const sse::request& r = reader.head();
  std::string head;
  head.append(r.method).append(" ").append(r.target);
  head.append(r.minor_version == 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  for (const sse::header& h : r.headers)
    head.append(h.name).append(":").append(h.value).append("\r\n");
  head.append("\r\n");
  http1::head_reader again{
      {.head = std::size_t{1} << 20, .headers = 1000, .target = std::size_t{1} << 20}};
  require(again.feed(head).consumed == head.size());
  require(describe(again) == describe(reader));
}

void check_writer(text input) {
  const std::size_t colon = input.find(':');
  const text name = input.substr(0, colon);
  const text value = colon == text::npos ? text{} : input.substr(colon + 1);
  const sse::response added = sse::response::text(200, "body").add("X-First", "1").add(name, value);
  std::string out;
  require(http1::write_response(out, added));
  require(out.ends_with("\r\n\r\nbody") && out.find("\r\n\r\n") == out.size() - 8);
  require(out.find('\0') == std::string::npos &&
          out.find("Content-Length: 4\r\n") != std::string::npos);
  out.clear();
  const bool valid =
      http1::write_response(out, {.status = 200, .headers = std::string{input}, .body = "body"});
  require(valid == (out.find(" 200 OK\r\n") == 8));
  require(out.find("\r\n\r\n") == out.size() - (valid ? 8 : 4));
  out.clear();
  const bool started =
      http1::write_stream_head(out, {.content_type = name, .extra = value}, 1, true);
  require(started ? out.find("\r\n\r\n") == out.size() - 4 : out.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned choice = data[0];
  const text input{reinterpret_cast<const char*>(data) + 1, size - 1};
  http1::limits limits;
  if ((choice & 0x80U) != 0) limits = {.head = 200, .headers = 5, .target = 40, .body = 100};

  http1::head_reader whole{limits};
  const std::size_t used = feed(whole, input, input.size());
  const std::string seen = describe(whole);
  for (const std::size_t step : {std::size_t{1}, std::size_t{2 + (choice & 0x1FU)}}) {
    http1::head_reader reader{limits};
    const std::size_t taken = feed(reader, input, step);
    require(describe(reader) == seen);
    if (reader.state() == http1::outcome::complete) require(taken == used);
    reader.release();
    require(reader.memory() == 0);
  }
  if (whole.state() == http1::outcome::complete) {
    check_rules(input, used, whole, limits);
    check_again(whole);
    // The next request of the connection, in used memory, reads as on a new one.
    const text rest = input.substr(used);
    whole.reset();
    http1::head_reader fresh{limits};
    feed(whole, rest, rest.size() + 1);
    feed(fresh, rest, rest.size() + 1);
    require(describe(whole) == describe(fresh));
  }
  check_writer(input);
  return 0;
}
