// watch_desk: streams that choose their keys over HTTP.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/watch.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using desk_hub = sse::hub<sse::testing::memory_transport>;

struct desk_stage : test::stage {
  sse::channel prices;
  sse::watch_desk<desk_hub> desk;

  explicit desk_stage(sse::watch_names names = {})
      : prices{open("prices", options())}, desk{hub, prices, std::move(names)} {
    hub.on_opened([this](sse::session_id id, const sse::no_user&) { desk.opened(id); });
    hub.on_closed(
        [this](sse::session_id id, const sse::no_user&, sse::close_reason) { desk.closed(id); });
  }
  static sse::channel_options options() {
    sse::channel_options o = test::quiet();
    o.max_keys = 100;
    o.max_selected = 4;
    return o;
  }
  void price(std::string_view key, int value) {
    REQUIRE(prices.publish({.data = std::string(key) + "=" + std::to_string(value)}, {.key = key}));
  }
  test::caller get(const std::string& query) {
    sse::request r;
    r.query = query;
    auto asked = desk.read(r);
    if (asked.bad()) return {.refusal = asked.refusal()};
    return accept({}, asked.watches() ? sse::admit().join(prices, asked.options())
                                      : sse::admit().join(prices));
  }
  sse::response post(const std::string& body) { return desk.change({}, body); }
  /// Of its first event.
  static std::string token_in(const std::string& stream) {
    const std::string_view begin = "event: watch\ndata: {\"token\":\"";
    REQUIRE(stream.starts_with(begin));
    return stream.substr(begin.size(), 32);
  }
};

}  // namespace

TEST_CASE("watch: a stream names its keys, and changes them by its token", "[selection][watch]") {
  desk_stage s;
  for (const char* key : {"A", "B", "C"}) s.price(key, 1);
  const test::caller k = s.get("symbols=A,%42&x=1");
  s.flush();
  const std::string got = s.take(k);
  const std::string token = desk_stage::token_in(got);
  CHECK(test::count(got, "A=1") == 1);
  CHECK(test::count(got, "B=1") == 1);
  CHECK(test::count(got, "C=1") == 0);
  CHECK(s.post("token=" + token + "&add=C,D&remove=A").status == 204);
  s.price("A", 2);
  s.price("D", 1);
  s.flush();
  CHECK(s.take(k) == test::frame(0, "", "C=1") + test::frame(0, "", "D=1"));
  sse::request by_query;
  const std::string query = "token=" + token + "&remove=C";
  by_query.query = query;
  CHECK(s.desk.change(by_query, {}).status == 204);
  s.price("C", 2);
  s.flush();
  CHECK(s.take(k).empty());
}

TEST_CASE("watch: each token is another one, and ends with its stream", "[selection][watch]") {
  desk_stage s;
  std::vector<std::string> tokens;
  for (int i = 0; i < 20; ++i) {
    const test::caller k = s.get("symbols=A");
    s.flush();
    const std::string token = desk_stage::token_in(s.take(k));
    CHECK(token.find_first_not_of("0123456789abcdef") == token.npos);
    for (const std::string& other : tokens) CHECK(other != token);
    tokens.push_back(token);
    CHECK(s.desk.find(token) == k.id);
    s.hub.close(k.id);
    CHECK_FALSE(s.desk.find(token));
    const sse::response gone = s.post("token=" + token + "&add=B");
    CHECK(gone.status == 404);
    CHECK(gone.body == R"({"error":"no_such_stream"})");
  }
}

TEST_CASE("watch: a stream that chooses nothing has no token, and is as ever",
          "[selection][watch]") {
  desk_stage s;
  const test::caller plain = s.get("");
  const test::caller paced = s.get("max_rate=4");
  s.price("A", 1);
  s.flush();
  CHECK(s.take(plain) == test::frame(1, "", "A=1"));
  s.at(300);
  CHECK(s.take(paced).starts_with(test::frame(0, "", "A=1")));
  CHECK_FALSE(s.hub.selects(plain.id, s.prices));
  CHECK_FALSE(s.hub.selects({}, s.prices));
  const test::caller none = s.get("symbols=");  // none yet
  s.flush();
  CHECK(s.hub.selects(none.id, s.prices));
  CHECK(s.post("token=" + desk_stage::token_in(s.take(none)) + "&add=A").status == 204);
  s.flush();
  CHECK(s.take(none) == test::frame(0, "", "A=1"));
}

TEST_CASE("watch: what cannot be read is refused, and changes nothing", "[selection][watch]") {
  desk_stage s;
  for (const char* query :
       {"symbols=%zz", "max_rate=0", "max_rate=-1", "max_rate=", "max_rate=1e9", "max_rate=1.2.3",
        "max_rate=%zz", "max_bytes=0.5", "max_bytes=x", "max_bytes=99999999999999999"}) {
    CAPTURE(query);
    const test::caller k = s.get(query);
    CHECK(k.refusal.status == 400);
    CHECK(k.refusal.body == R"({"error":"bad_params"})");
  }
  CHECK(s.get("symbols=" + std::string(300, 'x')).refusal.status == 400);
  CHECK(s.get("symbols=a,b,c,d,e").refusal.body == R"({"error":"too_many_keys"})");
  CHECK(s.get("max_bytes=9999999999").id);
  CHECK(s.get("symbols=a&max_rate=0.25&max_bytes=20000").id);

  const test::caller k = s.get("symbols=a");
  s.flush();
  const std::string token = "token=" + desk_stage::token_in(s.take(k));
  CHECK(s.post("").status == 400);
  CHECK(s.post("add=b").status == 400);
  CHECK(s.post(token + "&add=%zz").status == 400);
  CHECK(s.post(token + "&remove=a%").status == 400);
  CHECK(s.post("token=5&add=b").status == 404);
  const sse::response too_many = s.post(token + "&add=b,c,d,e");
  CHECK(too_many.status == 400);
  CHECK(too_many.body == R"({"error":"too_many_keys"})");
  s.price("b", 1);
  s.price("a", 1);
  s.flush();
  CHECK(s.take(k) == test::frame(0, "", "a=1"));
}

TEST_CASE("watch: a name may stand for several keys", "[selection][watch]") {
  desk_stage s{
      {.keys = "names", .event = "watch", .expand = [](const std::string& name, auto& keys) {
         keys.push_back(name);
         keys.push_back(name + "/book");
       }}};
  const test::caller k = s.get("names=A");
  s.price("A", 1);
  s.price("A/book", 2);
  s.flush();
  const std::string got = s.take(k);
  CHECK(test::count(got, "A=1") == 1);
  CHECK(test::count(got, "A/book=2") == 1);
  CHECK(s.post("token=" + desk_stage::token_in(got) + "&remove=A").status == 204);
  s.price("A/book", 3);
  s.flush();
  CHECK(s.take(k).empty());
}
