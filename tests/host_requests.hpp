// Requests whose bodies come in chunks, whatever the host.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/server.hpp>

#include "catch.hpp"
#include "held_server.hpp"
#include "http_client.hpp"

namespace test {

inline std::string in_chunks(std::string_view target, std::string_view chunks,
                             std::string_view headers = {}) {
  return client::make("POST", target, "Transfer-Encoding: chunked\r\n" + std::string{headers})
      .append(chunks);
}

/// `Server`: test::server<> or a test::loop_server.
template <class Server>
void chunked_bodies() {
  Server s{{.limits = {.body = 1000, .body_extras = 100}}};
  s.on_loop([&] {
    s->get("/health", [](const sse::request&) { return sse::response::text(200, "ok"); });
    s->post("/echo", [](const sse::request&, std::string_view body) {
      return sse::response::text(200, std::string{body});
    });
  });
  const std::string hello = "5\r\nhello\r\n7;a=\"b\"\r\n, world\r\n0\r\nX-Sum: 12\r\n\r\n";
  const std::string health = client::make("GET", "/health");

  client kept{s.port()};
  for (int i = 0; i < 3; ++i) {
    const answer a = kept.ask(in_chunks("/echo", hello));
    CHECK(a.status == 200);
    CHECK(a.body == "hello, world");
    CHECK(a.header("Connection") == "keep-alive");
  }
  CHECK(kept.ask(in_chunks("/echo", "0\r\n\r\n")).body.empty());
  // Requests behind the body, all at once and cut anywhere.
  const std::string both = in_chunks("/echo", hello) + health;
  for (std::size_t cut = 0; cut < both.size(); ++cut) {
    kept.send(both.substr(0, cut));
    kept.send(both.substr(cut));
    CHECK(kept.whole_answer().body == "hello, world");
    CHECK(kept.whole_answer().body == "ok");
  }
  std::string bytewise;
  for (const char c : std::string_view{"one byte a chunk"}) {
    bytewise.append("1\r\n").append(1, c).append("\r\n");
  }
  kept.send(in_chunks("/echo", ""));
  for (const char c : bytewise + "0\r\n\r\n") kept.send({&c, 1});
  CHECK(kept.whole_answer().body == "one byte a chunk");

  kept.send(in_chunks("/echo", "", "Expect: 100-continue\r\n"));
  CHECK(kept.until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  kept.send("4\r\nbody\r\n0\r\n\r\n");
  CHECK(kept.whole_answer().body == "body");

  // At the limits, and one above.
  const std::string most = "3e8\r\n" + std::string(1000, 'x') + "\r\n";
  CHECK(kept.ask(in_chunks("/echo", most + "0\r\n\r\n")).body.size() == 1000);
  const std::string extras = "1;" + std::string(89, 'e') + "\r\nx\r\n0\r\n";
  CHECK(kept.ask(in_chunks("/echo", extras + "A: 4567890\r\n\r\n" + health)).body == "x");
  CHECK(kept.whole_answer().body == "ok");
  const std::pair<std::string, int> bad[] = {
      {most + "1\r\n", 413},
      {"3e9\r\n", 413},
      {"ffffffffffffffff\r\n", 413},
      {extras + "A: 45678901\r\n\r\n", 431},
      {"5\nhello\r\n", 400},
      {"5 \r\nhello\r\n", 400},
      {"5\r\nhello0\r\n\r\n", 400},
      {"-1\r\n", 400},
      {"00000000000000001\r\n", 400},
      {"0\r\nno field\r\n\r\n", 400},
      {"0\r\nGET /health HTTP/1.1\r\n\r\n", 400},
      {"0\r\n: no name\r\n\r\n", 400},
      {"0\r\nA: b\r\n folded\r\n\r\n", 400},
  };
  for (const auto& [chunks, status] : bad) {
    INFO(chunks);
    client c{s.port()};
    (void)c.try_send(in_chunks("/echo", chunks) + health);
    const answer a = c.whole_answer();
    CHECK(a.status == status);
    CHECK(a.header("Connection") == "close");
    CHECK(c.rest().empty());  // what stands behind is no request
    CHECK_FALSE(c.was_reset);
  }
  // One that nobody reads ends the connection.
  for (const auto& [target, status] : {std::pair{"/nothing", 404}, std::pair{"/health", 405}}) {
    client c{s.port()};
    (void)c.try_send(in_chunks(target, hello) + health);
    CHECK(c.whole_answer().status == status);
    CHECK(c.rest().empty());
  }
}

/// A body in chunks has the deadline of every body, however it drips in.
template <class Loop>
void chunked_body_deadline() {
  using std::chrono::milliseconds;
  held_server<Loop> s{{.head_deadline = milliseconds{5000}, .body_deadline = milliseconds{1000}}};
  client late{s.port()};
  client just{s.port()};
  s.send(late, in_chunks("/echo", ""));
  s.send(just, in_chunks("/echo", "3\r\nab"));
  s.pass(600);
  s.send(late, "1\r\na\r\n1");
  s.pass(399);
  CHECK_FALSE(late.has_input());
  CHECK(s.ask(just, "c\r\n0\r\n\r\n").body == "abc");
  s.pass(1);
  CHECK(s.answer_to(late).status == 408);
  CHECK(s.ends(late));
}

}  // namespace test
