// A file system in memory that loses, reorders and tears what was not synced when the power goes,
// or keeps all of it when only the process is killed; and one whose calls fail.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/journal/files.hpp>

#include "random_source.hpp"

namespace test {

/// What lies on the disk, and outlives the processes.
class crashing_disk {
 public:
  static constexpr std::size_t room = std::size_t{1} << 20;  ///< of a file

  struct change {
    std::uint64_t at;
    std::string bytes;  ///< empty: it was cut there
  };
  struct node {
    std::unique_ptr<char[]> bytes{new char[room]};
    std::uint64_t size = 0;
    std::string durable;
    std::vector<change> unsynced;

    void apply(const change& c) {
      if (c.bytes.empty()) {
        if (c.at > size) std::memset(bytes.get() + size, 0, c.at - size);
        size = c.at;
        return;
      }
      if (c.at > size) std::memset(bytes.get() + size, 0, c.at - size);
      std::memcpy(bytes.get() + c.at, c.bytes.data(), c.bytes.size());
      size = std::max<std::uint64_t>(size, c.at + c.bytes.size());
    }
  };
  using node_ptr = std::shared_ptr<node>;

  std::map<std::string, node_ptr> names;
  std::map<std::string, node_ptr> durable_names;
  std::uint64_t calls_left = UINT64_MAX;  ///< then everything fails and changes nothing
  std::atomic<int> fails{0};              ///< every call that writes answers this
  std::atomic<int> sync_fails{0};         ///< every sync does
  std::atomic<int> head_fails{0};         ///< every write of what other processes are told does
  std::uint32_t fail_one_in = 0;          ///< calls that fail; 0: none
  std::uint64_t fail_at = 0;              ///< this one of the next calls fails; 0: none
  bool locked = false;
  std::atomic<int> remove_fails{0};  ///< every removal does
  std::uint64_t machine_start = 1;
  std::atomic<std::uint64_t> reads{0};
  random_source random{1};

  /// The machine stops. What was not synced is there, or not, in any order, or in part.
  void lose_power() {
    ++machine_start;
    std::map<std::string, node_ptr> left = durable_names;
    for (const auto& [name, n] : names) {
      if (durable_names.contains(name) ? durable_names.at(name) != n : true) {
        if (random.below(2) != 0) left[name] = n;  // it was made, and nobody said that it stays
      }
    }
    for (const auto& [name, n] : durable_names) {
      if (!names.contains(name) && random.below(2) != 0) left.erase(name);
    }
    for (auto& [name, n] : left) {
      std::vector<change> pending = std::move(n->unsynced);
      n->unsynced.clear();
      n->size = n->durable.size();
      std::memcpy(n->bytes.get(), n->durable.data(), n->durable.size());
      for (change& c : pending) {
        switch (random.below(4)) {
          case 0: break;
          case 1:
            if (c.bytes.size() > 1) {
              const std::size_t keep = 1 + random.below(c.bytes.size());
              c.bytes.resize(std::min(keep, c.bytes.size()));
              if (random.below(3) == 0) std::fill(c.bytes.begin(), c.bytes.end(), '\0');
            }
            [[fallthrough]];
          default: n->apply(c);
        }
      }
      n->durable.assign(n->bytes.get(), n->size);
    }
    names = durable_names = std::move(left);
    be_killed();
  }
  /// The process ends; the kernel goes on.
  void be_killed() {
    locked = false;
    calls_left = UINT64_MAX;
    fail_one_in = 0;
  }
};

class crashing_files final : public sse::detail::journal_files {
 public:
  explicit crashing_files(crashing_disk& d) : disk_{&d} {}

