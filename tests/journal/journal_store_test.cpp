// A journal's files without its thread and without hubs: what failed, what grows, what is kept.
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/journal/store.hpp>

#include "catch.hpp"
#include "crashing_files.hpp"
#include "journal_rig.hpp"

namespace {

using sse::event_id;
using sse::detail::journal_store;
using test::bare_store;
using test::crashing_disk;

/// Up to `last`, pieces of `size` bytes, a batch each.
void put_large(bare_store& w, event_id last, std::size_t size) {
  const std::string bytes(size, 'x');
  for (event_id id = w.store.newest() + 1; id <= last; ++id) {
    auto b = std::make_unique<sse::detail::journal_batch>();
    b->add({id, 1, 0, {}, {}, bytes});
    w.store.take(std::move(b));
    w.put();
  }
}
/// What `reader` gets that goes on behind `after`, up to `most` events; how often it read the disk.
std::uint64_t reads_of(crashing_disk& disk, const bare_store& r, std::uint64_t reader,
                       event_id after, event_id most = UINT64_MAX) {
  const std::uint64_t before = disk.reads;
  r.store.history().read_shared(
      after, sse::max_event_id + 1, reader,
      [&](const sse::detail::index_record& piece, sse::detail::piece_reader&) {
        CHECK(piece.first == after + 1);
        after = piece.last();
        return --most != 0;
      },
      [] { return true; });
  return disk.reads - before;
}

}  // namespace

TEST_CASE("journal: what a failed sync may have lost is cut off, and counted no more",
          "[journal]") {
  crashing_disk disk;
  bare_store w{disk, {.claims = true}};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  w.add(1);
  REQUIRE(w.store.write() == 0);
  REQUIRE(w.store.sync() == 0);
  w.store.show([](const auto&) {});
  const std::uint64_t bytes = w.store.bytes();
  const auto on_disk = [&] {
    std::uint64_t n = 0;
    for (const auto& [name, file] : disk.names)
      n += name.ends_with(".log") || name.ends_with(".idx") ? file->size : 0;
    return n;
  };
  REQUIRE(on_disk() == bytes);
  w.add(2);
  REQUIRE(w.store.write() == 0);
  CHECK(on_disk() == w.store.bytes());
  disk.sync_fails = EIO;
  CHECK(w.store.sync() == EIO);
  CHECK(on_disk() == bytes);
  CHECK(w.store.bytes() == bytes);
  REQUIRE(w.store.write() == 0);  // into a new file
  CHECK(w.store.sync() == EIO);   // of which nothing was synced: it goes
  CHECK(on_disk() == bytes);
  CHECK(w.store.bytes() == bytes);
  CHECK(w.store.gone() == 0);
  disk.sync_fails = 0;
  REQUIRE(w.store.write() == 0);
  REQUIRE(w.store.sync() == 0);
  w.store.show([](const auto&) {});
  CHECK(w.ids() == std::vector<event_id>{1, 2});
  CHECK(on_disk() == w.store.bytes());
}

TEST_CASE("journal: a start tells other processes what the run before could not", "[journal]") {
  crashing_disk disk;
  {
    bare_store w{disk};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    w.add(1);
    w.put();
    w.add(2);
    REQUIRE(w.store.write() == 0);  // killed before anybody is told
  }
  disk.be_killed();
  bare_store r{disk};
  REQUIRE_FALSE(r.store.open_to_read(r.found));
  CHECK(r.store.newest() == 1);
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  CHECK(r.store.look_for_news());
  CHECK(r.ids() == std::vector<event_id>{1, 2});
}

