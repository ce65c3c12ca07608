// event_source: redirects.
#include <sse/client.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "client_rig.hpp"

namespace {

using sse::client_error;
using sse::client_state;
using test::first_line;
using test::header_of;
using test::list;
using test::redirect;
using test::rig;
using test::stream_head;

}  // namespace

// --- redirects

TEST_CASE("client: redirects and methods") {
  struct row {
    int status;
    std::string_view method, then;
  };
  const row rows[] = {
      {301, "GET", "GET"},    {302, "GET", "GET"},       {303, "GET", "GET"},
      {307, "GET", "GET"},    {308, "GET", "GET"},       {301, "POST", "GET"},
      {302, "POST", "GET"},   {303, "POST", "GET"},      {307, "POST", "POST"},
      {308, "POST", "POST"},  {301, "REPORT", "REPORT"}, {302, "REPORT", "REPORT"},
      {303, "REPORT", "GET"}, {307, "REPORT", "REPORT"}, {308, "REPORT", "REPORT"},
  };
  for (const row& t : rows) {
    INFO(t.status << " " << t.method);
    const sse::header headers[] = {{"Authorization", "secret"}, {"Content-Type", "a/b"}};
    rig r{{.method = t.method,
           .body = t.method == "GET" ? "" : "body",
           .headers = headers,
           .last_event_id = "7"}};
    r.answer(redirect(t.status, "../x?y"));
    CHECK(r.asked() == list{"connect h:80", "disconnect", "connect h:80"});
    CHECK(r.source.state() == client_state::connecting);
    CHECK(r.source.url() == "http://h/x?y");
    const std::string request = r.answer(stream_head);
    CHECK(first_line(request) == std::string{t.then} + " /x?y HTTP/1.1");
    CHECK(header_of(request, "Authorization") == "secret");  // the same origin
    CHECK(header_of(request, "Last-Event-ID") == "7");
    const bool changed = t.then != t.method;
    CHECK(header_of(request, "Content-Type") == (changed ? "-" : "a/b"));
    CHECK(request.ends_with(t.then == "GET" ? "\r\n\r\n" : "\r\n\r\nbody"));
    CHECK(header_of(request, "Content-Length") == (t.then == "GET" ? "-" : "4"));
    CHECK(r.source.state() == client_state::open);
    // A reconnection begins at the first URL, with all that was given.
    r.ended();
    r.wait();
    const std::string again = r.connected();
    CHECK(first_line(again) == std::string{t.method} + " /s HTTP/1.1");
    CHECK(header_of(again, "Authorization") == "secret");
  }
}

TEST_CASE("client: redirects across origins drop what the user gave") {
  const sse::header headers[] = {{"Authorization", "secret"},
                                 {"Cookie", "secret"},
                                 {"X-Api-Key", "secret"},
                                 {"Accept", "a/b"},
                                 {"Content-Type", "c/d"}};
  for (const std::string_view location :
       {"http://other/x", "//other/x", "https://h/x", "http://h:81/x", "http://h.other/x"}) {
    INFO(location);
    rig r{{.method = "POST",
           .body = "body",
           .headers = headers,
           .last_event_id = "7",
           .allow_insecure_redirect = true}};
    CHECK(r.answer(redirect(307, location)).find("secret") != std::string_view::npos);
    const std::string request = r.answer(redirect(307, "http://h/back"));
    CHECK(request.find("secret") == std::string_view::npos);
    CHECK(header_of(request, "Accept") == "text/event-stream");
    CHECK(header_of(request, "Last-Event-ID") == "7");
    // The body and what describes it go along, as 307 says.
    CHECK(header_of(request, "Content-Type") == "c/d");
    CHECK(request.ends_with("\r\n\r\nbody"));
    // They stay away on the way back.
    CHECK(r.answer(stream_head).find("secret") == std::string_view::npos);
    r.ended();
    r.wait();
    CHECK(r.connected().find("secret") != std::string_view::npos);
  }
}

TEST_CASE("client: redirects that are not followed") {
  const auto error = [](std::string_view url, std::string_view location, bool insecure = false) {
    rig r{{.allow_insecure_redirect = insecure}, url};
    (void)r.asked();
    r.answer(redirect(302, location));
    if (r.error() == client_error::none) return "to " + std::string{r.source.url()};
    CHECK(r.source.state() == client_state::closed);
    CHECK(r.source.failure().status == 302);
    CHECK(r.asked().size() == 2);
    CHECK((r.source.failure().url != sse::url_error::none) ==
          (r.error() == client_error::bad_redirect));
    return std::string{sse::to_string(r.error())};
  };
  CHECK(error("http://h/s", "") == "bad_redirect");
  CHECK(error("http://h/s", "ftp://h/") == "bad_redirect");
  CHECK(error("http://h/s", "javascript:alert(1)") == "bad_redirect");
  CHECK(error("http://h/s", "http://u:p@h/") == "bad_redirect");
  CHECK(error("http://h/s", "http://h:99999/") == "bad_redirect");
  CHECK(error("http://h/s", "http://a b/") == "bad_redirect");
  CHECK(error("http://h/s", "/" + std::string(9000, 'x')) == "bad_redirect");
  CHECK(error("https://h/s", "http://h/s") == "insecure_redirect");
  CHECK(error("https://h/s", "http://h/s", true) == "to http://h/s");
  CHECK(error("http://h/s", "https://h/s") == "to https://h/s");
  rig none;
  none.answer("HTTP/1.1 301 x\r\n\r\n");
  CHECK(none.error() == client_error::bad_redirect);
  rig two;
  two.answer("HTTP/1.1 301 x\r\nLocation: /a\r\nLocation: /b\r\n\r\n");
  CHECK(two.error() == client_error::bad_redirect);
}

TEST_CASE("client: a redirect loop ends") {
  for (const std::uint32_t limit : {0U, 1U, 20U}) {
    rig r{{.max_redirects = limit}};
    while (r.source.state() != client_state::closed) r.answer(redirect(302, "/s"));
    CHECK(r.attempts == limit + 1);
    CHECK(r.error() == client_error::too_many_redirects);
    CHECK(r.ms == 0);
    r.advance(1'000'000);
    CHECK(r.attempts == limit + 1);
  }
  // Each reconnection may be redirected as often.
  rig r{{.max_redirects = 2}};
  for (int i = 0; i < 10; ++i) {
    r.answer(redirect(302, "/a"));
    r.answer(redirect(302, "/b"));
    r.answer(stream_head);
    CHECK(r.source.state() == client_state::open);
    r.ended();
    r.wait();
  }
}

TEST_CASE("client: the resume query goes along with a redirect") {
  rig r{{.last_event_id = "7", .resume_query = "after"}};
  CHECK(first_line(r.answer(redirect(307, "/x?after=1&a=b"))) == "GET /s?after=7 HTTP/1.1");
  CHECK(first_line(r.connected()) == "GET /x?a=b&after=7 HTTP/1.1");
}
