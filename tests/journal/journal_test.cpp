// A journal and hubs that follow it: restarts, retention, publishers, herds that come back.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sse/journal.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "crashing_files.hpp"
#include "journal_rig.hpp"

namespace {

namespace fs = std::filesystem;
using sse::durability;
using sse::event_id;
using sse::journal;
using sse::journal_errc;
using sse::journal_options;
using sse::publish_error;
using test::failing_journal;
using test::follower;
using test::frame;
using test::gap_frame;
using test::publish_up_to;
using test::small_files;
using test::stored;
using test::temporary_directory;

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

TEST_CASE("journal: a key that is gone stays gone, and who had it is told", "[journal][erase]") {
  const temporary_directory dir;
  const auto keyed = [] {
    journal_options o = small_files();
    o.preload_bytes = 100'000;
    o.channel = [](std::string_view) {
      sse::channel_options c = test::quiet();
      c.on_lag = sse::lag_policy::coalesce;
      c.start = sse::start_at::snapshot;
      return c;
    };
    return o;
  };
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), keyed()));
    j.start();
    REQUIRE(j.publish(0, {.data = "a"}, {.key = "a"}));
    REQUIRE(j.publish(0, {.data = "b"}, {.key = "b"}));
    REQUIRE(j.publish(0, {.data = "-a"}, {.key = "a", .role = sse::key_role::erase}));
    REQUIRE(j.publish(0, {.data = "!b"}, {.key = "b", .role = sse::key_role::barrier}));
  }
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), keyed()));
  follower f{j};
  j.start();
  while (f.shard.at(0).stats().retained_events < 4) f.turn();
  const std::string fresh = f.take(f.join());
  CHECK(fresh.find("data: b\n") != std::string::npos);
  CHECK(fresh.find("data: a\n") == std::string::npos);
  CHECK(fresh.find("data: -a\n") == std::string::npos);
  CHECK(fresh.find("data: !b\n") == std::string::npos);  // it is no value
  const std::string again = f.take(f.join("2"));
  CHECK(again.find("data: -a\n") != std::string::npos);
  CHECK(again.find("data: !b\n") != std::string::npos);
  std::vector<sse::key_role> roles;
  j.read(0, 100, [&](const sse::journal_event& e) {
    roles.push_back(e.role);
    return true;
  });
  using enum sse::key_role;
  CHECK(roles == std::vector<sse::key_role>{value, value, erase, barrier});
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
    const std::string key(0x4000, 'n');
    CHECK(j.publish(0, {.data = "x"}, {.audience = fits}).error == publish_error::none);
    CHECK(j.publish(0, {.data = "x"}, {.key = key.substr(1)}).error == publish_error::none);
    CHECK(j.publish(0, {.data = "x"}, {.key = key}).error == publish_error::too_large);
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

TEST_CASE("journal: to open it once more is refused, and changes nothing", "[journal]") {
  const temporary_directory dir;
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  const auto again = [&] {
    CHECK(j.open(dir.path(), small_files()).what == journal_errc::in_use);
    CHECK(j.follow(dir.path(), small_files()).what == journal_errc::in_use);
    CHECK(j);
  };
  again();
  j.start();
  publish_up_to(j, 5);
  again();
  publish_up_to(j, 6);
  j.stop();
  again();
  event_id last = 0;
  j.read(0, 100, [&](const sse::journal_event& e) {
    last = e.id;
    return true;
  });
  CHECK(last == 6);
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