TEST_CASE("journal: who follows waits where a file has no header yet", "[journal]") {
  crashing_disk disk;
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  w.add(1);
  w.put();
  bare_store r{disk};
  REQUIRE_FALSE(r.store.open_to_read(r.found));
  w.add(2);
  w.put();
  std::uint64_t& size = disk.names.at("0000000000000001.idx")->size;
  const std::uint64_t whole = size;
  for (const std::uint64_t n : {std::uint64_t{0}, sizeof(sse::detail::index_header) - 1}) {
    size = n;
    CHECK_FALSE(r.store.look_for_news());
    CHECK(r.store.newest() == 1);
  }
  for (const std::uint64_t n : {std::uint64_t{0}, sizeof(sse::detail::index_header)}) {
    size = n;
    bare_store late{disk};
    REQUIRE_FALSE(late.store.open_to_read(late.found));
    CHECK(late.ids().empty());
  }
  size = whole;
  CHECK(r.store.look_for_news());
  CHECK(r.ids() == std::vector<event_id>{1, 2});
}

TEST_CASE("journal: a call that fails at a start is told, and loses nothing", "[journal]") {
  const bool writes = GENERATE(true, false);
  bool failed = true;
  for (std::uint64_t n = 1; failed; ++n) {
    CAPTURE(writes, n);
    crashing_disk disk;
    {
      bare_store w{disk, {.segment_bytes = 1}};
      REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
      for (event_id id = 1; id <= 3; ++id) {
        w.add(id);
        w.put();
      }
    }
    disk.be_killed();
    disk.fail_at = n;
    bare_store s{disk};
    const sse::journal_error e =
        writes ? s.store.open_to_write(1, 0, s.found) : s.store.open_to_read(s.found);
    failed = disk.fail_at == 0;
    disk.fail_at = 0;
    if (!failed) CHECK_FALSE(e);
    if (e) CHECK(e.what == sse::journal_errc::system);
    disk.be_killed();
    bare_store again{disk};
    REQUIRE_FALSE(again.store.open_to_write(1, 0, again.found));
    CHECK(again.ids() == std::vector<event_id>{1, 2, 3});
    CHECK((n > 10 || failed));
  }
}

TEST_CASE("journal: as many of the newest events as bytes allow, wherever a piece begins",
          "[journal]") {
  crashing_disk disk;
  bare_store w{disk, {.segment_bytes = 500}};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  for (event_id id = 1; id <= 40;) {
    auto b = std::make_unique<sse::detail::journal_batch>();
    for (int n = 0; n != 4; ++n, ++id)
      b->add({id, 1, 0, {}, {}, "data: " + std::string(id, 'x') + "\n\n"});
    w.store.take(std::move(b));
    w.put();
  }
  REQUIRE(w.store.history().files() > 2);
  std::uint64_t bytes = 0;
  for (event_id from = 40; from != 0; --from) {
    CAPTURE(from);
    bytes += 8 + from + 64;  // in a hub's memory
    CHECK(w.store.back_by(bytes - 1) == from);
    CHECK(w.store.back_by(bytes) == from - 1);
  }
  CHECK(w.store.back_by(1'000'000) == 0);
}

TEST_CASE("journal: blocks that were read stay in memory up to its bound", "[journal]") {
  constexpr std::size_t block = sse::detail::journal_segment::block_bytes;
  crashing_disk disk;
  bare_store w{disk, {.segment_bytes = 8 * block, .block_memory = 4 * block + block / 2}};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  put_large(w, 24, block / 4);  // four a block: six blocks
  const auto both = [&](event_id after, event_id most) {
    return reads_of(disk, w, 1, after, most) + reads_of(disk, w, 2, after, most);
  };
  CHECK(both(0, 4) == 1);
  CHECK(both(4, 4) == 1);
  CHECK(both(8, 4) == 1);
  CHECK(both(0, 12) == 0);  // three fit
  SECTION("what was not used for longest goes") {
    CHECK(both(12, 4) == 1);
    CHECK(both(16, 4) == 1);
    CHECK(both(8, 12) == 0);
    CHECK(both(0, 4) == 1);
  }
  SECTION("one that reads more than fits, alone, takes nothing from the others") {
    CHECK(reads_of(disk, w, 3, 0) > 1);
    CHECK(reads_of(disk, w, 3, 0) > 1);
    CHECK(both(0, 12) == 0);
  }
}

