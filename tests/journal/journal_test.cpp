// A journal and hubs that follow it: restarts, other processes, disks that fail.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sse/journal.hpp>
#include <sse/sse.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "crashing_files.hpp"
#include "stage.hpp"

namespace {

namespace fs = std::filesystem;
using sse::durability;
using sse::event_id;
using sse::journal;
using sse::journal_errc;
using sse::journal_options;
using sse::publish_error;
using test::frame;
using test::gap_frame;

class temporary_directory {
 public:
  temporary_directory() {
    std::string pattern = (fs::temp_directory_path() / "ssehub-journal-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() { fs::remove_all(path_); }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::vector<fs::path> files(std::string_view kind) const {
    std::vector<fs::path> found;
    for (const auto& f : fs::directory_iterator{path_}) {
      if (f.path().extension() == kind) found.push_back(f.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  fs::path path_;
};

/// A hub that follows a journal, over the memory transport.
struct follower {
  sse::testing::memory_transport net{};
  sse::shard<sse::testing::memory_transport> shard;

  explicit follower(journal& j) : shard{j.order(), net, {.hub = {.position = false}}} {
    REQUIRE(shard);
    turn();
  }
  void turn() {
    while (shard.turn(sse::time_point::milliseconds(1))) {
    }
  }
  /// Connects with the last id, and gives the peer.
  std::size_t join(std::string last_event_id = {}, std::string key = {},
                   std::vector<std::size_t> channels = {0}) {
    const std::size_t peer = net.connect();
    auto v = sse::admit(key);
    for (const std::size_t c : channels) v.join(shard.at(c));
    const sse::accept_result r = test::with_request(
        test::ask{.last_event_id = std::move(last_event_id)},
        [&](const sse::request& q) { return shard.accept({peer}, q, std::move(v)); });
    REQUIRE(r);
    turn();
    return peer;
  }
  std::string take(std::size_t peer) {
    turn();
    return std::exchange(net.at(peer).received, {});
  }
  /// Once the journal's thread has handed on all up to `id`.
  std::string take_up_to(journal& j, std::size_t peer, event_id id) {
    CHECK(j.wait_durable(id, sse::duration::seconds(20)));
    return take(peer);
  }
};

journal_options small_files() {
  journal_options o;
  o.segment_bytes = 1 << 16;
  o.preload_bytes = 0;
  o.channel = [](std::string_view) { return test::quiet(2); };
  return o;
}
/// As place() writes them.
std::string stored(event_id id, std::string_view data) { return frame(id, "", data); }
std::string stored(event_id first, event_id last) {
  std::string s;
  for (; first <= last; ++first) s += stored(first, std::to_string(first));
  return s;
}
void publish_up_to(journal& j, event_id last) {
  for (event_id id = j.stats().last + 1; id <= last; ++id) {
    const sse::publish_result r = j.publish(0, {.data = std::to_string(id)});
    REQUIRE(r.error == publish_error::none);
    REQUIRE(r.id == id);
  }
  REQUIRE(j.wait_durable(last, sse::duration::seconds(20)));
}

}  // namespace

TEST_CASE("journal: every client goes on where it was after a restart", "[journal]") {
  for (const durability d :
       {durability::none, durability::page_cache, durability::interval, durability::every_batch}) {
    CAPTURE(to_string(d));
    const temporary_directory dir;
    journal_options o = small_files();
    o.durability = d;
    o.interval = sse::duration::milliseconds(5);
    {
      journal j;
      REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
      follower f{j};
      j.start();
      const std::size_t k = f.join();
      publish_up_to(j, 100);
      CHECK(f.take_up_to(j, k, 100) == stored(1, 100));
      CHECK(f.take(f.join("40")) == stored(41, 100));  // its hub's memory keeps two
    }
    o = small_files();
    o.durability = d;
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
    CHECK(j.found().clean);
    CHECK(j.found().recovered == 100);
    follower f{j};
    j.start();
    const std::size_t k = f.join("7");
    CHECK(f.take(k) == stored(8, 100));
    publish_up_to(j, 120);
    CHECK(f.take_up_to(j, k, 120) == stored(101, 120));
    CHECK(f.take(f.join("99")) == stored(100, 120));
    CHECK(f.shard.at(0).stats().gaps == 0);
  }
}

TEST_CASE("journal: a run that was killed loses nothing of what was shown", "[journal]") {
  const temporary_directory dir;
  const temporary_directory copy;
  event_id next = 0;
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    follower f{j};
    j.start();
    publish_up_to(j, 50);
    // What kill -9 leaves: the files as they are.
    fs::copy(dir.path(), copy.path(), fs::copy_options::recursive);
  }
  {
    journal j;
    REQUIRE_FALSE(j.open(copy.path(), small_files()));
    CHECK_FALSE(j.found().clean);
    CHECK(j.found().recovered == 50);
    next = j.found().next;
    CHECK(next > 51);  // nobody else may have got these
    follower f{j};
    j.start();
    const std::size_t k = f.join("30");
    CHECK(f.take(k) == stored(31, 50));
    const sse::publish_result r = j.publish(0, {.data = "on"});
    CHECK(r.id == next);
    CHECK(f.take_up_to(j, k, next) == stored(next, "on"));
    // An id that was given out by the run before, and is gone: it is told.
    const std::string from = std::to_string(next - 10);
    CHECK(f.take(f.join(from)) == gap_frame(next - 1, next - 10, next, -1) + stored(next, "on"));
    // Who has the last that is there misses nothing.
    CHECK(f.take(f.join("50")) == stored(next, "on"));
  }
}

TEST_CASE("journal: audiences, keys and channels come back as they were", "[journal]") {
  const temporary_directory dir;
  {
    journal_options o = small_files();
    o.channels = {"a", "b"};
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
    j.start();
    REQUIRE(j.publish(0, {.type = "t", .data = "1"}));
    REQUIRE(j.publish(1, {.type = "t", .data = "2"}, {.key = "k"}));
    REQUIRE(j.publish(0, {.type = "t", .data = "3"}, {.audience = "ann"}));
    REQUIRE(j.publish(1, {.type = "t", .data = "4"}, {.audience = "bob", .key = "k"}));
    CHECK(j.publish(2, {.data = "x"}) == publish_error::no_channel);
    CHECK(j.publish(0, {.data = "x"}, {.id = 7}) == publish_error::bad_id);
    CHECK(j.publish(0, {.data = "x"}, {.last = true}) == publish_error::sealed);
    CHECK(j.publish(0, {.type = "a\nb"}) == publish_error::bad_type);
  }
  journal_options o = small_files();
  o.channels = {"a", "b"};
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
  follower f{j};
  j.start();
  const auto t = [](event_id id) { return frame(id, "t", std::to_string(id)); };
  CHECK(f.take(f.join("0", "ann", {0, 1})).empty());  // 0: everything in memory
  for (const event_id from : {1U, 2U, 3U}) {
    const std::string id = std::to_string(from);
    const auto above = [&](std::initializer_list<event_id> ids) {
      std::string s;
      for (const event_id i : ids) s += i > from ? t(i) : "";
      return s;
    };
    CHECK(f.take(f.join(id, "ann", {0, 1})) == above({2, 3}));
    CHECK(f.take(f.join(id, "bob", {1, 0})) == above({2, 4}));
    CHECK(f.take(f.join(id, "ann", {0})) == above({3}));
    CHECK(f.take(f.join(id, "", {1})) == above({2}));
  }
  std::vector<std::string> keys;
  j.read(0, 100, [&](const sse::journal_event& e) {
    keys.emplace_back(e.key);
    CHECK(e.time_ms > 1'600'000'000'000);
    return true;
  });
  CHECK(keys == std::vector<std::string>{"", "k", "", "k"});
}

TEST_CASE("journal: the newest events are in the hubs' memory again", "[journal]") {
  const temporary_directory dir;
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    j.start();
    publish_up_to(j, 1000);
  }
  journal_options o = small_files();
  o.preload_bytes = 1000;
  o.channel = [](std::string_view) {
    sse::channel_options c = test::quiet();
    c.start = sse::start_at::all;
    return c;
  };
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
  follower f{j};
  j.start();
  const std::string got = f.take(f.join());
  const auto ids = test::ids_in(got);
  REQUIRE(ids.size() > 5);
  CHECK(ids.size() < 20);
  CHECK(test::consecutive(ids, 1001 - ids.size(), 1000));
  CHECK(f.take(f.join("3")) == stored(4, 1000));
}

TEST_CASE("journal: files are let go by size, age and number, and who needs them is told",
          "[journal]") {
  const temporary_directory dir;
  journal_options o = small_files();
  o.keep_bytes = 200'000;
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
  follower f{j};
  j.start();
  const std::string data(1000, 'x');
  for (int i = 0; i < 1000; ++i) {
    const sse::publish_result r = j.publish(0, {.data = data});
    REQUIRE(r);
    if (i % 10 == 0) REQUIRE(j.wait_durable(r.id, sse::duration::seconds(20)));
    f.turn();
  }
  REQUIRE(j.wait_durable(1000, sse::duration::seconds(20)));
  const sse::journal_stats s = j.stats();
  CHECK(s.bytes < 300'000);
  CHECK(s.oldest_gone > 500);
  CHECK(dir.files(".log").size() < 6);
  const std::string got = f.take(f.join("5"));
  const event_id first = s.oldest_gone + 1;
  CHECK(got.starts_with(gap_frame(first - 1, 5, first, -1)));
  CHECK(test::consecutive(test::ids_in(got.substr(got.find("\n\n"))), first, 1000));
}

TEST_CASE("journal: an audience and a key have room for what a record can hold", "[journal]") {
  test::crashing_disk disk;
  journal_options o = small_files();
  SECTION("64 KiB") {
    journal j;
    REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), std::move(o)));
    const std::string name(0x10000, 'n');
    const std::string_view fits = std::string_view{name}.substr(1);
    CHECK(j.publish(0, {.data = "x"}, {.audience = fits}).error == publish_error::none);
    CHECK(j.publish(0, {.data = "x"}, {.key = fits}).error == publish_error::none);
    CHECK(j.publish(0, {.data = "x"}, {.audience = name}).error == publish_error::too_large);
    CHECK(j.publish(0, {.data = "x"}, {.key = name}).error == publish_error::too_large);
  }
  SECTION("half of a lane") {
    o.lane_bytes = 4096;
    journal j;
    REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), std::move(o)));
    const std::string name(2048, 'n');
    CHECK(j.publish(0, {.data = "x"}, {.key = name}).error == publish_error::too_large);
    CHECK(j.publish(0, {.data = "x"}, {.audience = name}).error == publish_error::too_large);
  }
}

