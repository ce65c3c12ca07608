// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// watch_desk: a channel with keys as a resource over HTTP, whose streams choose their keys, and
// change them while they live. GET /prices?symbols=ACME,IBM&max_rate=4 is a stream of those two,
// four times a second, whose first event is `watch` with {"token":"5e8c..."}; a POST to /prices
// with token=5e8c...&add=MSFT&remove=IBM changes it.
//
//   sse::watch_desk desk{server.hub(), prices};
//   server.stream("/prices", [&](const sse::request& r) -> sse::verdict<> {
//     auto asked = desk.read(r);
//     return asked.bad() ? asked.refusal() : sse::admit().join(prices, asked.options());
//   });
//   server.post("/prices", [&](const sse::request& r, std::string_view body) {
//     return desk.change(r, body);
//   });
//   server.hub().on_opened([&](sse::session_id id, const auto&) { desk.opened(id); });
//   server.hub().on_closed([&](sse::session_id id, const auto&, auto) { desk.closed(id); });
//
// An EventSource that reconnects asks for the keys of its URL, and gets another token: a page that
// changed them says so again when it hears a `watch` event (docs/guide/market-data.md).
#pragma once
#ifndef SSEHUB_WATCH_HPP
#define SSEHUB_WATCH_HPP

#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/request.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What a desk's clients call things.
struct watch_names {
  std::string keys = "symbols";         ///< query field: names, with commas between
  std::string max_rate = "max_rate";    ///< query field: a number above 0, in a second
  std::string max_bytes = "max_bytes";  ///< query field: a whole number above 0, in a second
  std::string event = "watch";          ///< type of the first event
  /// The keys that a name stands for, such as a quote and its order book; default: the name.
  std::function<void(const std::string& name, std::vector<std::string>& keys)> expand = {};
};

/// What a request says of watching.
class watch_query {
 public:
  /// It could not be read.
  [[nodiscard]] bool bad() const noexcept { return bad_; }
  /// 400.
  [[nodiscard]] response refusal() const {
    return response::json(400, R"({"error":"bad_params"})");
  }
  /// It names keys, if only none.
  [[nodiscard]] bool selects() const noexcept { return selects_; }
  /// It says anything of watching; else it wants the channel as it is.
  [[nodiscard]] bool watches() const noexcept {
    return selects_ || max_rate_ > 0 || max_bytes_ != 0;
  }
  /// Those that it names.
  [[nodiscard]] const std::vector<std::string>& keys() const noexcept { return keys_; }
  /// For verdict::join. Valid until this is destroyed or moved.
  [[nodiscard]] watch_options options() {
    views_.assign(keys_.begin(), keys_.end());
    return {.keys = views_, .only_keys = selects_, .max_rate = max_rate_, .max_bytes = max_bytes_};
  }

 private:
  template <class Hub>
  friend class watch_desk;
  std::vector<std::string> keys_;
  std::vector<std::string_view> views_;
  bool selects_ = false;
  bool bad_ = false;
  double max_rate_ = 0;
  std::uint32_t max_bytes_ = 0;
};

/// The streams of one channel that choose their keys over HTTP, by unguessable tokens of 128 bits.
/// Belongs to the thread of its hub, and is destroyed before it. Throws what std::string throws.
template <class Hub>
class watch_desk {
 public:
  /// `of`: the channel whose keys are chosen.
  watch_desk(Hub& hub, channel of, watch_names names = {})
      : hub_{hub}, channel_{of}, names_{std::move(names)} {}
  watch_desk(const watch_desk&) = delete;
  watch_desk& operator=(const watch_desk&) = delete;

  /// What a GET asks for.
  [[nodiscard]] watch_query read(const request& r) const {
    watch_query q;
    std::string text;
    const lookup keys = query_value(r.query, names_.keys, text);
    q.selects_ = keys == lookup::found;
    q.bad_ = keys == lookup::malformed || (q.selects_ && !split(text, q.keys_));
    const lookup rate = query_value(r.query, names_.max_rate, text);
    if (rate != lookup::absent) q.bad_ = q.bad_ || !read_number(text, q.max_rate_);
    double bytes = 0;
    const lookup size = query_value(r.query, names_.max_bytes, text);
    if (size != lookup::absent) {
      q.bad_ = q.bad_ || !read_number(text, bytes) || bytes < 1;
      constexpr double most = (std::numeric_limits<std::uint32_t>::max)();
      if (!q.bad_) q.max_bytes_ = static_cast<std::uint32_t>(bytes < most ? bytes : most);
    }
    return q;
  }