TEST_CASE("journal: a block that grew counts once", "[journal]") {
  constexpr std::size_t block = sse::detail::journal_segment::block_bytes;
  crashing_disk disk;
  bare_store w{disk, {.segment_bytes = 8 * block, .block_memory = 4 * block}};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  put_large(w, 4, block / 4);
  CHECK(reads_of(disk, w, 1, 0) + reads_of(disk, w, 2, 0) == 1);
  for (event_id id = 5; id != 105; ++id) {  // in the second block
    put_large(w, id, block / 128);
    CHECK(reads_of(disk, w, 1 + id % 2, id - 1) == 1);
    CHECK(reads_of(disk, w, 3, id - 1) == 0);
  }
  CHECK(reads_of(disk, w, 1, 0) == 0);  // the first one is there still
}

TEST_CASE("journal: what is kept is as many events, and as old, as was asked for", "[journal]") {
  crashing_disk disk;
  const auto oldest = [](const bare_store& w) { return w.ids().front(); };
  sse::detail::journal_store::settings s{.segment_bytes = 1};  // a file for each batch
  SECTION("events") {
    s.keep_events = 3;
    bare_store w{disk, s};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    for (event_id id = 1; id <= 3; ++id) {
      w.add(id);
      w.put();
      CHECK(w.store.trim(1'000'000) == 0);
    }
    CHECK(oldest(w) == 1);
    w.add(4);
    w.put();
    CHECK(w.store.trim(1) == 0);
    CHECK(w.ids() == std::vector<event_id>{2, 3, 4});
    CHECK(w.store.gone() == 1);
    CHECK(w.store.history().files() == 6);
    CHECK_FALSE(disk.names.contains("0000000000000001.log"));
    CHECK_FALSE(disk.names.contains("0000000000000001.idx"));
  }
  SECTION("age") {
    s.keep_ms = 100;
    bare_store w{disk, s};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    for (event_id id = 1; id <= 3; ++id) {
      w.add(id);  // each at 1 ms
      w.put();
    }
    CHECK(w.store.trim(101) == 0);
    CHECK(oldest(w) == 1);
    disk.remove_fails = EACCES;
    CHECK(w.store.trim(102) == EACCES);
    CHECK(oldest(w) == 1);
    disk.remove_fails = 0;
    CHECK(w.store.trim(102) == 0);
    CHECK(w.ids() == std::vector<event_id>{3});  // the newest file stays, however old
    CHECK(disk.durable_names.size() == disk.names.size());
  }
}

TEST_CASE("journal: files that are larger than they may be now are read", "[journal]") {
  crashing_disk disk;
  {
    bare_store w{disk};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    put_large(w, 50, 1000);
    CHECK(w.store.history().files() == 2);
  }
  disk.be_killed();
  const sse::detail::journal_store::settings small{.segment_bytes = 1000, .most_pending = 2000};
  bare_store w{disk, small};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  CHECK(w.found.recovered == 50);
  CHECK(test::consecutive(w.ids(), 1, 50));
  w.add(w.found.next);
  w.put();
  CHECK(w.store.history().files() == 4);
  disk.be_killed();
  bare_store again{disk, small};
  REQUIRE_FALSE(again.store.open_to_write(1, 0, again.found));
  CHECK(again.ids().size() == 51);
}

TEST_CASE("journal: an older file that lost its end, or its header, is told", "[journal]") {
  crashing_disk disk;
  {
    bare_store w{disk, {.segment_bytes = 1}};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    for (event_id id = 1; id <= 3; ++id) {
      w.add(id);
      w.put();
    }
  }
  const auto refused = [&](const char* name, std::uint64_t size, const char* why) {
    std::uint64_t& now = disk.names.at(name)->size;
    const std::uint64_t whole = std::exchange(now, size);
    disk.be_killed();
    bare_store w{disk};
    const sse::journal_error e = w.store.open_to_write(1, 0, w.found);
    CHECK(e.what == sse::journal_errc::corrupt);
    CHECK(e.text.find(why) != e.text.npos);
    CHECK(e.text.find("0000000000000002.idx") != e.text.npos);
    now = whole;
  };
  refused("0000000000000002.log", disk.names.at("0000000000000002.log")->size - 1,
          "the .log is shorter than its index says");
  refused("0000000000000002.idx", sizeof(sse::detail::index_header) - 1, "no header");
  disk.be_killed();
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  CHECK(w.ids() == std::vector<event_id>{1, 2, 3});
}