TEST_CASE("journal: a directory that cannot be locked is no other writer", "[journal]") {
  test::crashing_disk disk;
  disk.calls_left = 0;
  journal j;
  const sse::journal_error e = j.open(std::make_unique<test::crashing_files>(disk), small_files());
  CHECK(e.what == journal_errc::system);
  CHECK(e.text.find("lock") != e.text.npos);
}

TEST_CASE("journal: a second writer is refused, and told who has it", "[journal]") {
  const temporary_directory dir;
  journal a;
  REQUIRE_FALSE(a.open(dir.path(), small_files()));
  journal b;
  const sse::journal_error e = b.open(dir.path(), small_files());
  CHECK(e.what == journal_errc::in_use);
  CHECK(e.text.find(std::to_string(::getpid())) != e.text.npos);
  CHECK(e.text.find(dir.path()) != e.text.npos);
  CHECK_FALSE(b);
}

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

TEST_CASE("journal: a thread that must not meet a lock publishes through a lane", "[journal]") {
  const temporary_directory dir;
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  follower f{j};
  j.start();
  const std::size_t k = f.join();
  std::thread hot{[p = j.make_publisher(0)]() mutable {
    for (int i = 1; i <= 500; ++i) {
      while (!p.try_publish(std::to_string(i))) std::this_thread::yield();
    }
  }};
  hot.join();
  CHECK(f.take_up_to(j, k, 500) == stored(1, 500));
  CHECK(j.publish(0, {.data = "501"}).id == 501);
}