  int list(std::vector<std::string>& names) override {
    if (const int e = fails(); e != 0) return e;
    names.clear();
    for (const auto& [name, n] : disk_->names) names.push_back(name);
    std::reverse(names.begin(), names.end());  // a directory is in no order
    return 0;
  }
  int open(const std::string& name, bool create, int& handle) override {
    if (const int e = fails(); e != 0) return e;
    auto& at = disk_->names;
    if (!at.contains(name)) {
      if (!create) return ENOENT;
      at[name] = std::make_shared<crashing_disk::node>();
    }
    handle = static_cast<int>(open_.size());
    open_.push_back(at[name]);
    return 0;
  }
  void close(int) noexcept override {}
  int write(int handle, std::uint64_t at, const void* from, std::size_t size) noexcept override {
    int e = disk_->fails != 0 ? disk_->fails.load() : fails();
    if (disk_->head_fails != 0 && open_[static_cast<std::size_t>(handle)] == disk_->names["head"])
      e = disk_->head_fails;
    if (e != 0) {  // a part of it may be there
      size = dead() ? 0 : disk_->random.below(size + 1);
    }
    if (at + size > crashing_disk::room) return EFBIG;
    if (size != 0) change(handle, {at, std::string(static_cast<const char*>(from), size)});
    return e;
  }
  int read(int handle, std::uint64_t at, void* to, std::size_t size,
           std::size_t& got) noexcept override {
    ++disk_->reads;
    if (const int e = fails(); e != 0) return e;
    const crashing_disk::node& n = node(handle);
    got = at >= n.size ? 0 : std::min<std::size_t>(size, n.size - at);
    if (got != 0) std::memcpy(to, n.bytes.get() + at, got);
    return 0;
  }
  int size(int handle, std::uint64_t& bytes) noexcept override {
    if (const int e = fails(); e != 0) return e;
    bytes = node(handle).size;
    return 0;
  }
  int cut(int handle, std::uint64_t size) noexcept override {
    if (const int e = fails(); e != 0) return e;
    if (node(handle).size != size) change(handle, {size, {}});
    return 0;
  }
  void reserve(int, std::uint64_t) noexcept override {}
  int sync(int handle) noexcept override {
    const int e = disk_->sync_fails != 0 ? disk_->sync_fails.load() : fails();
    crashing_disk::node& n = node(handle);
    if (e != 0) {
      if (!dead()) n.unsynced.clear();  // as Linux does: what was not written is forgotten
      return e;
    }
    n.unsynced.clear();
    n.durable.assign(n.bytes.get(), n.size);
    return 0;
  }
  int remove(const std::string& name) noexcept override {
    if (disk_->remove_fails != 0) return disk_->remove_fails;
    if (const int e = fails(); e != 0) return e;
    return disk_->names.erase(name) != 0 ? 0 : ENOENT;
  }
  int sync_names() noexcept override {
    if (const int e = fails(); e != 0) return e;
    disk_->durable_names = disk_->names;
    return 0;
  }
  const char* map(int handle, std::uint64_t) noexcept override { return node(handle).bytes.get(); }
  void unmap(const char*, std::uint64_t) noexcept override {}
  std::uint64_t machine_start() noexcept override { return disk_->machine_start; }
  int lock(const std::string&, std::string& holder) override {
    if (const int e = fails(); e != 0) return e;
    if (disk_->locked) {
      holder = "7";
      return EWOULDBLOCK;
    }
    disk_->locked = true;
    return 0;
  }

 private:
  [[nodiscard]] bool dead() const noexcept { return disk_->calls_left == 0; }
  [[nodiscard]] int fails() noexcept {
    if (dead()) return EIO;
    if (disk_->calls_left != UINT64_MAX) --disk_->calls_left;
    if (disk_->fail_at != 0 && --disk_->fail_at == 0) return EIO;
    if (disk_->fail_one_in != 0 && disk_->random.below(disk_->fail_one_in) == 0)
      return disk_->random.below(2) == 0 ? ENOSPC : EIO;
    return 0;
  }
  [[nodiscard]] crashing_disk::node& node(int handle) noexcept {
    return *open_[static_cast<std::size_t>(handle)];
  }
  void change(int handle, crashing_disk::change c) {
    crashing_disk::node& n = node(handle);
    n.apply(c);
    n.unsynced.push_back(std::move(c));
  }

  crashing_disk* disk_;
  std::vector<crashing_disk::node_ptr> open_;
};

}  // namespace test
