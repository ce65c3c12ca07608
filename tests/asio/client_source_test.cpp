// asio_event_source against servers that do as each test says.
#include <atomic>
#include <charconv>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/read.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>
#include <asio/write.hpp>
#include <sse/asio_client.hpp>

#include "asio/layer.hpp"
#include "asio/raw_server.hpp"
#include "catch.hpp"

using sse::client_error;
using test::loop;
using test::peer;
using test::raw_server;
using test::stream_head;

namespace {

using source = sse::asio_event_source<>;

/// Nothing waits between attempts.
sse::asio_client_options hasty() {
  sse::asio_client_options o;
  o.client.retry = o.client.max_retry = o.client.min_interval = sse::duration::off();
  return o;
}

std::string frame(int id, std::string_view data) {
  return "id: " + std::to_string(id) + "\ndata: " + std::string{data} + "\n\n";
}

std::string chunk(std::string_view bytes) {
  char size[20];
  const auto r = std::to_chars(size, size + sizeof size, bytes.size(), 16);
  return std::string{size, r.ptr}.append("\r\n").append(bytes).append("\r\n");
}

/// What a source told, in order.
struct journal {
  explicit journal(source& s) {
    s.on_open([this](const sse::client_response& r) { add("open", std::to_string(r.status())); });
    s.on_event([this](const sse::event& e) { add(e.id, std::string{e.data}); });
    s.on_gap([this](const sse::gap& g) { add("gap", std::to_string(g.lost)); });
    s.on_comment([this](std::string_view text) { add("comment", std::string{text}); });
    s.on_position([this](std::string_view id) { add("position", std::string{id}); });
    s.on_state([this](sse::client_state state) { add("state", std::to_string(int(state))); });
    s.on_error([this](const sse::client_failure& f) {
      add(f.final ? "end" : "error", std::string{to_string(f.error)});
      final = f.final;
    });
  }
  void add(std::string_view key, const std::string& value) {
    lines.push_back(std::string{key} + " " + value);
  }
  std::vector<std::string> lines;
  bool final = false;
};

/// The one failure that ends a source for good.
client_error end_of(const std::string& url, sse::asio_client_options o = hasty()) {
  loop l;
  source s{l.ctx, url, o};
  client_error got = client_error::none;
  s.on_error([&](const sse::client_failure& f) {
    if (f.final) got = f.error;
  });
  s.start();
  l.until([&] { return got != client_error::none; });
  l.to_the_end();
  return got;
}

}  // namespace

TEST_CASE("client: everything is told, in order") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    if (p.number == 1) {
      p.send("HTTP/1.1 204 No Content\r\n\r\n");
      return;
    }
    p.send(stream_head);
    p.send(
        "id: 6\n\n: hi\nid: 7\ndata: a\n\nevent: gap\ndata: "
        "{\"requested\":1,\"first\":3,\"lost\":2}\n\n");
  }};
  loop l;
  source s{l.ctx, server.url("/events?x=1"), hasty()};
  journal told{s};
  CHECK(s.state() == sse::client_state::connecting);
  s.start();
  l.until([&] { return told.final; });
  l.to_the_end();
  const std::vector<std::string> expected{"state 1",
                                          "open 200",
                                          "position 6",
                                          "comment hi",
                                          "7 a",
                                          "gap 2",
                                          "error end_of_stream",
                                          "state 0",
                                          "end no_content",
                                          "state 2"};
  CHECK(told.lines == expected);
  CHECK(s.last_event_id() == "7");
  CHECK(s.url() == server.url("/events?x=1"));
}

