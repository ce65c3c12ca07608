// event_source: close, restart, and what callbacks may do.
#include <sse/client.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

namespace {

using sse::client_action;
using sse::client_state;
using sse::duration;
using sse::event_source;
using sse::time_point;
using test::chunk;
using test::chunked_head;
using test::header_of;
using test::list;
using test::recorder;
using test::redirect;
using test::rig;
using test::stream_head;

}  // namespace

// --- close and restart

TEST_CASE("client: close, at any moment") {
  struct row {
    std::string_view name;
    void (*to)(rig&);
    bool connected;
  };
  const row rows[] = {
      {"before the connection", [](rig&) {}, true},
      {"with a request out", [](rig& r) { r.connected(); }, true},
      {"inside the head", [](rig& r) { r.answer("HTTP/1.1 2"); }, true},
      {"open", [](rig& r) { r.answer(stream_head); }, true},
      {"inside an event", [](rig& r) { r.answer(std::string{stream_head} + "data: x"); }, true},
      {"waiting", [](rig& r) { r.ended(); }, false},
  };
  for (const row& t : rows) {
    INFO(t.name);
    rig r;
    t.to(r);
    (void)r.asked();
    (void)r.events();
    r.source.close();
    CHECK((r.source.next_deadline() <= r.now()) == t.connected);
    r.poll();
    CHECK(r.asked() == (t.connected ? list{"disconnect"} : list{}));
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.forever());
    CHECK(r.source.buffered() == 0);
    r.source.close();
    r.source.restart(r.now());
    r.receive("data: x\n\n");
    r.ended();
    r.advance(1'000'000);
    CHECK(r.asked().empty());
    CHECK(r.events().empty());
    CHECK(r.source.connected(r.now()).empty());
  }
}

TEST_CASE("client: what closes reports no more what failed before") {
  rig r;
  r.connected();
  r.source.ended(r.now());
  r.source.close();
  CHECK(r.forever());
  r.poll();
  CHECK(r.asked() == list{"connect h:80"});
}

TEST_CASE("client: close before the first poll") {
  event_source source{"http://h/"};
  source.close();
  CHECK(source.poll({}).what == client_action::none);
  CHECK(source.next_deadline() == time_point::never());
}

TEST_CASE("client: restart") {
  rig r;
  r.answer(std::string{stream_head} + "id: 5\ndata: x\n\ndata: half");
  r.advance(1000);
  (void)r.asked();
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  CHECK(r.source.state() == client_state::connecting);
  r.source.restart(r.now());  // waiting: at once
  r.poll();
  CHECK(r.asked() == list{"connect h:80"});
  CHECK(header_of(r.answer(stream_head), "Last-Event-ID") == "5");
  r.receive("data: y\n\n");
  CHECK(r.events() == list{"open 200", "5||x", "open 200", "5||y"});
  // While it connects, and between the hops of a redirect: one disconnect for each connection.
  r.source.restart(r.now());
  r.wait();
  r.wait();
  (void)r.asked();
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  CHECK(r.source.failure().attempts == 0);  // it is nobody's failure
  r.wait();
  (void)r.asked();
  r.connected();
  CHECK(r.source.received(r.now(), redirect(302, "/x"), r.seen) == redirect(302, "/x").size());
  r.source.restart(r.now());
  r.poll();
  CHECK(r.asked() == list{"disconnect", "restarted 3000"});
  // It cannot make a hot loop either.
  rig hot;
  for (int n = 0; n < 100; ++n) {
    hot.source.restart(hot.now());
    hot.source.restart(hot.now());
    hot.poll();
  }
  CHECK(hot.attempts == 1);
}

