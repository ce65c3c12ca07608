// What once went wrong in hosts, the same for all of them.
//
// `Server`: test::server<> or a test::loop_server. `Stand`: a server that the test itself drives,
// on the test's own thread, so that a pause can be put where it hurts:
//   Stand(sse::server_options); operator->, of the server
//   void step()   serves what there is to do now, as if a deadline had woken the loop
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <sse/server.hpp>

#include "catch.hpp"
#include "http_client.hpp"
#include "socket_calls.hpp"

namespace test {

// --- a child process has the descriptors too, and lives on ------------------------------------

/// A process that has all our descriptors and does nothing.
class forked_child {
 public:
  forked_child() {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) {  // nothing but calls that are allowed here
      ::close(ends[1]);
      char byte = 0;
      (void)!::read(ends[0], &byte, 1);
      ::_exit(0);
    }
    ::close(ends[0]);
    end_ = ends[1];
  }
  forked_child(const forked_child&) = delete;
  forked_child& operator=(const forked_child&) = delete;
  ~forked_child() {
    ::close(end_);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_ = 0;
  int end_ = -1;
};

template <class Server>
void a_child_process_keeps_no_connection_open() {
  Server s{{.hub = {.write_deadline = std::chrono::milliseconds{200}},
            .keep_alive = std::chrono::milliseconds{200},
            .send_buffer = 8192}};
  sse::channel ticks = s.open("ticks", {.max_lag = 0});
  s.on_loop([&] {
    s->stream("/events", [&](const sse::request&) {
      return sse::verdict<>{sse::no_user{}, "alice"}.join(ticks);
    });
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
  });
  const std::string_view how =
      GENERATE("revoke", "channel", "stop", "stalled", "idle", "half a head", "not accepted");
  CAPTURE(how);
  client c{s.port(), 4096};
  if (how == "half a head" || how == "not accepted") {
    c.send("GET /events HT");
    CHECK(s.eventually([&] { return s->connections() == 1; }));
  } else if (how == "idle") {
    CHECK(c.get("/health").body == "ok");
  } else {
    REQUIRE(c.open("/events").status == 200);
  }
  const forked_child child;
  if (how == "not accepted") {
    s.on_loop([&] {
      c = client{s.port()};
      s->stop();
    });
  }
  if (how == "revoke") CHECK(s.on_loop([&] { return s->hub().revoke("alice"); }) == 1);
  if (how == "channel") s.on_loop([&] { s->close_channel(ticks); });
  if (how == "stop" || how == "half a head") s.on_loop([&] { s->stop(); });
  if (how == "stalled") {
    for (int i = 0; i < 100; ++i) s.publish(ticks, std::string(9000, 'x'));
    CHECK(s.eventually([&] { return s->hub().sessions() == 0; }));
  }
  (void)c.rest();  // its end, which throws if it does not come in time
}

// --- hooks that stop the server ---------------------------------------------------------------

template <class Server>
void every_hook_may_stop_the_server() {
  Server s;
  sse::channel ticks = s.open("ticks");
  const std::string_view hook =
      GENERATE("admit", "opened", "closed", "present", "absent", "sees", "gap", "access");
  const bool by_the_program = GENERATE(false, true);  // outside the server's own turns
  CAPTURE(hook, by_the_program);
  s.on_loop([&] {
    const auto stop_in = [&](std::string_view where) {
      if (where == hook) s->stop();
    };
    s->stream("/events", [&, stop_in](const sse::request& r) {
      if (r.query.find("last") != std::string_view::npos) stop_in("admit");
      return sse::verdict<>{sse::no_user{}, std::string{r.query}}.join(ticks);
    });
    s->hub().on_opened([&, stop_in, n = 0](sse::session_id, const sse::no_user&) mutable {
      if (++n == 3) stop_in("opened");
    });
    s->hub().on_closed([&, stop_in](sse::session_id, const sse::no_user&, sse::close_reason) {
      stop_in("closed");
    });
    s->hub().on_presence([&, stop_in, n = 0](sse::channel, std::string_view, bool present) mutable {
      if (!present) stop_in("absent");
      if (present && ++n == 3) stop_in("present");
    });
    s->hub().on_sees([&, stop_in](const sse::no_user&, std::string_view, std::string_view) {
      stop_in("sees");
      return true;
    });
    s->hub().on_gap([&, stop_in](const sse::gap_notice&) { stop_in("gap"); });
    s->on_access([&, stop_in, n = 0](const sse::access_record&) mutable {
      if (++n == 3) stop_in("access");
    });
  });
  std::optional<client> first{s.port()};
  client second{s.port()};
  REQUIRE(first->open("/events?a").status == 200);
  REQUIRE(second.open("/events?b").status == 200);
  client last{s.port()};
  (void)last.try_send(client::make("GET", "/events?last", "Last-Event-ID: 1\r\n"));
  if (hook == "closed" || hook == "absent") {
    if (by_the_program) {
      s.on_loop([&] { s->hub().revoke("a"); });
    } else {
      first.reset();
    }
  }
  if (hook == "sees") {
    s.on_loop([&] {
      (void)s->publish(ticks, {.data = "x"}, {.audience = "somebody"});
      if (by_the_program) (void)s->hub().flush();
    });
  }
  (void)second.rest();
  (void)last.rest();
  CHECK(s.on_loop([&] { return s->connections() + s->hub().sessions(); }) == 0);
  CHECK(s.on_loop([&] { return s->listen("127.0.0.1", 0); }));
}

// --- the process is stopped for a while -------------------------------------------------------

inline std::int64_t paused_clock_ms = 1'000'000;
[[nodiscard]] inline sse::time_point paused_clock() noexcept {
  return sse::time_point::milliseconds(paused_clock_ms);
}

/// A server with a reader that has stopped reading, on a clock that stands still.
template <class Stand>
struct paused_stand {
  paused_stand()
      : stand{{.send_buffer = 16384, .clock = &paused_clock}},
        ticks{stand->open_channel("ticks", {.max_lag = 0})} {
    stand->stream("/events", ticks);
    stand->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    if (stand->listen("127.0.0.1", 0)) throw std::runtime_error("listen");
    reader.connect(stand->port());
    reader.send(client::make("GET", "/events"));
    steps_until([&] { return stand->hub().sessions() == 1; });
    for (int i = 0; i < 300; ++i) (void)stand->publish(ticks, {.data = std::string(9000, 'x')});
    steps();
    REQUIRE(behind() > 1'000'000);
  }