TEST_CASE("client: bodies by close, by length, in chunks, of HTTP/1.0, byte by byte") {
  const bool bytewise = GENERATE(false, true);
  const int form = GENERATE(0, 1, 2, 3);
  std::string body;
  for (int i = 1; i <= 50; ++i) body += frame(i, std::string(static_cast<std::size_t>(i), 'x'));
  std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";
  std::string sent = body;
  if (form == 1) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  if (form == 2) {
    head += "Transfer-Encoding: chunked\r\n";
    sent.clear();
    for (std::size_t at = 0; at < body.size(); at += 37) sent += chunk(body.substr(at, 37));
    sent += "0\r\n\r\n";
  }
  if (form == 3) head[7] = '0';
  raw_server server{[&](peer& p) {
    if (p.request().empty()) return;
    const std::string all = head + "\r\n" + sent;
    bytewise ? p.send_bytewise(all) : p.send(all);
  }};
  loop l;
  sse::asio_client_options o = hasty();
  o.client.max_attempts = 1;
  source s{l.ctx, server.url(), o};
  int got = 0;
  bool right = true;
  client_error end = client_error::none;
  s.on_event([&](const sse::event& e) {
    ++got;
    right = right && e.id == std::to_string(got) && e.data.size() == static_cast<std::size_t>(got);
  });
  s.on_error([&](const sse::client_failure& f) {
    end = f.error;
    s.close();
  });
  s.start();
  l.to_the_end();
  CHECK(right);
  CHECK(got == 50);
  CHECK(end == client_error::end_of_stream);
}

TEST_CASE("client: async_next gives events in order, then the reason of the end") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    if (p.number != 0) {
      p.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    p.send(stream_head);
    p.send("event: a\nid: 1\ndata: x\n\ndata: y\n\n");
  }};
  loop l;
  source s{l.ctx, server.url(), hasty()};
  std::vector<std::string> got;
  asio::error_code end;
  std::function<void()> next = [&] {
    s.async_next([&](asio::error_code e, const sse::received_event& r) {
      end = e;
      if (e) return;
      got.push_back(r.type + "," + r.data + "," + r.last_event_id);
      next();
    });
  };
  SECTION("one at a time") { next(); }
  SECTION("several at once") {
    for (int i = 0; i < 5; ++i) next();
  }
  l.to_the_end();
  CHECK(got == std::vector<std::string>{"a,x,1", ",y,1"});
  CHECK(end == client_error::status);
  CHECK(end.message() == "the server refused: its status is not 200");
  CHECK(std::string_view{std::error_code{end}.category().name()} == "sse.client");
  next();  // and so for ever
  end = {};
  l.to_the_end();
  CHECK(end == client_error::status);
}

TEST_CASE("client: async_next as a future and in a coroutine") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send(frame(1, "one") + frame(2, "two"));
    p.wait_for_end();
  }};
  loop l;
  std::optional<source> s{std::in_place, asio::make_strand(l.ctx), server.url(), hasty()};
  SECTION("future") {
    auto work = asio::make_work_guard(l.ctx);
    std::thread thread{[&] { l.ctx.run(); }};
    std::promise<std::future<sse::received_event>> second;
    asio::post(s->get_executor(), [&] {
      (void)s->async_next(asio::use_future);
      second.set_value(s->async_next(asio::use_future));
    });
    CHECK(second.get_future().get().get().data == "two");
    std::promise<void> closed;
    asio::post(s->get_executor(), [&] {
      s.reset();
      closed.set_value();
    });
    closed.get_future().get();
    work.reset();
    thread.join();
  }
  SECTION("coroutine") {
    std::string data;
    bool aborted = false;
    asio::co_spawn(
        s->get_executor(),
        [&]() -> asio::awaitable<void> {
          data = (co_await s->async_next(asio::use_awaitable)).data;
          data += (co_await s->async_next(asio::use_awaitable)).data;
          try {
            asio::post(s->get_executor(), [&] { s->close(); });
            (void)co_await s->async_next(asio::use_awaitable);
          } catch (const asio::system_error& e) {
            aborted = e.code() == asio::error::operation_aborted;
          }
        },
        asio::detached);
    l.to_the_end();
    CHECK(data == "onetwo");
    CHECK(aborted);
  }
}

