// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/journal.hpp
//
// journal: history that survives the process. Events are written to a directory, get their ids
// there, and are shown to subscribers once they are as safe as the program asked for; after a
// restart every client goes on where it was, whatever the hubs' memory keeps. POSIX; no server, no
// dependency.
//
//   sse::journal j;
//   if (sse::journal_error e = j.open("data", {.channels = {"ticks"}})) return complain(e.text);
//   sse::asio_server<> server{ctx, {.shards = &j.order()}};      // or a sse::shard each
//   j.start();
//   (void)j.publish(0, {.data = json});                           // any thread
//   sse::publisher hot = j.make_publisher(0);                     // a hot thread's own: no lock
//
// What is published becomes one sequence of ids over all channels, j.order(), which hubs follow as
// shards do (sse/shards.hpp): several hubs, each in a thread of its own, may. Another process may
// follow the same directory with j.follow(): an engine writes, a gateway serves, each may be killed
// alone. What a hub's memory let go comes from the files (channel_options::backfill is the
// journal's).
//
// Threads: open, follow, start, stop and destruction belong to one thread; hubs attach between open
// and start. The rest may be called from any thread. The journal has one thread of its own, which
// writes: nobody else waits for a disk, but for a hub that reads old events from it.
//
// Errors: disk full, an error of the device, a directory that is gone: what was accepted waits in
// memory and is written once that works again; meanwhile publish answers `not_stored`, or events go
// out without being stored, as journal_options::live_without says; stats() and problem() tell.
//
// What survives what: docs/guide/durability.md.
#ifndef SSEHUB_JOURNAL_HPP
#define SSEHUB_JOURNAL_HPP

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>

// ---- sse/detail/journal/store.hpp
//
// journal_store: writes a journal, or follows what another process writes. Knows no thread, no
// clock and no hub.
//
//   <first id>.log  pieces: encoded bytes of events, then a table of their sizes (format.hpp)
//   <first id>.idx  a header, then a record for each piece
//   runs            where each run began, which ids it may have given out, how it ended (runs.hpp)
//   lock            who writes
//   head            the newest event that other processes may show
//
// How it starts is in recovery.hpp, how it is read in history.hpp.
//
// Invariants:
//   1. Bytes of a .log stand before their records are written; what has no record is not there.
//   2. A record says up to which id everything was durable when it was written. So a bad record in
//      front of a good one that says so is no torn tail but a broken file.
//   3. Ids above what `runs` reserves are given to nobody; a run that did not end by itself is
//      followed by one that begins above them.
//   4. Ids of a segment follow one by one, and it knows the id in front of its first: what is
//      missing between two is seen.
//   5. Whoever may have missed something is told (loss_behind): a run says what its events survive
//      before it shows one, and on which start of the machine; the next one draws the conclusion.
#ifndef SSEHUB_DETAIL_JOURNAL_STORE_HPP
#define SSEHUB_DETAIL_JOURNAL_STORE_HPP

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sse.hpp"
// ---- sse/detail/journal/history.hpp
//
// journal_history: the segments that may be read, by any thread. One thread, which writes or
// follows, says which these are and up to which id.
//
// Blocks are read once for all who need them: who comes back with an old id shares them with
// everybody else, and a session's channels share them among each other. But one reader that goes
// through more than the memory holds, while nobody else reads, takes nothing out of it: it reads
// into one block again and again, which stays in the processor's caches.
#ifndef SSEHUB_DETAIL_JOURNAL_HISTORY_HPP
#define SSEHUB_DETAIL_JOURNAL_HISTORY_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

// ---- sse/detail/journal/segment.hpp
//
// journal_segment: a piece of history in two files. Its bytes are read in blocks, which are looked
// through as they are read: what is not as it was written has no bytes.
#ifndef SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP
#define SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// ---- sse/detail/journal/files.hpp
//
// What a journal asks of a file system, all in one directory, and the POSIX one. Tests have one in
// memory that loses what was not synced.
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
// ---- sse/detail/journal/format.hpp
//
// What lies on the disk: the records of a journal's files.
#ifndef SSEHUB_DETAIL_JOURNAL_FORMAT_HPP
#define SSEHUB_DETAIL_JOURNAL_FORMAT_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

// ---- sse/detail/journal/crc32c.hpp
//
// crc32c: the checksum of RFC 3720 12.1 (Castagnoli), eight bytes at a time: by the processor's own
// instruction where it has one, else by tables. The instruction takes three times as long as it
// keeps the processor busy, so that three checksums at once cost what one does.
#ifndef SSEHUB_DETAIL_JOURNAL_CRC32C_HPP
#define SSEHUB_DETAIL_JOURNAL_CRC32C_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

using crc_tables = std::array<std::array<std::uint32_t, 256>, 8>;

[[nodiscard]] constexpr crc_tables make_crc_tables() noexcept {
  crc_tables t{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1U) != 0 ? 0x82f63b78U ^ (c >> 1U) : c >> 1U;
    t[0][n] = c;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t n = 0; n < 256; ++n) t[k][n] = t[0][t[k - 1][n] & 0xffU] ^ (t[k - 1][n] >> 8U);
  }
  return t;
}
inline constexpr crc_tables crc_table = make_crc_tables();

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SSEHUB_HAS_CRC32 1
[[nodiscard]] __attribute__((target("sse4.2"))) inline std::uint32_t crc32c_by_instruction(
    const void* bytes, std::size_t size, std::uint32_t crc) noexcept {
  const auto* p = static_cast<const unsigned char*>(bytes);
  std::uint64_t c = ~crc;
  for (; size >= 8; p += 8, size -= 8) {
    std::uint64_t eight;
    std::memcpy(&eight, p, sizeof eight);
    c = __builtin_ia32_crc32di(c, eight);
  }
  auto rest = static_cast<std::uint32_t>(c);
  if ((size & 4U) != 0) {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    rest = __builtin_ia32_crc32si(rest, four);
    p += 4;
  }
  if ((size & 2U) != 0) {
    std::uint16_t two;
    std::memcpy(&two, p, sizeof two);
    rest = __builtin_ia32_crc32hi(rest, two);
    p += 2;
  }
  if ((size & 1U) != 0) rest = __builtin_ia32_crc32qi(rest, *p);
  return ~rest;
}
/// Three, of `size` bytes each, a multiple of eight.
__attribute__((target("sse4.2"))) inline void crc32c_three_by_instruction(
    const char* const (&bytes)[3], std::size_t size, std::uint32_t (&crc)[3]) noexcept {
  // Each in a register of its own: compilers do not unroll this for -O2.
  std::uint64_t a = ~crc[0];
  std::uint64_t b = ~crc[1];
  std::uint64_t c = ~crc[2];
  for (std::size_t at = 0; at != size; at += 8) {
    std::uint64_t eight[3];
    std::memcpy(&eight[0], bytes[0] + at, 8);
    std::memcpy(&eight[1], bytes[1] + at, 8);
    std::memcpy(&eight[2], bytes[2] + at, 8);
    a = __builtin_ia32_crc32di(a, eight[0]);
    b = __builtin_ia32_crc32di(b, eight[1]);
    c = __builtin_ia32_crc32di(c, eight[2]);
  }
  crc[0] = ~static_cast<std::uint32_t>(a);
  crc[1] = ~static_cast<std::uint32_t>(b);
  crc[2] = ~static_cast<std::uint32_t>(c);
}
#else
#define SSEHUB_HAS_CRC32 0
#endif

/// Of `size` bytes behind those whose checksum is `crc`.
[[nodiscard]] inline std::uint32_t crc32c_by_tables(const void* bytes, std::size_t size,
                                                    std::uint32_t crc = 0) noexcept {
  const auto* p = static_cast<const unsigned char*>(bytes);
  const auto word = [](const unsigned char* at) {
    return std::uint32_t{at[0]} | std::uint32_t{at[1]} << 8U | std::uint32_t{at[2]} << 16U |
           std::uint32_t{at[3]} << 24U;
  };
  std::uint32_t c = ~crc;
  for (; size >= 8; p += 8, size -= 8) {
    const std::uint32_t a = word(p) ^ c;
    const std::uint32_t b = word(p + 4);
    c = crc_table[7][a & 0xffU] ^ crc_table[6][a >> 8U & 0xffU] ^ crc_table[5][a >> 16U & 0xffU] ^
        crc_table[4][a >> 24U] ^ crc_table[3][b & 0xffU] ^ crc_table[2][b >> 8U & 0xffU] ^
        crc_table[1][b >> 16U & 0xffU] ^ crc_table[0][b >> 24U];
  }
  for (; size != 0; ++p, --size) c = crc_table[0][(c ^ *p) & 0xffU] ^ (c >> 8U);
  return ~c;
}

#if SSEHUB_HAS_CRC32
[[nodiscard]] inline bool has_crc32c_instruction() noexcept {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}
#endif

[[nodiscard]] inline std::uint32_t crc32c(const void* bytes, std::size_t size,
                                          std::uint32_t crc = 0) noexcept {
#if SSEHUB_HAS_CRC32
  if (has_crc32c_instruction()) return crc32c_by_instruction(bytes, size, crc);
#endif
  return crc32c_by_tables(bytes, size, crc);
}
/// The same three times.
inline void crc32c_three(const char* const (&bytes)[3], const std::size_t (&size)[3],
                         std::uint32_t (&crc)[3]) noexcept {
#if SSEHUB_HAS_CRC32
  if (has_crc32c_instruction()) {
    const std::size_t done = (std::min)({size[0], size[1], size[2]}) / 8 * 8;
    crc32c_three_by_instruction(bytes, done, crc);
    for (std::size_t k = 0; k != 3; ++k) {
      if (size[k] != done) crc[k] = crc32c_by_instruction(bytes[k] + done, size[k] - done, crc[k]);
    }
    return;
  }
#endif
  for (std::size_t k = 0; k != 3; ++k) crc[k] = crc32c_by_tables(bytes[k], size[k], crc[k]);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_CRC32C_HPP
#include "shards.hpp"
#include "journal_options.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// A piece: consecutive events that were written together. In the .log stand their bytes as they go
/// to the wire, each event's behind its audience and key; then a table of their sizes.
struct index_record {
  std::uint64_t first;   ///< the first one's id; the others' follow one by one
  std::int64_t time_ms;  ///< of the first
  std::uint32_t at;      ///< in the .log
  std::uint32_t size;    ///< without the table
  std::uint32_t count;   ///< events
  std::uint32_t behind;  ///< first - behind was durable, with all below it, when this was written
  std::uint32_t crc;     ///< of all but itself and the place, and of what stands in the .log
  std::uint16_t channel;
  std::uint16_t flags;

  /// All are of that channel, and have no audience and no key: the table has their sizes only.
  static constexpr std::uint16_t alike = 1;

  [[nodiscard]] bool is_alike() const noexcept { return (flags & alike) != 0; }
  [[nodiscard]] event_id last() const noexcept { return first + count - 1; }
  [[nodiscard]] std::uint64_t table_bytes() const noexcept;
  /// Of all that stands in the .log.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return size + table_bytes(); }
  [[nodiscard]] std::uint64_t end() const noexcept { return at + bytes(); }
  /// The bytes are taken as three parts whose checksums are made at once.
  [[nodiscard]] std::uint32_t checksum(const char* there) const noexcept {
    index_record r = *this;
    r.crc = r.at = 0;
    const std::size_t n = to_size(bytes());
    const std::size_t third = n / 24 * 8;
    std::uint32_t parts[3] = {0, 0, 0};
    crc32c_three({there, there + third, there + 2 * third}, {third, third, n - 2 * third}, parts);
    return crc32c(parts, sizeof parts, crc32c(&r, sizeof r));
  }
};
static_assert(sizeof(index_record) == 40, "as it lies on disk");

/// Of a table, where the events of a piece are not alike.
struct event_record {
  std::uint32_t size;
  std::uint16_t channel;
  std::uint16_t audience;  ///< bytes
  std::uint16_t key;       ///< bytes
  std::uint16_t flags;     ///< publish_options::role
  [[nodiscard]] key_role role() const noexcept { return key_role_of(flags & 3U); }
  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{audience} + key + size; }
};
static_assert(sizeof(event_record) == 12, "as it lies on disk");

