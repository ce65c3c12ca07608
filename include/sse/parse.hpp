// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// parser: the bytes of a text/event-stream to events. The only place that reads "data:".
// Sans-I/O: it takes bytes in pieces of any size and calls a sink. It does not connect, reconnect
// or know HTTP; that is what sse/client.hpp is for.
//
// Threads: one at a time. Movable, not copyable. Memory is bounded by parse_limits: at most one
// line, one event with its type, and one id are held, and only if a piece of input ends inside an
// event. A block
// of more than 64 KiB that an event needed stays for the next one, until an event comes that does
// not need it. Linear in the input, whatever the pieces: no byte is searched twice; a byte of data
// is copied once if its line came in pieces, and once if its event has several lines.
//
//   struct my_sink { void on_event(const sse::event& e) { use(e.type, e.data, e.id); } } sink;
//   sse::parser parser;
//   for (std::size_t n; (n = read(fd, buf, sizeof buf)) > 0;)
//     if (auto r = parser.feed({buf, n}, sink); !r) return fail(sse::to_string(r.error));
//   parser.finish();
//
// The rules are those of WHATWG HTML 9.2.6, in any chunking: one BOM at the start is skipped; CR,
// LF and CRLF end a line; `field:value` and `field: value` are the same; a line without a colon is
// a field with an empty value; names are case-sensitive and unknown ones are ignored; an id with
// NUL is ignored; retry takes digits only; an event without a data line fires nothing but still
// moves the last event ID; an unfinished event at the end is dropped. Three points that the text
// leaves open: an empty `retry:` is ignored; a retry above 2^63-1 counts as 2^63-1; the last event
// ID lives on from stream to stream (as in browsers) until an empty `id` clears it.
#pragma once
#ifndef SSEHUB_PARSE_HPP
#define SSEHUB_PARSE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/detail/base/utf8.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Why a parser stopped for good: the stream went over a limit, or memory is out.
enum class parse_error : std::uint8_t {
  none,
  line_too_long,    ///< parse_limits::line
  event_too_large,  ///< parse_limits::event
  too_many_lines,   ///< parse_limits::data_lines
  id_too_long,      ///< parse_limits::id
  type_too_long,    ///< parse_limits::type
  no_memory,        ///< an allocation failed
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(parse_error e) noexcept {
  switch (e) {
    case parse_error::none: return "none";
    case parse_error::line_too_long: return "line_too_long";
    case parse_error::event_too_large: return "event_too_large";
    case parse_error::too_many_lines: return "too_many_lines";
    case parse_error::id_too_long: return "id_too_long";
    case parse_error::type_too_long: return "type_too_long";
    case parse_error::no_memory: return "no_memory";
  }
  return "unknown";
}

/// The largest sizes that are accepted; one more is an error. Bytes, unless said otherwise. What
/// `event` allows, the others allow too: data in one line or of line ends only, and a type as long.
struct parse_limits {
  std::size_t line = (std::size_t{16} << 20) + 64;       ///< a line of any kind, without its end
  std::size_t event = std::size_t{16} << 20;             ///< event::data as delivered
  std::size_t data_lines = (std::size_t{16} << 20) + 1;  ///< `data` lines of one event
  std::size_t id = 4096;                                 ///< event::id, which goes into a header
  std::size_t type = std::size_t{16} << 20;              ///< event::type
};

/// What happens to bytes that are not UTF-8.
enum class invalid_utf8 : std::uint8_t {
  pass,     ///< they arrive as they are
  replace,  ///< each ill-formed part of a value arrives as U+FFFD (WHATWG Encoding, UTF-8 decode)
};

/// What a parser bears.
struct parser_options {
  parse_limits limits{};                   ///< what is beyond is an error
  invalid_utf8 utf8 = invalid_utf8::pass;  ///< what becomes of bytes that are no UTF-8
};

/// What feed did.
struct parse_result {
  parse_error error = parse_error::none;  ///< why it stopped for good
  /// Bytes taken; fewer than given only after an error, or because the sink asked to stop.
  std::size_t consumed = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == parse_error::none;
  }
};

