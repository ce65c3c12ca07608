// The program's rules on a hub in memory, in virtual time; and the whole server on a thread, over
// real sockets.
//
//   stage s;                                             live s;
//   auto c = s.open(stream_kind::chat, "token=" + bob);  test::client c = s.stream("/chat/stream",
//   bob); s.advance(30'000);                                   s.post("/chat/send", ada,
//   R"({...})"); CHECK(s.take(c) == "...");                           CHECK(next_event(c).type ==
//   "message");
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/testing.hpp>

#include "../asio/client.hpp"
#include "../remote_call.hpp"
#include "common/json.hpp"
#include "notifications/server.hpp"

namespace test {

using notifications::stream_kind;
using notifications::visitor;

/// What the contract prints: test123, testuser, test@example.com, user and admin.
inline const std::string demo = "dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4=";
inline const std::string ada = "YWRhOkFkYTphZGFAZXhhbXBsZS5jb20=";     // ada:Ada:ada@example.com
inline const std::string bob = "Ym9iOkJvYjpib2JAZXhhbXBsZS5jb20=";     // bob:Bob:bob@example.com
inline const std::string forger = "bWFsOk1hbDptQHg6dXNlcixhZG1pbg==";  // mal:Mal:m@x:user,admin

/// For a query.
[[nodiscard]] inline std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '=') {
      out += "%3D";
    } else if (c == '+') {
      out += "%2B";
    } else if (c == '/') {
      out += "%2F";
    } else {
      out += c;
    }
  }
  return out;
}

struct sse_event {
  std::string id{};
  std::string type{};
  std::string data{};

  [[nodiscard]] std::string text(std::string_view field) const {
    examples::json_document doc;
    if (doc.parse(data) != examples::json_result::object) return "not an object";
    return std::string{doc.string(field).value_or("absent")};
  }
};

/// The next event; comments and retry are skipped. No type: the stream ended instead.
[[nodiscard]] inline sse_event next_event(client& stream) {
  for (;;) {
    const std::string frame = stream.frame();
    if (frame.empty()) return {};
    if (frame.starts_with(':') || frame.starts_with("retry:")) continue;
    return {client::field(frame, "id: "), client::field(frame, "event: "),
            client::field(frame, "data: ")};
  }
}

[[nodiscard]] inline notifications::settings with_rooms() {
  notifications::settings s;
  s.rooms = {{"secret", {"ada"}}};
  return s;
}

/// Virtual time: the hub's and the tokens' clock begin at start_ms.
class stage {
 public:
  using net_type = sse::testing::memory_transport;
  using hub_type = sse::hub<net_type, visitor>;
  static constexpr std::int64_t start_ms = 1'700'000'000'000;

  explicit stage(const notifications::settings& s = with_rooms(), bool position = false)
      : hub_{net_, options(s, position)}, desk_{s, host(), clock()} {
    hub_.on_sees([this](const visitor& v, std::string_view key, std::string_view audience) {
      return desk_.sees(v, key, audience);
    });
    hub_.on_opened([this](sse::session_id id, const visitor& v) { desk_.opened(id, v); });
    hub_.on_closed(
        [this](sse::session_id id, const visitor& v, sse::close_reason) { desk_.closed(id, v); });
    hub_.on_admit([this](const sse::request& r) { return desk_.open(asked_, r); });
    hub_.tick(now());
  }
  ~stage() { hub_.on_closed({}); }  // the desk goes before the hub
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  struct opened {
    std::size_t peer = 0;
    sse::session_id id{};
    int status = 0;
    std::string body{};
    std::string headers{};
  };
  /// `token` and more query; a Last-Event-ID above 0.
  opened open(stream_kind kind, const std::string& token, const std::string& query = {},
              std::uint64_t after = 0) {
    const std::string all = "token=" + escaped(token) + query;
    const std::string last = std::to_string(after);
    const sse::header header{"Last-Event-ID", last};
    sse::request r{.query = all};
    if (after != 0) r.headers = {&header, 1};
    asked_ = kind;
    opened out{.peer = net_.connect()};
    const sse::accept_result a = hub_.accept({out.peer}, r);
    out.id = a.id;
    out.status = a ? 200 : a.refusal.status;
    out.body = a.refusal.body;
    out.headers = a.refusal.headers;
    hub_.flush();
    return out;
  }
  /// A POST of the token's user.
  int post(sse::response (notifications::desk::*f)(const sse::request&, std::string_view),
           const std::string& token, std::string_view body) {
    const std::string value = "Bearer " + token;
    const sse::header header{"Authorization", value};
    sse::request r{.method = "POST"};
    r.headers = {&header, 1};
    last_ = (desk_.*f)(r, body);
    hub_.flush();
    return last_.status;
  }
  int notify(const std::string& token, const std::string& title, const std::string& to = {}) {
    return post(&notifications::desk::send_notification, token,
                R"({"title":")" + title + R"(","message":"m")" +
                    (to.empty() ? "}" : R"(,"userId":")" + to + "\"}"));
  }
  int say(const std::string& token, const std::string& room, const std::string& message) {
    return post(&notifications::desk::send_message, token,
                R"({"roomId":")" + room + R"(","message":")" + message + "\"}");
  }

  /// Time goes on in small steps, as in a loop that wakes at each deadline.
  void advance(std::int64_t ms, std::int64_t step = 1000) {
    for (const std::int64_t end = elapsed_ + ms; elapsed_ < end;) {
      elapsed_ += std::min(step, end - elapsed_);
      hub_.tick(now());
      (void)desk_.tick();
      hub_.flush();
    }
  }
  /// The clocks go on, and nobody has looked yet.
  void skip(std::int64_t ms) { elapsed_ += ms; }
  /// What a peer got since the last time.
  std::string take(const opened& o) { return std::exchange(net_.at(o.peer).received, {}); }
  [[nodiscard]] std::string seen(const opened& o) { return net_.at(o.peer).received; }
  [[nodiscard]] bool closed(const opened& o) { return net_.at(o.peer).is_closed; }
  [[nodiscard]] sse::testing::peer& peer(const opened& o) { return net_.at(o.peer); }

  [[nodiscard]] hub_type& hub() noexcept { return hub_; }
  [[nodiscard]] notifications::desk& desk() noexcept { return desk_; }
  [[nodiscard]] const sse::response& last() const noexcept { return last_; }
  [[nodiscard]] std::int64_t wall_ms() const noexcept { return start_ms + elapsed_; }

 private:
  [[nodiscard]] sse::time_point now() const noexcept {
    return sse::time_point::milliseconds(1000 + elapsed_);
  }
  static sse::hub_options options(const notifications::settings& s, bool position) {
    const examples::server_setup setup{s.common};
    sse::hub_options o = setup.options.hub;
    o.first_id = 1000;
    o.position = position;
    notifications::apply(s, o);
    return o;
  }
  notifications::desk_host host() {
    return {.open_channel =
                [this](std::string_view name, sse::channel_options o) {
                  return hub_.open_channel(name, std::move(o));
                },
            .send = [this](sse::session_id id, const sse::event& e) { (void)hub_.send(id, e); },
            .close = [this](sse::session_id id) { hub_.close(id); },
            .find = [this](sse::session_id id) -> const visitor* { return hub_.user(id); },
            .wake = [] {}};
  }
  notifications::desk_clock clock() {
    return {.wall_ms = [this] { return wall_ms(); }, .steady_ms = [this] { return elapsed_; }};
  }

  std::int64_t elapsed_ = 0;
  stream_kind asked_ = stream_kind::system;
  sse::response last_{};
  net_type net_;
  hub_type hub_;
  notifications::desk desk_;
};

