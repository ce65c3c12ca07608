// Query, form, resume point, Accept, tokens, redaction and host rules over hostile text, against
// plain second opinions. Input: the text itself, used as target, query and header value in turn.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/cors.hpp>
#include <sse/request.hpp>

namespace {

using text = std::string_view;
using kind = sse::resume_point::kind;

void require(bool ok) {
  if (!ok) std::abort();
}

/// Percent-encodes every byte.
std::string encoded(text s) {
  std::string out;
  for (const char c : s) {
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += "0123456789abcdef"[byte >> 4U];
    out += "0123456789ABCDEF"[byte & 15U];
  }
  return out;
}

std::optional<std::uint64_t> number(text s) {
  if (s.empty() || s.find_first_not_of("0123456789") != text::npos) return {};
  s.remove_prefix(s.find_first_not_of('0') == text::npos ? s.size() - 1 : s.find_first_not_of('0'));
  if (s.size() > 16) return {};
  const std::uint64_t n = std::stoull(std::string{s});
  if (n > sse::max_event_id) return {};
  return n;
}

using position = std::pair<std::uint64_t, std::uint64_t>;  // after, values

std::optional<position> place(text s) {
  const auto after = number(s.substr(0, s.find('-')));
  const auto values = s.find('-') == text::npos ? after : number(s.substr(s.find('-') + 1));
  if (!after || !values || *values > *after) return {};
  return position{*after, *values};
}

void check_decoding(text input) {
  std::string out;
  std::string again;
  if (sse::percent_decode(input, out)) {
    require(out.size() <= input.size() && out.find('\0') == std::string::npos);
    require(sse::percent_decode(encoded(out), again) && again == out);
  } else {
    require(out.empty());
  }
  // Raw text decodes to itself exactly if it is text at all.
  if (input.find('%') == text::npos && input.find('\0') == text::npos) {
    require(sse::percent_decode(encoded(input), again) == sse::percent_decode(input, out));
    require(again == out);
  }
}

void check_query(text input) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const bool ok = sse::for_each_pair(input, [&](text n, text v) { pairs.emplace_back(n, v); });
  if (!ok) return;
  std::string value;
  for (const text key : {"last_id", "token", "a"}) {
    const sse::lookup found = sse::query_value(input, key, value);
    bool there = false;
    for (const auto& [n, v] : pairs) {
      if (n != key) continue;
      require(found == sse::lookup::found && v == value);
      there = true;
      break;
    }
    require(there == (found == sse::lookup::found) && found != sse::lookup::malformed);
  }

  sse::request r;
  r.query = input;
  kind expected = kind::absent;
  position at;
  for (const auto& [n, v] : pairs) {
    if (n != "last_id") continue;
    const auto id = place(v);
    if (!id || (expected == kind::given && *id != at)) {
      expected = kind::malformed;
      at = {};
      break;
    }
    expected = kind::given;
    at = *id;
  }
  const sse::resume_point p = sse::resume_from(r);
  require(p.state == expected && p.after == at.first && p.values == at.second);
}

void check_headers(text input) {
  const sse::header fields[] = {{"Last-Event-ID", input},
                                {"Accept", input},
                                {"Authorization", input},
                                {"Origin", input},
                                {"Host", input}};
  sse::request r;
  r.headers = fields;
  r.query = "last_id=7";
  const sse::resume_point p = sse::resume_from(r);
  const position at = place(input).value_or(position{7, 7});
  require(p.state == kind::given && p.after == at.first && p.values == at.second);
  require(sse::accepts_event_stream(r) == sse::accepts_event_stream(input, true));
  const text token = sse::bearer_token(r);
  require(token.find(' ') == text::npos &&
          (token.empty() || input.ends_with(token) || input.back() == ' ' || input.back() == '\t'));
  require(!sse::host_allowed(r) || input.starts_with('1') || input.starts_with('[') ||
          (input[0] | 32) == 'l');
  const text listed[] = {"https://app.example"};
  const sse::cors_policy policy{.origins = listed, .credentials = true};
  std::string lines;
  sse::add_cors(lines, policy, r);
  require((lines == "Vary: Origin\r\n") == (input != listed[0]));
  (void)sse::origin_allowed(policy, r);
  require(sse::equal_secret(input, std::string{input}));
}

void check_target(text input) {
  sse::request r;
  std::string path;
  if (sse::set_target(r, input, path) == sse::target_error::none) {
    require(r.path.starts_with('/') && r.path.find('\0') == text::npos &&
            r.path.find("/../") == text::npos && !r.path.ends_with("/.."));
  } else {
    require(r.path.empty() && r.query.empty());
  }
  const std::string logged = sse::redact_target(input);
  for (const char c : logged) require(c > ' ' && c <= '~');
  require(sse::redact_target(logged) == logged);
  const std::string secret = "/?" + std::string{input} + "&%74oken=S3CR3T";
  if (input.find("S3CR3T") == text::npos)
    require(sse::redact_target(secret).find("S3CR3T") == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string copy{reinterpret_cast<const char*>(data), size};
  check_decoding(copy);
  check_query(copy);
  if (!copy.empty()) check_headers(copy);
  check_target(copy);
  return 0;
}