TEST_CASE("journal: a broken file is refused, a torn one is cut, a newer version is told",
          "[journal]") {
  const temporary_directory dir;
  {
    journal_options o = small_files();
    o.durability = durability::every_batch;
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), std::move(o)));
    j.start();
    for (event_id id = 1; id <= 20; ++id) publish_up_to(j, id);  // a batch each
  }
  const fs::path log = dir.files(".log").back();
  const fs::path index = dir.files(".idx").back();
  const auto flip = [](const fs::path& file, std::uint64_t at) {
    std::fstream s{file, std::ios::in | std::ios::out | std::ios::binary};
    s.seekg(static_cast<std::streamoff>(at));
    const char c = static_cast<char>(s.get() ^ 4);
    s.seekp(static_cast<std::streamoff>(at));
    s.put(c);
  };
  const auto answer = [&] {
    journal j;
    return j.open(dir.path(), small_files());
  };
  SECTION("a flipped bit in front of what was durable") {
    flip(log, 30);
    const sse::journal_error e = answer();
    CHECK(e.what == journal_errc::corrupt);
    CHECK(e.text.find(index.filename().string()) != e.text.npos);
    {
      journal whole;
      REQUIRE_FALSE(whole.repair(dir.path()));
      CHECK(whole.found().recovered == 20);  // what stands behind the broken one is kept
      CHECK(whole.found().cut_events == 0);
      std::vector<event_id> bad;
      whole.each_broken([&](const std::string&, event_id id) { bad.push_back(id); });
      REQUIRE(bad.size() == 1);
      std::vector<event_id> there;
      whole.read(0, sse::max_event_id + 1, [&](const sse::journal_event& one) {
        if (!one.bytes.empty()) there.push_back(one.id);
        return true;
      });
      CHECK(there.size() == 19);
      CHECK(there.back() == 20);
      CHECK(std::find(there.begin(), there.end(), bad[0]) == there.end());
    }
    CHECK_FALSE(answer());  // from then on it is one like others
  }
  SECTION("a flipped bit in the last record is a torn tail") {
    flip(index, fs::file_size(index) - 20);
    for (const bool first : {true, false}) {  // nothing of it is left
      journal j;
      REQUIRE_FALSE(j.open(dir.path(), small_files()));
      CHECK(j.found().recovered == 19);
      CHECK(j.found().cut_events == (first ? 1 : 0));
      CHECK((j.found().cut_bytes != 0) == first);
    }
  }
  SECTION("a file that was cut") {
    fs::resize_file(log, fs::file_size(log) - 3);
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    CHECK(j.found().recovered == 19);
  }
  SECTION("another version") {
    sse::detail::index_header h;
    h.version = 2;
    h.first = 1;
    h.crc = h.checksum();
    std::fstream s{index, std::ios::in | std::ios::out | std::ios::binary};
    s.write(reinterpret_cast<const char*>(&h), sizeof h);
    s.close();
    const sse::journal_error e = answer();
    CHECK(e.what == journal_errc::format);
    CHECK(e.text.find("version 2") != e.text.npos);
  }
}