inline std::uint64_t index_record::table_bytes() const noexcept {
  if (!is_alike()) return std::uint64_t{count} * sizeof(event_record);
  return count == 1 ? 0 : std::uint64_t{count} * sizeof(std::uint32_t);
}

struct index_header {
  char magic[8] = {'s', 's', 'e', 'h', 'u', 'b', 'j', '\n'};
  std::uint32_t version = 2;
  std::uint32_t order = 0x01020304;
  std::uint64_t first = 0;
  std::uint64_t before = 0;  ///< the id in front of `first`
  std::uint32_t unused = 0;
  std::uint32_t crc = 0;
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    index_header h = *this;
    h.crc = 0;
    return crc32c(&h, sizeof h);
  }
};
static_assert(sizeof(index_header) == sizeof(index_record), "as it lies on disk");

struct run_record {
  enum : std::uint32_t { begun = 1, reserved = 2, ended = 3, hole = 4, begun_behind_loss = 5 };
  std::uint32_t kind;
  std::uint32_t crc;
  std::uint64_t first;  ///< begun, hole: the first id; reserved, ended: up to this one
  /// begun: the newest that was found; hole: that was stored; reserved: the machine's start.
  std::uint64_t recovered;
  std::int64_t what;  ///< begun, ended: the time; reserved: a journal_survival
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    run_record r = *this;
    r.crc = 0;
    return crc32c(&r, sizeof r);
  }
};
static_assert(sizeof(run_record) == 32);

/// What takes nothing from the events that a run has shown.
enum class journal_survival : std::int64_t { nothing, killed, power_lost };