/// What feed calls. Required: on_event. Optional, detected are the others. Each returns void, or
/// bool: false stops behind what it was called for.
///   void on_comment(std::string_view text)   a comment line, without its colon and one space
///   void on_retry(std::int64_t ms)           a valid `retry` field, at once, even if its event is
///                                            never finished
///   void on_position(std::string_view id)    the last event ID, moved by a block that fires no
///   event
/// All views are valid until the callback returns. Callbacks may read the parser, never feed or
/// reset it. A sink that throws leaves the parser fit only for reset() and destruction.
template <class S>
concept event_sink = requires(S& sink, const event& e) {
  requires std::same_as<decltype(sink.on_event(e)), void> ||
      std::same_as<decltype(sink.on_event(e)), bool>;
};

/// Bytes of an event stream to events; see the top of this header.
class parser {
 public:
  parser() noexcept = default;
  /// Limits, and what becomes of bytes that are no UTF-8.
  explicit parser(const parser_options& options) noexcept : options_{options} {}

  /// Takes the next piece of the stream, of any size. event::id is the last event ID, event::retry
  /// the event's own retry. Views point into `in` where the value lies in it in one piece, else
  /// into the parser. If the sink stops it, feed the rest later: in.substr(result.consumed). After
  /// an error nothing is taken any more, and every call returns it, until reset().
  template <event_sink Sink>
  [[nodiscard]] parse_result feed(std::string_view in, Sink&& sink);

  /// The stream ended: what is unfinished is dropped, the last event ID stays, the next feed starts
  /// a new stream. Returns true if an event or a line was cut off. An error stays until reset().
  bool finish() noexcept;

  /// Ready for a new stream: drops what is unfinished and the error. The last event ID stays;
  /// set_last_event_id({}) forgets it.
  void reset() noexcept;

  /// Why it takes no more; none: it does.
  [[nodiscard]] parse_error error() const noexcept { return error_; }

  /// The id of the last finished event that had one, for the Last-Event-ID header. Valid until the
  /// next call that is not const.
  [[nodiscard]] std::string_view last_event_id() const noexcept { return last_id_.view(); }

  /// Where a resumed stream starts. False, and nothing changes, if `id` holds CR, LF or NUL, is
  /// longer than parse_limits::id, or memory is out. Call it between streams.
  [[nodiscard]] bool set_last_event_id(std::string_view id) noexcept;

