// The encoder on any fields: it refuses, or the parser gets the same back, and nothing else.
// Input: bytes 0 to 2 are the sizes of type and id and the form of retry; then type, id, data,
// comment split at 0xFF.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <sse/encode.hpp>

#include "../reference_parser.hpp"

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

// CR and CRLF arrive as LF.
std::string normal(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\n' && i > 0 && s[i - 1] == '\r') continue;
    out += s[i] == '\r' ? '\n' : s[i];
  }
  return out;
}

bool has(std::string_view s, std::string_view any) { return s.find_first_of(any) != s.npos; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  std::string_view rest{reinterpret_cast<const char*>(data) + 3, size - 3};
  const auto take = [&rest](std::size_t n) {
    const std::string_view part = rest.substr(0, n);
    rest.remove_prefix(part.size());
    return part;
  };
  sse::event e;
  e.type = take(data[0] % 140U);
  e.id = take(data[1] % 70U);
  e.retry = data[2] % 3 == 0   ? sse::no_retry
            : data[2] % 3 == 1 ? data[2] * 1234567 - 2000000
                               : INT64_MAX - data[2];
  const std::size_t split = rest.find('\xFF');
  e.data = take(split);
  if (!rest.empty()) rest.remove_prefix(1);
  const std::string_view comment = rest;

  const std::string_view forbidden{"\r\n\0", 3};
  std::string out = "data: before\n\n";
  const std::string before = out;
  const sse::encode_error error = sse::encode(out, e);
  require(error == sse::validate(e));
  const bool fits = e.type.size() <= 128 && e.id.size() <= 64 && sse::encoded_size(e) <= (1U << 20);
  const bool good =
      fits && !has(e.type, forbidden) && !has(e.id, forbidden) && e.retry >= sse::no_retry;
  require(good == (error == sse::encode_error::none));
  require(good || out == before);

  test::trace expected;
  expected.events.push_back({"", "before", "", sse::no_retry});
  if (good) {
    require(out.size() == before.size() + sse::encoded_size(e));
    expected.events.push_back({std::string{e.type}, normal(e.data), std::string{e.id}, e.retry});
    expected.last_id = e.id;
    if (e.retry >= 0) expected.retries.push_back(e.retry);
  }
  const std::size_t mark = out.size();
  const sse::encode_error refused = sse::encode_comment(out, comment);
  const bool said =
      comment.find('\0') == comment.npos && sse::encoded_comment_size(comment) <= (1U << 20);
  require(said == (refused == sse::encode_error::none));
  if (said) {
    require(out.size() == mark + sse::encoded_comment_size(comment));
    std::string text = normal(comment);
    for (std::size_t at = 0; at != text.npos;) {
      const std::size_t end = text.find('\n', at);
      expected.comments.push_back(text.substr(at, end == text.npos ? end : end - at));
      at = end == text.npos ? end : end + 1;
    }
  }
  require(test::parse(out, 0) == expected);
  require(test::parse(out, 1) == expected);
  require(test::reference_parse(out) == expected);
  return 0;
}