/// Many bytes. Not zeroed, since they are written or read into.
class raw_bytes {
 public:
  [[nodiscard]] char* data() noexcept { return bytes_.get(); }
  [[nodiscard]] const char* data() const noexcept { return bytes_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t room() const noexcept { return room_; }
  /// Room for `n` more, which grow() adds.
  [[nodiscard]] char* more(std::size_t n) {
    if (n > room_ - size_) {
      const std::size_t room = size_ + (std::max)(n, size_ / 2);
      std::unique_ptr<char[]> larger{new char[room]};
      if (size_ != 0) std::memcpy(larger.get(), bytes_.get(), size_);
      bytes_ = std::move(larger);
      room_ = room;
    }
    return bytes_.get() + size_;
  }
  void grow(std::size_t n) noexcept { size_ += n; }
  void add(const char* from, std::size_t n) {
    if (n == 0) return;
    std::memcpy(more(n), from, n);
    grow(n);
  }
  void clear() noexcept { size_ = 0; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;
  std::size_t room_ = 0;
};

/// For the hubs that are shown it.
[[nodiscard]] inline publish_options options_of(const journal_event& e) noexcept {
  return {.id = e.id, .audience = e.audience, .key = e.key, .role = e.role, .encoded = true};
}

/// The events of a piece, one by one.
class piece_reader {
 public:
  piece_reader() noexcept = default;
  /// `there`: what stands in the .log. REQUIRES: it is whole.
  piece_reader(const index_record& r, const char* there) noexcept : piece_{&r}, bytes_{there} {}

  [[nodiscard]] bool done() const noexcept { return n_ == piece_->count; }
  [[nodiscard]] event_id id() const noexcept { return piece_->first + n_; }
  [[nodiscard]] journal_event event() const noexcept {
    const event_record r = record();
    const char* const key = bytes_ + at_ + r.audience;
    const char* const text = key + r.key;
    return {id(),         piece_->time_ms, r.channel, {bytes_ + at_, r.audience},
            {key, r.key}, {text, r.size},  r.role()};
  }
  [[nodiscard]] std::size_t event_bytes() const noexcept { return record().bytes(); }
  void next() noexcept {
    at_ += event_bytes();
    ++n_;
  }
  /// On to the first event behind `after`.
  void skip(event_id after) noexcept {
    while (!done() && id() <= after) next();
  }
  /// Of a piece whose events are alike: the next ones below `before`, as many as begin within
  /// `room` bytes, and not more than `most`.
  [[nodiscard]] std::string_view take(event_id before, std::size_t room,
                                      std::size_t most) noexcept {
    SSEHUB_ASSERT(piece_->is_alike());
    const std::size_t from = at_;
    for (; most != 0 && !done() && id() < before && at_ - from < room; --most) next();
    return {bytes_ + from, at_ - from};
  }

 private:
  [[nodiscard]] event_record record() const noexcept {
    event_record r{piece_->size, piece_->channel, 0, 0, 0};
    const char* const table = bytes_ + piece_->size;
    if (!piece_->is_alike()) {
      std::memcpy(&r, table + n_ * sizeof r, sizeof r);
    } else if (piece_->count != 1) {
      std::memcpy(&r.size, table + n_ * sizeof r.size, sizeof r.size);
    }
    return r;
  }

  const index_record* piece_ = nullptr;
  const char* bytes_ = nullptr;
  std::size_t n_ = 0;
  std::size_t at_ = 0;
};

/// Events that are to be written, or shown, as they will lie in the .log.
class journal_batch final : public ordered_events {
 public:
  static constexpr std::size_t piece_bytes = std::size_t{32} << 10;

  bool is_shown = false;
  std::uint64_t handed_on = 0;  ///< see sequencer::hand_on

  void add(const journal_event& e) {
    char* const to = add(e, e.bytes.size());
    if (!e.bytes.empty()) std::memcpy(to, e.bytes.data(), e.bytes.size());
  }
  /// An event of `size` bytes, which the caller puts where this says.
  [[nodiscard]] char* add(const journal_event& e, std::size_t size) {
    const bool simple = e.audience.empty() && e.key.empty();
    if (!takes(e)) begin_piece(e);
    index_record& piece = pieces_.back();
    const event_record r{
        static_cast<std::uint32_t>(size), e.channel, static_cast<std::uint16_t>(e.audience.size()),
        static_cast<std::uint16_t>(e.key.size()), static_cast<std::uint16_t>(e.role)};
    events_.push_back(r);
    char* const to = put(put(bytes_.more(r.bytes()), e.audience), e.key);
    bytes_.grow(r.bytes());
    piece.size += static_cast<std::uint32_t>(r.bytes());
    ++piece.count;
    if (!simple || e.channel != piece.channel) piece.flags = 0;
    return to;
  }
  /// Nothing comes any more: the last piece gets its table.
  void finish() {
    if (!std::exchange(open_, false)) return;
    const index_record& piece = pieces_.back();
    const event_record* const r = events_.data() + (events_.size() - piece.count);
    const std::size_t size = to_size(piece.table_bytes());
    if (!piece.is_alike()) {
      bytes_.add(reinterpret_cast<const char*>(r), size);
    } else if (size != 0) {
      char* to = bytes_.more(size);
      for (std::uint32_t i = 0; i != piece.count; ++i, to += sizeof r->size)
        std::memcpy(to, &r[i].size, sizeof r->size);
      bytes_.grow(size);
    }
  }
  void clear() noexcept {
    bytes_.clear();
    events_.clear();
    pieces_.clear();
    open_ = is_shown = false;
    handed_on = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return events_.empty(); }
  [[nodiscard]] std::size_t count() const noexcept { return events_.size(); }
  /// At least what it takes on disk.
  [[nodiscard]] std::size_t size() const noexcept {
    return bytes_.size() + events_.size() * sizeof(event_record) +
           pieces_.size() * sizeof(index_record);
  }
  [[nodiscard]] event_id first() const noexcept { return pieces_.front().first; }
  [[nodiscard]] event_id last() const noexcept { return pieces_.back().last(); }
  /// As they go into the .log. REQUIRES, as what follows: finish().
  [[nodiscard]] const raw_bytes& bytes() const noexcept { return bytes_; }
  /// Their places are those in bytes(), and nothing says what is durable.
  [[nodiscard]] const std::vector<index_record>& pieces() const noexcept { return pieces_; }

  [[nodiscard]] sum all() const noexcept override { return {events_.size(), size(), last()}; }
  [[nodiscard]] bool next(place& at, mail& out) const noexcept override {
    if (at.event == events_.size()) return false;
    if (at.left == 0) {  // of this piece
      const index_record& piece = pieces_[at.piece++];
      at.left = piece.count;
      at.byte = piece.at;
    }
    const index_record& piece = pieces_[at.piece - 1];
    const event_record& r = events_[at.event];
    const char* const audience = bytes_.data() + at.byte;
    const char* const key = audience + r.audience;
    out.channel = r.channel;
    out.event.data = {key + r.key, r.size};
    out.options = {.id = piece.first + (piece.count - at.left),
                   .audience = {audience, r.audience},
                   .key = {key, r.key},
                   .role = r.role(),
                   .encoded = true};
    ++at.event;
    --at.left;
    at.byte += r.bytes();
    return true;
  }

 private:
  [[nodiscard]] bool takes(const journal_event& e) const noexcept {
    return open_ && pieces_.back().size < piece_bytes && e.id == pieces_.back().last() + 1;
  }
  void begin_piece(const journal_event& e) {
    finish();
    pieces_.push_back({e.id, e.time_ms, static_cast<std::uint32_t>(bytes_.size()), 0, 0, 0, 0,
                       e.channel, index_record::alike});
    open_ = true;
  }

  raw_bytes bytes_{};
  std::vector<event_record> events_{};
  std::vector<index_record> pieces_{};
  bool open_ = false;  ///< the last piece may get more
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_FORMAT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// Consecutive pieces of a segment.
struct journal_block {
  event_id segment = no_id;  ///< its first id
  std::uint32_t from = 0;    ///< its records
  std::uint32_t to = 0;
  std::uint64_t begin = 0;  ///< of its bytes, in the .log
  raw_bytes bytes{};
  std::vector<index_record> records{};  ///< one without size is broken
  int error = 0;                        ///< an errno: some of them could not be read

  [[nodiscard]] piece_reader piece(std::size_t i) const noexcept {
    return {records[i], bytes.data() + (records[i].at - begin)};
  }
  [[nodiscard]] std::size_t memory() const noexcept {
    return bytes.room() + records.capacity() * sizeof(index_record);
  }
  /// Of these records, and none of them yet. It keeps its memory.
  void restart(event_id of_segment, std::uint32_t at) noexcept {
    segment = of_segment;
    from = to = at;
    bytes.clear();
    records.clear();
    error = 0;
  }
  /// What `other` has.
  void copy(const journal_block& other) {
    restart(other.segment, other.from);
    to = other.to;
    begin = other.begin;
    records = other.records;
    bytes.add(other.bytes.data(), other.bytes.size());
  }
};

/// Two files. Readers hold it while they read, so that it can be removed meanwhile.
class journal_segment {
 public:
  static constexpr std::uint32_t block_bytes = 1U << 16U;

  journal_segment(journal_files& f, event_id first_id) noexcept : first{first_id}, files_{&f} {}
  journal_segment(const journal_segment&) = delete;
  journal_segment& operator=(const journal_segment&) = delete;
  ~journal_segment() {
    if (records_ != nullptr) files_->unmap(records_, room_);
    if (log >= 0) files_->close(log);
    if (index >= 0) files_->close(index);
  }

  [[nodiscard]] static std::string name(event_id first, std::string_view kind) {
    std::string digits = std::to_string(first);
    digits.insert(0, digits.size() < 16 ? 16 - digits.size() : 0, '0');
    return digits.append(kind);
  }
  /// The first ids of those that are there, in order.
  [[nodiscard]] static int list(journal_files& files, std::vector<event_id>& firsts) {
    std::vector<std::string> names;
    if (const int e = files.list(names); e != 0) return e;
    firsts.clear();
    for (const std::string& name : names) {
      if (name.size() < 20 || name.substr(name.size() - 4) != ".log") continue;
      event_id first = 0;
      bool digits = true;
      for (const char c : name.substr(0, name.size() - 4)) {
        digits = digits && c >= '0' && c <= '9';
        first = first * 10 + static_cast<event_id>(c - '0');
      }
      if (digits && first <= max_event_id) firsts.push_back(first);
    }
    std::sort(firsts.begin(), firsts.end());
    return 0;
  }
  /// Its files go. An errno: call it again.
  [[nodiscard]] static int remove(journal_files& files, event_id first) {
    int e = files.remove(name(first, ".idx"));
    if (e == 0 || e == ENOENT) e = files.remove(name(first, ".log"));
    return e == ENOENT ? 0 : e;
  }

  /// Both files, which have up to `room` bytes each.
  [[nodiscard]] int open(bool create, std::uint64_t room) {
    if (const int e = files_->open(name(first, ".log"), create, log); e != 0) return e;
    if (const int e = files_->open(name(first, ".idx"), create, index); e != 0) return e;
    room_ = room;
    records_ = files_->map(index, room);
    return records_ == nullptr ? errno : 0;
  }

  [[nodiscard]] index_record record(std::uint32_t i) const noexcept {
    index_record r;
    std::memcpy(&r, records_ + sizeof(index_header) + std::size_t{i} * sizeof r, sizeof r);
    return r;
  }
  [[nodiscard]] index_header header() const noexcept {
    index_header h;
    std::memcpy(&h, records_, sizeof h);
    return h;
  }
  /// The first of `count` records that has events behind `after`.
  [[nodiscard]] std::uint32_t find(event_id after, std::uint32_t count) const noexcept {
    std::uint32_t i = find_first(
        count, [after](const index_record& r) { return r.last() > after || r.first > after; });
    // Ids follow one by one: if some are left out here, a broken record led astray.
    while (i != 0 && i != count && record(i).first > after + 1) --i;
    return i;
  }
  /// Ids of a segment follow one by one.
  [[nodiscard]] std::uint64_t events() const noexcept {
    return written == 0 ? 0 : record(written - 1).last() - first + 1;
  }
  /// Where the block that has record `i` of `count` begins.
  [[nodiscard]] std::uint32_t block_begin(std::uint32_t i) const noexcept {
    const std::uint32_t at = record(i).at / block_bytes * block_bytes;
    return find_first(i, [at](const index_record& r) { return r.at >= at; });
  }
  /// And where it ends, as far as there are records.
  [[nodiscard]] std::uint32_t block_end(std::uint32_t i, std::uint32_t count) const noexcept {
    const std::uint64_t at = (std::uint64_t{record(i).at / block_bytes} + 1) * block_bytes;
    const std::uint32_t end = find_first(count, [at](const index_record& r) { return r.at >= at; });
    return end > i ? end : i + 1;
  }
  /// Reads on, up to record `to`. What cannot be read, or is not what was written, has no size
  /// there, and the ids between those beside it.
  void load(journal_block& b, std::uint32_t to) const {
    const bool begins = b.records.empty();
    if (begins) b.begin = record(b.to).at;
    event_id last = !begins     ? b.records.back().last()
                    : b.to == 0 ? first - 1
                                : record(b.to - 1).last();
    index_record* const r = take_records(b, to);
    const std::size_t n = to - std::exchange(b.to, to);
    read_bytes(b, r, n);
    find_broken(b, r, n);
    if (begins) last = in_front(r, n, last);
    for (std::size_t i = 0; i != n; ++i) {
      if (r[i].first <= last) r[i].size = 0;
      if (r[i].size == 0) be_between(r[i], last, i + 1 == n ? next_first(to) : first_of(r[i + 1]));
      last = r[i].last();
    }
  }
  [[nodiscard]] std::uint64_t disk_bytes() const noexcept {
    return log_end + sizeof(index_header) + std::uint64_t{written} * sizeof(index_record);
  }

  const event_id first;
  event_id before = no_id;
  int log = -1;
  int index = -1;
  std::uint64_t log_end = 0;  ///< bytes that have records
  std::uint32_t written = 0;  ///< records
  std::uint32_t synced = 0;   ///< of those, durable ones
  std::uint64_t synced_end = 0;
  std::uint64_t counted_bytes = 0;  ///< by journal_history
  std::uint64_t counted_events = 0;
  std::atomic<event_id> behind{no_id};  ///< the id behind its last, once there is a newer segment
  std::atomic<std::uint32_t> shown{0};  ///< of those, the ones that may be read

 private:
  template <class Is>
  [[nodiscard]] std::uint32_t find_first(std::uint32_t count, Is is) const noexcept {
    std::uint32_t lo = 0;
    while (lo < count) {
      const std::uint32_t mid = lo + (count - lo) / 2;
      if (is(record(mid))) {
        count = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  /// The records from `b.to` to `to`, as they are on disk, behind those that the block has.
  [[nodiscard]] index_record* take_records(journal_block& b, std::uint32_t to) const {
    const std::size_t had = b.records.size();
    const std::size_t n = to - b.to;
    b.records.resize(had + n);
    if (n != 0) {
      std::memcpy(b.records.data() + had,
                  records_ + sizeof(index_header) + std::size_t{b.to} * sizeof(index_record),
                  n * sizeof(index_record));
    }
    return b.records.data() + had;
  }
  /// The bytes of these records, as many as can be read.
  void read_bytes(journal_block& b, const index_record* r, std::size_t n) const {
    const std::uint64_t at = b.begin + b.bytes.size();
    std::uint64_t end = at;
    for (std::size_t i = 0; i != n; ++i) {
      if (r[i].at >= end && r[i].end() > end && r[i].end() <= room_) end = r[i].end();
    }
    const std::size_t size = to_size(end - at);
    if (size == 0) return;
    std::size_t got = 0;
    const int e = files_->read(log, at, b.bytes.more(size), size, got);
    if (e == 0) {
      b.bytes.grow(got);
    } else {
      b.error = e;
    }
  }
  /// Those that are not what was written get no size.
  static void find_broken(const journal_block& b, index_record* r, std::size_t n) {
    const std::uint64_t end = b.begin + b.bytes.size();
    for (std::size_t i = 0; i != n; ++i) {
      const bool whole = r[i].count != 0 && r[i].at >= b.begin && r[i].end() <= end &&
                         r[i].crc == r[i].checksum(b.bytes.data() + (r[i].at - b.begin));
      if (!whole) r[i].size = 0;
    }
  }
  /// The id in front of these: `last`, as the record there says, which nobody checked, if the first
  /// whole one agrees.
  [[nodiscard]] static event_id in_front(const index_record* r, std::size_t n,
                                         event_id last) noexcept {
    std::size_t k = 0;
    while (k != n && r[k].size == 0) ++k;
    if (k == n || last + k < r[k].first) return last;
    return r[k].first > k ? r[k].first - 1 - k : 0;
  }
  [[nodiscard]] static event_id first_of(const index_record& r) noexcept {
    return r.size == 0 ? no_id : r.first;
  }
  [[nodiscard]] event_id next_first(std::uint32_t i) const noexcept {
    return i < shown.load(std::memory_order_acquire) ? record(i).first
                                                     : behind.load(std::memory_order_relaxed);
  }
  /// A broken one has the ids behind `last` and in front of `next`, where that is known; perhaps
  /// none.
  static void be_between(index_record& r, event_id last, event_id next) noexcept {
    event_id to = r.last();
    if (next > last && next <= max_event_id) {
      to = next - 1;
    } else if (to <= last || to > max_event_id) {
      to = last + 1;
    }
    r.first = last + 1;
    r.count = static_cast<std::uint32_t>((std::min<event_id>)(to - last, UINT32_MAX));
  }

  journal_files* files_;
  const char* records_ = nullptr;
  std::uint64_t room_ = 0;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_SEGMENT_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_history {
 public:
  using segment_ptr = std::shared_ptr<journal_segment>;
  using block_ptr = std::shared_ptr<const journal_block>;

  explicit journal_history(std::size_t block_memory) noexcept : block_memory_{block_memory} {}
  journal_history(const journal_history&) = delete;
  journal_history& operator=(const journal_history&) = delete;

  // --- any thread --------------------------------------------------------------------------------

  /// The newest event that may be read.
  [[nodiscard]] event_id newest() const noexcept { return newest_.load(std::memory_order_acquire); }
  /// What is at or below it was let go.
  [[nodiscard]] event_id gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  /// The oldest id that may be there, where that is above `after`.
  [[nodiscard]] bool gone_behind(event_id after, event_id& first) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const event_id gone = gone_.load(std::memory_order_relaxed);
    if (after >= gone) return false;
    first = segments_.empty() ? gone + 1 : segments_.front()->first;
    return true;
  }

  /// The block that has the first event behind `after`, and the number of that event in it;
  /// nullptr: there is none. `reader`: who asks.
  [[nodiscard]] block_ptr block_behind(event_id after, std::size_t& at,
                                       std::uint64_t reader) const {
    const segment_ptr s = segment_behind(after);
    if (s == nullptr) return nullptr;
    const std::uint32_t count = s->shown.load(std::memory_order_acquire);
    const std::uint32_t i = s->find(after, count);
    const std::uint32_t from = s->block_begin(i);
    at = i - from;
    const std::scoped_lock<std::mutex> lock{blocks_mutex_};  // who needs the same one waits for it
    const bool alone = std::exchange(last_reader_, reader) == reader;
    auto known = std::find_if(blocks_.begin(), blocks_.end(), [&](const block_ptr& b) {
      return b->segment == s->first && b->from == from;
    });
    if (known != blocks_.end() && (*known)->to > i) {
      std::rotate(blocks_.begin(), known, known + 1);
      return blocks_.front();
    }
    const std::uint32_t to = s->block_end(i, count);
    if (known == blocks_.end() && alone &&
        blocks_memory_ + journal_segment::block_bytes > block_memory_)
      return read_alone(*s, from, to);
    auto b = std::make_shared<journal_block>();
    if (known != blocks_.end()) {  // it has grown
      b->copy(**known);
      blocks_memory_ -= (*known)->memory();
      blocks_.erase(known);
    } else {
      b->restart(s->first, from);
    }
    s->load(*b, to);
    blocks_memory_ += b->memory();
    blocks_.insert(blocks_.begin(), b);
    while (blocks_.size() > 1 && blocks_memory_ > block_memory_) {
      blocks_memory_ -= blocks_.back()->memory();
      blocks_.pop_back();
    }
    return b;
  }
  /// f(index_record, piece_reader&) for each piece that has events behind `after` and below
  /// `before`, oldest first, until it answers false; the reader stands on the first of them. A
  /// broken one has no size, and nothing to read. The bytes stand until `left()`, which may answer
  /// false too.
  template <class F, class Left>
  void read_shared(event_id after, event_id before, std::uint64_t reader, F f, Left left) const {
    std::size_t i = 0;
    while (const block_ptr b = block_behind(after, i, reader)) {
      const bool more = each_piece(*b, i, after, before, f);
      if (!left() || !more) return;
    }
  }
  /// f(const journal_event&) for each event, as above, by oneself: one block, used again, and
  /// nothing in front of `after` is read. A broken piece is one event without bytes, its first.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    const auto each = [&](const index_record& r, piece_reader& p) {
      if (r.size == 0) return f({.id = (std::max)(r.first, after + 1)});
      for (; !p.done() && p.id() < before; p.next()) {
        if (!f(p.event())) return false;
      }
      return true;
    };
    journal_block b;
    while (const segment_ptr s = segment_behind(after)) {
      const std::uint32_t count = s->shown.load(std::memory_order_acquire);
      const std::uint32_t i = s->find(after, count);
      b.restart(s->first, i);
      s->load(b, s->block_end(i, count));
      if (!each_piece(b, 0, after, before, each)) return;
    }
  }
  /// The id in front of the newest events that have at most so many bytes, and not below `least`.
  [[nodiscard]] event_id back_by(std::uint64_t bytes, event_id least) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id at = newest_.load(std::memory_order_relaxed);
    for (std::size_t n = segments_.size(); n-- != 0;) {
      const journal_segment& s = *segments_[n];
      for (std::uint32_t i = s.shown.load(std::memory_order_relaxed); i-- != 0;) {
        const index_record r = s.record(i);
        if (r.first <= least) return at;
        const std::uint64_t size = r.size + r.count * beside;
        if (size > bytes) return (std::max)(at - newest_within(s, i, bytes), least);
        bytes -= size;
        at = r.first - 1;
      }
    }
    return at;
  }
  /// Reads all of it again: bad(file name, id) for each piece that is not as it was written.
  template <class F>
  void each_broken(F bad) const {
    for (const segment_ptr& s : all()) {
      std::uint64_t at = 0;
      const std::uint32_t count = s->shown.load(std::memory_order_acquire);
      journal_block b;
      for (b.to = 0; b.to != count;) {
        b.restart(s->first, b.to);
        s->load(b, s->block_end(b.to, count));
        for (std::size_t i = 0; i != b.records.size(); ++i) {
          const index_record& r = b.records[i];
          if (r.size == 0 || r.at != at) bad(journal_segment::name(s->first, ".log"), r.first);
          at = s->record(b.from + static_cast<std::uint32_t>(i)).end();
        }
      }
    }
  }
  [[nodiscard]] std::uint64_t files() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return segments_.size() * 2;
  }

  // --- the thread that writes, or follows --------------------------------------------------------

  [[nodiscard]] const std::vector<segment_ptr>& segments() const noexcept { return segments_; }
  /// Of the files.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t events() const noexcept { return events_; }

  void add(segment_ptr s) {
    count(*s);
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (segments_.empty()) {
      gone_.store(s->before, std::memory_order_release);
    } else {
      segments_.back()->behind.store(s->before + 1, std::memory_order_relaxed);
    }
    segments_.push_back(std::move(s));
  }
  /// It has more or fewer events than before.
  void count(journal_segment& s) noexcept {
    bytes_ += s.disk_bytes() - std::exchange(s.counted_bytes, s.disk_bytes());
    const std::uint64_t events = s.events();
    events_ += events - std::exchange(s.counted_events, events);
  }
  /// Nobody gets it any more; who reads it does so to its end.
  void remove(const segment_ptr& s) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    const auto at = std::find(segments_.begin(), segments_.end(), s);
    if (at == segments_.end()) return;
    bytes_ -= s->counted_bytes;
    events_ -= s->counted_events;
    if (at == segments_.begin() && segments_.size() > 1)
      gone_.store(segments_[1]->before, std::memory_order_release);
    segments_.erase(at);
  }
  /// Nothing at or below `id` is there.
  void begin_behind(event_id id) noexcept { gone_.store(id, std::memory_order_release); }
  /// Events up to `id` may be read: the segments say so already (journal_segment::shown).
  void show_up_to(event_id id) noexcept { newest_.store(id, std::memory_order_release); }

 private:
  /// REQUIRES: the blocks' lock.
  [[nodiscard]] block_ptr read_alone(const journal_segment& s, std::uint32_t from,
                                     std::uint32_t to) const {
    if (alone_.use_count() != 1) alone_ = std::make_shared<journal_block>();  // it is being read
    alone_->restart(s.first, from);
    s.load(*alone_, to);
    return alone_;
  }
  [[nodiscard]] std::vector<segment_ptr> all() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return segments_;
  }
  /// The segment that has the first event behind `after`; nullptr: none may be read.
  [[nodiscard]] segment_ptr segment_behind(event_id after) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (after >= newest_.load(std::memory_order_relaxed)) return nullptr;
    auto i = std::upper_bound(segments_.begin(), segments_.end(), after,
                              [](event_id id, const auto& s) { return id < s->first; });
    if (i != segments_.begin()) {
      const auto& s = *(i - 1);
      const std::uint32_t count = s->shown.load(std::memory_order_relaxed);
      const event_id behind = s->behind.load(std::memory_order_relaxed);
      const event_id last = count == 0 ? no_id : s->record(count - 1).last();
      if (behind != no_id ? behind > after + 1 : last > after) return s;
    }
    for (; i != segments_.end(); ++i) {
      if ((*i)->shown.load(std::memory_order_relaxed) != 0) return *i;
    }
    return nullptr;
  }
  static constexpr std::uint64_t beside = 64;  ///< an event's bytes in memory
  /// How many of the newest events of a piece that has more bytes have at most so many.
  [[nodiscard]] static std::uint64_t newest_within(const journal_segment& s, std::uint32_t i,
                                                   std::uint64_t bytes) {
    journal_block b;
    b.restart(s.first, i);
    s.load(b, i + 1);
    const index_record& r = b.records.front();
    if (r.size == 0) return 0;
    std::uint64_t size = r.size + r.count * beside;
    piece_reader p = b.piece(0);
    for (; size > bytes; p.next()) size -= p.event_bytes() + beside;
    return r.last() + 1 - p.id();
  }
  /// False: that was all. `after` becomes the last id.
  template <class F>
  [[nodiscard]] static bool each_piece(const journal_block& b, std::size_t i, event_id& after,
                                       event_id before, F& f) {
    const event_id came = after;
    for (; i != b.records.size(); ++i) {
      const index_record& r = b.records[i];
      if (r.last() <= after) continue;
      if (after + 1 >= before) return false;
      piece_reader p;
      if (r.size != 0) {
        if (r.first >= before) return false;
        p = b.piece(i);
        p.skip(after);
      }
      if (!f(r, p)) return false;
      after = r.last();
    }
    if (after != came) return true;
    piece_reader unread;  // the index is so broken that it leads nowhere
    const index_record lost{.first = ++after,
                            .time_ms = 0,
                            .at = 0,
                            .size = 0,
                            .count = 1,
                            .behind = 0,
                            .crc = 0,
                            .channel = 0,
                            .flags = 0};
    return lost.first < before && f(lost, unread);
  }

  std::atomic<event_id> newest_{no_id};
  std::atomic<event_id> gone_{no_id};
  std::uint64_t bytes_ = 0;
  std::uint64_t events_ = 0;
  mutable std::mutex mutex_;  ///< of what follows
  std::vector<segment_ptr> segments_;

  std::size_t block_memory_;
  mutable std::mutex blocks_mutex_;        ///< of what follows
  mutable std::vector<block_ptr> blocks_;  ///< the one that was used last first
  mutable std::size_t blocks_memory_ = 0;
  mutable std::uint64_t last_reader_ = 0;
  mutable std::shared_ptr<journal_block> alone_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_HISTORY_HPP
