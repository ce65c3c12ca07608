// The way of a request to its handler, without a host: every kind of route against every method,
// whose origin is asked, which names are served, whom X-Forwarded-For names.
#include <sse/detail/server/server_core.hpp>
#include <sse/server.hpp>
#include <sse/testing.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

using sse::header;
using sse::request;
using text = std::string_view;

/// A server without sockets: it only says who answers.
struct core : sse::detail::server_core<sse::no_user, sse::testing::memory_transport> {
  using base = sse::detail::server_core<sse::no_user, sse::testing::memory_transport>;
  explicit core(const sse::server_options& o) : base{o} {}
  void flush_soon() noexcept {}
  void close_channel(sse::channel c) noexcept { forget_channel(c); }
  void stop() noexcept {}
  void abandon() noexcept {}
};

struct site : sse::basic_server<core> {
  explicit site(const sse::server_options& o = {}) : basic_server{std::make_shared<core>(o)} {
    const auto plain = [](const request&) { return sse::response{}; };
    const auto sink = [](const request&, text) { return sse::response{}; };
    const auto later = [](const request&, sse::responder) {};
    const auto admit = [](const request&) -> sse::verdict<> { return sse::admit(); };
    const auto admit_post = [](const request&, text) -> sse::verdict<> { return sse::admit(); };
    get("/get", plain);
    get("/later", later);
    get_prefix("/get/", plain);
    post("/post", sink);
    post_prefix("/post/", sink);
    put("/put", sink);
    del("/del", plain);
    page("/page", "<p>");
    stream("/stream", admit);
    stream("/channel", open_channel("c"));
    stream_prefix("/stream/", admit);
    stream_post("/stream-post", admit_post);
    get("/all", plain);
    post("/all", sink);
    put("/all", sink);
    del("/all", plain);
  }
  /// "served", or the status with what Allow says.
  std::string ask(text verb, text path, std::vector<header> headers = {}) {
    headers.push_back({"Host", "app.example"});
    request r{.method = verb, .target = path, .path = path};
    r.headers = headers;
    const core::routed found = core_->route(r);
    if (found.to != nullptr) return "served";
    std::string said = std::to_string(found.answer.status);
    sse::for_each_field(found.answer.headers, [&](text name, text value) {
      if (name == "Allow") said.append(" ").append(value);
    });
    return said;
  }
};

}  // namespace

