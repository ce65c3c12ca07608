// ssehub example logs. SPDX-License-Identifier: MIT
#include "watcher.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#if defined(__linux__)
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include <asio/buffer.hpp>
#include <asio/posix/stream_descriptor.hpp>
#endif

namespace logs {

#if defined(__linux__)

struct watcher::impl : std::enable_shared_from_this<impl> {
  impl(asio::io_context& io, std::string dir, on_change f)
      : directory{std::move(dir)}, tell{std::move(f)}, stream{io} {
    const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    std::error_code ignored;
    if (fd >= 0) stream.assign(fd, ignored);
  }

  void read() {
    stream.async_read_some(asio::buffer(bytes),
                           [self = shared_from_this()](const std::error_code& e, std::size_t n) {
                             if (e || !self->tell) return;
                             self->hear(n);
                             self->read();
                           });
  }

  void hear(std::size_t n) {
    std::set<std::string> changed;  // each once, however much was said of it
    inotify_event event{};
    for (std::size_t at = 0; at + sizeof event <= n; at += sizeof event + event.len) {
      std::memcpy(&event, bytes.data() + at, sizeof event);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        for (const auto& [name, wd] : watches) changed.insert(name);
      } else if (event.wd == directory_watch) {
        const char* const name = bytes.data() + at + sizeof event;
        if (event.len != 0 && watches.contains(name)) changed.insert(name);
      } else if (const auto names = by_watch.find(event.wd); names != by_watch.end()) {
        changed.insert(names->second.begin(), names->second.end());
      }
    }
    for (const std::string& name : changed) {
      if (tell) tell(name);
    }
  }

  void forget(int wd, const std::string& name) {
    const auto names = by_watch.find(wd);
    if (names == by_watch.end()) return;
    names->second.erase(name);
    if (!names->second.empty()) return;
    by_watch.erase(names);
    ::inotify_rm_watch(stream.native_handle(), wd);
  }

  std::string directory;
  on_change tell;
  asio::posix::stream_descriptor stream;
  std::map<std::string, int, std::less<>> watches;
  std::map<int, std::set<std::string>> by_watch;  // one file may have two names
  int directory_watch = -1;
  bool reading = false;
  alignas(inotify_event) std::array<char, 16384> bytes{};
};

watcher::watcher(asio::io_context& io, std::string directory, on_change tell)
    : impl_{std::make_shared<impl>(io, std::move(directory), std::move(tell))} {}

watcher::~watcher() {
  impl_->tell = {};
  std::error_code ignored;
  impl_->stream.close(ignored);
}

bool watcher::add(const std::string& name, int descriptor) {
  if (!impl_->stream.is_open()) return false;
  if (impl_->directory_watch < 0) {
    impl_->directory_watch = ::inotify_add_watch(impl_->stream.native_handle(),
                                                 impl_->directory.c_str(), IN_CREATE | IN_MOVED_TO);
    if (impl_->directory_watch < 0) return false;
  }
  // By its descriptor: the name may belong to another file by now.
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const int wd = ::inotify_add_watch(impl_->stream.native_handle(), path.c_str(),
                                     IN_MODIFY | IN_MOVE_SELF | IN_ATTRIB);
  if (wd < 0) {
    remove(name);
    return false;
  }
  const auto [at, fresh] = impl_->watches.try_emplace(name, wd);
  impl_->by_watch[wd].insert(name);
  if (!fresh && at->second != wd) impl_->forget(std::exchange(at->second, wd), name);
  if (!std::exchange(impl_->reading, true)) impl_->read();
  return true;
}

void watcher::remove(const std::string& name) {
  const auto at = impl_->watches.find(name);
  if (at != impl_->watches.end()) {
    const int wd = at->second;
    impl_->watches.erase(at);
    impl_->forget(wd, name);
  }
  if (!impl_->watches.empty() || impl_->directory_watch < 0) return;
  ::inotify_rm_watch(impl_->stream.native_handle(), std::exchange(impl_->directory_watch, -1));
}

std::size_t watcher::size() const noexcept { return impl_->watches.size(); }

#else

struct watcher::impl {};

watcher::watcher(asio::io_context&, std::string, on_change) {}
watcher::~watcher() = default;
bool watcher::add(const std::string&, int) { return false; }
void watcher::remove(const std::string&) {}
std::size_t watcher::size() const noexcept { return 0; }

#endif

}  // namespace logs