// ---- sse/detail/journal/recovery.hpp
//
// journal_recovery: which segments are there at a start, and what of the newest is whole.
#ifndef SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP
#define SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// ---- sse/detail/journal/runs.hpp
//
// journal_runs: the file `runs`: where each run began, which ids it may have given out, how it
// ended, and so what was shown and is lost.
#ifndef SSEHUB_DETAIL_JOURNAL_RUNS_HPP
#define SSEHUB_DETAIL_JOURNAL_RUNS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a call of the operating system said, and of which file.
[[nodiscard]] inline journal_error journal_failed(int e, const std::string& file) {
  return {journal_errc::system,
          {e, std::generic_category()},
          file + ": " + std::generic_category().message(e)};
}

class journal_runs {
 public:
  explicit journal_runs(journal_files& f) noexcept : files_{&f} {}
  journal_runs(const journal_runs&) = delete;
  journal_runs& operator=(const journal_runs&) = delete;
  ~journal_runs() {
    if (file_ >= 0) files_->close(file_);
  }

  /// What stands there, or stands there since. To write: what was never finished is cut off.
  [[nodiscard]] journal_error read(bool write) {
    if (file_ < 0) {
      if (const int e = files_->open("runs", write, file_); e != 0)
        return journal_failed(e, "runs");
    }
    if (write) {
      if (const int e = files_->sync_names(); e != 0) return journal_failed(e, "the directory");
    }
    for (;;) {
      run_record r;
      std::size_t got = 0;
      if (const int e = files_->read(file_, end_, &r, sizeof r, got); e != 0)
        return journal_failed(e, "runs");
      if (got != sizeof r || r.crc != r.checksum()) break;  // the end, or what was never finished
      end_ += sizeof r;
      switch (r.kind) {
        case run_record::begun:
        case run_record::begun_behind_loss: clean_ = false; [[fallthrough]];
        case run_record::hole: note(r); break;
        case run_record::reserved:
          reserved_ = (std::max<event_id>)(reserved_, r.first);
          machine_ = r.recovered;
          survives_ = journal_survival{r.what};
          break;
        case run_record::ended:
          reserved_ = r.first;
          clean_ = true;
          break;
        default:
          return {journal_errc::format,
                  {},
                  "runs: a record of kind " + std::to_string(r.kind) +
                      ": written by a newer version; use that one"};
      }
    }
    if (!write) return {};
    const int e = files_->cut(file_, end_);
    return e == 0 ? journal_error{} : journal_failed(e, "runs");
  }

  /// The run before ended by itself.
  [[nodiscard]] bool clean() const noexcept { return clean_; }
  /// Ids above this one were given to nobody.
  [[nodiscard]] event_id reserved() const noexcept { return reserved_; }
  [[nodiscard]] bool empty() const noexcept { return table_.empty(); }
  /// What the run before has shown may be lost.
  [[nodiscard]] bool may_have_lost() noexcept {
    if (clean_ || survives_ == journal_survival::power_lost) return false;
    return survives_ == journal_survival::nothing || machine_ == 0 ||
           machine_ != files_->machine_start();
  }

  /// Each of these answers an errno. A run begins with id `first`; `recovered` is the newest that
  /// is there.
  [[nodiscard]] int begin(event_id first, event_id recovered, std::int64_t now_ms) {
    const std::uint32_t kind = may_have_lost() ? run_record::begun_behind_loss : run_record::begun;
    return add({kind, 0, first, recovered, now_ms});
  }
  /// What was shown between `stored` and `first` is not stored.
  [[nodiscard]] int leave_hole(event_id first, event_id stored) {
    return add({run_record::hole, 0, first, stored, 0});
  }
  /// Ids up to this one may be given out.
  [[nodiscard]] int reserve(event_id upto, journal_survival s) {
    const int e =
        add({run_record::reserved, 0, upto, files_->machine_start(), static_cast<std::int64_t>(s)});
    if (e == 0) reserved_ = upto;
    return e;
  }
  [[nodiscard]] int end(event_id last, std::int64_t now_ms) {
    return add({run_record::ended, 0, (std::max)(last, table_.back().first - 1), 0, now_ms});
  }

