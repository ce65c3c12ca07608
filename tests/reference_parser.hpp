// The event stream algorithm of WHATWG HTML 9.2.6, word for word and slow: what sse::parser is
// compared with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sse/event.hpp>
#include <sse/parse.hpp>

namespace test {

struct got_event {
  std::string type{}, data{}, id{};
  std::int64_t retry = sse::no_retry;
  bool operator==(const got_event&) const = default;
};

/// All that a stream gave, in a form that can be compared.
struct trace {
  std::vector<got_event> events{};
  std::vector<std::string> comments{};
  std::vector<std::int64_t> retries{};
  std::vector<std::string> positions{};
  std::string last_id{};
  sse::parse_error error = sse::parse_error::none;

  void on_event(const sse::event& e) {
    events.push_back({std::string{e.type}, std::string{e.data}, std::string{e.id}, e.retry});
  }
  void on_comment(std::string_view text) { comments.emplace_back(text); }
  void on_retry(std::int64_t ms) { retries.push_back(ms); }
  void on_position(std::string_view id) { positions.emplace_back(id); }
  bool operator==(const trace&) const = default;
};

/// Feeds `in` in pieces of `step` bytes (0: whole); each piece is its own allocation, so that ASan
/// sees a stale view.
inline trace parse(std::string_view in, std::size_t step, const sse::parser_options& options = {}) {
  trace t;
  sse::parser p{options};
  if (step == 0) step = in.empty() ? 1 : in.size();
  for (std::size_t i = 0; i < in.size() && t.error == sse::parse_error::none; i += step) {
    const std::vector<char> piece(
        in.begin() + static_cast<std::ptrdiff_t>(i),
        in.begin() + static_cast<std::ptrdiff_t>(std::min(i + step, in.size())));
    t.error = p.feed({piece.data(), piece.size()}, t).error;
  }
  p.finish();
  t.last_id = p.last_event_id();
  return t;
}

/// Two pieces, cut at `at`.
inline trace parse_cut(std::string_view in, std::size_t at,
                       const sse::parser_options& options = {}) {
  trace t;
  sse::parser p{options};
  for (const std::string_view part : {in.substr(0, at), in.substr(at)}) {
    const std::vector<char> piece(part.begin(), part.end());
    if (t.error == sse::parse_error::none) t.error = p.feed({piece.data(), piece.size()}, t).error;
  }
  p.finish();
  t.last_id = p.last_event_id();
  return t;
}

/// Without limits and without decoding.
inline trace reference_parse(std::string_view in) {
  trace t;
  if (in.substr(0, 3) == "\xEF\xBB\xBF") in.remove_prefix(3);
  std::vector<std::string> lines;
  std::string line;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] == '\r' || in[i] == '\n') {
      if (in[i] == '\r' && i + 1 < in.size() && in[i + 1] == '\n') ++i;
      lines.push_back(line);
      line.clear();
    } else {
      line += in[i];
    }
  }
  std::string data_buffer, type_buffer, id_buffer;
  std::int64_t retry = sse::no_retry;
  bool has_id = false;
  for (const std::string& l : lines) {
    if (l.empty()) {
      t.last_id = id_buffer;
      if (!data_buffer.empty()) {
        data_buffer.pop_back();
        t.events.push_back({type_buffer, data_buffer, id_buffer, retry});
      } else if (has_id) {
        t.positions.push_back(id_buffer);
      }
      has_id = false;
      data_buffer.clear();
      type_buffer.clear();
      retry = sse::no_retry;
      continue;
    }
    const std::size_t colon = l.find(':');
    const std::string field = l.substr(0, colon);
    std::string value = colon == l.npos ? "" : l.substr(colon + 1);
    if (!value.empty() && value[0] == ' ') value.erase(0, 1);
    if (colon == 0) {
      t.comments.push_back(value);
    } else if (field == "event") {
      type_buffer = value;
    } else if (field == "data") {
      data_buffer += value + '\n';
    } else if (field == "id") {
      if (value.find('\0') != value.npos) continue;
      id_buffer = value;
      has_id = true;
    } else if (field == "retry") {
      if (!value.empty() && value.find_first_not_of("0123456789") == value.npos) {
        std::string digits = value.substr(std::min(value.find_first_not_of('0'), value.size()));
        const std::string most = "9223372036854775807";
        const bool over =
            digits.size() > most.size() || (digits.size() == most.size() && digits > most);
        retry = over ? INT64_MAX : digits.empty() ? 0 : std::stoll(digits);
        t.retries.push_back(retry);
      }
    }
  }
  return t;
}

}  // namespace test
