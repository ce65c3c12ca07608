// Drives our client as LaunchDarkly's sse-contract-tests ask, over HTTP:
//
//   GET /        what it can do
//   POST /       {streamUrl, callbackUrl, ...}: opens a stream, tells what comes to callbackUrl/1,
//   /2, ... POST /streams/N    {"command":"restart"} DELETE /streams/N  ends the stream DELETE /
//   ends the service
//
// usage: conformance_service [--port N]    (8000; 0: any; the first line on stdout says which)
// Then: sse-contract-tests --url http://localhost:8000
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <simdjson.h>

#include <asio/connect.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <sse/asio.hpp>
#include <sse/asio_client.hpp>

#include "common/flags.hpp"
#include "common/json.hpp"

namespace {

using tcp = asio::ip::tcp;
using simdjson::dom::element;

constexpr std::string_view capabilities =
    R"({"name":"ssehub","capabilities":["comments","headers","last-event-id","post","report",)"
    R"("read-timeout","restart","bom","204","payload-size-stress-testable"]})";

// --- what is told ------------------------------------------------------------------------------

/// Posts JSON to url/1, url/2, ... one after the other, each on a connection of its own.
class reporter : public std::enable_shared_from_this<reporter> {
 public:
  reporter(asio::io_context& io, std::string_view url) : io_{io}, resolver_{io}, socket_{io} {
    valid_ = url_.parse(url) == sse::url_error::none;
  }
  [[nodiscard]] bool valid() const { return valid_; }

  void tell(std::string json) {
    waiting_.push_back(std::move(json));
    if (!busy_) next();
  }
  void stop() {
    stopped_ = true;
    waiting_.clear();
    std::error_code ignored;
    resolver_.cancel();
    socket_.close(ignored);
  }

 private:
  void next() {
    busy_ = !waiting_.empty() && !stopped_;
    if (!busy_) return;
    request_ = "POST " + std::string{url_.target()} + "/" + std::to_string(++told_) +
               " HTTP/1.1\r\nHost: " + std::string{url_.authority()} +
               "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
               std::to_string(waiting_.front().size()) + "\r\n\r\n" + waiting_.front();
    waiting_.pop_front();
    answer_.clear();
    auto me = shared_from_this();
    socket_ = tcp::socket{io_};
    resolver_.async_resolve(
        std::string{url_.host()}, std::to_string(url_.port()),
        [this, me](const std::error_code& e, const tcp::resolver::results_type& found) {
          if (failed(e)) return;
          asio::async_connect(socket_, found, [this, me](const std::error_code& f, const auto&) {
            if (!failed(f)) send();
          });
        });
  }
  void send() {
    auto me = shared_from_this();
    asio::async_write(socket_, asio::buffer(request_), [this, me](std::error_code e, std::size_t) {
      if (failed(e)) return;
      asio::async_read_until(socket_, asio::dynamic_buffer(answer_, 65536), "\r\n\r\n",
                             [this, me](std::error_code f, std::size_t) {
                               if (!failed(f)) next();
                             });
    });
  }
  [[nodiscard]] bool failed(const std::error_code& e) {
    if (!e || stopped_) return stopped_;
    std::fprintf(stderr, "callback: %s\n", e.message().c_str());
    next();
    return true;
  }

  asio::io_context& io_;
  sse::detail::url url_;
  tcp::resolver resolver_;
  tcp::socket socket_;
  std::deque<std::string> waiting_;
  std::string request_;
  std::string answer_;
  std::uint64_t told_ = 0;
  bool valid_ = false;
  bool busy_ = false;
  bool stopped_ = false;
};

[[nodiscard]] std::string event_json(const sse::event& e) {
  std::string out = R"({"kind":"event","event":{"type":)";
  examples::append_json_string(out, e.type.empty() ? std::string_view{"message"} : e.type);
  out += R"(,"data":)";
  examples::append_json_string(out, e.data);
  out += R"(,"id":)";
  examples::append_json_string(out, e.id);
  return out += "}}";
}
[[nodiscard]] std::string comment_json(std::string_view text) {
  std::string out = R"({"kind":"comment","comment":)";
  examples::append_json_string(out, text);
  return out += '}';
}
/// The text under both names that the protocol's description and its harness use.
[[nodiscard]] std::string error_json(const sse::client_failure& f) {
  const std::string text = sse::explain(f);
  std::string out = R"({"kind":"error","error":)";
  examples::append_json_string(out, text);
  out += R"(,"comment":)";
  examples::append_json_string(out, text);
  return out += '}';
}

// --- what is asked -------------------------------------------------------------------------------

/// A request to open a stream.
struct wish {
  std::string stream_url{};
  std::string callback_url{};
  std::string tag{};
  std::string last_event_id{};
  std::string method = "GET";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::int64_t initial_delay_ms = -1;
  std::int64_t read_timeout_ms = 0;
};

/// Absent and null are the same. False: another type.
[[nodiscard]] bool read(const element& from, std::string_view key, std::string& out) {
  element value;
  if (from[key].get(value) != simdjson::SUCCESS || value.is_null()) return true;
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) return false;
  out = text;
  return true;
}
[[nodiscard]] bool read(const element& from, std::string_view key, std::int64_t& out) {
  element value;
  if (from[key].get(value) != simdjson::SUCCESS || value.is_null()) return true;
  return value.get(out) == simdjson::SUCCESS && out >= 0;
}

