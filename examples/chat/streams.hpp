// ssehub example chat. SPDX-License-Identifier: MIT
//
// streams: the paths that were registered at run time, and what is sent to one or to all of them.
//
// In memory each is a channel of its own. A journal's channels are those that it was opened with:
// there all streams are one channel, what is for one of them has its path in the audience, and a
// file beside the journal says which streams there are and behind which event each began. So it is
// in a cluster, whose nodes each have the streams that were registered there.
//
//   chat::streams all{http, settings, history, cluster};
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
#include <utility>

#include <sse/asio.hpp>
#include <sse/journal.hpp>

#include "audience.hpp"
#include "common/cluster.hpp"
#include "common/history.hpp"
#include "common/service.hpp"

namespace chat {

inline constexpr std::size_t max_body = 2 << 20;
/// Of an event when encoded: a body may grow by escapes.
inline constexpr std::size_t max_event = 2 * max_body + 4096;

struct settings {
  examples::common_options common{.port = 3000, .max_lag = 2 * max_event};
  examples::history_options history{};
  examples::cluster_options cluster{};
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

enum class add_result : std::uint8_t { added, there_already, bad_path, reserved, full, not_stored };

class streams {
 public:
  static constexpr std::size_t max_streams = 256;
  static constexpr std::size_t max_path = 200;  ///< characters
  /// Of the journal, and of the cluster.
  static constexpr std::string_view channel_name = "streams";

  streams(http_server& http, const settings& s, sse::journal& history, examples::cluster& nodes)
      : http_{&http}, settings_{s}, history_{&history}, cluster_{&nodes} {}

  /// A path that cannot be registered.
  void reserve(std::string_view path) { reserved_.emplace(path); }
  /// Those that there were. Throws std::runtime_error with a sentence.
  void load();

  [[nodiscard]] add_result add(std::string_view path);
  /// Ends its connections; the path is then unknown. False: it is not there.
  bool remove(std::string_view path);
  [[nodiscard]] bool has(std::string_view path) const noexcept {
    return all_.find(path) != all_.end();
  }
  void came(sse::session_id id, std::string_view path);
  void went(sse::session_id id, std::string_view path);

  /// To every stream, also those of one user. Returns how many took it.
  std::size_t send_to_all(std::string_view json, std::string_view audience = {});
  /// False: no such stream, or it refused.
  bool send(std::string_view path, std::string_view json, const sse::publish_options& o = {});
  /// Whether the journal, or the cluster, refused something since this was asked last.
  [[nodiscard]] bool take_refused() noexcept { return std::exchange(refused_, false); }

  /// `{"items":[{"path":...,"connections":...}]}`
  [[nodiscard]] std::string json() const;

 private:
  struct stream {
    sse::channel channel{};
    sse::event_id began = 0;                             ///< with a journal: behind this event
    std::map<std::uint32_t, sse::session_id> readers{};  ///< by slot
  };

  [[nodiscard]] bool open(std::string_view path, sse::event_id began);
  [[nodiscard]] sse::verdict<reader> admit(const sse::request& r, const std::string& path) const;
  /// All streams are one channel.
  [[nodiscard]] bool are_one() const noexcept { return *history_ || *cluster_; }
  bool publish(sse::channel to, std::string_view json, const sse::publish_options& o);
  [[nodiscard]] std::string file() const { return settings_.history.directory + "/streams"; }
  [[nodiscard]] bool save() const;

  http_server* http_;
  settings settings_;
  sse::journal* history_;
  examples::cluster* cluster_;
  std::map<std::string, stream, std::less<>> all_;
  std::set<std::string, std::less<>> reserved_;
  bool refused_ = false;
};

/// Whether it can be registered: it begins with a slash, has at most 200 characters, and a request
/// can name it.
[[nodiscard]] bool is_stream_path(std::string_view path) noexcept;

}  // namespace chat