  /// The next loss behind `after` of what was shown once, see journal_store::loss_behind. Any
  /// thread, as what follows.
  [[nodiscard]] bool loss_behind(event_id after, event_id& from, event_id& first) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const run& r : table_) {
      if (after + 1 >= r.first || (!r.lost && after <= r.recovered)) continue;
      from = after > r.recovered ? after : r.recovered;
      first = r.first;
      return true;
    }
    return false;
  }
  /// Who has `newest`, the newest event that is there, goes on behind this id: above it if later
  /// ones may be lost.
  [[nodiscard]] event_id goes_on(event_id newest) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id at = newest;
    for (const run& r : table_) {
      if (r.lost && r.first > at) at = r.first - 1;
    }
    return at;
  }
  /// What is behind this id and not above `newest` was written without a loss between.
  [[nodiscard]] event_id unbroken_behind(event_id newest) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id least = no_id;
    for (const run& r : table_) {
      if (r.first <= newest && r.first - 1 > least) least = r.first - 1;
    }
    return least;
  }

 private:
  struct run {
    event_id first;
    event_id recovered;
    bool lost;  ///< what is between them may have been shown
  };

  [[nodiscard]] int add(run_record r) {
    r.crc = r.checksum();
    if (const int e = files_->write(file_, end_, &r, sizeof r); e != 0) return e;
    if (const int e = files_->sync(file_); e != 0) return e;
    end_ += sizeof r;
    if (r.kind != run_record::reserved && r.kind != run_record::ended) note(r);
    return 0;
  }
  void note(const run_record& r) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    table_.push_back({r.first, r.recovered, r.kind != run_record::begun});
  }

  journal_files* files_;
  int file_ = -1;
  std::uint64_t end_ = 0;
  bool clean_ = true;
  event_id reserved_ = no_id;
  std::uint64_t machine_ = 0;  ///< of the last run
  journal_survival survives_ = journal_survival::nothing;

  mutable std::mutex mutex_;  ///< of what follows; written by the writing thread only
  std::vector<run> table_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_RUNS_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_recovery {
 public:
  using segment_ptr = std::shared_ptr<journal_segment>;

  /// `room`: bytes of a file. `write`: what is torn is cut off, what was to go goes. `repair`:
  /// broken events stay as what cannot be read; an older file that is broken goes, with all that is
  /// older.
  journal_recovery(journal_files& f, std::uint64_t room, bool write, bool repair) noexcept
      : files_{&f}, room_{room}, write_{write}, repair_{repair} {}

  /// The segments that are there, oldest first, and what was cut.
  [[nodiscard]] journal_error read(std::vector<segment_ptr>& found, journal_start& out) {
    std::vector<event_id> firsts;
    if (const int e = journal_segment::list(*files_, firsts); e != 0)
      return journal_failed(e, "the directory");
    if (repair_ && !firsts.empty()) {
      if (journal_error e = split(firsts); e) return e;
    }
    found.clear();  // newest first
    bool dropping = false;
    for (std::size_t n = firsts.size(); n-- != 0;) {
      auto s = std::make_shared<journal_segment>(*files_, firsts[n]);
      const journal_segment* const newer = found.empty() ? nullptr : found.back().get();
      bool there = false;
      if (!dropping) {  // behind a hole: it was let go, and came back
        if (journal_error e = look_at(s, newer, there, out); e) return e;
      }
      if (there) {
        s->synced = s->written;
        s->synced_end = s->log_end;
        s->shown.store(write_ ? s->written : 0, std::memory_order_relaxed);
        found.push_back(std::move(s));
      } else {
        dropping = dropping || newer != nullptr;
        if (write_) (void)journal_segment::remove(*files_, firsts[n]);
      }
    }
    std::reverse(found.begin(), found.end());
    return {};
  }

 private:
  [[nodiscard]] static journal_error corrupt(event_id first, event_id id, const std::string& what) {
    return {journal_errc::corrupt,
            {},
            journal_segment::name(first, ".idx") + ", at id " + std::to_string(id) + ": " + what +
                ", although it was durable: the disk lost it; `repair` keeps what is whole"};
  }

  /// Not there: it was begun and never synced, was being removed, or what is between it and the
  /// newer one is gone.
  [[nodiscard]] journal_error look_at(segment_ptr& s, const journal_segment* newer, bool& there,
                                      journal_start& out) {
    const event_id first = s->first;
    const std::string log = journal_segment::name(first, ".log");
    const bool makes = write_ && newer == nullptr;
    int e = s->open(makes, room_);
    if (e == ENOENT && newer != nullptr) return {};
    std::uint64_t index_size = 0;
    std::uint64_t log_size = 0;
    if (e == 0) e = files_->size(s->index, index_size);
    if (e == 0) e = files_->size(s->log, log_size);
    if (e == 0 && (index_size > room_ || log_size > room_)) {
      s = std::make_shared<journal_segment>(*files_, first);
      e = s->open(makes, (std::max)(index_size, log_size));
    }
    if (e != 0) return journal_failed(e, log);
    const bool headed = index_size >= sizeof(index_header);
    const index_header h = headed ? s->header() : index_header{};
    const bool magic = headed && std::memcmp(h.magic, index_header{}.magic, sizeof h.magic) == 0;
    const bool whole = magic && h.crc == h.checksum();
    if ((whole && h.version != index_header{}.version) || (magic && h.order == 0x04030201)) {
      return {journal_errc::format,
              {},
              log + ": version " + std::to_string(h.version) +
                  ", or another byte order: written by another version or machine; use that one"};
    }
    if (!whole || h.first != first) {
      if (newer != nullptr && !repair_) return corrupt(first, 0, "its index has no header");
      out.cut_bytes += log_size;
      return {};
    }
    s->before = h.before;
    const auto count =
        static_cast<std::uint32_t>((index_size - sizeof(index_header)) / sizeof(index_record));
    if (makes) {
      if (journal_error bad = check_tail(*s, count, log_size, out); bad) return bad;
      there = s->written != 0;
      return {};
    }
    s->written = s->find(newer == nullptr ? max_event_id : newer->first - 1, count);
    const index_record last = s->written == 0 ? index_record{} : s->record(s->written - 1);
    s->log_end = last.end();
    if (write_ && s->log_end > log_size) {
      return repair_ ? journal_error{}
                     : corrupt(first, last.first, "the .log is shorter than its index says");
    }
    const event_id to = s->written == 0 ? s->before : last.last();
    there = newer == nullptr || to == newer->before;
    return {};
  }

  /// Of the newest segment, which has to be whole: what is whole behind the last broken event
  /// becomes a segment of its own. In the older one that is left, broken events may be.
  [[nodiscard]] journal_error split(std::vector<event_id>& firsts) {
    journal_segment s{*files_, firsts.back()};
    std::uint64_t size = 0;
    int e = s.open(false, room_);
    if (e == 0) e = files_->size(s.index, size);
    if (e != 0 || size < sizeof(index_header) || size > room_) return {};  // look_at() says more
    const index_header h = s.header();
    if (h.crc != h.checksum() || h.version != index_header{}.version || h.first != s.first)
      return {};
    s.before = h.before;
    const auto count =
        static_cast<std::uint32_t>((size - sizeof(index_header)) / sizeof(index_record));
    std::vector<index_record> whole;  // those behind the last broken one
    event_id in_front = s.before;     // of these
    event_id last = s.before;         // in front of the first broken one
    event_id previous = s.before;
    bool broken = false;
    bool gap = false;      // since `whole`
    bool durable = false;  // though it stands behind a broken one
    for (std::uint32_t i = 0; i != count;) {
      journal_block b;
      b.from = b.to = i;
      s.load(b, s.block_end(i, count));
      for (const index_record& r : b.records) {
        gap = gap || r.size == 0 || (!whole.empty() && r.at != whole.back().end());
        broken = broken || gap;
        if (r.size != 0) {
          if (std::exchange(gap, false)) whole.clear();
          if (whole.empty()) in_front = previous;
          durable = durable || (broken && r.first - r.behind > last);
          if (!broken) last = r.last();
          whole.push_back(r);
        }
        previous = r.last();
      }
      i = b.to;
    }
    if (!durable) return {};  // nothing, or a torn tail
    journal_segment made{*files_, whole.front().first};
    e = made.open(true, room_);
    if (e == 0) e = files_->cut(made.log, 0);  // of a repair that was ended in between
    if (e == 0) e = files_->cut(made.index, 0);
    if (e == 0) e = copy(s, whole, in_front, made);
    if (e != 0) return journal_failed(e, journal_segment::name(made.first, ".log"));
    firsts.push_back(made.first);
    return {};
  }
  /// `records`: they stand one behind the other.
  [[nodiscard]] int copy(const journal_segment& from, std::vector<index_record>& records,
                         event_id before, const journal_segment& to) {
    const std::uint32_t begin = records.front().at;
    std::vector<char> bytes(to_size(records.back().end() - begin));
    std::size_t got = 0;
    int e = files_->read(from.log, begin, bytes.data(), bytes.size(), got);
    if (e == 0 && got != bytes.size()) e = EIO;
    if (e == 0) e = files_->write(to.log, 0, bytes.data(), bytes.size());
    if (e == 0) e = files_->sync(to.log);
    for (index_record& r : records) r.at -= begin;
    index_header h;
    h.first = to.first;
    h.before = before;
    h.crc = h.checksum();
    if (e == 0)
      e = files_->write(to.index, sizeof h, records.data(), records.size() * sizeof records[0]);
    if (e == 0) e = files_->write(to.index, 0, &h, sizeof h);  // until then it is not there
    if (e == 0) e = files_->sync(to.index);
    return e == 0 ? files_->sync_names() : e;
  }

  /// Where the good records of the newest segment end; the rest is cut off.
  [[nodiscard]] journal_error check_tail(journal_segment& s, std::uint32_t count,
                                         std::uint64_t log_size, journal_start& out) {
    event_id last = s.before;
    bool good = true;
    for (std::uint32_t i = 0; i != count;) {
      journal_block b;
      b.from = b.to = i;
      s.load(b, s.block_end(i, count));
      // What was written is there perhaps, and must not be cut off.
      if (b.error != 0 && !repair_)
        return journal_failed(b.error, journal_segment::name(s.first, ".log"));
      for (const index_record& r : b.records) {
        const bool whole = r.size != 0;
        good = good && whole && r.at == s.log_end;
        if (good) {
          s.log_end = r.end();
          last = r.last();
          ++s.written;
        } else if (whole && !repair_ && r.first - r.behind > last) {
          return corrupt(s.first, last + 1, "what stands there is not what was written");
        }
      }
      i = b.to;
    }
    out.cut_events += count - s.written;
    out.cut_bytes += log_size - s.log_end;
    int e = files_->cut(s.index,
                        sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record));
    if (e == 0) e = files_->cut(s.log, s.log_end);
    if (e == 0) e = files_->sync(s.index);
    if (e == 0) e = files_->sync(s.log);
    return e == 0 ? journal_error{} : journal_failed(e, journal_segment::name(s.first, ".log"));
  }

  journal_files* files_;
  std::uint64_t room_;
  bool write_;
  bool repair_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_store {
 public:
  struct settings {
    std::uint64_t segment_bytes = std::uint64_t{64} << 20;
    std::uint64_t most_pending = std::uint64_t{32} << 20;  ///< bytes of a batch and its records
    std::uint64_t keep_bytes = 0;
    std::uint64_t keep_events = 0;
    std::int64_t keep_ms = 0;
    bool claims = false;  ///< events are shown once they are synced, not before
    journal_survival survives = journal_survival::nothing;  ///< what is shown
    event_id ids_at_once = 1U << 20U;                       ///< reserved
    bool repair = false;  ///< what is broken is let go, with all that is older
    std::size_t block_memory = std::size_t{16} << 20;  ///< of blocks that were read
  };
  journal_store(journal_files& f, const settings& s) noexcept
      : files_{&f}, settings_{s}, runs_{f}, history_{s.block_memory} {}
  journal_store(const journal_store&) = delete;
  journal_store& operator=(const journal_store&) = delete;
  ~journal_store() {
    if (head_ >= 0) files_->close(head_);
  }

  // --- start -------------------------------------------------------------------------------------

  /// To write: cuts a torn tail off, begins a run. `least`: the first id of a new journal, less
  /// one.
  [[nodiscard]] journal_error open_to_write(std::int64_t now_ms, event_id least,
                                            journal_start& out) {
    std::string holder;
    if (const int e = files_->lock("lock", holder); e != 0) {
      if (e != EWOULDBLOCK) return journal_failed(e, "lock");
      return {journal_errc::in_use,
              {},
              "process " + (holder.empty() ? std::string{"of unknown number"} : holder) +
                  " writes this journal: end it, or use another directory"};
    }
    if (journal_error e = runs_.read(true); e) return e;
    if (journal_error e = recover(true, out); e) return e;
    const bool empty = history_.segments().empty();
    out.recovered = last_;
    out.clean = runs_.clean();
    out.next = (std::max)(last_, empty && runs_.empty() ? least : runs_.reserved()) + 1;
    if (empty) {  // who saw something is told
      out.recovered = last_ = durable_ = durable_floor_ = out.next - 1;
      history_.begin_behind(last_);
    }
    if (const int e = runs_.begin(out.next, last_, now_ms); e != 0)
      return journal_failed(e, "runs");
    if (const int e = reserve(out.next); e != 0) return journal_failed(e, "runs");
    history_.show_up_to(last_);
    int e = files_->open("head", true, head_);
    if (e == 0) e = tell_head();
    return e == 0 ? journal_error{} : journal_failed(e, "head");
  }

  /// Beside a process that writes.
  [[nodiscard]] journal_error open_to_read(journal_start& out) {
    if (journal_error e = runs_.read(false); e) return e;
    out.clean = runs_.clean();
    if (const int e = files_->open("head", false, head_); e != 0) return journal_failed(e, "head");
    if (journal_error e = recover(false, out); e) return e;
    (void)look_for_news();
    out.recovered = newest();
    out.next = out.recovered + 1;
    return {};
  }

  // --- writing: one thread -----------------------------------------------------------------------

  using batch_ptr = std::unique_ptr<journal_batch>;

  /// These are to be written. REQUIRES: it is not empty, and its ids are above all before.
  void take(batch_ptr b) {
    b->finish();
    pending_.push_back(std::move(b));
  }
  /// What was taken and not shown, oldest first.
  [[nodiscard]] const std::vector<batch_ptr>& pending() const noexcept { return pending_; }
  [[nodiscard]] std::size_t pending_bytes() const noexcept {
    std::size_t n = 0;
    for (const batch_ptr& b : pending_) n += b->size();
    return n;
  }
  [[nodiscard]] bool has_unwritten() const noexcept { return written_ != pending_.size(); }

  /// No other run will give the ids of what is pending: then it may be shown before it is written.
  [[nodiscard]] int claim_ids() {
    if (pending_.empty() || pending_.back()->last() <= runs_.reserved()) return 0;
    return reserve(pending_.back()->last());
  }
  /// Writes the next batch. REQUIRES: claim_ids() was 0. An errno: nothing is lost, call it again.
  [[nodiscard]] int write() {
    if (!has_unwritten()) return 0;
    journal_batch& b = *pending_[written_];
    SSEHUB_ASSERT(b.last() <= runs_.reserved());
    if (hole_) {
      if (const int e = runs_.leave_hole(b.first(), last_); e != 0) return e;
      hole_ = false;
    }
    if (active_ != nullptr && written_ == 0 && (full(*active_) || b.first() != last_ + 1)) {
      if (const int e = seal(); e != 0) return e;
    }
    if (active_ == nullptr) {
      if (const int e = begin_segment(b.first()); e != 0) return e;
    }
    journal_segment& s = *active_;
    place(b, s.log_end);
    if (const int e = files_->write(s.log, s.log_end, b.bytes().data(), b.bytes().size()); e != 0)
      return e;
    if (const int e = files_->write(
            s.index, sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record),
            placed_.data(), placed_.size() * sizeof(index_record));
        e != 0)
      return e;
    s.log_end += b.bytes().size();
    s.written += static_cast<std::uint32_t>(placed_.size());
    history_.count(s);
    ++written_;
    last_ = b.last();
    return 0;
  }

  /// What is pending is not to be stored: it was shown without. Readers are told that it is gone.
  /// f(batch_ptr) gets each.
  template <class F>
  void give_up(F f) {
    written_ = pending_.size();
    leave(f);
    hole_ = true;
  }

  /// What was written is durable. An errno: nobody knows what is; it is written again, into new
  /// files, by the next write().
  [[nodiscard]] int sync() {
    if (active_ == nullptr) return 0;
    journal_segment& s = *active_;
    int e = files_->sync(s.log);
    if (e == 0) e = files_->sync(s.index);
    if (e == 0) {
      s.synced = s.written;
      s.synced_end = s.log_end;
      if (!doubtful_) durable_ = last_;
      return 0;
    }
    if (!settings_.claims) {  // it was shown already
      doubtful_ = true;       // asked again, the kernel would say that all is well
      return e;
    }
    s.written = s.synced;
    s.log_end = s.synced_end;
    (void)files_->cut(s.index,
                      sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record));
    (void)files_->cut(s.log, s.log_end);
    history_.count(s);
    if (s.written == 0) {
      history_.remove(active_);
      (void)journal_segment::remove(*files_, s.first);
    }
    active_.reset();
    written_ = 0;
    last_ = durable_;
    return e;
  }

  /// What was written may be read now; f(batch_ptr) gets it. What is pending behind that stays.
  template <class F>
  void show(F f) {
    if (written_ == 0) return;
    active_->shown.store(active_->written, std::memory_order_release);
    history_.show_up_to(pending_[written_ - 1]->last());
    leave(f);
  }
  /// For other processes.
  [[nodiscard]] int tell_head() noexcept {
    const std::uint64_t h[2] = {newest(), 0};
    return files_->write(head_, 0, h, sizeof h);
  }

  /// Lets go what is not to be kept. An errno: some of it is still there; call it again.
  [[nodiscard]] int trim(std::int64_t now_ms) {
    bool removed = false;
    while (history_.segments().size() > 1 && over_keep(now_ms)) {
      const segment_ptr oldest = history_.segments().front();
      if (const int e = journal_segment::remove(*files_, oldest->first); e != 0) return e;
      history_.remove(oldest);
      removed = true;
    }
    return removed ? files_->sync_names() : 0;
  }

  /// The run ends by itself. REQUIRES: nothing is pending.
  [[nodiscard]] int end_run(std::int64_t now_ms) {
    if (active_ != nullptr) {
      if (const int e = sync(); e != 0) return e;
    }
    return runs_.end(last_, now_ms);
  }

  /// Beside a process that writes: what it shows since, as far as that can be read now; the rest is
  /// news next time. False: nothing new.
  [[nodiscard]] bool look_for_news() {
    std::uint64_t h[2] = {};
    std::size_t got = 0;
    if (files_->read(head_, 0, h, sizeof h, got) != 0 || got != sizeof h) return false;
    const event_id before = newest();
    if (h[0] == before) return false;
    std::vector<event_id> names;
    if (journal_segment::list(*files_, names) != 0) return false;
    (void)runs_.read(false);
    const auto& segments = history_.segments();
    bool all = true;
    for (const event_id first : names) {
      if (first > h[0] || (!segments.empty() && first <= segments.back()->first)) continue;
      auto s = std::make_shared<journal_segment>(*files_, first);
      std::uint64_t size = 0;
      all = s->open(false, room()) == 0 && files_->size(s->index, size) == 0 &&
            size >= sizeof(index_header);
      if (!all) break;
      s->before = s->header().before;
      history_.add(std::move(s));
    }
    while (segments.size() > 1 && !names.empty() && segments.front()->first < names.front())
      history_.remove(segment_ptr{segments.front()});
    event_id there = before;
    for (const segment_ptr& s : segments) {
      std::uint64_t size = 0;
      if (files_->size(s->index, size) != 0 || size < sizeof(index_header)) {
        all = false;
        break;  // what is behind it would be shown without it
      }
      const auto count =
          static_cast<std::uint32_t>((size - sizeof(index_header)) / sizeof(index_record));
      if (count == s->shown.load(std::memory_order_relaxed)) continue;
      s->written = s->find(h[0], count);
      if (s->written != 0) {
        const index_record last = s->record(s->written - 1);
        s->log_end = last.end();
        there = (std::max)(there, last.last());
      }
      history_.count(*s);
      s->shown.store(s->written, std::memory_order_release);
    }
    history_.show_up_to(all ? h[0] : there);
    return newest() != before;
  }

  [[nodiscard]] event_id durable() const noexcept { return durable_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return history_.bytes(); }

  // --- reading: any thread -----------------------------------------------------------------------

  [[nodiscard]] const journal_history& history() const noexcept { return history_; }
  /// The newest event that may be read.
  [[nodiscard]] event_id newest() const noexcept { return history_.newest(); }
  /// What is at or below it was let go.
  [[nodiscard]] event_id gone() const noexcept { return history_.gone(); }
  /// The next loss behind `after` of what was shown once: what is there ends with `from`, which is
  /// `after` or above it, and goes on with `first`. False: none.
  [[nodiscard]] bool loss_behind(event_id after, event_id& from, event_id& first) const {
    if (!history_.gone_behind(after, first)) return runs_.loss_behind(after, from, first);
    from = after;
    return true;
  }
  /// f(const journal_event&) for each event behind `after` and below `before`, oldest first, until
  /// it answers false. One without bytes cannot be read, or is not what was written.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    history_.read(after, before, std::move(f));
  }
  /// The id behind which a hub's memory begins, so that it has at most so many bytes of the newest
  /// events, and no loss between them or behind.
  [[nodiscard]] event_id back_by(std::uint64_t bytes) const {
    const event_id there = newest();
    const event_id on = runs_.goes_on(there);
    return on == there ? history_.back_by(bytes, runs_.unbroken_behind(there)) : on;
  }

 private:
  using segment_ptr = journal_history::segment_ptr;

  [[nodiscard]] std::uint64_t room() const noexcept {
    return settings_.segment_bytes + settings_.most_pending + sizeof(index_header);
  }
  [[nodiscard]] bool full(const journal_segment& s) const noexcept {
    return s.log_end >= settings_.segment_bytes ||
           std::uint64_t{s.written} * sizeof(index_record) >= settings_.segment_bytes;
  }
  [[nodiscard]] int reserve(event_id upto) {
    return runs_.reserve(upto + settings_.ids_at_once, settings_.survives);
  }
  [[nodiscard]] journal_error recover(bool write, journal_start& out) {
    std::vector<segment_ptr> found;
    journal_recovery r{*files_, room(), write, settings_.repair};
    if (journal_error e = r.read(found, out); e) return e;
    for (segment_ptr& s : found) {
      if (s->written != 0) last_ = s->record(s->written - 1).last();
      history_.add(std::move(s));
    }
    durable_ = durable_floor_ = last_;
    return {};
  }
  [[nodiscard]] int begin_segment(event_id first) {
    auto s = std::make_shared<journal_segment>(*files_, first);
    s->before = last_;
    if (const int e = s->open(true, room()); e != 0) return e;
    if (const int e = files_->cut(s->log, 0); e != 0) return e;
    if (const int e = files_->cut(s->index, 0); e != 0) return e;
    index_header h;
    h.first = s->first;
    h.before = s->before;
    h.crc = h.checksum();
    if (const int e = files_->write(s->index, 0, &h, sizeof h); e != 0) return e;
    if (const int e = files_->sync_names(); e != 0) return e;
    files_->reserve(s->log, settings_.segment_bytes);
    active_ = s;
    history_.add(std::move(s));
    return 0;
  }
  /// It gets no more events.
  [[nodiscard]] int seal() {
    if (const int e = sync(); e != 0 && settings_.claims) return e;
    durable_floor_ = durable_;
    active_.reset();
    return 0;
  }
  [[nodiscard]] bool over_keep(std::int64_t now_ms) const {
    const journal_segment& oldest = *history_.segments().front();
    if (settings_.keep_bytes != 0 && history_.bytes() > settings_.keep_bytes) return true;
    if (settings_.keep_events != 0 &&
        history_.events() - oldest.counted_events >= settings_.keep_events)
      return true;
    return settings_.keep_ms != 0 && oldest.written != 0 &&
           oldest.record(oldest.written - 1).time_ms < now_ms - settings_.keep_ms;
  }
  /// Those that are written are pending no longer.
  template <class F>
  void leave(F& f) {
    const auto end = pending_.begin() + static_cast<std::ptrdiff_t>(std::exchange(written_, 0));
    for (auto b = pending_.begin(); b != end; ++b) f(std::move(*b));
    pending_.erase(pending_.begin(), end);
  }
  /// Its records as they will stand in the file, from `at` on. The batch may be read meanwhile.
  void place(const journal_batch& b, std::uint64_t at) {
    const event_id durable = settings_.claims ? durable_ : durable_floor_;
    placed_ = b.pieces();
    for (index_record& r : placed_) {
      r.behind = static_cast<std::uint32_t>((std::min<event_id>)(r.first - durable, UINT32_MAX));
      r.crc = r.checksum(b.bytes().data() + r.at);
      r.at += static_cast<std::uint32_t>(at);
    }
  }

  journal_files* files_;
  settings settings_;
  journal_runs runs_;
  journal_history history_;
  int head_ = -1;
  event_id last_ = no_id;           ///< written
  event_id durable_ = no_id;        ///< synced
  event_id durable_floor_ = no_id;  ///< of closed segments
  std::vector<batch_ptr> pending_;
  std::size_t written_ = 0;  ///< of those
  std::vector<index_record> placed_;
  bool doubtful_ = false;  ///< a sync failed of what was shown already
  bool hole_ = false;      ///< what was pending before is not stored
  segment_ptr active_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_STORE_HPP