TEST_CASE("client: one async_next can be cancelled and takes no event away") {
  std::promise<void> go;
  raw_server server{[&](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    go.get_future().wait();
    p.send(frame(1, "one"));
    p.wait_for_end();
  }};
  loop l;
  source s{l.ctx, server.url(), hasty()};
  asio::cancellation_signal cancel;
  asio::error_code first;
  std::string second;
  s.async_next(asio::bind_cancellation_slot(
      cancel.slot(), [&](asio::error_code e, const sse::received_event&) { first = e; }));
  s.async_next([&](asio::error_code, const sse::received_event& r) { second = r.data; });
  l.until([&] { return s.state() == sse::client_state::open; });
  cancel.emit(asio::cancellation_type::all);
  l.until([&] { return bool{first}; });
  CHECK(first == asio::error::operation_aborted);
  CHECK(second.empty());
  go.set_value();
  l.until([&] { return !second.empty(); });
  CHECK(second == "one");
}

TEST_CASE("client: reading pauses while the queue is full, and nothing is lost") {
  constexpr int events = 4000;
  const bool by_size = GENERATE(false, true);
  std::atomic<bool> sent_all{false};
  raw_server server{[&](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    for (int i = 1; i <= events; ++i) p.send(frame(i, std::string(4096, 'x')));
    sent_all = true;
  }};
  loop l;
  sse::asio_client_options o = hasty();
  o.queue = by_size ? 1'000'000 : 8;
  o.queue_bytes = by_size ? 32768 : std::size_t{1} << 30;
  source s{l.ctx, server.url(), o};
  s.start();
  l.to_the_end();  // nothing to do: the queue is full
  CHECK_FALSE(sent_all);
  CHECK(s.state() == sse::client_state::open);
  int got = 0;
  bool in_order = true;
  std::function<void()> next = [&] {
    s.async_next([&](asio::error_code e, const sse::received_event& r) {
      if (e) return;
      in_order = in_order && r.last_event_id == std::to_string(++got);
      if (got == events) return s.close();
      next();
    });
  };
  next();
  l.to_the_end();
  CHECK(in_order);
  CHECK(got == events);
}

TEST_CASE("client: a full queue holds up events, and no response head") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send_bytewise(stream_head);
    p.send(frame(p.number, "x"));
    p.wait_for_end();
  }};
  loop l;
  sse::asio_client_options o = hasty();
  o.queue = 1;
  source s{l.ctx, server.url(), o};
  int opened = 0;
  s.on_open([&](const sse::client_response&) { ++opened; });
  s.start();
  l.until([&] { return s.last_event_id() == "0"; });
  s.restart();
  l.until([&] { return opened == 2; });
  CHECK(server.connections() == 2);
}

TEST_CASE("client: redirects lead on, also to another server, a loop of them ends") {
  raw_server target{[](peer& p) {
    const std::string r = p.request();
    if (r.empty()) return;
    p.send(stream_head);
    p.send("data: " + r.substr(0, r.find('\r')) + "\n\n");
    p.wait_for_end();
  }};
  raw_server first{[&](peer& p) {
    const std::string r = p.request();
    if (r.empty()) return;
    const std::string to = r.starts_with("GET /a ")   ? "/b"
                           : r.starts_with("GET /b ") ? target.url("/c")
                                                      : "/loop";
    p.send("HTTP/1.1 307 Temporary Redirect\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n");
  }};
  loop l;
  source s{l.ctx, first.url("/a"), hasty()};
  std::string got;
  s.on_event([&](const sse::event& e) { got = e.data; });
  s.start();
  l.until([&] { return !got.empty(); });
  CHECK(got == "GET /c HTTP/1.1");
  CHECK(s.url() == target.url("/c"));
  s.close();
  CHECK(end_of(first.url("/loop")) == client_error::too_many_redirects);
  CHECK(first.connections() == 2 + 21);
}