  /// Bytes held for an unfinished event.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return line_.size() + own_data().size() + type_.size() + next_id_.size();
  }

 private:
  enum class step : std::uint8_t { next, event, comment, retry, position, failed };

  step fail(parse_error e) noexcept;
  void drop_event() noexcept;
  void drop_data() noexcept;
  void drop_stream() noexcept;
  [[nodiscard]] const char* skip_bom(const char* p, const char* end) noexcept;
  [[nodiscard]] bool hold(std::string_view part) noexcept;
  [[nodiscard]] bool keep() noexcept;
  [[nodiscard]] bool let_go() noexcept;
  void empty(detail::bytes& block) noexcept;
  [[nodiscard]] std::string_view own_data() const noexcept {
    return {data_.view().data() + data_from_, data_.size() - data_from_};
  }
  [[nodiscard]] static std::string_view value_after(std::string_view line,
                                                    std::size_t name) noexcept;
  template <std::size_t Size>
  [[nodiscard]] static bool has_name(std::string_view line, const char (&name)[Size]) noexcept;
  [[nodiscard]] step take_field(std::string_view line) noexcept;
  [[nodiscard]] step take_data(std::string_view value) noexcept;
  [[nodiscard]] step join_data(std::string_view value) noexcept;
  [[nodiscard]] step take_type(std::string_view value) noexcept;
  [[nodiscard]] step take_id(std::string_view value) noexcept;
  [[nodiscard]] step take_retry(std::string_view value) noexcept;
  [[nodiscard]] step end_event() noexcept;
  [[nodiscard]] bool needs_repair(std::string_view value) const noexcept {
    return options_.utf8 == invalid_utf8::replace &&
           detail::valid_utf8_prefix(value) != value.size();
  }

  parser_options options_{};
  detail::bytes line_{};     // the start of a line whose end has not come
  detail::bytes data_{};     // joined data lines, unless the one line there is lies in the input;
                             // they begin at data_from_
  detail::bytes type_{};     // the type, unless it lies in the input
  detail::bytes next_id_{};  // the id that this event will set
  detail::bytes last_id_{};
  detail::bytes comment_{};       // a repaired comment
  std::string_view data_view_{};  // the only data line, in the input; used if !own_data_
  std::string_view type_view_{};  // the type, in the input; used if !own_type_
  std::size_t data_from_ = 0;     // not 0: the first data line was held, its name stands before it
  std::size_t data_lines_ = 0;
  std::int64_t retry_ = no_retry;
  parse_error error_ = parse_error::none;
  std::uint8_t bom_ = 0;  // bytes of the BOM seen at the start; 3: past it
  bool own_data_ = false;
  bool own_type_ = false;
  bool large_block_ = false;  // line_ or data_ may have kept one, though empty
  bool has_next_id_ = false;
  bool after_cr_ = false;  // an LF that comes next belongs to the CR before it
};

template <event_sink Sink>
parse_result parser::feed(std::string_view in, Sink&& sink) {
  if (error_ != parse_error::none) return {error_, 0};
  const char* const begin = in.data();
  const char* const end = begin + in.size();
  const auto result = [&](const char* at) {
    return parse_result{error_, static_cast<std::size_t>(at - begin)};
  };
  const auto goes_on = [](auto callback) {
    if constexpr (std::same_as<decltype(callback()), bool>) return callback();
    return callback(), true;
  };
  const char* p = begin;
  if (bom_ != 3) {
    p = skip_bom(p, end);
    if (error_ != parse_error::none) return result(p);
  }
  if (after_cr_ && p != end && *p == '\n') ++p;
  bool held = !line_.empty();
  bool go_on = true;
  while (p != end && go_on) {
    std::string_view line;
    step taken = step::comment;
    if (!held && detail::is_line_end(*p)) {
      p = detail::skip_line_end(p, end);
      taken = end_event();
    } else {
      const char* const stop = detail::find_line_end(p, end);
      line = {p, static_cast<std::size_t>(stop - p)};
      if (held || stop == end) [[unlikely]] {
        if (!hold(line)) return result(p);
        p = stop;
        if (stop == end) break;
        line = line_.view();
      } else if (line.size() > options_.limits.line) {
        fail(parse_error::line_too_long);
        return result(p);
      }
      p = detail::skip_line_end(stop, end);
      if (has_name(line, "data")) {
        taken = take_data(value_after(line, 4));
      } else if (line[0] != ':') {
        taken = take_field(line);
      }
    }
    switch (taken) {
      case step::next: break;
      case step::event: {
        event e;
        e.type = own_type_ ? type_.view() : type_view_;
        e.data = own_data_ ? own_data() : data_view_;
        e.id = last_id_.view();
        e.retry = retry_;
        go_on = goes_on([&] { return sink.on_event(e); });
        drop_event();
        break;
      }
      case step::comment:
        if constexpr (requires { sink.on_comment(line); }) {
          std::string_view text = value_after(line, 0);
          if (needs_repair(text)) {
            if (!detail::append_repaired(comment_, text)) {
              fail(parse_error::no_memory);
              return result(p);
            }
            text = comment_.view();
          }
          go_on = goes_on([&] { return sink.on_comment(text); });
          comment_.clear();
        }
        break;
      case step::retry:
        if constexpr (requires { sink.on_retry(retry_); }) {
          go_on = goes_on([&] { return sink.on_retry(retry_); });
        }
        break;
      case step::position:
        if constexpr (requires { sink.on_position(last_id_.view()); }) {
          go_on = goes_on([&] { return sink.on_position(last_id_.view()); });
        }
        break;
      case step::failed: return result(p);
    }
    if (held) [[unlikely]] {
      held = false;
      if (!let_go()) return result(p);
    }
  }
  if (begin != end) after_cr_ = p == end && p[-1] == '\r';
  (void)keep();
  return result(p);
}