namespace {

/// Over a disk in memory, whose calls fail when the test says so.
struct failing_journal {
  test::crashing_disk disk{};
  journal j{};
  explicit failing_journal(journal_options o) {
    o.segment_bytes = 1 << 16;
    REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), std::move(o)));
  }
  void wait_until(bool failing) {
    while (j.stats().failing != failing) std::this_thread::yield();
  }
};

}  // namespace

TEST_CASE("journal: a full disk is told, nothing is lost, and it goes on when there is room",
          "[journal]") {
  failing_journal x{small_files()};
  follower f{x.j};
  x.j.start();
  const std::size_t k = f.join();
  publish_up_to(x.j, 10);
  CHECK(f.take(k) == stored(1, 10));
  x.disk.fails = ENOSPC;
  REQUIRE(x.j.publish(0, {.data = "11"}));
  x.wait_until(true);
  CHECK(x.j.publish(0, {.data = "refused"}) == publish_error::not_stored);
  CHECK(x.j.problem().find("No space left") != std::string::npos);
  CHECK(f.take(k).empty());  // what is not stored is not shown
  CHECK(x.j.durable() == 10);
  x.disk.fails = 0;
  CHECK(f.take_up_to(x.j, k, 11) == stored(11, 11));
  x.wait_until(false);
  CHECK(x.j.problem().empty());
  publish_up_to(x.j, 20);
  CHECK(f.take_up_to(x.j, k, 20) == stored(12, 20));
  CHECK(x.j.stats().events == 20);
}

TEST_CASE("journal: a program may go on without the disk, and is told so", "[journal]") {
  journal_options o = small_files();
  o.live_without = true;
  o.queue_bytes = 4000;
  failing_journal x{std::move(o)};
  follower f{x.j};
  x.j.start();
  const std::size_t k = f.join();
  publish_up_to(x.j, 10);
  (void)f.take(k);
  x.disk.fails = EIO;
  std::string got;
  event_id last = 10;
  while (last < 200) {
    const sse::publish_result r = x.j.publish(0, {.data = std::to_string(last + 1)});
    if (r) last = r.id;
    got += f.take(k);
  }
  while (test::ids_in(got).size() < 190) got += f.take(k);
  CHECK(got == stored(11, 200));
  CHECK(x.j.stats().failing);
  CHECK(x.j.durable() == 10);
  x.disk.fails = 0;
  x.wait_until(false);  // by itself, also if nothing waits any more
  publish_up_to(x.j, last + 1);
  CHECK(x.j.problem().empty());
  // Who needs what was not stored is told.
  const std::string old = f.take(f.join("5"));
  CHECK(old.find("event: gap") != old.npos);
}

