// client_error.hpp: names, sentences, and the line with all that is known.
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include <sse/client_error.hpp>

#include "catch.hpp"

namespace {

using sse::client_error;
using sse::client_failure;
using sse::parse_error;
using sse::url_error;

/// Of all codes up to `last`: each has one of its own.
template <class Code, class Say>
void all_differ(Code last, Say say) {
  std::set<std::string> all;
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    const std::string said{say(static_cast<Code>(i))};
    CAPTURE(i, said);
    CHECK_FALSE(said.empty());
    CHECK(said != "unknown");
    CHECK(all.insert(said).second);
  }
}

}  // namespace

TEST_CASE("client: every error has a name and a sentence of its own") {
  all_differ(client_error::bad_options, [](client_error e) { return sse::to_string(e); });
  all_differ(client_error::bad_options, [](client_error e) { return sse::describe({.error = e}); });
  all_differ(url_error::no_memory, [](url_error e) { return sse::to_string(e); });
  all_differ(url_error::no_memory,
             [](url_error e) { return sse::describe({.error = client_error::bad_url, .url = e}); });
  all_differ(parse_error::no_memory, [](parse_error e) {
    return sse::describe({.error = client_error::bad_stream, .parse = e});
  });
  CHECK(sse::describe({.error = client_error::bad_url}) == "the URL is not valid");
  CHECK(sse::describe({.error = client_error::bad_stream}) == "the stream is not valid");
}

TEST_CASE("client: what is known of a failure stands on one line") {
  CHECK(sse::explain({}) == "no failure");
  CHECK(sse::explain({.error = client_error::read, .status = 200}) == "the connection broke");
  CHECK(sse::explain({.error = client_error::status, .status = 404}) ==
        "the server refused: its status is not 200 but 404");
  client_failure tunnel{.error = client_error::proxy, .at_proxy = true};
  CHECK(sse::explain(tunnel) == "the proxy opened no tunnel to the server");
  tunnel.status = 407;
  CHECK(sse::explain(tunnel) == "the proxy opened no tunnel to the server but answered 407");
  client_failure way{.error = client_error::connect, .at_proxy = true};
  CHECK(sse::explain(way) == "the connection could not be made, on the way to the proxy");
  way.cause = std::make_error_code(std::errc::connection_refused);
  CHECK(sse::explain(way) ==
        "the connection could not be made, on the way to the proxy: " + way.cause.message());
  client_failure option{.error = client_error::bad_options, .option = "proxy"};
  CHECK(sse::explain(option) == "an option is not valid: proxy");
  option.url = url_error::port;
  CHECK(sse::explain(option) == "an option is not valid: proxy, in its URL: port");
  CHECK(sse::explain({.error = client_error::bad_url, .url = url_error::port}) ==
        "the URL has no valid port");
}
