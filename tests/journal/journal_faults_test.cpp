// A journal whose files are broken, and whose disk fails.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
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
using test::bare_store;
using test::failing_journal;
using test::follower;
using test::gap_frame;
using test::publish_up_to;
using test::small_files;
using test::stored;
using test::temporary_directory;

}  // namespace

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
    const event_id broken = GENERATE(1U, 3U, 19U);
    flip(log, stored(1, broken - 1).size() + 10);
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
      CHECK(bad == std::vector<event_id>{broken});
      std::vector<event_id> there;
      whole.read(0, sse::max_event_id + 1, [&](const sse::journal_event& one) {
        if (!one.bytes.empty()) there.push_back(one.id);
        return true;
      });
      CHECK(there.size() == 19);
      CHECK(there.back() == 20);
      CHECK(std::find(there.begin(), there.end(), broken) == there.end());
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
    const std::string newer = "version " + std::to_string(++h.version);
    h.first = 1;
    h.crc = h.checksum();
    std::fstream s{index, std::ios::in | std::ios::out | std::ios::binary};
    s.write(reinterpret_cast<const char*>(&h), sizeof h);
    s.close();
    const sse::journal_error e = answer();
    CHECK(e.what == journal_errc::format);
    CHECK(e.text.find(newer) != e.text.npos);
  }
}

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

TEST_CASE("journal: once an event that waited for the disk is durable, more are taken",
          "[journal]") {
  journal_options o = small_files();
  std::atomic<bool> failing{false};
  std::vector<event_id> durable;  // the journal's thread writes it
  journal* of = nullptr;
  o.on_durable = [&](event_id id) {
    durable.push_back(id);
    if (id > 1) failing = of->stats().failing;
  };
  failing_journal x{std::move(o)};
  of = &x.j;
  follower f{x.j};
  x.j.start();
  publish_up_to(x.j, 1);
  x.disk.fails = EIO;
  REQUIRE(x.j.publish(0, {.data = "2"}));
  x.wait_until(true);
  x.disk.fails = 0;
  REQUIRE(x.j.wait_durable(2, sse::duration::seconds(60)));
  x.j.stop();
  CHECK_FALSE(failing);
  CHECK(durable == std::vector<event_id>{1, 2});
}

TEST_CASE("journal: a write that works again ends a failure, however far its sync is",
          "[journal]") {
  journal_options o = small_files();
  o.durability = durability::interval;
  o.interval = sse::duration::seconds(3600);
  failing_journal x{std::move(o)};
  x.j.start();
  x.disk.fails = ENOSPC;
  REQUIRE(x.j.publish(0, {.data = "1"}));
  x.wait_until(true);
  CHECK(x.j.publish(0, {.data = "refused"}) == publish_error::not_stored);
  x.disk.fails = 0;
  x.wait_until(false);
  CHECK(x.j.publish(0, {.data = "2"}).id == 2);
  x.j.stop();  // which syncs
  CHECK(x.j.durable() == 2);
}

TEST_CASE("journal: what other processes could not be told of is told, and durable, later",
          "[journal]") {
  journal_options o = small_files();
  std::vector<event_id> durable;  // the journal's thread writes it
  o.on_durable = [&](event_id id) { durable.push_back(id); };
  failing_journal x{std::move(o)};
  x.j.start();
  publish_up_to(x.j, 1);
  x.disk.head_fails = EIO;
  REQUIRE(x.j.publish(0, {.data = "2"}));
  x.wait_until(true);
  CHECK(x.j.durable() == 1);
  x.disk.head_fails = 0;
  REQUIRE(x.j.wait_durable(2, sse::duration::seconds(60)));  // though nothing is published any more
  bare_store other{x.disk};
  REQUIRE_FALSE(other.store.open_to_read(other.found));
  CHECK(other.found.recovered == 2);
  x.j.stop();
  CHECK(x.j.problem().empty());
  CHECK(durable == std::vector<event_id>{1, 2});
}