#include "mailbox.hpp"

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// Events in files, in one order; see the top of this header.
class journal {
 public:
  journal() noexcept = default;
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;
  ~journal() { stop(); }

  /// To write here, alone. The directory is made if it is not there. `first_id`: where the ids of a
  /// new journal begin, see hub_options::first_id. Once: in_use if that worked before, whatever was
  /// stopped since.
  [[nodiscard]] journal_error open(const std::string& directory, journal_options o = {},
                                   event_id first_id = no_id) {
    return begin(std::make_unique<detail::posix_journal_files>(directory, true, true), directory,
                 std::move(o), true, first_id);
  }
  /// To serve what another process writes, or wrote, here. publish answers `closed`.
  [[nodiscard]] journal_error follow(const std::string& directory, journal_options o = {}) {
    return begin(std::make_unique<detail::posix_journal_files>(directory, false, false), directory,
                 std::move(o), false, no_id);
  }
  /// The same over a file system of the caller's, for tests.
  [[nodiscard]] journal_error open(std::unique_ptr<detail::journal_files> files,
                                   journal_options o = {}, event_id first_id = no_id) {
    return begin(std::move(files), "journal", std::move(o), true, first_id);
  }

  /// It is open.
  [[nodiscard]] explicit operator bool() const noexcept { return store_ != nullptr; }
  /// What the hubs follow (server_options::shards, sse::shard). REQUIRES: it is open.
  [[nodiscard]] sequencer& order() noexcept {
    SSEHUB_ASSERT(order_ != nullptr);
    return *order_;
  }
  /// What it found when it was opened.
  [[nodiscard]] const journal_start& found() const noexcept { return start_; }
  /// As open() took them.
  [[nodiscard]] const journal_options& options() const noexcept { return options_; }