TEST_CASE("client: what ends it for good") {
  CHECK(end_of("ftp://localhost/") == client_error::bad_url);
  const std::vector<std::pair<std::string, client_error>> answers{
      {"HTTP/1.1 204 No Content\r\n\r\n", client_error::no_content},
      {"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", client_error::status},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", client_error::content_type},
      {"HTTP/1.1 301 Go\r\nLocation:\r\n\r\n", client_error::bad_redirect},
  };
  for (const auto& [answer, error] : answers) {
    raw_server server{[&a = answer](peer& p) {
      if (!p.request().empty()) p.send(a);
    }};
    CHECK(end_of(server.url()) == error);
    CHECK(server.connections() == 1);
  }
}

TEST_CASE("client: what it tries again") {
  sse::asio_client_options o = hasty();
  o.client.max_attempts = 3;
  SECTION("nobody listens") {
    std::string gone;
    {
      gone = raw_server{[](peer&) {}}.url();
    }
    CHECK(end_of(gone, o) == client_error::connect);
  }
  SECTION("https without TLS") { CHECK(end_of("https://127.0.0.1:1/", o) == client_error::tls); }
  SECTION("accepts and says nothing") {
    raw_server server{[](peer& p) { p.wait_for_end(); }};
    o.client.head_timeout = sse::duration::milliseconds(20);
    CHECK(end_of(server.url(), o) == client_error::head_timeout);
    CHECK(server.connections() == 3);
  }
  SECTION("falls silent") {
    raw_server server{[](peer& p) {
      if (p.request().empty()) return;
      p.send(stream_head);
      p.wait_for_end();
    }};
    o.client.stall_timeout = sse::duration::milliseconds(20);
    CHECK(end_of(server.url(), o) == client_error::stalled);
    CHECK(server.connections() == 3);
  }
  SECTION("resets") {
    raw_server server{[](peer& p) {
      if (!p.request().empty()) p.reset();
    }};
    CHECK(end_of(server.url(), o) == client_error::read);
  }
  SECTION("a chunk size that lies") {
    raw_server server{[](peer& p) {
      if (p.request().empty()) return;
      p.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n");
      p.send("Transfer-Encoding: chunked\r\n\r\n3\r\ndata: x\n\n");
      p.wait_for_end();
    }};
    CHECK(end_of(server.url(), o) == client_error::bad_framing);
  }
  SECTION("an endless header") {
    raw_server server{[](peer& p) {
      if (p.request().empty()) return;
      p.send("HTTP/1.1 200 OK\r\nX: ");
      while (p.send(std::string(4096, 'x'))) {
      }
    }};
    CHECK(end_of(server.url(), o) == client_error::head_too_large);
  }
}

TEST_CASE("client: waits for retry between connections, however often it is woken") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send("retry: 150\n\ndata: x\n\n");
  }};
  loop l;
  source s{l.ctx, server.url()};
  std::vector<std::chrono::steady_clock::time_point> opened;
  s.on_open(
      [&](const sse::client_response&) { opened.push_back(std::chrono::steady_clock::now()); });
  s.on_event([](const sse::event&) {});
  s.start();
  l.until([&] { return opened.size() == 3; });
  CHECK(s.retry().ms() == 150);
  CHECK(opened[1] - opened[0] >= std::chrono::milliseconds(140));
  CHECK(opened[2] - opened[1] >= std::chrono::milliseconds(140));
}

TEST_CASE("client: restart connects again") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send(frame(p.number, "x"));
    p.wait_for_end();
  }};
  loop l;
  source s{l.ctx, server.url(), hasty()};
  journal told{s};
  s.start();
  l.until([&] { return s.last_event_id() == "0"; });
  s.restart();
  l.until([&] { return s.last_event_id() == "1"; });
  CHECK(told.lines[3] == "error restarted");
}