inline bool parser::finish() noexcept {
  const bool cut = data_lines_ != 0 || !line_.empty();
  drop_stream();
  return cut;
}

inline void parser::reset() noexcept {
  drop_stream();
  error_ = parse_error::none;
}

inline bool parser::set_last_event_id(std::string_view id) noexcept {
  if (id.size() > options_.limits.id || !detail::is_field_text(id)) return false;
  detail::bytes copy;
  if (!copy.append(id)) return false;
  last_id_.swap(copy);
  return true;
}

inline parser::step parser::fail(parse_error e) noexcept {
  drop_stream();
  line_.release();
  data_.release();
  error_ = e;
  return step::failed;
}

inline void parser::drop_event() noexcept {
  if (own_data_ || large_block_) drop_data();
  if (own_type_) type_.clear();
  type_view_ = {};
  data_lines_ = 0;
  retry_ = no_retry;
  own_data_ = own_type_ = false;
}

inline void parser::drop_data() noexcept {
  large_block_ = false;
  empty(data_);
  if (data_from_ != 0) {
    line_.swap(data_);
    data_from_ = 0;
  } else {
    line_.clear();
  }
}

// A large block stays for the next event, until there is one that has no need of it.
inline void parser::empty(detail::bytes& block) noexcept {
  if (block.size() > 64 * 1024) {
    block.truncate(0);
    large_block_ = true;
  } else {
    block.clear();
  }
}

inline void parser::drop_stream() noexcept {
  line_.clear();
  data_.clear();
  drop_event();
  next_id_.clear();
  comment_.clear();
  has_next_id_ = after_cr_ = false;
  bom_ = 0;
}

inline const char* parser::skip_bom(const char* p, const char* end) noexcept {
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  if (bom_ == 3) return p;
  while (p != end && bom_ < 3 && *p == mark[bom_]) {
    ++p;
    ++bom_;
  }
  if (p != end && bom_ < 3) {  // it was none: what looked like it starts the first line
    const std::string_view part = mark.substr(0, bom_);
    bom_ = 3;
    (void)hold(part);
  }
  return p;
}

// Keeps the start of a line until its end comes.
inline bool parser::hold(std::string_view part) noexcept {
  const bool fits = part.size() <= options_.limits.line - line_.size();
  if (fits && line_.append(part)) return true;
  fail(fits ? parse_error::no_memory : parse_error::line_too_long);
  return false;
}

// The line that was held is done with. It was the first of this input, so that no view points
// elsewhere. As data it is not copied again, however long: the two blocks change places.
inline bool parser::let_go() noexcept {
  if (!data_view_.empty() && data_lines_ != 0 && !own_data_) {
    data_from_ = static_cast<std::size_t>(data_view_.data() - line_.view().data());
    data_.swap(line_);
    own_data_ = true;
    return true;
  }
  const bool kept = keep();
  empty(line_);
  return kept;
}

// Copies what still lies in the input, which is about to go away.
inline bool parser::keep() noexcept {
  if (error_ != parse_error::none) return false;
  const bool keep_data = data_lines_ != 0 && !own_data_;
  const bool keep_type = !type_view_.empty() && !own_type_;
  if ((keep_data && !data_.assign(data_view_)) || (keep_type && !type_.assign(type_view_))) {
    fail(parse_error::no_memory);
    return false;
  }
  own_data_ = own_data_ || keep_data;
  own_type_ = own_type_ || keep_type;
  return true;
}

