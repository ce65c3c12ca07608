// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// What a journal asks of a file system, all in one directory, and the POSIX one. Tests have one in
// memory that loses what was not synced.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_FILES_HPP
#define SSEHUB_DETAIL_JOURNAL_FILES_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sse/detail/base/size.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Every call answers 0 or an errno. Names have no folder.
class journal_files {
 public:
  journal_files() = default;
  journal_files(const journal_files&) = delete;
  journal_files& operator=(const journal_files&) = delete;
  virtual ~journal_files() = default;

  [[nodiscard]] virtual int list(std::vector<std::string>& names) = 0;
  [[nodiscard]] virtual int open(const std::string& name, bool create, int& handle) = 0;
  virtual void close(int handle) noexcept = 0;
  /// All of it, or an error after any part of it.
  [[nodiscard]] virtual int write(int handle, std::uint64_t at, const void* from,
                                  std::size_t size) noexcept = 0;
  [[nodiscard]] virtual int read(int handle, std::uint64_t at, void* to, std::size_t size,
                                 std::size_t& got) noexcept = 0;
  [[nodiscard]] virtual int size(int handle, std::uint64_t& bytes) noexcept = 0;
  [[nodiscard]] virtual int cut(int handle, std::uint64_t size) noexcept = 0;
  /// Room for so many bytes, without a change of the size. May do nothing.
  virtual void reserve(int handle, std::uint64_t bytes) noexcept = 0;
  [[nodiscard]] virtual int sync(int handle) noexcept = 0;
  [[nodiscard]] virtual int remove(const std::string& name) noexcept = 0;
  /// What was made and removed stays so.
  [[nodiscard]] virtual int sync_names() noexcept = 0;
  /// The file's bytes, to be read up to its size, which may grow up to `most`; nullptr: errno.
  [[nodiscard]] virtual const char* map(int handle, std::uint64_t most) noexcept = 0;
  virtual void unmap(const char* bytes, std::uint64_t most) noexcept = 0;
  /// Another number after each start of the machine; 0: nobody knows.
  [[nodiscard]] virtual std::uint64_t machine_start() noexcept = 0;
  /// Held until this object ends. EWOULDBLOCK: somebody else has it, and `holder` says who.
  [[nodiscard]] virtual int lock(const std::string& name, std::string& holder) = 0;
};

class posix_journal_files final : public journal_files {
 public:
  /// The directory, which is made if `create`. An error shows in every later call.
  posix_journal_files(std::string directory, bool create, bool writes)
      : directory_{std::move(directory)}, writes_{writes} {
    if (create && ::mkdir(directory_.c_str(), 0777) != 0 && errno != EEXIST) {
      error_ = errno;
      return;
    }
    folder_ = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_ < 0) error_ = errno;
  }
  ~posix_journal_files() override {
    if (lock_ >= 0) ::close(lock_);
    if (folder_ >= 0) ::close(folder_);
  }
  [[nodiscard]] int error() const noexcept { return error_; }

  int list(std::vector<std::string>& names) override {
    names.clear();
    if (error_ != 0) return error_;
    DIR* const d = ::opendir(directory_.c_str());
    if (d == nullptr) return errno;
    while (const dirent* const e = ::readdir(d)) names.emplace_back(e->d_name);
    ::closedir(d);
    return 0;
  }
  int open(const std::string& name, bool create, int& handle) override {
    if (error_ != 0) return error_;
    const int flags = (writes_ ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0) | O_CLOEXEC;
    handle = ::openat(folder_, name.c_str(), flags, 0666);
    return handle < 0 ? errno : 0;
  }
  void close(int handle) noexcept override { ::close(handle); }
  int write(int handle, std::uint64_t at, const void* from, std::size_t size) noexcept override {
    const char* p = static_cast<const char*>(from);
    while (size != 0) {
      const ssize_t n = ::pwrite(handle, p, size, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return n == 0 ? ENOSPC : errno;
      p += n;
      at += static_cast<std::uint64_t>(n);
      size -= static_cast<std::size_t>(n);
    }
    return 0;
  }
  int read(int handle, std::uint64_t at, void* to, std::size_t size,
           std::size_t& got) noexcept override {
    char* p = static_cast<char*>(to);
    got = 0;
    while (size != got) {
      const ssize_t n = ::pread(handle, p + got, size - got, static_cast<off_t>(at + got));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      if (n == 0) break;
      got += static_cast<std::size_t>(n);
    }
    return 0;
  }
  int size(int handle, std::uint64_t& bytes) noexcept override {
    struct stat s {};
    if (::fstat(handle, &s) != 0) return errno;
    bytes = static_cast<std::uint64_t>(s.st_size);
    return 0;
  }
  int cut(int handle, std::uint64_t size) noexcept override {
    return ::ftruncate(handle, static_cast<off_t>(size)) != 0 ? errno : 0;
  }
  void reserve([[maybe_unused]] int handle,
               [[maybe_unused]] std::uint64_t bytes) noexcept override {
#if defined(__linux__)
    (void)::fallocate(handle, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
#endif
  }
  int sync(int handle) noexcept override {
#if defined(__linux__)
    return ::fdatasync(handle) != 0 ? errno : 0;
#else
    return ::fsync(handle) != 0 ? errno : 0;
#endif
  }
  int remove(const std::string& name) noexcept override {
    return ::unlinkat(folder_, name.c_str(), 0) != 0 ? errno : 0;
  }
  int sync_names() noexcept override { return ::fsync(folder_) != 0 ? errno : 0; }
  const char* map(int handle, std::uint64_t most) noexcept override {
    void* const p = ::mmap(nullptr, to_size(most), PROT_READ, MAP_SHARED, handle, 0);
    return p == MAP_FAILED ? nullptr : static_cast<const char*>(p);
  }
  void unmap(const char* bytes, std::uint64_t most) noexcept override {
    ::munmap(const_cast<char*>(bytes), to_size(most));
  }
  std::uint64_t machine_start() noexcept override {
#if defined(__linux__)
    const int file = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    char text[36];
    std::size_t got = 0;
    const int e = read(file, 0, text, sizeof text, got);
    ::close(file);
    std::uint64_t n = 0xcbf29ce484222325U;  // FNV-1a
    for (std::size_t i = 0; i != got; ++i)
      n = (n ^ static_cast<unsigned char>(text[i])) * 0x100000001b3U;
    return e == 0 && got == sizeof text ? n : 0;
#else
    return 0;
#endif
  }
  int lock(const std::string& name, std::string& holder) override {
    if (error_ != 0) return error_;
    lock_ = ::openat(folder_, name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock_ < 0) return errno;
    std::string pid = std::to_string(::getpid()) + "\n";
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      const int why = errno;
      char text[32];
      std::size_t got = 0;
      if (read(lock_, 0, text, sizeof text, got) == 0) holder.assign(text, got);
      while (!holder.empty() && holder.back() == '\n') holder.pop_back();
      ::close(lock_);
      lock_ = -1;
      return why;
    }
    if (const int e = cut(lock_, 0); e != 0) return e;
    return write(lock_, 0, pid.data(), pid.size());
  }

 private:
  std::string directory_;
  bool writes_;
  int folder_ = -1;
  int lock_ = -1;
  int error_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_FILES_HPP
