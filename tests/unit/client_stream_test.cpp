// event_source: the stream, what closes it, gap frames, a sink that stops.
#include <sse/client.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

namespace {

using sse::client_action;
using sse::client_error;
using sse::client_state;
using sse::duration;
using sse::event_source;
using sse::time_point;
using test::chunk;
using test::chunked_head;
using test::list;
using test::rig;
using test::stream_head;

}  // namespace

// --- the response

TEST_CASE("client: an open stream holds its request, which may be on its way, and no head") {
  rig r;
  const std::string request = r.answer(stream_head);
  CHECK(r.source.state() == client_state::open);
  CHECK(r.source.buffered() == request.size());
  r.receive("data: begun");  // and what came of an event
  CHECK(r.source.buffered() > request.size());
  CHECK(r.source.buffered() <= request.size() + 1000);
}

TEST_CASE("client: a stream, in every chunking") {
  const std::string stream =
      "\xEF\xBB\xBFretry: 5\n: hi\nid: 1\ndata: a\n\nevent: t\rdata: b\rdata: c\r\rid: 2\r\n\r\n"
      "data:\n\nevent: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\nid: 10\ndata: lost";
  const list expected = {"open 200", "retry 5", ":hi", "1||a", "1|t|b\nc", "2||", "gap 2 9 6"};
  const std::string chunks = std::string{chunked_head} + chunk(stream.substr(0, 30)) +
                             chunk(stream.substr(30, 1)) + "3;x=y\r\n" + stream.substr(31, 3) +
                             "\r\n" + chunk(stream.substr(34)) + "0\r\nA: b\r\n\r\n";
  const std::string counted = "HTTP/1.0 200 OK\nContent-Type:text/event-stream\nContent-Length:" +
                              std::to_string(stream.size()) + "\n\n" + stream + "not this";
  const std::string plain = std::string{stream_head} + stream;
  struct row {
    std::string_view in;
    bool ends;  // by itself
  };
  for (const row& t : {row{chunks, true}, row{counted, true}, row{plain, false}}) {
    const auto run = [&](std::size_t first, std::size_t step) {
      rig r;
      r.connected();
      for (std::size_t at = 0, n = first; at < t.in.size(); at += n, n = step) {
        r.receive(t.in.substr(at, n));
      }
      CHECK(r.source.state() == (t.ends ? client_state::connecting : client_state::open));
      if (!t.ends) r.ended();
      const list ask = t.ends ? list{"connect h:80", "disconnect", "end_of_stream 200"}
                              : list{"connect h:80", "end_of_stream 200"};
      CHECK(r.asked() == ask);
      CHECK(r.source.last_event_id() == "2");
      return r.events();
    };
    CHECK(run(t.in.size(), 1) == expected);
    for (std::size_t step : {1U, 2U, 3U, 7U}) CHECK(run(step, step) == expected);
    for (std::size_t cut = 1; cut < t.in.size(); ++cut) {
      if (run(cut, t.in.size()) == expected) continue;
      INFO("cut at " << cut);
      CHECK(false);
    }
  }
}

TEST_CASE("client: what closes for good") {
  struct row {
    std::string in;
    client_error error;
    int status;
  };
  const std::string stream_type = "Content-Type: text/event-stream\r\n";
  std::vector<row> rows = {
      {"HTTP/1.1 204 No Content\r\n\r\n", client_error::no_content, 204},
      {"HTTP/1.1 204 x\r\n" + stream_type + "\r\n", client_error::no_content, 204},
      {"HTTP/1.1 200 OK\r\n\r\n", client_error::content_type, 200},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", client_error::content_type, 200},
      {"HTTP/1.1 200 OK\r\n" + stream_type + "Content-Encoding: gzip\r\n\r\n",
       client_error::content_encoding, 200},
  };
  for (const int status : {201, 206, 300, 304, 305, 306, 400, 401, 403, 404, 405, 406,
                           408, 410, 429, 451, 500, 501, 502, 503, 504, 599, 999}) {
    rows.push_back(
        {"HTTP/1.1 " + std::to_string(status) + " x\r\n" + stream_type + "Retry-After: 1\r\n\r\n",
         client_error::status, status});
  }
  for (const row& t : rows) {
    INFO(t.in);
    rig r{{.retry_statuses = ""}};
    r.answer(t.in + "data: x\n\n");
    CHECK(r.asked() ==
          list{"connect h:80", "disconnect", std::string{sse::to_string(t.error)} + " final"});
    CHECK(r.source.failure().status == t.status);
    CHECK(r.source.failure().attempts == 1);
    CHECK_FALSE(r.source.failure().was_open);
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.forever());
    CHECK(r.events().empty());
    CHECK(r.source.buffered() == 0);
    r.advance(1'000'000);
    r.source.restart(r.now());
    r.ended();
    r.receive(stream_head);
    CHECK(r.asked().empty());
  }
}