inline parser::step parser::take_field(std::string_view line) noexcept {
  if (has_name(line, "event")) return take_type(value_after(line, 5));
  if (has_name(line, "id")) return take_id(value_after(line, 2));
  if (has_name(line, "retry")) return take_retry(value_after(line, 5));
  return step::next;
}

template <std::size_t Size>
bool parser::has_name(std::string_view line, const char (&name)[Size]) noexcept {
  constexpr std::size_t size = Size - 1;
  return line.size() >= size && std::memcmp(line.data(), name, size) == 0 &&
         (line.size() == size || line[size] == ':');
}

// What follows a name of this size, its colon and one space.
inline std::string_view parser::value_after(std::string_view line, std::size_t name) noexcept {
  if (line.size() == name) return {};
  line.remove_prefix(name + 1);
  if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  return line;
}

inline parser::step parser::take_data(std::string_view value) noexcept {
  if (data_lines_ != 0 || needs_repair(value)) return join_data(value);
  if (options_.limits.data_lines == 0) return fail(parse_error::too_many_lines);
  if (value.size() > options_.limits.event) return fail(parse_error::event_too_large);
  data_lines_ = 1;
  data_view_ = value;
  return step::next;
}

// A data line that is not the first, or cannot stay as it lies in the input.
inline parser::step parser::join_data(std::string_view value) noexcept {
  if (data_lines_ == options_.limits.data_lines) return fail(parse_error::too_many_lines);
  const std::size_t limit = options_.limits.event;
  if (data_lines_ != 0) {
    if (!own_data_ && !keep()) return step::failed;
    if (own_data().size() >= limit) return fail(parse_error::event_too_large);
    if (!data_.append("\n")) return fail(parse_error::no_memory);
  }
  ++data_lines_;
  own_data_ = true;
  if (value.size() > limit - own_data().size()) return fail(parse_error::event_too_large);
  const bool done =
      needs_repair(value) ? detail::append_repaired(data_, value) : data_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return own_data().size() > limit ? fail(parse_error::event_too_large) : step::next;
}

inline parser::step parser::take_type(std::string_view value) noexcept {
  if (value.size() > options_.limits.type) return fail(parse_error::type_too_long);
  type_.clear();
  type_view_ = value;
  own_type_ = needs_repair(value);
  if (!own_type_) return step::next;
  if (!detail::append_repaired(type_, value)) return fail(parse_error::no_memory);
  return type_.size() > options_.limits.type ? fail(parse_error::type_too_long) : step::next;
}

inline parser::step parser::take_id(std::string_view value) noexcept {
  if (value.find('\0') != value.npos) return step::next;
  if (value.size() > options_.limits.id) return fail(parse_error::id_too_long);
  next_id_.clear();
  has_next_id_ = true;
  const bool done =
      needs_repair(value) ? detail::append_repaired(next_id_, value) : next_id_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return next_id_.size() > options_.limits.id ? fail(parse_error::id_too_long) : step::next;
}

inline parser::step parser::take_retry(std::string_view value) noexcept {
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());
  std::uint64_t ms = 0;
  if (detail::read_decimal(value, most, ms) == detail::decimal::malformed) return step::next;
  retry_ = static_cast<std::int64_t>(ms);
  return step::retry;
}

// The blank line: the id counts even if no event is fired.
inline parser::step parser::end_event() noexcept {
  const bool moved = has_next_id_;
  if (moved) {
    last_id_.swap(next_id_);
    next_id_.clear();
    has_next_id_ = false;
  }
  if (data_lines_ != 0) return step::event;
  drop_event();
  return moved ? step::position : step::next;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_PARSE_HPP