  /// A stream that chose keys opened: it is told its token, in front of everything else. Nothing
  /// for other streams of the hub's; for hub.on_opened().
  void opened(session_id id) {
    if (!hub_.selects(id, channel_)) return;
    std::string token = make_token();
    const std::string data = R"({"token":")" + token + R"("})";
    if (hub_.send(id, {.type = names_.event, .data = data}) != publish_error::none) return;
    tokens_.emplace(number_of(id), token);
    sessions_.emplace(std::move(token), id);
  }
  /// For hub.on_closed().
  void closed(session_id id) {
    const auto at = tokens_.find(number_of(id));
    if (at == tokens_.end()) return;
    sessions_.erase(at->second);
    tokens_.erase(at);
  }
  /// The stream that has a token; none: there is none any more, or on another server.
  [[nodiscard]] session_id find(const std::string& token) const {
    const auto at = sessions_.find(token);
    return at == sessions_.end() ? session_id{} : at->second;
  }

  /// A POST: fields `token`, `add`, `remove` in a form's body (application/x-www-form-urlencoded)
  /// or in the query. 204: done. 400: it cannot be read, or is too many keys, then none is added.
  /// 404: no such stream here.
  [[nodiscard]] response change(const request& r, std::string_view body) {
    const std::string_view form = body.empty() ? r.query : body;
    std::string token;
    std::vector<std::string> add;
    std::vector<std::string> remove;
    if (query_value(form, "token", token) != lookup::found || !read_names(form, "add", add) ||
        !read_names(form, "remove", remove))
      return response::json(400, R"({"error":"bad_params"})");
    const session_id id = find(token);
    if (!id) return response::json(404, R"({"error":"no_such_stream"})");
    select_error e = change(id, remove, &Hub::unselect);
    if (e == select_error::none) e = change(id, add, &Hub::select);
    switch (e) {
      case select_error::none: return {.status = 204};
      case select_error::too_many_keys: return response::json(400, R"({"error":"too_many_keys"})");
      case select_error::no_memory: return response::json(503, R"({"error":"no_memory"})");
      default: return response::json(404, R"({"error":"no_such_stream"})");
    }
  }

 private:
  static constexpr std::size_t longest_name = 256;

  [[nodiscard]] static std::uint64_t number_of(session_id id) noexcept {
    return std::uint64_t{id.generation} << 32U | id.slot;
  }
  [[nodiscard]] static bool read_number(const std::string& text, double& out) {
    // digits, and a fraction: std::from_chars of a double is not in every library
    double value = 0;
    double unit = 0;
    if (text.empty() || text.size() > 16) return false;
    for (const char c : text) {
      if (c == '.' && unit < 1) {
        unit = 1;
      } else if (c < '0' || c > '9') {
        return false;
      } else {
        value = value * 10 + (c - '0');
        unit *= 10;
      }
    }
    out = unit > 0 ? value / unit : value;
    return out > 0;
  }
  /// Names with commas between; empty ones are none.
  [[nodiscard]] bool split(std::string_view text, std::vector<std::string>& keys) const {
    while (!text.empty()) {
      const std::size_t comma = text.find(',');
      std::string name{text.substr(0, comma)};
      text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
      if (name.size() > longest_name) return false;
      if (name.empty()) continue;
      if (names_.expand) {
        names_.expand(name, keys);
      } else {
        keys.push_back(std::move(name));
      }
    }
    return true;
  }
  [[nodiscard]] bool read_names(std::string_view form, std::string_view field,
                                std::vector<std::string>& keys) const {
    std::string text;
    const lookup found = query_value(form, field, text);
    return found == lookup::absent || (found == lookup::found && split(text, keys));
  }
  template <class Change>
  [[nodiscard]] select_error change(session_id id, const std::vector<std::string>& keys,
                                    Change how) {
    const std::vector<std::string_view> views{keys.begin(), keys.end()};
    return (hub_.*how)(id, channel_, std::span<const std::string_view>{views});
  }
  [[nodiscard]] std::string make_token() {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string token;
    for (int i = 0; i < 4; ++i) {
      std::uint32_t word = random_();
      for (int k = 0; k < 8; ++k, word >>= 4) token += digits[word & 15U];
    }
    return token;
  }

  Hub& hub_;
  channel channel_;
  watch_names names_;
  std::random_device random_;  // the system's
  std::unordered_map<std::uint64_t, std::string> tokens_;
  std::unordered_map<std::string, session_id> sessions_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_WATCH_HPP
