// The reader of request bodies: every cut of the bytes reads the same, what it takes is what a
// plain reading of RFC 9112 7.1 takes, and it takes not a byte behind the end. Input: one byte that
// chooses cuts and limits, then the body and what stands behind it.
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

struct reading {
  http1::outcome state = http1::outcome::need_more;
  int status = 0;
  std::size_t used = 0;
  std::string content{};
};

reading read(const http1::head_reader& head, const http1::limits& limits, text input,
             std::size_t step) {
  http1::body_reader reader{head, limits};
  reading out;
  while (out.used < input.size() && reader.state() == http1::outcome::need_more) {
    const text piece = input.substr(out.used, step);
    const std::string copy{piece};  // its own memory: the sanitizer sees a read behind it
    const http1::feed_result r = reader.feed(copy, out.content);
    require(r.state == reader.state() && r.consumed <= piece.size());
    require(r.state != http1::outcome::need_more || r.consumed == piece.size());
    out.used += r.consumed;
  }
  out.state = reader.state();
  out.status = reader.status();
  require((out.status != 0) == (out.state == http1::outcome::error));
  require(out.content.size() <= limits.body);
  return out;
}

/// A body that is whole, taken apart with the whole of it in sight. False: it is none.
bool take_apart(text input, std::string& content, std::size_t& used) {
  const text all = input;
  const auto line = [&input](text& out) {
    const std::size_t end = input.find("\r\n");
    if (end == text::npos) return false;
    out = input.substr(0, end);
    input.remove_prefix(end + 2);
    return sse::detail::text::is_field_value(out);
  };
  for (;;) {
    text size;
    if (!line(size)) return false;
    std::uint64_t n = 0;
    std::size_t digits = 0;
    for (; digits < size.size() && sse::detail::text::hex_digit(size[digits]) >= 0; ++digits) {
      n = n * 16 + static_cast<std::uint64_t>(sse::detail::text::hex_digit(size[digits]));
    }
    if (digits == 0 || digits > 16) return false;
    const text rest = size.substr(digits);
    const std::size_t semicolon = rest.find_first_not_of(" \t");
    if (!rest.empty() && (semicolon == text::npos || rest[semicolon] != ';')) return false;
    if (n == 0) break;
    if (input.size() < 2 || n > input.size() - 2 || input.substr(n, 2) != "\r\n") return false;
    content.append(input.substr(0, n));
    input.remove_prefix(n + 2);
  }
  for (text field; line(field);) {
    used = all.size() - input.size();
    if (field.empty()) return true;
    const std::size_t colon = field.find(':');
    if (colon == text::npos || !sse::detail::text::is_token(field.substr(0, colon))) return false;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned choice = data[0];
  const text input{reinterpret_cast<const char*>(data) + 1, size - 1};
  http1::limits limits;
  if ((choice & 0x80U) != 0) limits = {.body = 20, .body_extras = 10};

  for (const text how : {"Transfer-Encoding: chunked", "Content-Length: 7"}) {
    http1::head_reader head{limits};
    (void)head.feed(std::string{"POST / HTTP/1.1\r\nHost: h\r\n"}.append(how).append("\r\n\r\n"));
    require(head.has_body());
    const reading whole = read(head, limits, input, input.size());
    for (const std::size_t step : {std::size_t{1}, std::size_t{2 + (choice & 0x1FU)}}) {
      const reading again = read(head, limits, input, step);
      require(again.state == whole.state && again.status == whole.status);
      if (whole.state == http1::outcome::error) continue;  // its content is lost anyway
      require(again.used == whole.used && again.content == whole.content);
    }
    if (!head.chunked()) {
      require(whole.used == (input.size() < 7 ? input.size() : 7));
      require(whole.content == input.substr(0, whole.used));
      continue;
    }
    std::string content;
    std::size_t used = 0;
    const bool good = take_apart(input, content, used);
    if (whole.state == http1::outcome::complete) {
      require(good && used == whole.used && content == whole.content);
    } else {
      require(!good || whole.status == 413 || whole.status == 431 || whole.status == 400);
      // Only a line that is too long is refused though it is one.
      require(!good || whole.status != 400 || input.size() > 4096);
    }
  }
  return 0;
}
