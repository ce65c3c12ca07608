// ssehub example chat. SPDX-License-Identifier: MIT
//
// streams: the paths that were registered at run time, each a channel of its own, and what is sent
// to one or to all of them.
//
//   chat::streams all{http, settings};
//   all.reserve("/send");                       // paths of the program itself
//   all.add("/events");
//   all.send_to_all(json);
//
// On the server's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include <sse/asio.hpp>

#include "audience.hpp"
#include "common/service.hpp"

namespace chat {

inline constexpr std::size_t max_body = 2 << 20;
/// Of an event when encoded: a body may grow by escapes.
inline constexpr std::size_t max_event = 2 * max_body + 4096;

struct settings {
  examples::common_options common{.port = 3000, .max_lag = 2 * max_event};
};

/// Of every channel of the program.
[[nodiscard]] sse::channel_options channel_options_of(const settings& s);

/// What the program knows of a connection.
struct reader {
  parameters query{};
  std::string stream{};   ///< the path it reads
  std::string opening{};  ///< GraphQL: data of a first event for it alone; empty: none
};

using http_server = examples::http_server<reader>;

enum class add_result : std::uint8_t { added, there_already, bad_path, reserved, full };

class streams {
 public:
  static constexpr std::size_t max_streams = 256;
  static constexpr std::size_t max_path = 200;  ///< characters

  streams(http_server& http, const settings& s) : http_{&http}, settings_{s} {}

  /// A path that cannot be registered.
  void reserve(std::string_view path) { reserved_.emplace(path); }

  [[nodiscard]] add_result add(std::string_view path);
  /// Ends its connections; the path is then unknown. False: it is not there.
  bool remove(std::string_view path);
  [[nodiscard]] sse::channel find(std::string_view path) const noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }

  /// To every stream, also those of one user. Returns how many took it.
  std::size_t send_to_all(std::string_view json, std::string_view audience = {});
  /// False: no such stream, or it refused.
  bool send(std::string_view path, std::string_view json, const sse::publish_options& o = {});

  /// `{"items":[{"path":...,"connections":...}]}`
  [[nodiscard]] std::string json() const;

 private:
  http_server* http_;
  settings settings_;
  std::map<std::string, sse::channel, std::less<>> all_;
  std::set<std::string, std::less<>> reserved_;
};

/// Whether it can be registered: it begins with a slash, has at most 200 characters, and a request
/// can name it.
[[nodiscard]] bool is_stream_path(std::string_view path) noexcept;

}  // namespace chat