TEST_CASE("client: what is tried again") {
  struct row {
    std::string_view in;
    client_error error;
  };
  const row rows[] = {
      {"", client_error::cut},
      {"HTTP/1.1 200", client_error::cut},
      {"HTTP/1.1 100 Continue\r\n\r\n", client_error::cut},
      {"hello", client_error::bad_head},
      {"HTTP/2 200\r\n\r\n", client_error::bad_head},
      {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", client_error::bad_head},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       client_error::bad_framing},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", client_error::bad_framing},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", client_error::end_of_stream},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
       client_error::end_of_stream},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n: x",
       client_error::cut},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       client_error::cut},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
       "chunked\r\n\r\nx",
       client_error::bad_framing},
  };
  for (const row& t : rows) {
    INFO(t.in);
    rig r;
    r.answer(t.in);
    r.ended();
    CHECK(r.error() == t.error);
    CHECK(r.asked().back() == std::string{sse::to_string(t.error)} + " 3000");
    CHECK(r.source.state() == client_state::connecting);
    CHECK(r.wait() == 3000);
    CHECK(r.asked() == list{"connect h:80"});
    r.answer(stream_head);
    CHECK(r.source.state() == client_state::open);
  }
}

TEST_CASE("client: what the host tells of a connection") {
  for (const client_error why : {client_error::resolve, client_error::connect, client_error::tls}) {
    rig r;
    r.ended(why);
    CHECK(r.asked() == list{"connect h:80", std::string{sse::to_string(why)} + " 3000"});
    CHECK(r.source.connected(r.now()).empty());
  }
  rig silent;
  silent.ended();
  CHECK(silent.error() == client_error::connect);
  rig odd;
  odd.ended(client_error::status);  // not the host's to say
  CHECK(odd.error() == client_error::connect);
  rig broken;
  broken.answer(stream_head);
  broken.ended(client_error::read);
  CHECK(broken.error() == client_error::read);
  CHECK(broken.source.failure().was_open);
  CHECK(broken.source.failure().status == 200);
}

TEST_CASE("client: a failure keeps its cause, and the next one has its own") {
  rig r;
  r.source.ended(r.now(), client_error::tls, std::make_error_code(std::errc::timed_out));
  r.poll();
  CHECK(r.source.failure().cause == std::errc::timed_out);
  CHECK(sse::explain(r.source.failure()) ==
        "no secure connection could be made: " +
            std::make_error_code(std::errc::timed_out).message());
  r.wait();
  r.ended(client_error::connect);
  CHECK_FALSE(r.source.failure().cause);
  CHECK(sse::explain(r.source.failure()) == "the connection could not be made");
  r.wait();
  r.answer("HTTP/1.1 404 No\r\n\r\n");
  CHECK(sse::explain(r.source.failure()) == "the server refused: its status is not 200 but 404");
  CHECK(
      sse::explain(sse::client_failure{.error = client_error::bad_options, .option = "headers"}) ==
      "an option is not valid: headers");
}

TEST_CASE("client: statuses that may be others later are tried again") {
  for (const int status : {408, 425, 429, 500, 502, 503, 504, 599}) {
    INFO(status);
    rig r;
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    CHECK(r.asked() == list{"connect h:80", "disconnect", "status 3000"});
    r.wait();
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\nRetry-After: 120\r\n\r\n");
    CHECK(r.source.failure().delay >= duration::seconds(120));  // and those of a herd not at once
    CHECK(r.source.failure().delay <= duration::seconds(123));
    CHECK(r.source.failure().attempts == 2);
    r.wait();
    r.answer("HTTP/1.1 503 x\r\nRetry-After: 99999999999\r\n\r\n");
    CHECK(r.source.failure().delay >= duration::seconds(600));
    CHECK(r.source.failure().delay <= duration::seconds(606));
    r.wait();
    r.answer("HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n");
    CHECK(r.source.failure().delay <= duration::seconds(30));
    r.wait();
    r.answer("HTTP/1.1 204 x\r\n\r\n");
    CHECK(r.source.state() == client_state::closed);
  }
  for (const int status : {400, 401, 403, 404, 407, 410, 600}) {
    rig r;
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    CHECK(r.source.state() == client_state::closed);
  }
}