TEST_CASE("client: a POST with its body and headers") {
  std::string request;
  raw_server server{[&](peer& p) {
    const std::string r = p.request();
    if (r.empty()) return;
    request = r;
    p.send(stream_head);
    p.send("data: x\n\n");
    p.wait_for_end();
  }};
  loop l;
  const std::string body(300'000, 'b');
  const sse::header headers[] = {{"Authorization", "Bearer t"}};
  sse::asio_client_options o = hasty();
  o.client.method = "POST";
  o.client.body = body;
  o.client.headers = headers;
  {
    source s{l.ctx, server.url("/p"), o};
    bool got = false;
    s.on_event([&](const sse::event&) { got = true; });
    s.start();
    l.until([&] { return got; });
  }
  CHECK(request.starts_with("POST /p HTTP/1.1\r\n"));
  CHECK(request.find("\r\nAuthorization: Bearer t\r\n") != std::string::npos);
  CHECK(request.ends_with("\r\n\r\n" + body));
}

TEST_CASE("client: IPv6, and a name with several addresses") {
  const auto serve = [](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send("data: x\n\n");
    p.wait_for_end();
  };
  const auto reads = [](const std::string& url) {
    loop l;
    source s{l.ctx, url, hasty()};
    bool got = false;
    s.on_event([&](const sse::event&) { got = true; });
    s.start();
    l.until([&] { return got; });
    return got;
  };
  raw_server v4{serve};
  CHECK(reads("http://localhost:" + std::to_string(v4.port())));  // often ::1 first
  try {
    raw_server v6{serve, true};
    CHECK(reads(v6.url()));
  } catch (const std::runtime_error& e) {
    WARN("no IPv6 here: " << e.what());
  }
}

TEST_CASE("client: many sources on one io_context") {
  constexpr int sources = 100;
  constexpr int events = 20;
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    for (int i = 1; i <= events; ++i) p.send(frame(i, std::to_string(i)));
  }};
  loop l;
  std::vector<source> all;
  int got = 0;
  for (int i = 0; i < sources; ++i) {
    all.emplace_back(l.ctx, server.url("/" + std::to_string(i)), hasty());
    source& s = all.back();
    s.on_event([&got](const sse::event&) { ++got; });
    s.on_error([&all, i](const sse::client_failure&) { all[std::size_t(i)].close(); });
    s.start();
  }
  l.to_the_end();
  CHECK(got == sources * events);
}

// --- ends -------------------------------------------------------------------------------------

TEST_CASE("client: it may be closed or destroyed at any point") {
  const bool destroy = GENERATE(false, true);
  const std::string host = GENERATE("127.0.0.1", "localhost");
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    if (p.number % 3 == 0) {
      p.send("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    p.send(stream_head);
    p.send(frame(p.number, "x"));
    if (p.number % 3 == 1) p.wait_for_end();
  }};
  for (int step = 0; step < 25; ++step) {
    loop l;
    std::optional<source> s{std::in_place, l.ctx,
                            "http://" + host + ":" + std::to_string(server.port()) + "/", hasty()};
    bool after_end = false;
    bool ended = false;
    int aborted = 0;
    s->on_event([&](const sse::event&) { after_end = after_end || ended; });
    s->on_error([&](const sse::client_failure&) { after_end = after_end || ended; });
    s->on_state([&](sse::client_state) { after_end = after_end || ended; });
    s->async_next([&](asio::error_code e, const sse::received_event&) {
      aborted += e == asio::error::operation_aborted;
    });
    for (int i = 0; i < step; ++i) l.ctx.run_one_for(std::chrono::milliseconds(20));
    ended = true;
    if (destroy) {
      s.reset();
    } else {
      s->close();
    }
    l.to_the_end();
    CHECK_FALSE(after_end);
    CHECK(aborted == 1);
  }
}