TEST_CASE("every kind of route serves its own methods and names them to all others") {
  struct row {
    text path, allow;
    std::vector<text> methods;
  };
  const row rows[] = {
      {"/get", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/later", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/get/x", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/post", "POST, OPTIONS", {"POST"}},
      {"/post/x", "POST, OPTIONS", {"POST"}},
      {"/put", "PUT, OPTIONS", {"PUT"}},
      {"/del", "DELETE, OPTIONS", {"DELETE"}},
      {"/page", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/stream", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/channel", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/stream/x", "GET, HEAD, OPTIONS", {"GET", "HEAD"}},
      {"/stream-post", "POST, OPTIONS", {"POST"}},
      {"/all", "GET, HEAD, POST, PUT, DELETE, OPTIONS", {"GET", "HEAD", "POST", "PUT", "DELETE"}},
  };
  site s;
  for (const row& t : rows) {
    for (const text method :
         {"GET",  "HEAD", "POST",  "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get",   "Post",
          "GETS", "GE",   "HEADS", "POS", "POSTS",  "PUTS",  "DELET", "DELETES", "QUERY", "X"}) {
      INFO(method << " " << t.path);
      bool own = false;
      for (const text m : t.methods) own = own || m == method;
      CHECK(s.ask(method, t.path) == (own ? "served" : "405 " + std::string{t.allow}));
    }
    CHECK(s.ask("OPTIONS", t.path) == "204 GET, POST, OPTIONS");
    CHECK(s.ask("options", t.path) == "405 " + std::string{t.allow});
  }
}

TEST_CASE("a path is served whole and by its case, a prefix only from its end on") {
  site s;
  for (const text no : {"/ge", "/gets", "/GET", "/get?", "get", "//get", "/get//x/..", "", "/", "*",
                        "/stream-pos", "/stream-post/", "/pages", "/page/"}) {
    INFO(no);
    // "/get/" has all that begins so.
    CHECK(s.ask(no.starts_with("/stream-post") ? "POST" : "GET", no) ==
          (no.starts_with("/get/") ? "served" : "404"));
  }
  CHECK(s.ask("GET", "/get/") == "served");
  CHECK(s.ask("POST", "/get/") == "405 GET, HEAD, OPTIONS");
  s.get_prefix("/get/inner/", [](const request&) { return sse::response{}; });
  s.post_prefix("/get/inner/deep", [](const request&, text) { return sse::response{}; });
  CHECK(s.ask("POST", "/get/inner/dee") == "405 GET, HEAD, OPTIONS");
  CHECK(s.ask("POST", "/get/inner/deep") == "served");
  CHECK(s.ask("GET", "/get/inner/deeper") == "405 POST, OPTIONS");  // the longest prefix decides
  s.post("/get/inner/deeper", [](const request&, text) { return sse::response{}; });
  CHECK(s.ask("GET", "/get/inner/deeper") == "405 POST, OPTIONS");
  CHECK(s.ask("POST", "/get/inner/deeper") == "served");
  CHECK(s.remove("/get/inner/deeper"));
  CHECK_FALSE(s.remove("/get/inner/deeper"));
  CHECK_FALSE(s.remove("/get/inner/deep"));  // that is a prefix
  CHECK(s.remove_prefix("/get/inner/deep"));
  CHECK(s.ask("GET", "/get/inner/deeper") == "served");
}

TEST_CASE("a page of another origin changes nothing, by whatever method and route") {
  static constexpr text listed[] = {"https://page.example"};
  const bool credentials = GENERATE(false, true);
  sse::server_options o;
  if (credentials) {
    o.cors = {.origins = listed, .credentials = true};
  } else {
    o.check_origin = true;
  }
  site s{o};
  struct row {
    text method, path;
    bool changes;
  };
  const row rows[] = {
      {"POST", "/post", true},        {"POST", "/post/x", true}, {"PUT", "/put", true},
      {"DELETE", "/del", true},       {"POST", "/all", true},    {"PUT", "/all", true},
      {"DELETE", "/all", true},       {"GET", "/all", false},    {"HEAD", "/all", false},
      {"POST", "/stream-post", true}, {"GET", "/stream", false}, {"GET", "/stream/x", false},
      {"HEAD", "/stream", false},     {"GET", "/page", false},   {"GET", "/channel", false},
  };
  for (const row& t : rows) {
    INFO(t.method << " " << t.path);
    const auto from = [&](text origin) { return s.ask(t.method, t.path, {{"Origin", origin}}); };
    const std::string refused = t.changes ? "403" : "served";
    CHECK(s.ask(t.method, t.path) == "served");  // no page at all
    CHECK(from("https://app.example") == "served");
    CHECK(from("https://app.example.evil.net") == refused);
    CHECK(from("https://evil.net") == refused);
    CHECK(from("null") == refused);
    CHECK(from("") == refused);
    CHECK(from("https://page.example") == (credentials ? "served" : refused));
    CHECK(from("https://page.example.evil.net") == refused);
    CHECK(s.ask(t.method, t.path,
                {{"Origin", "https://app.example"}, {"Origin", "https://evil.net"}}) == refused);
  }
  // Without either option it is the program's own to ask.
  CHECK(site{}.ask("POST", "/post", {{"Origin", "https://evil.net"}}) == "served");
  CHECK(site{{.cors = {.origins = listed}}}.ask("PUT", "/put", {{"Origin", "https://evil.net"}}) ==
        "served");
}

TEST_CASE("another host name gets nothing, by whatever method, nor learns what there is") {
  for (const text host : {"app.exampl", "app.example.evil.net", "evil.net", "app.example."}) {
    site s{{.hosts = {std::string{host}}}};
    for (const text method : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
      for (const text path : {"/all", "/stream", "/stream-post", "/none"}) {
        INFO(host << " " << method << " " << path);
        CHECK(s.ask(method, path) == "403");
      }
    }
  }
  site s{{.hosts = {"other.example", "APP.example"}}};
  CHECK(s.ask("GET", "/all") == "served");
  CHECK(s.ask("OPTIONS", "/all") == "204 GET, POST, OPTIONS");
  CHECK(s.ask("GET", "/all", {{"Host", "app.example"}}) == "403");  // twice
}

TEST_CASE("X-Forwarded-For: the last address that is no trusted proxy, up to what cannot be read") {
  const std::vector<std::string> trusted{"10.0.0.1", "10.0.0.2", "2001:db8::1"};
  const auto client = [&](std::vector<text> lines, text peer = "10.0.0.1") {
    std::vector<header> headers{{"Host", "a"}};
    for (const text line : lines) headers.push_back({"X-Forwarded-For", line});
    request r;
    r.headers = headers;
    return sse::detail::forwarded_for(r, peer, trusted);
  };
  // Nobody else is believed, whatever is nearly a trusted address.
  for (const text peer :
       {"10.0.0.11", "10.0.0.3", "10.0.0", "110.0.0.1", "2001:db8::11", "::1", ""}) {
    INFO(peer);
    CHECK(client({"1.2.3.4"}, peer).empty());
  }
  CHECK(client({}) == "10.0.0.1");
  CHECK(client({"1.2.3.4"}) == "1.2.3.4");
  CHECK(client({"1.2.3.4"}, "2001:db8::1") == "1.2.3.4");

  // What stands left of the proxy's own word anybody may have written.
  CHECK(client({"6.6.6.6, 1.2.3.4"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6,1.2.3.4"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6", "1.2.3.4"}) == "1.2.3.4");
  CHECK(client({"10.0.0.2, 1.2.3.4"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6, 1.2.3.4, 10.0.0.2"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6, 1.2.3.4", "10.0.0.2"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6", "1.2.3.4, 10.0.0.2", "2001:db8::1"}) == "1.2.3.4");
  CHECK(client({"6.6.6.6, 10.0.0.2, 10.0.0.1"}, "2001:db8::1") == "6.6.6.6");
  CHECK(client({"10.0.0.2, 10.0.0.1"}) == "10.0.0.2");

  // What cannot be read ends the search, in its own line and in those before it.
  for (const text odd :
       {"unknown",     "_hidden",  "1.2.3",           "1.2.3.4.5", "01.2.3.4",      "1.2.3.256",
        "x",           "-",        "1.2.3.4 5",       "::1::",     "fe80::1%eth0",  "for=1.2.3.4",
        "\"1.2.3.4\"", "127.1",    "0x7f.0.0.1",      "[::1",      "[::1]x",        "::1]",
        "[1.2.3.4]",   "1.2.3.4:", "1.2.3.4:x",       "[::1]:x",   "1.2.3.4:65536", "[]",
        "[x]",         ":80",      "::99999999.0.0.1"}) {
    INFO(odd);
    const std::string left = std::string{odd} + ", 10.0.0.2";
    const std::string inner = "6.6.6.6, " + left;
    CHECK(client({odd}) == "10.0.0.1");
    CHECK(client({"6.6.6.6", odd}) == "10.0.0.1");
    CHECK(client({left}) == "10.0.0.2");
    CHECK(client({inner}) == "10.0.0.2");
    CHECK(client({"6.6.6.6", left}) == "10.0.0.2");
    CHECK(client({"6.6.6.6", odd, "10.0.0.2"}) == "10.0.0.2");
    CHECK(client({std::string{odd} + ", 1.2.3.4"}) == "1.2.3.4");
  }

  // One address, however it is written, and with or without a port.
  for (const text same : {"2001:db8::7", "2001:DB8::7", "2001:db8:0:0:0:0:0:7", "2001:0db8::0007",
                          "[2001:db8::7]", "[2001:db8::7]:443", "[2001:DB8:0::7]:1"}) {
    INFO(same);
    CHECK(client({same}) == "2001:db8::7");
  }
  for (const text same : {"1.2.3.4", "1.2.3.4:80", "::ffff:1.2.3.4", "[::FFFF:1.2.3.4]:80",
                          "::ffff:102:304", " 1.2.3.4\t"}) {
    INFO(same);
    CHECK(client({same}) == "1.2.3.4");
  }
  for (const text proxy :
       {"2001:DB8::1", "2001:db8:0::0:1", "[2001:db8::1]:80", "10.0.0.2:80", "::ffff:10.0.0.2"}) {
    INFO(proxy);
    CHECK(client({"1.2.3.4, " + std::string{proxy}}) == "1.2.3.4");
  }
  // Another header, or nearly this one, says nothing.
  request r;
  const header other[] = {{"X-Forwarded-Fo", "6.6.6.6"},
                          {"X-Forwarded-Fors", "6.6.6.6"},
                          {"Forwarded", "for=6.6.6.6"},
                          {"X-Real-IP", "6.6.6.6"}};
  r.headers = other;
  CHECK(sse::detail::forwarded_for(r, "10.0.0.1", trusted) == "10.0.0.1");
}