TEST_CASE("client: which statuses are tried again is an option") {
  const auto closes = [](std::string_view list, int status) {
    rig r{{.retry_statuses = list}};
    r.answer("HTTP/1.1 " + std::to_string(status) + " x\r\n\r\n");
    return r.source.state() == client_state::closed;
  };
  CHECK_FALSE(closes("404", 404));
  CHECK(closes("404", 403));
  CHECK(closes("404", 405));
  CHECK(closes("404", 503));
  CHECK_FALSE(closes(" 404 , 5XX,999", 599));
  CHECK_FALSE(closes("404,5xx,999", 999));
  CHECK(closes("", 503));
  // What the standard gives a meaning keeps it.
  CHECK(closes("2xx,3xx,4xx", 204));
  rig opens{{.retry_statuses = "200"}};
  opens.answer(stream_head);
  CHECK(opens.source.state() == client_state::open);
  for (const std::string_view bad : {"x", "50", "5x", "5xxx", "1000", "199", "1xx", "0xx",
                                     "404,,5xx", ",", "-503", "404;503", "5 3", "500-599"}) {
    INFO(bad);
    rig r{{.retry_statuses = bad}};
    CHECK(r.asked() == list{"bad_options final"});
    CHECK(r.source.failure().option == "retry_statuses");
  }
}