[[nodiscard]] inline std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1))
    ++n;
  return n;
}

/// The server, on a thread of its own.
class live {
 public:
  explicit live(const notifications::settings& s = with_rooms()) {
    notifications::desk_clock clock = notifications::system_clock();
    clock.wall_ms = [this, wall = clock.wall_ms] {
      if (clock_fails) throw std::runtime_error("the clock is broken");
      return wall() + wall_offset_ms;
    };
    server_.emplace(io_, s, std::move(clock));
    server_->http().on_access([this](const sse::access_record& r) {
      log_ += std::string{r.target} + " " + std::to_string(r.status) + "\n";
    });
    server_->http().on_error([](std::string_view, const std::error_code&) {});
    if (const auto e = server_->http().listen("127.0.0.1", 0)) throw std::system_error{e};
    port_ = server_->http().port();
    thread_ = std::thread{[this] { io_.run(); }};
  }
  ~live() {
    io_.stop();
    thread_.join();
    server_.reset();
  }
  live(const live&) = delete;
  live& operator=(const live&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  /// An open stream, its head read.
  [[nodiscard]] client stream(const std::string& target, const std::string& token = {}) const {
    client c{port_};
    const answer a = c.open(target, bearer(token));
    if (a.status != 200) throw std::runtime_error("no stream: " + a.head);
    return c;
  }
  /// What answers a request for a stream: its status, and its body unless it is 200.
  [[nodiscard]] answer refused(const std::string& target, const std::string& token = {}) const {
    client c{port_};
    answer a = c.open(target, bearer(token));
    if (a.status != 200) a.body = c.exactly(std::stoul("0" + a.header("Content-Length")));
    return a;
  }
  [[nodiscard]] int status(const std::string& target, const std::string& token = {}) const {
    return refused(target, token).status;
  }
  [[nodiscard]] answer get(const std::string& target, const std::string& token = {}) const {
    return client{port_}.get(target, bearer(token));
  }
  answer post(const std::string& target, const std::string& token, const std::string& body) const {
    return client{port_}.post(target, body, bearer(token) + "Content-Type: application/json\r\n");
  }
  [[nodiscard]] std::int64_t connections() const {
    examples::json_document doc;
    (void)doc.parse(get("/system/status").body);
    return doc.integer("connections").value_or(-1);
  }
  [[nodiscard]] bool connections_become(std::int64_t n) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (connections() != n) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  /// Runs f() in the server's thread.
  template <class F>
  auto on_loop(F f) {
    test::remote_call call{f};
    post(call);
    return call.result();
  }
  [[nodiscard]] std::string log() {
    return on_loop([this] { return log_; });
  }
  [[nodiscard]] notifications::server& server() noexcept { return *server_; }

  [[nodiscard]] static std::string bearer(const std::string& token) {
    return token.empty() ? "" : "Authorization: Bearer " + token + "\r\n";
  }

  std::atomic<bool> clock_fails = false;
  std::atomic<std::int64_t> wall_offset_ms = 0;

 private:
  void post(test::remote_call_base& call) {
    asio::post(io_, [&call] { call.run(); });
  }
  asio::io_context io_{1};
  std::optional<notifications::server> server_;
  std::string log_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace test
