// What goes through a journal, and what comes back from it. Files lie in a folder that goes again.
//
//   guard journal EVENTS SHARDS     EVENTS published, written and taken by that many shards, whose
//                                   turn it is once all are written
//   replay EVENTS TIMES             a client that comes back to EVENTS, so many times; and what
//                                   lies on disk for each byte of an event
//   disk EVENTS                     that alone, of events of 40 bytes
#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/journal.hpp>
#include <sse/sse.hpp>

#include "counting.hpp"

namespace {

using counting::data;
using counting::fail;

struct forgetting_transport {
  struct connection {};
  sse::write_result write(connection&, std::span<const sse::buffer> pieces) noexcept {
    std::size_t n = 0;
    for (const sse::buffer& p : pieces) n += p.size;
    return {n, sse::flow::ready};
  }
  void close(connection&, sse::close_reason) noexcept {}
};

class folder {
 public:
  folder() {
    if (::mkdtemp(path_.data()) == nullptr) fail("mkdtemp");
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "ssehub-guard-XXXXXX").string();
};

void append(std::uint64_t events, std::uint64_t shards) {
  const folder dir;
  sse::journal j;
  sse::journal_options o;
  o.lane_bytes = o.queue_bytes = std::size_t{64} << 20;
  if (j.open(dir.path(), std::move(o))) fail("open");
  forgetting_transport net;
  std::vector<std::unique_ptr<sse::shard<forgetting_transport>>> all;
  for (std::uint64_t i = 0; i < shards; ++i) {
    all.push_back(std::make_unique<sse::shard<forgetting_transport>>(j.order(), net));
    if (!*all.back()) fail("attach");
  }
  sse::event_id last = sse::no_id;
  for (std::uint64_t i = 0; i < events; ++i) {
    const sse::publish_result r = j.publish(0, {.type = "market", .data = data});
    if (!r) fail("publish");
    last = r.id;
  }
  j.start();  // its thread writes them at once
  if (!j.wait_durable(last, sse::duration::seconds(60))) fail("write");
  for (const auto& s : all) s->turn(sse::time_point::milliseconds(1));
  if (!all.empty() && all.front()->at(0).last_id() != last) fail("turn");
}

using shard = sse::shard<forgetting_transport>;

/// All that one client is owed, which comes back from behind the first event.
std::uint64_t come_back(shard& s) {
  const std::uint64_t before = s.hub().stats().bytes;
  const sse::header again{"Last-Event-ID", "1"};
  const sse::request r{.method = "GET", .headers = {&again, 1}};
  const auto here = s.accept({}, r, sse::admit().join(s.at(0)));
  if (!here) fail("accept");
  while (s.turn(sse::time_point::milliseconds(1))) {
  }
  s.hub().close(here.id);
  return s.hub().stats().bytes - before;
}

void replay(std::uint64_t events, std::uint64_t times) {
  const folder dir;
  sse::journal j;
  sse::journal_options o;
  o.preload_bytes = 0;
  o.replay_bytes = 1;  // nothing is there the next time
  o.channel = [](std::string_view) { return sse::channel_options{.keep = 1}; };
  if (j.open(dir.path(), std::move(o))) fail("open");
  forgetting_transport net;
  shard s{j.order(), net, {.hub = {.position = false}}};
  j.start();
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 1; i <= events; ++i) {
    if (!j.publish(0, {.type = "market", .data = data})) fail("publish");
    bytes += data.size() + std::to_string(i).size() +
             std::string_view{"id: \nevent: market\ndata: \n\n"}.size();
    if (i % 1000 != 0 && i != events) continue;
    if (!j.wait_durable(i, sse::duration::seconds(60))) fail("write");
    s.turn(sse::time_point::milliseconds(1));
  }
  const std::uint64_t first = come_back(s);
  {
    const counting::instructions counted;
    for (std::uint64_t i = 0; i < times; ++i) {
      if (come_back(s) != first) fail("replay");
    }
  }
  if (first < bytes - 300) fail("not all of it");
  const std::uint64_t disk = j.stats().bytes;
  std::printf("{\"disk\":%llu,\"bytes\":%llu}\n", static_cast<unsigned long long>(disk),
              static_cast<unsigned long long>(bytes));
}

void disk(std::uint64_t events) {
  const folder dir;
  sse::journal j;
  sse::journal_options o;
  o.queue_bytes = std::size_t{64} << 20;
  if (j.open(dir.path(), std::move(o))) fail("open");
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 1; i <= events; ++i) {
    if (!j.publish(0, {.type = "tick", .data = "12345"})) fail("publish");
    bytes +=
        std::to_string(i).size() + std::string_view{"id: \nevent: tick\ndata: 12345\n\n"}.size();
  }
  j.stop();
  const std::uint64_t there = std::filesystem::file_size(dir.path() + "/0000000000000001.log") +
                              std::filesystem::file_size(dir.path() + "/0000000000000001.idx");
  std::printf("{\"disk\":%llu,\"bytes\":%llu}\n", static_cast<unsigned long long>(there),
              static_cast<unsigned long long>(bytes));
}

}  // namespace

namespace counting {

bool history(int argc, char** argv) {
  const std::string_view scenario = argc > 1 ? argv[1] : "";
  const auto number = [&](int i) { return argc > i ? std::strtoull(argv[i], nullptr, 10) : 0; };
  if (scenario == "journal") {
    append(number(2), number(3));
  } else if (scenario == "replay") {
    replay(number(2), number(3));
  } else if (scenario == "disk") {
    disk(number(2));
  } else {
    return false;
  }
  return true;
}

}  // namespace counting
