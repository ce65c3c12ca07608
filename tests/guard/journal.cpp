// What goes through a journal, and what comes back from it. Files lie in a folder that goes again.
//
//   guard journal EVENTS SHARDS     EVENTS published, written and taken by that many shards, whose
//                                   turn it is once all are written
#include <stdlib.h>

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

}  // namespace

namespace counting {

bool history(int argc, char** argv) {
  const std::string_view scenario = argc > 1 ? argv[1] : "";
  const auto number = [&](int i) { return argc > i ? std::strtoull(argv[i], nullptr, 10) : 0; };
  if (scenario == "journal") {
    append(number(2), number(3));
  } else {
    return false;
  }
  return true;
}

}  // namespace counting