TEST_CASE("client: Retry-After as a date counts from the response's own") {
  const auto delay = [](std::string_view until, std::string_view date) {
    rig r{{.retry = duration::milliseconds(500)}};
    r.answer("HTTP/1.1 503 x\r\nRetry-After: " + std::string{until} + "\r\n" +
             (date.empty() ? "" : "Date: " + std::string{date} + "\r\n") + "\r\n");
    return r.source.failure().delay.ms();
  };
  constexpr std::string_view date = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", date) == 30'000);
  CHECK(delay("Mon, 07 Nov 1994 08:49:37 GMT", date) == 600'000);  // max_retry
  CHECK(delay("Sun, 06 Nov 1994 08:49:36 GMT", date) == 500);      // over already
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", "") == 500);
  CHECK(delay("Sun, 06 Nov 1994 08:50:07 GMT", "now") == 500);
  CHECK(delay("Tue, 01 Mar 2028 00:00:10 GMT", "Tue, 29 Feb 2028 23:59:55 GMT") == 15'000);
  CHECK(delay("Sat, 01 Jan 2000 00:00:01 GMT", "Fri, 31 Dec 1999 23:59:59 GMT") == 2000);
}

// --- gap frames

TEST_CASE("client: gap frames have a callback of their own") {
  struct row {
    std::string_view data, seen;
  };
  const row rows[] = {
      {R"({"requested":17,"first":20,"lost":2})", "gap 17 20 2"},
      {R"({"requested":0,"first":9007199254740991,"lost":null})", "gap 0 9007199254740991 ?"},
      {R"( { "requested" : 1 , "first" : 2 , "lost" : 0 } )", "gap 1 2 0"},
  };
  for (const row& t : rows) {
    INFO(t.data);
    rig r;
    r.answer(stream_head);
    r.receive("id: 19\nevent: gap\ndata: " + std::string{t.data} + "\n\n");
    CHECK(r.events() == list{"open 200", std::string{t.seen}});
    CHECK(r.source.last_event_id() == "19");
  }
  // What is not ours is an event like others.
  for (const std::string_view data :
       {"", "{}", "null", R"({"requested":17,"first":20})",
        R"({"first":20,"requested":17,"lost":2})", R"({"requested":-1,"first":20,"lost":2})",
        R"({"requested":"17","first":20,"lost":2})",
        R"({"requested":17,"first":9007199254740992,"lost":2})",
        R"({"requested":17,"first":99999999999999999999999,"lost":2})",
        R"({"requested":17,"first":20,"lost":2}x)", R"({"requested":17,"first":20,"lost":2,"a":1})",
        R"({"requested":17,"first":20,"lost":nul})", R"({"requested":17,"first":20,"lost":)"}) {
    INFO(data);
    rig r;
    r.answer(stream_head);
    r.receive("event: gap\ndata: " + std::string{data} + "\n\n");
    CHECK(r.events() == list{"open 200", "|gap|" + std::string{data}});
  }
  rig other;
  other.answer(stream_head);
  other.receive("event: gaps\ndata: {\"requested\":17,\"first\":20,\"lost\":2}\n\n");
  CHECK(other.events().back() == "|gaps|{\"requested\":17,\"first\":20,\"lost\":2}");
}

TEST_CASE("client: a sink without on_gap gets gap frames as events") {
  struct {
    std::vector<std::string> types;
    void on_event(const sse::event& e) { types.emplace_back(e.type); }
  } sink;
  event_source source{"http://h/"};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} +
                         ": c\nretry: 5\nevent: gap\ndata: "
                         "{\"requested\":17,\"first\":20,\"lost\":2}\n\n";
  CHECK(source.received({}, in, sink) == in.size());
  CHECK(sink.types == std::vector<std::string>{"gap"});
  CHECK(source.retry().ms() == 5);
}

// --- a sink that stops

TEST_CASE("client: a sink that stops gets the rest later, in every framing") {
  struct one_by_one {
    std::vector<std::string> log;
    bool on_event(const sse::event& e) {
      log.emplace_back(e.data);
      return false;
    }
    bool on_gap(const sse::gap&) {
      log.emplace_back("gap");
      return false;
    }
  };
  const std::string stream =
      "data: 1\n\ndata: 2\n\nevent: gap\ndata: {\"requested\":2,\"first\":9,\"lost\":6}\n\ndata: "
      "3\n\n";
  const std::string chunks = std::string{chunked_head} + chunk(stream.substr(0, 9)) +
                             chunk(stream.substr(9)) + "0\r\n\r\n";
  const std::string counted =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
      "Content-Length: " +
      std::to_string(stream.size()) + "\r\n\r\n" + stream;
  for (const std::string_view in : {std::string_view{chunks}, std::string_view{counted}}) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, in.size()}) {
      event_source source{"http://h/", {.stall_timeout = duration::seconds(1)}};
      (void)source.poll({});
      (void)source.connected({});
      one_by_one sink;
      std::size_t stops = 0;
      std::int64_t ms = 0;
      for (std::size_t at = 0; at < in.size(); at += step) {
        std::string_view piece = in.substr(at, step);
        for (;;) {
          const std::size_t events = sink.log.size();
          const time_point now = time_point::milliseconds(ms);
          piece.remove_prefix(source.received(now, piece, sink));
          CHECK(sink.log.size() <= events + 1);
          if (sink.log.size() == events) break;
          // Stopped: however long the sink takes, that is no stall.
          ++stops;
          if (source.state() == client_state::open) {
            CHECK(source.next_deadline() == time_point::never());
          }
          ms += 10'000;
          CHECK(source.poll(time_point::milliseconds(ms)).what != client_action::failed);
        }
        CHECK(piece.empty());
      }
      CHECK(sink.log == std::vector<std::string>{"1", "2", "gap", "3"});
      CHECK(stops == 4);
      // The end was noticed when reading went on.
      CHECK(source.state() == client_state::connecting);
      CHECK(source.failure().error == client_error::end_of_stream);
    }
  }
}

TEST_CASE("client: the stall watch goes on when reading does") {
  struct {
    bool on_event(const sse::event&) { return false; }
  } sink;
  event_source source{"http://h/", {.stall_timeout = duration::seconds(1)}};
  (void)source.poll({});
  (void)source.connected({});
  const std::string in = std::string{stream_head} + "data: x\n\n";
  CHECK(source.received({}, in, sink) == in.size());
  CHECK(source.next_deadline() == time_point::never());
  CHECK(source.received(time_point::milliseconds(5000), "", sink) == 0);
  CHECK(source.next_deadline().ms() == 6000);
}
