// Other processes that follow a journal.
#include <filesystem>
#include <memory>
#include <string>

#include <sse/journal.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "journal_rig.hpp"

namespace {

namespace fs = std::filesystem;
using sse::durability;
using sse::event_id;
using sse::journal;
using sse::journal_errc;
using sse::journal_options;
using sse::publish_error;
using test::follower;
using test::gap_frame;
using test::publish_up_to;
using test::small_files;
using test::stored;
using test::temporary_directory;

}  // namespace

TEST_CASE("journal: another process follows what is written", "[journal]") {
  const temporary_directory dir;
  {
    journal nobody;
    CHECK(nobody.follow(dir.path(), small_files()).what == journal_errc::system);
  }
  auto writer = std::make_unique<journal>();
  REQUIRE_FALSE(writer->open(dir.path(), small_files()));
  writer->start();
  publish_up_to(*writer, 10);
  journal reader;
  REQUIRE_FALSE(reader.follow(dir.path(), small_files()));
  CHECK(reader.publish(0, {.data = "x"}) == publish_error::closed);
  follower f{reader};
  reader.start();
  const std::size_t k = f.join("4");
  CHECK(f.take(k) == stored(5, 10));
  const std::string data(2000, 'x');
  std::string expected;
  for (int i = 0; i < 200; ++i) {  // over several files
    const sse::publish_result r = writer->publish(0, {.data = data});
    expected += stored(r.id, data);
  }
  std::string got = f.take_up_to(reader, k, 210);
  CHECK(got == expected);
  // The writer ends, and another one goes on.
  writer.reset();
  writer = std::make_unique<journal>();
  REQUIRE_FALSE(writer->open(dir.path(), small_files()));
  writer->start();
  publish_up_to(*writer, 220);
  CHECK(f.take_up_to(reader, k, 220) == stored(211, 220));
}

TEST_CASE("journal: who reads live what another process writes is told what that lost",
          "[journal]") {
  const temporary_directory dir;
  const temporary_directory killed;
  const auto options = [] {
    journal_options o = small_files();
    o.durability = durability::none;
    o.channels = {"a", "b"};
    return o;
  };
  auto writer = std::make_unique<journal>();
  REQUIRE_FALSE(writer->open(dir.path(), options()));
  writer->start();
  publish_up_to(*writer, 10);
  journal reader;
  REQUIRE_FALSE(reader.follow(dir.path(), options()));
  follower f{reader};
  const std::size_t one = f.join("8");
  const std::size_t other = f.join("10", "", {1});
  const std::size_t both = f.join("10", "", {0, 1});
  CHECK(f.take(one) == stored(9, 10));
  // As the files are when it is killed with 11 and 12 shown, and not written.
  const auto over = fs::copy_options::overwrite_existing | fs::copy_options::recursive;
  fs::copy(dir.path(), killed.path(), over);
  publish_up_to(*writer, 12);
  fs::copy(dir.path() + "/runs", killed.path() + "/runs", over);
  writer.reset();
  fs::copy(killed.path(), dir.path(), over);
  reader.start();
  writer = std::make_unique<journal>();
  REQUIRE_FALSE(writer->open(dir.path(), options()));
  const event_id next = writer->found().next;
  REQUIRE(next > 12);
  writer->start();
  REQUIRE(writer->publish(0, {.data = "on"}).id == next);
  CHECK(f.take_up_to(reader, one, next) == gap_frame(next - 2, 10, next, -1) + stored(next, "on"));
  CHECK(f.take(other) == gap_frame(next - 1, 10, next, -1));
  CHECK(f.take(both) ==
        gap_frame(next - 2, 10, next, -1) + gap_frame(next - 1, 10, next, -1) + stored(next, "on"));
  // Who comes back is told once, and goes on.
  CHECK(f.take(f.join("10")) == gap_frame(next - 2, 10, next, -1) + stored(next, "on"));
  CHECK(f.take(f.join(std::to_string(next - 2))) == stored(next, "on"));
}