TEST_CASE("client: callbacks may close and restart") {
  struct actor {
    event_source* source = nullptr;
    std::string_view at;
    bool closes = false;
    std::vector<std::string> log;

    void act(std::string_view where) {
      log.emplace_back(where);
      if (where != at) return;
      if (closes) {
        source->close();
      } else {
        source->restart(time_point::milliseconds(1000));
      }
    }
    void on_open(const sse::client_response& r) {
      act("open");
      CHECK(r.header("Content-Type") == "text/event-stream");
    }
    void on_event(const sse::event& e) {
      act(e.data);
      CHECK(e.data.size() == 1);
      CHECK(e.id == "5");
    }
    void on_comment(std::string_view t) {
      act("comment");
      CHECK(t == "c");
    }
    void on_retry(std::int64_t) { act("retry"); }
    void on_position(std::string_view id) { act(id); }
    void on_gap(const sse::gap&) { act("gap"); }
  };
  const std::string in = std::string{chunked_head} +
                         chunk(
                             ": c\nid: 4\n\nretry: 7\nid: 5\ndata: 1\n\nevent: gap\ndata: "
                             "{\"requested\":2,\"first\":9,\"lost\":6}\n\ndata: 2\n\n") +
                         chunk("data: 3\n\n");
  const std::vector<std::string> all = {"open", "comment", "4", "retry", "1", "gap", "2", "3"};
  for (const std::string& at : all) {
    for (const bool closes : {true, false}) {
      for (const std::size_t step : {std::size_t{1}, in.size()}) {
        INFO(at << " " << closes << " " << step);
        event_source source{"http://h/"};
        (void)source.poll({});
        (void)source.connected({});
        actor sink{&source, at, closes, {}};
        for (std::size_t i = 0; i < in.size(); i += step) {
          const std::string_view piece = std::string_view{in}.substr(i, step);
          CHECK(source.received({}, piece, sink) == piece.size());
        }
        CHECK(source.state() == (closes ? client_state::closed : client_state::connecting));
        std::vector<std::string> expected;  // nothing after it
        for (const std::string& s : all) {
          expected.push_back(s);
          if (s == at) break;
        }
        CHECK(sink.log == expected);
        CHECK(source.buffered() == 0);
        CHECK(source.poll(time_point::milliseconds(1000)).what == client_action::disconnect);
        CHECK(source.poll(time_point::milliseconds(1000)).what ==
              (closes ? client_action::none : client_action::failed));
      }
    }
  }
}

TEST_CASE("client: a sink that throws leaves a source that can go on") {
  struct {
    int left = 1;
    int events = 0;
    void on_event(const sse::event&) {
      if (left-- > 0) throw 1;
      ++events;
    }
  } sink;
  event_source source{"http://h/"};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} + "data: x\n\n";
  CHECK_THROWS(source.received({}, in, sink));
  source.restart({});
  for (std::int64_t ms = 0;
       source.poll(time_point::milliseconds(ms)).what != client_action::connect; ms += 1000) {
  }
  (void)source.connected(time_point::milliseconds(5000));
  CHECK(source.received(time_point::milliseconds(5000), in, sink) == in.size());
  CHECK(sink.events == 1);
}

TEST_CASE("client: it can be moved, with a stream open") {
  rig r;
  r.answer(std::string{stream_head} + "id: 5\ndata: a\n\ndata: b");
  event_source other{std::move(r.source)};
  recorder seen;
  CHECK(other.received({}, "c\n\n", seen) == 3);
  CHECK(seen.log == list{"5||bc"});
  CHECK(other.url() == "http://h/s");
}

TEST_CASE("client: late inputs are ignored") {
  rig r;
  r.receive(stream_head);  // before connected()
  CHECK(r.events().empty());
  r.connected();
  r.answer(stream_head);
  CHECK(r.source.state() == client_state::open);
  r.ended();
  (void)r.asked();
  r.receive("data: x\n\n");
  r.ended();
  CHECK(r.asked().empty());
  CHECK(r.source.failure().attempts == 1);
  CHECK(r.events() == list{"open 200"});
  // A clock that went back only means a longer wait of at most one interval.
  rig back{{.retry = duration::off()}};
  back.ms = 1'000'000;
  back.ended();
  back.wait();
  back.ms = 0;
  back.ended();
  CHECK(back.source.failure().delay.ms() <= 200);
}