TEST_CASE("journal: what other processes could not be told of is told at the end", "[journal]") {
  failing_journal x{small_files()};
  x.j.start();
  publish_up_to(x.j, 1);
  x.disk.head_fails = EIO;
  REQUIRE(x.j.publish(0, {.data = "2"}));
  x.wait_until(true);
  x.disk.head_fails = 0;
  x.j.stop();
  CHECK(x.j.durable() == 2);
  CHECK(x.j.problem().empty());
  bare_store other{x.disk};
  REQUIRE_FALSE(other.store.open_to_read(other.found));
  CHECK(other.found.recovered == 2);
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

TEST_CASE("journal: stop writes what was accepted and what hot threads published, started or not",
          "[journal]") {
  const temporary_directory dir;
  {
    journal j;
    REQUIRE_FALSE(j.open(dir.path(), small_files()));
    sse::publisher hot = j.make_publisher(0);
    for (event_id id = 1; id <= 10; ++id) REQUIRE(j.publish(0, {.data = "x"}).id == id);
    for (event_id id = 11; id <= 20; ++id) REQUIRE(hot.try_publish("y"));
    j.stop();
    CHECK(j.publish(0, {.data = "x"}) == publish_error::closed);
  }
  journal j;
  REQUIRE_FALSE(j.open(dir.path(), small_files()));
  CHECK(j.found().recovered == 20);
  CHECK(j.found().clean);
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

TEST_CASE("journal: the hubs' memory begins behind a loss", "[journal]") {
  test::crashing_disk disk;
  event_id next = 0;
  const auto live = [&](bool ends) {
    journal j;
    REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), small_files()));
    next = j.found().next;
    j.start();
    publish_up_to(j, next + 9);
    if (!ends) disk.fails = disk.sync_fails = EIO;
    j.stop();
    disk.fails = disk.sync_fails = 0;
    disk.be_killed();
  };
  live(false);
  ++disk.machine_start;  // though nothing went with the power, it may have
  live(true);
  REQUIRE(next > 20);
  journal_options o = small_files();
  o.preload_bytes = 100'000;
  o.channel = [](std::string_view) { return test::quiet(); };
  journal j;
  REQUIRE_FALSE(j.open(std::make_unique<test::crashing_files>(disk), std::move(o)));
  follower f{j};
  j.start();
  while (f.shard.at(0).stats().retained_events < 10) f.turn();
  CHECK(f.shard.at(0).stats().retained_events == 10);
  CHECK(f.take(f.join("3")) ==
        stored(4, 10) + gap_frame(next - 1, 10, next, -1) + stored(next, next + 9));
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

TEST_CASE("journal: what was not stored is noted before anything that follows it", "[journal]") {
  test::crashing_disk disk;
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  w.add(1);
  w.put();
  w.add(2);
  REQUIRE(w.store.claim_ids() == 0);
  w.store.give_up([](const auto&) {});
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

TEST_CASE("journal: whatever bit of a file flips, what is read is what was written", "[journal]") {
  const auto text_of = [](event_id id) { return "data: " + std::to_string(id) + "\n\n"; };
  test::crashing_disk disk;
  {
    bare_store w{disk, {.segment_bytes = 300}};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    for (event_id id = 1; id <= 40;) {
      auto b = std::make_unique<sse::detail::journal_batch>();
      const event_id to = id + id % 4;  // pieces of one to four events, alike and not
      for (; id <= to; ++id) b->add({id, 1, 0, id % 3 == 0 ? "ann" : "", {}, text_of(id)});
      w.store.take(std::move(b));
      w.put();
    }
    disk.be_killed();
  }
  std::vector<event_id> firsts;
  test::crashing_files files{disk};
  REQUIRE(sse::detail::journal_segment::list(files, firsts) == 0);
  int broken = 0;
  const auto flip_all = [&](event_id segment, const char* kind) {
    test::crashing_disk::node& file =
        *disk.names.at(sse::detail::journal_segment::name(segment, kind));
    const std::uint64_t begin = kind[1] == 'i' ? sizeof(sse::detail::index_header) : 0;
    for (std::uint64_t bit = begin * 8; bit != file.size * 8; ++bit) {
      const auto flip = [&] {
        char& c = file.bytes[bit / 8];
        c = static_cast<char>(c ^ (1 << bit % 8));
      };
      flip();
      bare_store r{disk, {.segment_bytes = 300}};
      REQUIRE_FALSE(r.store.open_to_read(r.found));
      for (const event_id after : {event_id{0}, event_id{2}, event_id{9}}) {
        // Every id comes, or a broken one in front of the next says so, or it is gone and told.
        event_id had = (std::max)(after, r.store.gone());
        bool lost = false;
        bool right = true;
        r.store.read(had, 1000, [&](const sse::journal_event& e) {
          right = right && e.id > had && (lost || e.bytes.empty() || e.id == had + 1);
          right = right && (e.bytes.empty() || e.bytes == text_of(e.id));
          lost = e.bytes.empty();
          broken += lost ? 1 : 0;
          had = e.id;
          return true;
        });
        CAPTURE(segment, kind, bit, after);
        REQUIRE(right);
        if (segment != firsts.back()) REQUIRE(had == r.store.newest());
        REQUIRE(had <= r.store.newest());
      }
      flip();
    }
  };
  for (const event_id segment : {firsts.front(), firsts.back()}) {
    for (const char* const kind : {".log", ".idx"}) flip_all(segment, kind);
  }
  CHECK(broken > 1000);
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