TEST_CASE("journal: files that are none of its own are left alone", "[journal]") {
  crashing_disk disk;
  const auto make = [&](const char* name) {
    disk.names[name] = std::make_shared<crashing_disk::node>();
  };
  for (const char* const name : {".log", "1.log", "000000000000000x.log", "0000000000000001.txt",
                                 "99999999999999999.log", "notes.of.somebody.log"})
    make(name);
  {
    bare_store w{disk};
    REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
    CHECK(w.found.next == 1);
    w.add(1);
    w.put();
  }
  disk.be_killed();
  bare_store w{disk};
  REQUIRE_FALSE(w.store.open_to_write(1, 0, w.found));
  CHECK(w.ids() == std::vector<event_id>{1});
  CHECK(disk.names.size() == 6 + 4);  // and `runs`, `head` and two of a segment
}

TEST_CASE("journal: a directory that cannot be used is named, with the system's reason",
          "[journal]") {
  const test::temporary_directory dir;
  std::ofstream{dir.path() + "/file"} << "x";
  const auto check = [](const sse::journal_error& e, int why, const std::string& where) {
    CHECK(e.what == sse::journal_errc::system);
    CHECK(e.system.value() == why);
    CHECK(e.text.starts_with(where + ": "));
  };
  sse::journal j;
  check(j.open(dir.path() + "/file"), ENOTDIR, dir.path() + "/file");
  check(j.open(dir.path() + "/none/of"), ENOENT, dir.path() + "/none/of");
  check(j.follow(dir.path() + "/none"), ENOENT, dir.path() + "/none");
  CHECK_FALSE(j);
#ifdef __linux__
  std::filesystem::create_symlink("/dev/full", dir.path() + "/head");
  check(j.open(dir.path()), ENOSPC, dir.path());
  std::filesystem::remove(dir.path() + "/head");
#endif
  CHECK_FALSE(j.open(dir.path()));
}

TEST_CASE("journal: what waits to be written has its bound, and is counted", "[journal]") {
  sse::journal_options o = test::small_files();
  o.queue_bytes = 1000;
  test::failing_journal x{std::move(o)};
  event_id last = 0;
  sse::publish_error e{};
  while ((e = x.j.publish(0, {.data = "data"}).error) == sse::publish_error::none) ++last;
  CHECK(e == sse::publish_error::full);
  CHECK(last > 5);
  CHECK(last < 50);
  sse::journal_stats s = x.j.stats();
  CHECK(s.last == last);
  CHECK(s.durable == 0);
  CHECK(s.waiting_bytes > 900);
  CHECK(s.waiting_bytes <= 1000 + 40);  // a piece's record comes on top
  CHECK(s.events == 0);
  x.j.start();
  REQUIRE(x.j.wait_durable(last, sse::duration::seconds(60)));
  s = x.j.stats();
  CHECK(s.durable == last);
  CHECK(s.waiting_bytes == 0);
  CHECK(s.events == last);
  CHECK(s.batches == 1);
  CHECK(s.syncs == 0);
  CHECK(s.files == 2);
  CHECK(s.failures == 0);
  CHECK(s.bytes > last * 20);
  CHECK(x.j.publish(0, {.data = "data"}).id == last + 1);
}

TEST_CASE("journal: a start of the machine has a number that stays", "[journal]") {
  const test::temporary_directory dir;
  sse::detail::posix_journal_files files{dir.path(), false, true};
  std::ifstream boot{"/proc/sys/kernel/random/boot_id"};
  std::string id;
  if (!std::getline(boot, id)) {
    CHECK(files.machine_start() == 0);
    return;
  }
  std::uint64_t n = 0xcbf29ce484222325U;  // FNV-1a: it lies on disks
  for (const char c : id) n = (n ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  CHECK(files.machine_start() == n);
}