  void steps() {
    for (int i = 0; i < 20; ++i) stand.step();
  }
  template <class F>
  void steps_until(F f) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!f()) {
      if (std::chrono::steady_clock::now() > end) throw std::runtime_error("it never was");
      stand.step();
    }
  }
  /// The process stops, and goes on after a while; a wait for events is interrupted by that.
  void pause() {
    paused_clock_ms += 13'000;  // longer than the deadlines of the defaults
    fail_socket_call(0, EINTR);
    stand.step();
    (void)end_failing();
    steps();
  }
  /// The reader takes all that the server wrote: now there is room again.
  void read_all() {
    while (got < stand->hub().stats().bytes) got += reader.some().size();
  }
  [[nodiscard]] std::uint64_t behind() { return stand->hub().worst_lag(ticks); }
  [[nodiscard]] std::uint64_t stalled() {
    return stand->hub().stats().closed[static_cast<int>(sse::close_reason::stalled)];
  }
  void gets_the_rest() {
    CHECK(stalled() == 0);
    steps_until([&] {
      read_all();
      return behind() == 0;
    });
  }

  Stand stand;
  sse::channel ticks;
  client reader{65536, client::unconnected{}};
  std::uint64_t got = 0;
};

template <class Stand>
void a_pause_cuts_no_reader_that_could_be_written_to() {
  paused_stand<Stand> p;
  p.read_all();
  p.pause();
  p.gets_the_rest();
}

/// Readiness comes, and time passes, while the server is about something else.
template <class Stand>
void a_pause_inside_a_turn_cuts_no_reader_that_could_be_written_to() {
  paused_stand<Stand> p;
  bool paused = false;
  p.stand->get("/pause", [&](const sse::request&) {
    p.read_all();
    paused_clock_ms += 13'000;
    paused = true;
    return sse::response::text(200, "ok");
  });
  client other{p.stand->port()};
  other.send(client::make("GET", "/pause"));
  p.steps_until([&] { return paused; });
  p.steps();
  CHECK(other.whole_answer().body == "ok");
  p.gets_the_rest();
}

template <class Stand>
void a_pause_cuts_a_reader_that_takes_nothing() {
  paused_stand<Stand> p;
  paused_clock_ms += 9'000;
  p.steps();
  CHECK(p.stalled() == 0);
  paused_clock_ms += 2'000;
  p.steps();
  CHECK(p.stalled() == 1);
}

template <class Stand>
void a_pause_refuses_no_request_that_is_there() {
  paused_stand<Stand> p;
  client early{p.stand->port()};
  client silent{p.stand->port()};
  p.steps_until([&] { return p.stand->connections() == 3; });
  early.send(client::make("GET", "/health"));
  p.read_all();
  p.pause();
  CHECK(early.whole_answer().body == "ok");
  CHECK(silent.rest().empty());
}

