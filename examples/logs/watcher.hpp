// ssehub example logs. SPDX-License-Identifier: MIT
//
// watcher: says when a file or its directory may have changed. Linux: inotify, one descriptor for
// all files. Elsewhere, and where the system has no more to give, it says nothing: look now and
// then.
//
//   watcher watch{io, directory, [](const std::string& name) { ... }};   // a file's name
//   if (!watch.add("app.log", descriptor)) look_more_often();
//
// The directory is watched while a file is. What it says may be late or about nothing. On the
// thread that runs `io`; the callback must not destroy it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <asio/io_context.hpp>

namespace logs {

class watcher {
 public:
  using on_change = std::function<void(const std::string& name)>;

  watcher(asio::io_context& io, std::string directory, on_change tell);
  watcher(const watcher&) = delete;
  watcher& operator=(const watcher&) = delete;
  ~watcher();

  /// Watches the open file `descriptor` as `name`, instead of the one that was added as that
  /// before. False: it cannot.
  [[nodiscard]] bool add(const std::string& name, int descriptor);
  void remove(const std::string& name);
  /// Files watched now.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  struct impl;
  std::shared_ptr<impl> impl_;
};

}  // namespace logs
