// With --journal: what was sent, for whom it was, and which streams there are survive the process.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "catch.hpp"
#include "stand.hpp"

using namespace test;

namespace {

/// A directory for a journal that goes with what is in it.
struct journal_place {
  journal_place() {
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp");
  }
  journal_place(const journal_place&) = delete;
  journal_place& operator=(const journal_place&) = delete;
  ~journal_place() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  [[nodiscard]] chat::settings settings() const {
    chat::settings s = quiet();
    s.history.directory = path;
    s.common.keep = 2;  // the rest comes from the files
    return s;
  }
  std::string path = "/tmp/ssehub_chat_XXXXXX";
};

std::string to_one(std::string_view path, int n) {
  return R"({"path":")" + std::string{path} + R"(","data":{"n":)" + std::to_string(n) + "}}";
}
std::string number(int n) { return R"({"n":)" + std::to_string(n) + "}"; }

/// Numbers first to last, and where the stream stands then.
void has_numbers(client& stream, int first, int last) {
  for (int n = first; n <= last; ++n) {
    CAPTURE(n);
    REQUIRE(data_of(stream) == number(n));
  }
}

}  // namespace

TEST_CASE("a chat's streams and what they had survive a restart") {
  const journal_place place;
  const std::string large = R"({"text":")" + std::string(std::size_t{3} << 19, '\\') + R"(\\"})";
  std::string id;
  {
    const stand s{place.settings()};
    REQUIRE(s.post("/streams", R"({"path":"/x"})").status == 201);
    client x = s.stream("/x");
    client all = s.stream("/events");
    REQUIRE(s.post("/send", to_one("/x", 1)).status == 200);
    CHECK(s.post("/send", to_all(number(2))).body == R"({"ok":true,"streams":7})");
    const std::string first = x.frame();
    id = first.substr(4, first.find('\n') - 4);
    CHECK(data_of(x) == number(2));
    CHECK(data_of(all) == number(2));  // and not what was for /x
    for (int n = 3; n <= 9; ++n) REQUIRE(s.post("/send", to_one("/x", n)).status == 200);
    REQUIRE(s.post("/send", R"({"path":"/x","data":)" + large + "}").status == 200);
    has_numbers(x, 3, 9);
    CHECK(data_of(x) == large);
    CHECK(s.connections("/x") == 1);
    CHECK(s.get("/health").body.find(R"("durability":"page_cache")") != std::string::npos);
  }
  const stand s{place.settings()};
  client x = s.stream("/x?last_id=" + id);
  has_numbers(x, 2, 9);
  CHECK(data_of(x) == large);
  client all = s.stream("/events?last_id=0");
  CHECK(data_of(all) == number(2));
  client posing = s.stream("/events?%01stream=/x&last_id=" + id);
  CHECK(data_of(posing) == number(2));
  REQUIRE(s.post("/send", to_all(number(10))).status == 200);
  CHECK(data_of(x) == number(10));
  CHECK(data_of(all) == number(10));
  CHECK(data_of(posing) == number(10));
}

TEST_CASE("a stream of a chat with a journal has nothing of the time before it") {
  const journal_place place;
  {
    const stand s{place.settings()};
    client all = s.stream("/events?last_id=0");
    REQUIRE(s.post("/send", to_all(number(1))).status == 200);
    CHECK(data_of(all) == number(1));
    REQUIRE(s.post("/streams", R"({"path":"/x"})").status == 201);
    client x = s.stream("/x");
    REQUIRE(s.post("/send", to_one("/x", 2)).status == 200);
    CHECK(data_of(x) == number(2));
    REQUIRE(s.del("/streams?path=/x").status == 200);
    (void)x.rest();  // it ends
    CHECK(s.get("/x").status == 404);
    REQUIRE(s.post("/streams", R"({"path":"/y"})").status == 201);
  }
  const stand s{place.settings()};
  CHECK(s.get("/x").status == 404);
  CHECK(s.connections("/y") == 0);
  REQUIRE(s.post("/streams", R"({"path":"/x"})").status == 201);
  REQUIRE(s.post("/send", to_one("/x", 3)).status == 200);
  client x = s.stream("/x?last_id=0");
  CHECK(data_of(x) == number(3));
  client y = s.stream("/y?last_id=0");
  REQUIRE(s.post("/send", to_all(number(4))).status == 200);
  CHECK(data_of(y) == number(4));
}

TEST_CASE("a chat's stream that cannot be kept is not made") {
  const journal_place place;
  const stand s{place.settings()};
  std::filesystem::create_directory(place.path + "/streams.new");
  const answer a = s.post("/streams", R"({"path":"/x"})");
  CHECK(a.status == 503);
  CHECK(a.body == R"({"error":"not_stored"})");
  CHECK(s.get("/x").status == 404);
  std::filesystem::remove(place.path + "/streams.new");
  CHECK(s.post("/streams", R"({"path":"/x"})").status == 201);
}

TEST_CASE("GraphQL works beside a chat's journal") {
  const journal_place place;
  const stand s{place.settings()};
  REQUIRE(s.post("/graphql/subscriptions", R"({"name":"news"})").status == 201);
  client texts = s.stream("/graphql/subscription/news");
  REQUIRE(s.post("/graphql/subscriptions/news", R"({"n":1})").status == 200);
  CHECK(texts.frame().ends_with(R"(data: {"n":1})"));
}

TEST_CASE("a chat says what is wrong with the file of its streams") {
  const journal_place place;
  { const stand s{place.settings()}; }
  std::ofstream{place.path + "/streams", std::ios::app} << "nonsense\n";
  std::string what;
  try {
    const stand s{place.settings()};
  } catch (const std::runtime_error& e) {
    what = e.what();
  }
  CHECK(what.starts_with(place.path + "/streams: nonsense is no line of it"));
}