/// A request comes, and an answer finds room, while the server is about something else for longer
/// than either may take.
template <class Stand>
void a_pause_inside_a_turn_ends_no_connection_that_is_ready() {
  paused_stand<Stand> p;
  p.stand->page("/large", std::string(1'000'000, 'p'));
  bool paused = false;
  client early{p.stand->port()};
  client large{p.stand->port()};
  client waits{p.stand->port()};
  large.send(client::make("GET", "/large"));
  p.steps_until([&] { return p.stand->connections() == 4 && large.has_input(); });
  p.steps();
  std::size_t got = 0;
  p.stand->get("/pause", [&](const sse::request&) {
    early.send(client::make("GET", "/health"));
    got += large.taken().size();
    p.read_all();
    paused_clock_ms += 13'000;
    paused = true;
    return sse::response::text(200, "ok");
  });
  client other{p.stand->port()};
  other.send(client::make("GET", "/pause"));
  p.steps_until([&] { return paused; });
  p.steps_until([&] { return early.has_input(); });
  CHECK(early.whole_answer().body == "ok");
  CHECK(waits.rest().empty());  // nothing came of it
  p.steps_until([&] {
    got += large.taken().size();
    return got > 1'000'000;
  });
}

/// What a handler publishes is no older than it is, however long the server slept before.
template <class Stand>
void a_pause_makes_nothing_older() {
  paused_stand<Stand> p;
  sse::channel news = p.stand->open_channel("news", {.keep_age = std::chrono::milliseconds{1000}});
  p.stand->get("/publish", [&](const sse::request&) {
    CHECK(p.stand->publish(news, {.data = "x"}));
    return sse::response::text(200, "ok");
  });
  client c{p.stand->port()};
  p.steps_until([&] { return p.stand->connections() == 2; });
  p.read_all();
  c.send(client::make("GET", "/publish"));
  paused_clock_ms += 5'000;
  p.steps_until([&] { return c.has_input(); });
  paused_clock_ms += 999;
  p.steps();
  CHECK(news.stats().retained_events == 1);
  paused_clock_ms += 2'000;
  p.steps();
  CHECK(news.stats().retained_events == 0);
  sse::publisher mail = p.stand->make_publisher(news);
  paused_clock_ms += 5'000;
  CHECK(mail.try_publish("x") == sse::publish_error::none);
  p.steps_until([&] { return news.stats().published == 2; });
  paused_clock_ms += 999;
  p.steps();
  CHECK(news.stats().retained_events == 1);
}

/// A stream that begins then has its whole age.
template <class Stand>
void a_pause_makes_no_stream_older() {
  using std::chrono::milliseconds;
  Stand stand{{.hub = {.max_age = milliseconds{40'000}}, .clock = &paused_clock}};
  stand->stream(
      "/events",
      stand->open_channel("quiet", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}}));
  REQUIRE_FALSE(stand->listen("127.0.0.1", 0));
  const auto steps_until = [&](auto holds) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) throw std::runtime_error("it never was");
      stand.step();
    }
  };
  const auto sessions = [&](std::size_t n) {
    steps_until([&] { return stand->hub().sessions() == n; });
  };
  client before{stand->port()};
  before.send(client::make("GET", "/events"));
  sessions(1);
  client c{stand->port()};
  steps_until([&] { return stand->connections() == 2; });
  c.send(client::make("GET", "/events"));
  paused_clock_ms += 50'000;  // the first one's end is overdue
  steps_until([&] { return stand->hub().stats().accepted == 2; });
  sessions(1);
  paused_clock_ms += 36'000 - 1;  // a tenth less at most
  for (int i = 0; i < 20; ++i) stand.step();
  CHECK(stand->hub().sessions() == 1);
  paused_clock_ms += 4'001;
  sessions(0);
}

// --- ends -------------------------------------------------------------------------------------

/// The clock stands still, so that nothing but the peer's own end can be what is noticed.
template <class Stand>
void an_idle_connection_that_was_ended_is_over_when_its_peer_closes() {
  paused_stand<Stand> p;
  client idle{p.stand->port()};
  idle.send(client::make("GET", "/health"));
  p.steps_until([&] { return p.stand->connections() == 2; });
  p.steps();
  CHECK(idle.whole_answer().body == "ok");
  p.read_all();
  paused_clock_ms += 15'000;
  p.steps();
  CHECK(idle.rest().empty());
  CHECK(p.stand->connections() == 2);
  idle.close();
  p.steps_until([&] { return p.stand->connections() == 1; });
}

}  // namespace test