TEST_CASE("journal: what a sync that failed may have lost is written again", "[journal]") {
  journal_options o = small_files();
  o.durability = durability::every_batch;
  failing_journal x{std::move(o)};
  follower f{x.j};
  x.j.start();
  const std::size_t k = f.join();
  publish_up_to(x.j, 5);
  x.disk.sync_fails = EIO;
  REQUIRE(x.j.publish(0, {.data = "6"}));
  x.wait_until(true);
  (void)f.take(k);
  CHECK(x.j.durable() == 5);
  x.disk.sync_fails = 0;
  CHECK(f.take_up_to(x.j, k, 6) == stored(6, 6));
  publish_up_to(x.j, 9);
  x.j.stop();
  x.disk.lose_power();
  journal again;
  REQUIRE_FALSE(again.open(std::make_unique<test::crashing_files>(x.disk), small_files()));
  std::vector<event_id> ids;
  again.read(0, 100, [&](const sse::journal_event& e) {
    ids.push_back(e.id);
    return true;
  });
  CHECK(test::consecutive(ids, 1, 9));
}

TEST_CASE("journal: stop writes all that was accepted", "[journal]") {
  const temporary_directory dir;
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    j.start();
    for (event_id id = 1; id <= 2000; ++id)
      REQUIRE(j.publish(0, {.data = std::to_string(id)}).id == id);
    j.stop();
    CHECK(j.publish(0, {.data = "x"}) == publish_error::closed);
  }
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  CHECK(j.found().recovered == 2000);
  CHECK(j.found().clean);
  CHECK(j.found().next == 2001);
}

TEST_CASE("journal: events that went with the power are told to all who missed them", "[journal]") {
  test::crashing_disk disk;
  const auto open = [&](journal& j) {
    REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), small_files()));
  };
  {
    journal j;
    open(j);
    j.start();
    publish_up_to(j, 10);
  }
  disk.be_killed();
  {
    journal j;
    open(j);
    follower f{j};
    j.start();
    const std::size_t k = f.join("10");
    publish_up_to(j, 20);
    CHECK(f.take_up_to(j, k, 20) == stored(11, 20));
    disk.fails = disk.sync_fails = EIO;  // it cannot say that it ended
  }
  disk.fails = disk.sync_fails = 0;
  for (auto& [name, file] : disk.names) file->unsynced.clear();
  disk.lose_power();
  journal j;
  open(j);
  CHECK(j.found().recovered == 10);
  const event_id next = j.found().next;
  CHECK(next > 21);
  follower f{j};
  j.start();
  const std::vector<std::size_t> readers{f.join("5"), f.join("10"), f.join("15"), f.join("20")};
  CHECK(f.take(readers[0]) == stored(6, 10) + gap_frame(next - 1, 10, next, -1));
  CHECK(f.take(readers[1]) == gap_frame(next - 1, 10, next, -1));
  CHECK(f.take(readers[2]) == gap_frame(next - 1, 15, next, -1));
  CHECK(f.take(readers[3]) == gap_frame(next - 1, 20, next, -1));
  CHECK(j.publish(0, {.data = "on"}).id == next);
  for (const std::size_t k : readers) CHECK(f.take_up_to(j, k, next) == stored(next, "on"));
  CHECK(f.take(f.join("5")) ==
        stored(6, 10) + gap_frame(next - 1, 10, next, -1) + stored(next, "on"));
  CHECK(f.take(f.join(std::to_string(next - 1))) == stored(next, "on"));
}