TEST_CASE("client: a hook may destroy the source, close it, or start it again") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send(": c\n" + frame(1, "a") + frame(2, "b"));
  }};
  const int where = GENERATE(0, 1, 2, 3, 4, 5);
  const int what = GENERATE(0, 1, 2);
  loop l;
  auto s = std::make_unique<source>(l.ctx, server.url(), hasty());
  int calls = 0;
  const auto act = [&](int here) {
    if (here != where) return;
    ++calls;
    if (what == 0) s.reset();
    if (what == 1) s->close();
    if (what == 2) calls == 1 ? s->restart() : s->close();
  };
  s->on_state([&](sse::client_state) { act(0); });
  s->on_open([&](const sse::client_response&) { act(1); });
  s->on_comment([&](std::string_view) { act(2); });
  s->on_event([&](const sse::event&) { act(3); });
  s->on_error([&](const sse::client_failure&) { act(4); });
  if (where == 5) {
    s->on_event({});
    s->async_next([&](asio::error_code, const sse::received_event&) {
      act(5);
      if (what == 2) s->close();
    });
  }
  s->start();
  l.to_the_end();
  CHECK(calls == (what == 2 && where != 5 ? 2 : 1));
}

TEST_CASE("client: what a hook throws leaves run(), and the source is closed") {
  raw_server server{[](peer& p) {
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send(frame(1, "a"));
    p.wait_for_end();
  }};
  loop l;
  source s{l.ctx, server.url(), hasty()};
  s.on_event([](const sse::event&) { throw std::runtime_error("no"); });
  s.start();
  CHECK_THROWS_AS(l.to_the_end(), std::runtime_error);
  CHECK(s.state() == sse::client_state::closed);
  l.to_the_end();
}

TEST_CASE("client: a source that never started, moved, and a context that never ran") {
  raw_server server{[](peer& p) { p.wait_for_end(); }};
  loop l;
  source a{l.ctx, server.url()};
  source b{std::move(a)};
  a = source{l.ctx, server.url()};
  b.start();
  a.async_next([](asio::error_code, const sse::received_event&) { FAIL("never run"); });
  b = std::move(a);
}

// --- a stream that is no plain socket -----------------------------------------------------------

TEST_CASE("client: the reason of an end is the same for every stream") {
  loop l;
  sse::asio_event_source<test::layer> s{l.ctx, "http://", hasty()};
  asio::error_code end;
  s.async_next([&](asio::error_code e, const sse::received_event&) { end = e; });
  l.to_the_end();
  CHECK(end == client_error::bad_url);
  CHECK(std::error_code{end}.category() == sse::client_category());
}

TEST_CASE("client: a stream with a handshake serves https, plain sockets serve http") {
  raw_server server{[](peer& p) {
    if (p.number < 2 && !(p.skip(1) && p.send(p.number == 0 ? "X" : "!"))) return;
    if (p.request().empty()) return;
    p.send(stream_head);
    p.send(frame(p.number, "x"));
    p.wait_for_end();
  }};
  const std::string port = std::to_string(server.port());
  std::string host;
  for (const std::string scheme : {"https", "http"}) {
    loop l;
    sse::asio_event_source<test::layer> s{l.ctx, scheme + "://127.0.0.1:" + port + "/", hasty(),
                                          [&](asio::ip::tcp::socket t, const std::string& h) {
                                            host = h;
                                            return test::layer{std::move(t)};
                                          }};
    std::vector<client_error> failures;
    std::string got;
    s.on_event([&](const sse::event& e) { got = e.id; });
    s.on_error([&](const sse::client_failure& f) { failures.push_back(f.error); });
    s.start();
    l.until([&] { return !got.empty(); });
    if (scheme == "https") {
      CHECK(host == "127.0.0.1");
      CHECK(got == "1");
      CHECK(failures == std::vector{client_error::tls});
    } else {
      CHECK(got == "2");
      CHECK(failures.empty());
    }
  }
}
