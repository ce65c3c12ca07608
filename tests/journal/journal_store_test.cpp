// A journal's files without its thread and without hubs: what failed, what grows, what is kept.
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
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
  size = whole;
  CHECK(r.store.look_for_news());
  CHECK(r.ids() == std::vector<event_id>{1, 2});
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