  /// All hubs are attached: the newest events go into their memory, and the journal's thread runs.
  void start() {
    if (store_ == nullptr || thread_.joinable()) return;
    store_->read(order_->head(), max_event_id + 1, [this](const journal_event& e) {
      show(e);
      return true;
    });
    thread_ = std::thread{[this] {
      if (writes_) {
        write_all();
      } else {
        follow_all();
      }
    }};
  }

  /// Writes what was accepted, and ends the run: publish answers `closed` from now on; old events
  /// can still be read. Waits for the disk; if that fails, what was not written is lost, and
  /// problem() says why.
  void stop() {
    if (store_ == nullptr || pipe_[0] < 0) return;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      stopping_ = true;
    }
    wake();
    if (thread_.joinable()) thread_.join();
    if (writes_ && !started_end_) {  // it was never started
      (void)take_in();
      end_run();
    }
    if (inbox_ != nullptr) inbox_->close();
    for (const int end : pipe_) {
      if (end >= 0) ::close(end);
    }
    pipe_[0] = pipe_[1] = -1;
    durable_changed_.notify_all();
  }

  /// An event for the channel of that number: accepted, with its id; it is written, and shown,
  /// soon. A transient one is not stored. Takes a lock for as long as its bytes are copied;
  /// allocates. Errors besides those of an event that cannot be sent: no_channel, full, not_stored,
  /// closed; sealed for `last`, which it cannot do.
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o = {}) {
    if (!writes_) return {no_id, publish_error::closed};
    publish_result r;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      r = stopping_ ? publish_result{no_id, publish_error::closed} : place(channel, e, o);
    }
    if (r) wake();
    return r;
  }
  /// For one thread that must not meet a lock (sse/mailbox.hpp): its events get their ids in the
  /// journal's thread. It may outlive the journal.
  [[nodiscard]] publisher make_publisher(std::size_t channel,
                                         std::size_t lane_bytes = mailbox::default_lane) {
    return inbox_ == nullptr ? publisher{} : inbox_->make_publisher(channel, lane_bytes);
  }

  /// All events up to this one are as durable as the options say. They are shown now, or soon.
  [[nodiscard]] event_id durable() const noexcept {
    return durable_.load(std::memory_order_acquire);
  }
  /// Waits until `id` is. False: it took longer.
  [[nodiscard]] bool wait_durable(event_id id, duration most) {
    std::unique_lock<std::mutex> lock{wait_mutex_};
    return durable_changed_.wait_for(lock, std::chrono::milliseconds{most.ms()},
                                     [&] { return durable() >= id; });
  }

  /// f(const journal_event&) for each stored event behind `after` and below `before`, oldest first,
  /// until it answers false. Reads the files; one without bytes is broken.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    if (store_ != nullptr) store_->read(after, before, std::move(f));
  }

  /// Reads all files again: bad(file name, id) for each piece of up to about 32 KiB that is not as
  /// it was written, with the id of its first event.
  template <class F>
  void each_broken(F bad) const {
    if (store_ != nullptr) store_->history().each_broken(std::move(bad));
  }
  /// Opens a journal that open() found to be corrupt: what is whole of the newest file is kept, an
  /// older file that is broken is let go with all that is older, and clients who need what is
  /// broken or gone are told by a gap frame.
  [[nodiscard]] journal_error repair(const std::string& directory) {
    repairs_ = true;
    return open(directory);
  }

  /// What it counted, and where it stands. Any thread.
  [[nodiscard]] journal_stats stats() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    journal_stats s = stats_;
    s.last = writes_ ? head_ : durable();
    s.durable = durable();
    s.waiting_bytes += incoming_bytes_;
    return s;
  }
  /// Why it cannot write, or let go of old files, now; empty: it can.
  [[nodiscard]] std::string problem() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return problem_.empty() ? keep_problem_ : problem_;
  }

 private:
  using clock = std::chrono::steady_clock;
  using batch_ptr = detail::journal_store::batch_ptr;
  /// What is written and shown at once, so that it stays in the processor's caches.
  static constexpr std::size_t batch_bytes = std::size_t{256} << 10;

  [[nodiscard]] static std::int64_t wall_ms() noexcept {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  [[nodiscard]] journal_error begin(std::unique_ptr<detail::journal_files> files,
                                    const std::string& where, journal_options o, bool writes,
                                    event_id first_id) {
    if (store_ != nullptr)
      return {journal_errc::in_use, {}, where + ": this journal was opened already"};
    const auto fail = [&](journal_error e) {
      store_.reset();
      files_.reset();
      e.text.insert(0, where + ": ");
      return e;
    };
    options_ = std::move(o);
    writes_ = writes;
    files_ = std::move(files);
    detail::journal_store::settings s;
    s.segment_bytes = (std::min)((std::max)(options_.segment_bytes, std::uint64_t{1} << 16),
                                 std::uint64_t{1} << 30);
    s.most_pending = 2 * std::uint64_t{options_.queue_bytes} + (std::uint64_t{1} << 20);
    s.keep_bytes = options_.keep_bytes;
    s.keep_events = options_.keep_events;
    s.keep_ms = options_.keep_age.is_off() || options_.keep_age == duration::infinite()
                    ? 0
                    : options_.keep_age.ms();
    s.claims = options_.durability >= durability::interval;
    s.survives = options_.durability == durability::none || options_.live_without
                     ? detail::journal_survival::nothing
                 : s.claims ? detail::journal_survival::power_lost
                            : detail::journal_survival::killed;
    s.block_memory = options_.replay_bytes;
    s.repair = repairs_;
    store_ = std::make_unique<detail::journal_store>(*files_, s);
    start_ = {};
    journal_error e =
        writes ? store_->open_to_write(wall_ms(), first_id, start_) : store_->open_to_read(start_);
    if (e) return fail(std::move(e));
    head_ = writes ? start_.next - 1 : start_.recovered;
    durable_.store(store_->newest(), std::memory_order_release);
    stats_.files = store_->history().files();
    stats_.bytes = store_->bytes();
    stats_.oldest_gone = store_->gone();
    stopping_ = started_end_ = failing_ = false;
    if (::pipe(pipe_) != 0)
      return fail({journal_errc::system, {errno, std::generic_category()}, "no descriptors"});
    for (const int end : pipe_) {
      ::fcntl(end, F_SETFD, FD_CLOEXEC);
      ::fcntl(end, F_SETFL, O_NONBLOCK);
    }
    if (writes) {
      inbox_ = std::make_unique<mailbox>(
          mailbox_options{.wake = [](void* j) noexcept { static_cast<journal*>(j)->wake(); },
                          .context = this,
                          .limits = options_.limits});
    }
    sequencer_options order;
    order.channels = options_.channels;
    order.channel = [this](std::string_view name) { return channel_of(name); };
    order.first_id = store_->back_by((std::min)(options_.preload_bytes, options_.lane_bytes / 2));
    order.lost_above = start_.recovered;
    order.lost_below = start_.next;
    order.lane_bytes = options_.lane_bytes;
    order.limits = options_.limits;
    order.given_ids = true;
    order_ = std::make_unique<sequencer>(std::move(order));
    return {};
  }

  [[nodiscard]] channel_options channel_of(std::string_view name) {
    channel_options o = options_.channel ? options_.channel(name) : channel_options{};
    std::size_t number = 0;
    while (options_.channels[number] != name) ++number;
    o.backfill = [this, number](const backfill_request& r, backfill_writer& w) {
      return give(number, r, w);
    };
    return o;
  }

  // --- publishing --------------------------------------------------------------------------------

  /// REQUIRES: the lock.
  [[nodiscard]] publish_result place(std::size_t channel, const event& e,
                                     const publish_options& o) {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (channel >= options_.channels.size()) return fail(publish_error::no_channel);
    if (o.transient) return order_->publish(channel, e, o);
    if (failing_ && !options_.live_without) return fail(publish_error::not_stored);
    const std::size_t beside = o.audience.size() + o.key.size() + 64;
    const std::size_t most = options_.lane_bytes / 2;
    if (beside > most) return fail(publish_error::too_large);
    const event_id id = head_ + 1;
    const detail::numbered_event n =
        detail::give_id(id, id_text_, e, o, options_.limits, most - beside);
    if (n.error != publish_error::none) return fail(n.error);
    const std::size_t size = n.plan.size;
    if (incoming_bytes_ + stats_.waiting_bytes + size > options_.queue_bytes)
      return fail(publish_error::full);
    detail::journal_batch& to = room_in_incoming();
    incoming_bytes_ -= to.size();
    char* const bytes = to.add({id,
                                clock_ms_.load(std::memory_order_relaxed),
                                static_cast<std::uint16_t>(channel),
                                o.audience,
                                o.key,
                                {},
                                o.role},
                               size);
    detail::encode_as(bytes, e, n.id, n.plan);
    incoming_bytes_ += to.size();
    head_ = id;
    return {id, publish_error::none};
  }

  /// REQUIRES: the lock.
  [[nodiscard]] detail::journal_batch& room_in_incoming() {
    if (!incoming_.empty() && incoming_.back()->size() < batch_bytes) return *incoming_.back();
    if (spare_.empty()) spare_.push_back(std::make_unique<detail::journal_batch>());
    incoming_.push_back(std::move(spare_.back()));
    spare_.pop_back();
    return *incoming_.back();
  }

  void wake() noexcept {
    // Who added something under the lock and finds it awake here was seen by it (sleep()).
    if (!sleeping_.load(std::memory_order_seq_cst)) return;
    if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;
    const char c = 0;
    while (::write(pipe_[1], &c, 1) < 0 && errno == EINTR) {
    }
  }

  // --- the journal's thread ----------------------------------------------------------------------

  void write_all() {
    clock::time_point synced = clock::now();
    for (bool last = false; !last;) {
      clock_ms_.store(wall_ms(), std::memory_order_relaxed);
      last = take_in();
      const bool moved = write_once(synced);
      if (last) break;
      if (!moved) sleep(synced);
    }
    end_run();
  }

  /// What was published since, to the store. True: nothing more will come.
  [[nodiscard]] bool take_in() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    inbox_->drain([this](const mail& m) {
      const publish_error e = place(static_cast<std::size_t>(m.target), m.event, m.options).error;
      return e != publish_error::full && e != publish_error::not_stored;
    });
    for (batch_ptr& b : incoming_) store_->take(std::move(b));
    incoming_.clear();
    incoming_bytes_ = 0;
    stats_.waiting_bytes = store_->pending_bytes();
    return stopping_;
  }

  /// False: nothing can be done now.
  bool write_once(clock::time_point& synced) {
    const clock::time_point now = clock::now();
    if (store_->pending().empty()) {
      if (failing_ && now >= retry_at_) try_without_events(now);
      return false;
    }
    int e = store_->claim_ids();
    if (e == 0 && (options_.durability == durability::none || lives_without())) show_unwritten();
    if (failing_ && now < retry_at_) return false;
    bool moved = false;
    const bool syncs = options_.durability >= durability::interval;
    while (e == 0 && store_->has_unwritten()) {
      e = store_->write();
      if (e == 0 && !syncs) moved = (e = show_written()) == 0;
    }
    if (e == 0 && syncs && may_sync(synced, now)) {
      e = store_->sync();
      synced = now;
      count_sync();
      if (e == 0) moved = (e = show_written()) == 0;
    }
    if (e == 0) {
      if (failing_) works_again();
      return moved;
    }
    fail_for_now(e, now);
    if (lives_without() && store_->claim_ids() == 0) {
      show_unwritten();
      if (store_->pending_bytes() > options_.queue_bytes / 2) {
        store_->give_up([this](batch_ptr b) { out_.push_back(std::move(b)); });
      }
    }
    return false;
  }
  /// What failed was shown, and other processes were not told of it; or it was given up: the next
  /// event tries again.
  void try_without_events(clock::time_point now) {
    if (const int e = store_->tell_head(); e != 0) return fail_for_now(e, now);
    works_again();
    if (store_->newest() != durable()) durable_is(store_->newest());
  }
  /// What comes until then shares the next fdatasync.
  [[nodiscard]] bool may_sync(clock::time_point synced, clock::time_point now) {
    return options_.durability == durability::every_batch || stopping_now() ||
           now - synced >= std::chrono::milliseconds{interval_ms()};
  }
  /// What is as safe as it has to be. An errno: other processes could not be told.
  [[nodiscard]] int show_written() {
    if (failing_) works_again();  // before anybody learns of it, and publishes more
    std::uint64_t events = 0;
    store_->show([&](batch_ptr b) {
      events += b->count();
      show(*b);
      out_.push_back(std::move(b));
    });
    const int e = store_->tell_head();
    if (e == 0) let_go();
    count_written(events);
    if (e == 0) durable_is(store_->newest());
    return e;
  }

  [[nodiscard]] bool lives_without() const noexcept { return failing_ && options_.live_without; }
  /// To the hubs, which read it where it is.
  void show(detail::journal_batch& b) {
    if (b.is_shown) return;
    wait_for_room([&] { return order_->hand_on(b, b.handed_on); });
    b.is_shown = true;
  }
  void show(const journal_event& e) {
    if (e.bytes.empty()) return;  // broken: who asks for it is told
    show(e.channel, e.bytes, detail::options_of(e));
  }
  void show(std::size_t channel, std::string_view bytes, const publish_options& o) {
    wait_for_room([&] { return order_->publish(channel, {.data = bytes}, o).error; });
  }
  /// Waits where a hub is behind by a whole lane.
  template <class Publish>
  void wait_for_room(Publish publish) {
    std::chrono::microseconds pause{50};
    while (publish() == publish_error::full && !stopping_now()) {
      std::this_thread::sleep_for(pause);
      pause = (std::min)(2 * pause, std::chrono::microseconds{1000});
    }
  }
  /// What is behind `from` is lost, and what comes next has `first`: a gap frame on each channel,
  /// under the ids that nobody will get.
  void show_loss(event_id from, event_id first) {
    char data[detail::max_gap];
    const char* const end = detail::put_gap(data, {.requested = from, .first = first});
    const std::size_t channels = options_.channels.size();
    for (std::size_t n = 0; n < channels; ++n) {
      const event_id below = channels - n;  // of `first`
      const bool has_id = first > below && first - below > order_->head();
      const event_id id = has_id ? first - below : no_id;
      const std::string text = has_id ? std::to_string(id) : std::string{};
      std::string frame;
      (void)encode(frame, {.type = "gap", .data = {data, end}, .id = text});
      show(n, frame, {.id = id, .transient = !has_id, .encoded = true});
    }
  }
  /// Before they are stored.
  void show_unwritten() {
    for (const batch_ptr& b : store_->pending()) show(*b);
  }

  void durable_is(event_id id) {
    {
      const std::scoped_lock<std::mutex> lock{wait_mutex_};
      durable_.store(id, std::memory_order_release);
    }
    durable_changed_.notify_all();
    if (options_.on_durable) options_.on_durable(id);
  }
  void count_written(std::uint64_t events) {
    const std::uint64_t files = store_->history().files();
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.batches;
    stats_.events += events;
    stats_.files = files;
    stats_.bytes = store_->bytes();
    stats_.oldest_gone = store_->gone();
    stats_.waiting_bytes = store_->pending_bytes();
    use_again();
  }
  /// What the hubs have read takes new events. REQUIRES: the lock.
  void use_again() {
    constexpr std::size_t most = 8;
    while (!out_.empty() && order_->is_taken(out_.front()->handed_on)) {
      batch_ptr b = std::move(out_.front());
      out_.pop_front();
      if (spare_.size() == most || b->bytes().room() > 2 * batch_bytes) continue;
      b->clear();
      spare_.push_back(std::move(b));
    }
  }
  void count_sync() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    ++stats_.syncs;
  }
  /// Of what is not to be kept; tried again behind the next batch.
  void let_go() {
    const int e = store_->trim(clock_ms_.load(std::memory_order_relaxed));
    if (e == 0 && !keeps_too_much_) return;
    keeps_too_much_ = e != 0;
    const std::scoped_lock<std::mutex> lock{mutex_};
    keep_problem_.clear();
    if (e == 0) return;
    ++stats_.failures;
    keep_problem_ =
        "old files of the journal cannot be removed: " + std::generic_category().message(e) +
        "; look who may write its directory; it is tried again";
  }
  void fail_for_now(int e, clock::time_point now) {
    retry_at_ = now + std::chrono::milliseconds{200};
    const std::scoped_lock<std::mutex> lock{mutex_};
    failing_ = stats_.failing = true;
    ++stats_.failures;
    problem_ = "the journal cannot be written: " + std::generic_category().message(e) +
               "; it is tried again until that ends";
  }
  void works_again() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    failing_ = stats_.failing = false;
    problem_.clear();
  }
  [[nodiscard]] bool stopping_now() {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return stopping_;
  }
  [[nodiscard]] std::int64_t interval_ms() const noexcept {
    return options_.interval.ms() < 1 ? 1 : options_.interval.ms();
  }

  void sleep(clock::time_point synced) {
    sleeping_.store(true, std::memory_order_seq_cst);
    int ms = 1000;
    if (!store_->pending().empty()) {
      const clock::time_point due =
          failing_ ? retry_at_ : synced + std::chrono::milliseconds{interval_ms()};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - clock::now()).count();
      ms = static_cast<int>(left < 0 ? 0 : left > 1000 ? 1000 : left);
    }
    bool empty = false;
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      empty = incoming_.empty() && !stopping_;
    }
    if (empty && inbox_->prepare_sleep()) wait(ms);
    sleeping_.store(false, std::memory_order_seq_cst);
    inbox_->awake();
  }
  void wait(int ms) noexcept {
    pollfd p{pipe_[0], POLLIN, 0};
    (void)::poll(&p, 1, ms);
    char bytes[64];
    while (::read(pipe_[0], bytes, sizeof bytes) == sizeof bytes) {
    }
  }

  void end_run() {
    started_end_ = true;
    const std::vector<batch_ptr>& pending = store_->pending();
    clock::time_point synced{};
    for (int tries = 0; tries < 10 && !pending.empty(); ++tries) {
      retry_at_ = {};
      if (!write_once(synced)) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    if (pending.empty()) {
      if (failing_) try_without_events(clock::now());
      if (const int e = store_->end_run(wall_ms()); e != 0) fail_for_now(e, clock::now());
    }
  }

  /// Another process writes: what it shows is shown here.
  void follow_all() {
    int ms = 1;
    while (!stopping_now()) {
      if (store_->look_for_news()) {
        ms = 1;
        show_news();
        durable_is(store_->newest());
      } else if (ms < 20) {
        ++ms;
      }
      sleeping_.store(true, std::memory_order_seq_cst);
      if (!stopping_now()) wait(ms);
      sleeping_.store(false, std::memory_order_seq_cst);
    }
  }

  void show_news() {
    event_id from = no_id;
    event_id first = no_id;
    for (bool lost = true; lost && !stopping_now();) {
      lost = store_->loss_behind(order_->head(), from, first) && first <= store_->newest();
      store_->read(order_->head(), lost ? from + 1 : max_event_id + 1,
                   [this](const journal_event& e) {
                     show(e);
                     return true;
                   });
      if (lost) show_loss(from, first);
    }
  }

  // --- old events, in the hubs' threads ----------------------------------------------------------

  [[nodiscard]] backfill_state give(std::size_t number, const backfill_request& r,
                                    backfill_writer& w) const {
    // Events, and pieces of other channels, that one call looks at.
    constexpr std::uint32_t most = 16'384;
    const std::uint64_t reader =
        (std::uint64_t{r.session.slot} << 32U | r.session.generation) * 0x9e3779b97f4a7c15U +
        number;
    backfill_state state = backfill_state::done;
    std::uint32_t looked = 0;
    event_id broken = no_id;  // what is at or below it, and not added, is broken
    const auto lose_broken = [&] { return broken <= w.last() || w.lose(broken + 1); };
    std::string_view run{};  // events that lie together and are not added yet
    event_id run_last = no_id;
    const auto add_run = [&] {
      return run.empty() || w.add_encoded(run_last, std::exchange(run, std::string_view{}));
    };
    const auto has_room = [&] {
      if (w.bytes() + run.size() < r.room && looked < most) return true;
      state = backfill_state::more;
      return false;
    };
    const auto add_together = [&](detail::piece_reader& p, event_id before) {
      while (!p.done() && p.id() < before) {
        if (!has_room()) return false;
        const event_id first = p.id();
        const std::string_view some =
            p.take(before, r.room - w.bytes() - run.size(), most - looked);
        looked += static_cast<std::uint32_t>(p.id() - first);
        const bool goes_on = !run.empty() && run.data() + run.size() == some.data();
        if (!goes_on && !add_run()) return false;
        run = {goes_on ? run.data() : some.data(), run.size() + some.size()};
        run_last = p.id() - 1;
      }
      return true;
    };
    const auto add_each = [&](detail::piece_reader& p, event_id before) {
      for (; !p.done() && p.id() < before; p.next(), ++looked) {
        if (!has_room()) return false;
        const journal_event e = p.event();
        const bool ok =
            e.channel == number ? w.add_encoded(e.id, e.bytes, e.audience) : w.pass(e.id);
        if (!ok) return false;
      }
      return true;
    };
    const auto add = [&](const detail::index_record& piece, detail::piece_reader& p,
                         event_id before) {
      const event_id last = (std::min)(piece.last(), before - 1);
      if (piece.size == 0) {
        broken = last;
        return add_run();
      }
      if (!lose_broken()) return false;
      if (piece.is_alike() && piece.channel == number && w.takes_runs())
        return add_together(p, before);
      if (!add_run() || !has_room()) return false;
      if (!piece.is_alike() || piece.channel == number) return add_each(p, before);
      ++looked;
      return w.pass(last);
    };
    for (event_id from = no_id, first = no_id; state == backfill_state::done;) {
      const bool lost = store_->loss_behind(w.last(), from, first) && from + 1 < r.before;
      const event_id before = lost ? from + 1 : r.before;
      store_->history().read_shared(
          w.last(), before, reader,
          [&](const detail::index_record& piece, detail::piece_reader& p) {
            return add(piece, p, before);
          },
          add_run);
      if (!lose_broken() || !lost || state != backfill_state::done) break;
      if (w.last() < from && !w.pass(from)) break;
      if (!w.lose(first < r.before ? first : r.before)) break;
    }
    return state;
  }

  journal_options options_;
  bool writes_ = false;
  bool repairs_ = false;
  std::unique_ptr<detail::journal_files> files_;
  std::unique_ptr<detail::journal_store> store_;
  std::unique_ptr<sequencer> order_;
  std::unique_ptr<mailbox> inbox_;
  journal_start start_;
  std::thread thread_;
  int pipe_[2] = {-1, -1};
  std::atomic<bool> sleeping_{false};
  std::atomic<std::int64_t> clock_ms_{wall_ms()};
  std::atomic<event_id> durable_{no_id};
  std::mutex wait_mutex_;
  std::condition_variable durable_changed_;

  // The thread's own.
  std::deque<batch_ptr> out_;  ///< shown, and perhaps read by hubs still
  clock::time_point retry_at_{};
  bool started_end_ = false;
  bool keeps_too_much_ = false;

  mutable std::mutex mutex_;  // of what follows
  std::vector<batch_ptr> incoming_;
  std::size_t incoming_bytes_ = 0;
  std::vector<batch_ptr> spare_;
  detail::id_text id_text_;
  event_id head_ = no_id;
  journal_stats stats_;
  std::string problem_;
  std::string keep_problem_;
  std::atomic<bool> failing_{false};
  bool stopping_ = false;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_JOURNAL_HPP