TEST_CASE("journal: what clients come back for is read once for all of them and their channels",
          "[journal]") {
  journal_options o = small_files();
  o.channels = {"a", "b", "c"};
  failing_journal x{std::move(o)};
  follower f{x.j};
  x.j.start();
  const std::string data(400, 'x');
  constexpr event_id events = 900;
  for (event_id id = 1; id <= events; ++id) REQUIRE(x.j.publish(id % 3, {.data = data}).id == id);
  REQUIRE(x.j.wait_durable(events, sse::duration::seconds(20)));
  f.turn();
  const auto reads_of = [&](event_id clients) {
    const std::uint64_t before = x.disk.reads;
    for (event_id n = 0; n < clients; ++n) {
      const event_id from = 1 + n * (events - 20) / clients;
      const std::size_t k = f.join(std::to_string(from), "", {0, 1, 2});
      CHECK(test::consecutive(test::ids_in(f.take(k)), from + 1, events));
    }
    return x.disk.reads - before;
  };
  const std::uint64_t reads = reads_of(10);
  const std::uint64_t blocks = x.j.stats().bytes / 65536 + x.j.stats().files / 2;
  CHECK(reads > 2);
  CHECK(reads <= blocks);
  CHECK(reads_of(300) == 0);
}

TEST_CASE("journal: ten thousand clients at ten thousand old ids read each block once",
          "[journal]") {
  journal_options o = small_files();
  o.channels = {"rare", "often"};
  failing_journal x{std::move(o)};
  follower f{x.j};
  x.j.start();
  const std::string data(400, 'x');
  constexpr event_id clients = 10'000;
  constexpr event_id each = 250;  // of those that the clients read
  for (event_id id = 1; id <= clients; ++id) {
    REQUIRE(x.j.publish(id % each == 0 ? 0 : 1, {.data = id % each == 0 ? "r" : data}).id == id);
    if (id % each != 0) continue;
    REQUIRE(x.j.wait_durable(id, sse::duration::seconds(60)));
    f.turn();
  }
  const std::uint64_t blocks = x.j.stats().bytes / 65536 + x.j.stats().files / 2;
  const std::uint64_t before = x.disk.reads;
  std::vector<std::size_t> peers;
  for (event_id id = 1; id <= clients; ++id) {
    const std::size_t peer = f.net.connect();
    auto v = sse::admit("");
    v.join(f.shard.at(0));
    REQUIRE(test::with_request(
        test::ask{.last_event_id = std::to_string(id)},
        [&](const sse::request& q) { return f.shard.accept({peer}, q, std::move(v)); }));
    peers.push_back(peer);
  }
  f.turn();
  const std::uint64_t reads = x.disk.reads - before;
  CHECK(blocks > 50);
  CHECK(reads > 0);
  CHECK(reads <= blocks);
  bool all = true;
  for (event_id id = 1; id <= clients; ++id) {
    std::string expected;
    for (event_id n = (id / each + 1) * each; n <= clients; n += each) expected += stored(n, "r");
    all = all && f.net.at(peers[id - 1]).received == expected;
  }
  CHECK(all);
}

TEST_CASE("journal: an event of an old file that is broken is told to who needs it", "[journal]") {
  const temporary_directory dir;
  const std::string data(1000, 'x');
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    j.start();
    for (event_id id = 1; id <= 100; ++id) {
      REQUIRE(j.publish(0, {.data = data}).id == id);
      REQUIRE(j.wait_durable(id, sse::duration::seconds(20)));
    }
  }
  REQUIRE(dir.files(".log").size() == 2);
  std::fstream log{dir.files(".log").front(), std::ios::in | std::ios::out | std::ios::binary};
  log.seekp(5 * static_cast<std::streamoff>(stored(1, data).size()) + 50);  // of event 6
  log.put('y');
  log.close();
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  follower f{j};
  j.start();
  const std::string got = f.take(f.join("3"));
  CHECK(got.starts_with(stored(4, data) + stored(5, data) + gap_frame(6, 5, 7, -1) +
                        stored(7, data)));
  CHECK(got.ends_with(stored(100, data)));
  int broken = 0;
  j.each_broken([&](const std::string& file, event_id id) {
    CHECK(file == dir.files(".log").front().filename().string());
    CHECK(id == 6);
    ++broken;
  });
  CHECK(broken == 1);
}

