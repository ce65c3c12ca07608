// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Which handler answers which path, and what the options of a server look like once they own their
// text. Include the header of a host.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/cors.hpp>
#include <sse/detail/function.hpp>
#include <sse/http1.hpp>
#include <sse/request.hpp>
#include <sse/responder.hpp>

namespace sse::inline v0 {

namespace detail {

/// A channel that may be closed behind our back.
struct channel_name {
  channel* pointer = nullptr;
  std::string name{};

  channel_name() = default;
  explicit channel_name(channel& c) : pointer{&c}, name{c.name()} {}

  /// The channel, or nullptr. O(channels).
  template <class Hub>
  [[nodiscard]] channel* in(Hub& h) const {
    bool open = false;
    h.for_each_channel([&](channel& c) { open = open || &c == pointer; });
    return open && pointer->name() == name ? pointer : nullptr;
  }
};

struct owned_head {
  explicit owned_head(const http1::stream_head& h)
      : head{h}, type{h.content_type}, cache{h.cache_control}, extra{h.extra} {}

  [[nodiscard]] http1::stream_head view(std::string_view lines) const noexcept {
    http1::stream_head h = head;
    h.content_type = type;
    h.cache_control = cache;
    h.extra = lines;
    return h;
  }

  http1::stream_head head;
  std::string type;
  std::string cache;
  std::string extra;
};

struct owned_texts {
  owned_texts() = default;
  template <class Range>
  explicit owned_texts(const Range& r)
      : texts(r.begin(), r.end()), views(texts.begin(), texts.end()) {}
  owned_texts(const owned_texts&) = delete;
  owned_texts& operator=(const owned_texts&) = delete;

  std::vector<std::string> texts;
  std::vector<std::string_view> views;
};

struct owned_cors {
  explicit owned_cors(const cors_policy& p)
      : origins{p.origins}, methods{p.methods}, headers{p.headers}, expose{p.expose}, policy{p} {
    policy.origins = origins.views;
    policy.methods = methods;
    policy.headers = headers;
    policy.expose = expose;
  }
  owned_cors(const owned_cors&) = delete;
  owned_cors& operator=(const owned_cors&) = delete;

  owned_texts origins;
  std::string methods;
  std::string headers;
  std::string expose;
  cors_policy policy;
};

/// What answers one method of one path: exactly one of the three functions is there.
template <class User>
struct http_endpoint {
  function<response(const request&, std::string_view body)> answer{};
  function<void(const request&, std::string_view body, responder)> later{};
  function<verdict<User>(const request&, std::string_view body)> stream{};
  std::unique_ptr<owned_head> head{};  ///< of the stream; nullptr: the server's
  channel_name bound{};                ///< what stream(path, channel) named
  bool takes_body = false;
};

enum class http_method : std::uint8_t { get, post, put, del, other };

[[nodiscard]] constexpr http_method method_of(std::string_view m) noexcept {
  if (m == "GET" || m == "HEAD") return http_method::get;
  if (m == "POST") return http_method::post;
  if (m == "PUT") return http_method::put;
  return m == "DELETE" ? http_method::del : http_method::other;
}

template <class User>
struct http_route {
  using endpoint = http_endpoint<User>;
  std::array<std::shared_ptr<endpoint>, 4> by_method{};

  [[nodiscard]] std::shared_ptr<endpoint> find(std::string_view method) const noexcept {
    const http_method m = method_of(method);
    return m == http_method::other ? nullptr : by_method[static_cast<std::size_t>(m)];
  }
  [[nodiscard]] std::string allow() const {
    static constexpr std::string_view names[] = {"GET, HEAD, ", "POST, ", "PUT, ", "DELETE, "};
    std::string out;
    for (std::size_t i = 0; i < by_method.size(); ++i) {
      if (by_method[i] != nullptr) out.append(names[i]);
    }
    return out.append("OPTIONS");
  }
};

/// The exact path decides, else the longest prefix.
template <class User>
class http_routes {
 public:
  using route = http_route<User>;
  using endpoint = http_endpoint<User>;

  void add(http_method m, bool prefix, std::string_view path, std::shared_ptr<endpoint> e) {
    auto& routes = prefix ? prefixes_ : exact_;
    const auto at = routes.try_emplace(std::string{path}).first;
    at->second.by_method[static_cast<std::size_t>(m)] = std::move(e);
  }
  bool remove(bool prefix, std::string_view path) noexcept {
    auto& routes = prefix ? prefixes_ : exact_;
    const auto at = routes.find(path);
    if (at == routes.end()) return false;
    routes.erase(at);
    return true;
  }
  /// Takes out what stream(path, channel) bound to this channel.
  void remove(const channel& c) noexcept {
    for (auto* routes : {&exact_, &prefixes_}) {
      for (auto at = routes->begin(); at != routes->end();) {
        bool left = false;
        for (std::shared_ptr<endpoint>& e : at->second.by_method) {
          if (e != nullptr && e->bound.pointer == &c) e = nullptr;
          left = left || e != nullptr;
        }
        at = left ? std::next(at) : routes->erase(at);
      }
    }
  }
  [[nodiscard]] const route* find(std::string_view path) const noexcept {
    if (const auto at = exact_.find(path); at != exact_.end()) return &at->second;
    const route* longest = nullptr;
    std::size_t size = 0;
    for (const auto& [prefix, r] : prefixes_) {
      if (path.starts_with(prefix) && (longest == nullptr || prefix.size() > size)) {
        longest = &r;
        size = prefix.size();
      }
    }
    return longest;
  }
  void clear() noexcept {
    exact_.clear();
    prefixes_.clear();
  }

 private:
  std::map<std::string, route, std::less<>> exact_;
  std::map<std::string, route, std::less<>> prefixes_;
};

}  // namespace detail

}  // namespace sse::inline v0
