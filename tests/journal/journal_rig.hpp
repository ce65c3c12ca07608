// A journal in a folder of its own, and hubs that follow it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/journal.hpp>
#include <sse/sse.hpp>
#include <sse/testing.hpp>

#include "catch.hpp"
#include "crashing_files.hpp"
#include "stage.hpp"

namespace test {

class temporary_directory {
 public:
  temporary_directory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "ssehub-journal-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::vector<std::filesystem::path> files(std::string_view kind) const {
    std::vector<std::filesystem::path> found;
    for (const auto& f : std::filesystem::directory_iterator{path_}) {
      if (f.path().extension() == kind) found.push_back(f.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::filesystem::path path_;
};

/// A hub that follows a journal, over the memory transport.
struct follower {
  sse::testing::memory_transport net{};
  sse::shard<sse::testing::memory_transport> shard;

  explicit follower(sse::journal& j) : shard{j.order(), net, {.hub = {.position = false}}} {
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
    const sse::accept_result r =
        with_request(ask{.last_event_id = std::move(last_event_id)},
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
  std::string take_up_to(sse::journal& j, std::size_t peer, sse::event_id id) {
    CHECK(j.wait_durable(id, sse::duration::seconds(20)));
    return take(peer);
  }
};

/// Over a disk in memory, whose calls fail when the test says so.
struct failing_journal {
  crashing_disk disk{};
  sse::journal j{};
  explicit failing_journal(sse::journal_options o) {
    o.segment_bytes = 1 << 16;
    REQUIRE_FALSE(j.open(std::make_unique<crashing_files>(disk), std::move(o)));
  }
  void wait_until(bool failing) {
    while (j.stats().failing != failing) std::this_thread::yield();
  }
};

/// Its files alone, without a thread and a hub.
struct bare_store {
  crashing_files files;
  sse::detail::journal_store store;
  sse::journal_start found{};
  explicit bare_store(crashing_disk& disk, sse::detail::journal_store::settings s = {})
      : files{disk}, store{files, s} {}
  void add(sse::event_id id) {
    auto b = std::make_unique<sse::detail::journal_batch>();
    b->add({id, 1, 0, {}, {}, "data: x\n\n"});
    store.take(std::move(b));
  }
  /// Everything that is pending, to its readers.
  void put() {
    REQUIRE(store.claim_ids() == 0);
    while (store.has_unwritten()) REQUIRE(store.write() == 0);
    store.show([](const auto&) {});
    REQUIRE(store.tell_head() == 0);
  }
  [[nodiscard]] std::vector<sse::event_id> ids() const {
    std::vector<sse::event_id> all;
    store.read(0, sse::max_event_id + 1, [&](const sse::journal_event& e) {
      all.push_back(e.id);
      return true;
    });
    return all;
  }
};

inline sse::journal_options small_files() {
  sse::journal_options o;
  o.segment_bytes = 1 << 16;
  o.preload_bytes = 0;
  o.channel = [](std::string_view) { return quiet(2); };
  return o;
}
/// As place() writes them.
inline std::string stored(sse::event_id id, std::string_view data) { return frame(id, "", data); }
inline std::string stored(sse::event_id first, sse::event_id last) {
  std::string s;
  for (; first <= last; ++first) s += stored(first, std::to_string(first));
  return s;
}
inline void publish_up_to(sse::journal& j, sse::event_id last) {
  for (sse::event_id id = j.stats().last + 1; id <= last; ++id) {
    const sse::publish_result r = j.publish(0, {.data = std::to_string(id)});
    REQUIRE(r.error == sse::publish_error::none);
    REQUIRE(r.id == id);
  }
  REQUIRE(j.wait_durable(last, sse::duration::seconds(20)));
}

}  // namespace test