TEST_CASE("journal: old files that cannot be removed are told, and go when they can", "[journal]") {
  journal_options o = small_files();
  o.keep_bytes = 200'000;
  failing_journal x{std::move(o)};
  x.disk.remove_fails = EACCES;
  x.j.start();
  const std::string data(1000, 'x');
  const auto publish = [&](int n) {
    for (int i = 0; i < n; ++i) {
      const sse::publish_result r = x.j.publish(0, {.data = data});
      REQUIRE(r);
      REQUIRE(x.j.wait_durable(r.id, sse::duration::seconds(20)));
    }
  };
  publish(400);
  CHECK(x.j.problem().find("cannot be removed") != std::string::npos);
  CHECK(x.j.stats().failures > 0);
  CHECK_FALSE(x.j.stats().failing);  // what is published is stored
  CHECK(x.j.stats().oldest_gone == 0);
  x.disk.remove_fails = 0;
  publish(2);
  CHECK(x.j.problem().empty());
  CHECK(x.j.stats().oldest_gone > 100);
  CHECK(x.j.stats().bytes < 300'000);
}

#ifdef __linux__
TEST_CASE("journal: a child process gets none of its descriptors", "[journal]") {
  const auto open_ones = [] {
    std::set<int> found;
    for (const auto& f : fs::directory_iterator{"/proc/self/fd"}) {
      found.insert(std::stoi(f.path().filename().string()));
    }
    return found;
  };
  const temporary_directory dir;
  const std::set<int> before = open_ones();
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  j.start();
  publish_up_to(j, 1);
  int of_its_own = 0;
  for (const int fd : open_ones()) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (before.contains(fd) || flags < 0) continue;
    ++of_its_own;
    CAPTURE(fd);
    CHECK((flags & FD_CLOEXEC) != 0);
  }
  CHECK(of_its_own >= 6);  // directory, lock, runs, head, .log, .idx, and what wakes its thread
}
#endif

namespace {

/// Its files alone, without a thread and a hub.
struct bare_store {
  test::crashing_files files;
  sse::detail::journal_store store;
  sse::journal_start found{};
  explicit bare_store(test::crashing_disk& disk, sse::detail::journal_store::settings s = {})
      : files{disk}, store{files, s} {}
  void add(event_id id) { store.pending().add({id, 1, 0, {}, {}, "data: x\n\n"}); }
  /// Everything that is pending, to its readers.
  void put() {
    REQUIRE(store.claim_ids() == 0);
    REQUIRE(store.write() == 0);
    store.show([](const sse::journal_event&) {});
    REQUIRE(store.tell_head() == 0);
  }
  [[nodiscard]] std::vector<event_id> ids() const {
    std::vector<event_id> all;
    store.read(0, sse::max_event_id + 1, [&](const sse::journal_event& e) {
      all.push_back(e.id);
      return true;
    });
    return all;
  }
};

}  // namespace

TEST_CASE("journal: what was not stored is noted before anything that follows it", "[journal]") {
  test::crashing_disk disk;
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  w.add(1);
  w.put();
  w.add(2);
  REQUIRE(w.store.claim_ids() == 0);
  w.store.give_up();
  w.add(3);
  REQUIRE(w.store.claim_ids() == 0);
  disk.sync_fails = EIO;
  CHECK(w.store.write() == EIO);
  CHECK(w.store.newest() == 1);
  disk.sync_fails = 0;
  w.put();
  event_id from = 0;
  event_id first = 0;
  CHECK(w.store.loss_behind(1, from, first));
  CHECK(from == 1);
  CHECK(first == 3);
  CHECK(w.ids() == std::vector<event_id>{1, 3});
}

TEST_CASE("journal: who follows a disk whose calls fail waits, and gets all when they do not",
          "[journal]") {
  test::crashing_disk disk;
  bare_store w{disk, {.segment_bytes = 500}};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  w.add(1);
  w.put();
  bare_store r{disk, {.segment_bytes = 500}};
  REQUIRE_FALSE(r.store.open_to_read(r.found));
  CHECK(r.store.newest() == 1);
  event_id last = 1;
  for (int round = 0; round < 200; ++round) {
    w.add(++last);
    w.put();
    const event_id before = r.store.newest();
    disk.fail_one_in = 1 + static_cast<std::uint32_t>(round) % 5;
    const bool news = r.store.look_for_news();
    disk.fail_one_in = 0;
    CAPTURE(round, last);
    CHECK(r.store.newest() <= last);
    CHECK(news == (r.store.newest() != before));
    CHECK(test::consecutive(r.ids(), 1, r.store.newest()));  // nothing is shown that is not there
  }
  w.add(++last);
  w.put();
  CHECK(r.store.look_for_news());
  CHECK(r.store.newest() == last);
  CHECK(test::consecutive(r.ids(), 1, last));
}