/// Returns what is wrong; empty: nothing.
[[nodiscard]] std::string read(std::string_view json, wish& out) {
  simdjson::dom::parser parser;
  element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object())
    return "not a JSON object";
  if (!read(root, "streamUrl", out.stream_url) || out.stream_url.empty()) return "streamUrl";
  if (!read(root, "callbackUrl", out.callback_url) || out.callback_url.empty())
    return "callbackUrl";
  if (!read(root, "tag", out.tag)) return "tag";
  if (!read(root, "lastEventId", out.last_event_id)) return "lastEventId";
  if (!read(root, "method", out.method)) return "method";
  if (!read(root, "body", out.body)) return "body";
  if (!read(root, "initialDelayMs", out.initial_delay_ms)) return "initialDelayMs";
  if (!read(root, "readTimeoutMs", out.read_timeout_ms)) return "readTimeoutMs";
  element headers;
  if (root["headers"].get(headers) != simdjson::SUCCESS || headers.is_null()) return {};
  simdjson::dom::object fields;
  if (headers.get(fields) != simdjson::SUCCESS) return "headers";
  for (const auto& field : fields) {
    std::string_view value;
    if (field.value.get(value) != simdjson::SUCCESS) return "headers";
    out.headers.emplace_back(field.key, value);
  }
  return {};
}

[[nodiscard]] sse::asio_client_options options_of(const wish& w,
                                                  const std::vector<sse::header>& headers) {
  sse::asio_client_options o;
  o.client.method = w.method.empty() ? std::string_view{"GET"} : w.method;
  o.client.body = w.body;
  o.client.headers = headers;
  o.client.last_event_id = w.last_event_id;
  if (w.read_timeout_ms > 0) {
    o.client.stall_timeout = sse::duration::milliseconds(w.read_timeout_ms);
  }
  if (w.initial_delay_ms >= 0) o.client.retry = sse::duration::milliseconds(w.initial_delay_ms);
  return o;
}

class stream {
 public:
  stream(asio::io_context& io, const wish& w, const std::vector<sse::header>& headers)
      : source_{io, w.stream_url, options_of(w, headers)},
        to_{std::make_shared<reporter>(io, w.callback_url)} {
    source_.on_event([this](const sse::event& e) { to_->tell(event_json(e)); });
    source_.on_comment([this](std::string_view text) { to_->tell(comment_json(text)); });
    source_.on_error([this](const sse::client_failure& f) {
      // A restart is what was asked for, no error.
      if (f.error != sse::client_error::restarted) to_->tell(error_json(f));
    });
  }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() { to_->stop(); }

  /// What is wrong with it; empty: nothing.
  [[nodiscard]] std::string start() {
    if (!to_->valid()) return "callbackUrl";
    if (source_.state() == sse::client_state::closed) return sse::explain(source_.failure());
    source_.start();
    return {};
  }
  void restart() { source_.restart(); }

 private:
  sse::asio_event_source<> source_;
  std::shared_ptr<reporter> to_;
};

class service {
 public:
  explicit service(asio::io_context& io) : io_{io}, server_{io} {
    server_.get("/", [](const sse::request&) {
      return sse::response::json(200, std::string{capabilities});
    });
    server_.post("/", [this](const sse::request&, std::string_view body) { return open(body); });
    server_.del("/", [this](const sse::request&) {
      streams_.clear();
      server_.async_drain([this](std::error_code) { io_.stop(); });
      return sse::response{.status = 204};
    });
  }
  [[nodiscard]] std::error_code listen(const std::string& host, std::uint16_t port) {
    return server_.listen(host, port);
  }
  [[nodiscard]] std::uint16_t port() const { return server_.port(); }

 private:
  [[nodiscard]] sse::response open(std::string_view body) {
    wish w;
    std::string wrong = read(body, w);
    std::vector<sse::header> headers;
    for (const auto& [name, value] : w.headers) headers.push_back({name, value});
    std::unique_ptr<stream> s;
    if (wrong.empty()) {
      s = std::make_unique<stream>(io_, w, headers);
      wrong = s->start();
    }
    if (!wrong.empty()) return sse::response::text(400, wrong + "\n");
    const std::string path = "/streams/" + std::to_string(++opened_);
    std::fprintf(stderr, "%s: %s\n", path.c_str(), w.tag.c_str());
    streams_[path] = std::move(s);
    server_.post(path, [this, path](const sse::request&, std::string_view command) {
      return act(*streams_.at(path), command);
    });
    server_.del(path, [this, path](const sse::request&) {
      streams_.erase(path);
      server_.remove(path);
      return sse::response{.status = 204};
    });
    sse::response r{.status = 201};
    r.add("Location", path);
    return r;
  }

  [[nodiscard]] static sse::response act(stream& s, std::string_view json) {
    simdjson::dom::parser parser;
    element root;
    std::string command;
    if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS ||
        !root.is_object() || !read(root, "command", command)) {
      return sse::response::text(400, "not a command\n");
    }
    if (command == "restart") {
      s.restart();
    } else if (command != "listen") {  // every type is listened to
      return sse::response::text(400, "unknown command\n");
    }
    return sse::response{.status = 204};
  }

  asio::io_context& io_;
  sse::asio_server<> server_;
  std::map<std::string, std::unique_ptr<stream>> streams_;
  std::uint64_t opened_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  examples::flag_set flags{"conformance_service", "Drives ssehub's client for a test harness.",
                           SSEHUB_VERSION};
  flags.text("--host", "ADDRESS", "to listen on (127.0.0.1)", host);
  flags.number("--port", "N", "to listen on (8000); 0: any", port);
  if (const auto end = flags.parse(argc, argv)) return end->print();
  asio::io_context io{1};
  service s{io};
  if (const std::error_code e = s.listen(host, port))
    return flags.failed("cannot listen: " + e.message()).print();
  std::printf("listening on http://%s:%d\n", host.c_str(), int{s.port()});
  std::fflush(stdout);
  io.run();
}
