// ssehub example logs. SPDX-License-Identifier: MIT
//
// Log files as they lie in a directory: which there are, which of them a log was rotated to, and
// reading them. Nothing here remembers anything.
//
//   if (const file f = file::open(in.file("app.log"), in.follow_links)) n = f.read_at(buffer, 0);
//   for (const rotated_file& old : rotated_files(in, "app.log")) ...   // oldest first
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "log_id.hpp"

namespace logs {

/// Where logs lie.
struct folder {
  folder(std::string p, bool links = false) : path{std::move(p)}, follow_links{links} {}
  [[nodiscard]] std::string file(std::string_view name) const {
    return path + "/" + std::string{name};
  }
  std::string path;
  bool follow_links;  ///< symbolic links are the files they lead to; else they are not there
};

/// Which file it is, whatever its name is now.
struct file_key {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const file_key&, const file_key&) = default;
};

struct file_state {
  file_key key{};
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
  std::uint64_t links = 0;  ///< names that it has; 0: it was deleted
};

/// A regular file, open for reading.
class file {
 public:
  file() noexcept = default;
  file(file&& o) noexcept : fd_{std::exchange(o.fd_, -1)}, error_{o.error_} {}
  file& operator=(file&& o) noexcept {
    std::swap(fd_, o.fd_);
    std::swap(error_, o.error_);
    return *this;
  }
  ~file();

  /// Not open: see error().
  [[nodiscard]] static file open(const std::string& path, bool follow_links);
  /// A file without a name, for reading and writing.
  [[nodiscard]] static file temporary();
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  /// Why it is not open, as in errno; ENOENT also for what is no regular file.
  [[nodiscard]] int error() const noexcept { return error_; }
  [[nodiscard]] int descriptor() const noexcept { return fd_; }
  /// The same open file once more.
  [[nodiscard]] file again() const noexcept;
  [[nodiscard]] file_state state() const noexcept;
  [[nodiscard]] file_key key() const noexcept { return state().key; }
  [[nodiscard]] std::uint64_t size() const noexcept { return state().size; }
  /// When it was made, whatever its name was; 0: the system does not say.
  [[nodiscard]] std::int64_t born_ns() const noexcept;
  /// As many bytes as there are, up to the span's size; 0 also for an error.
  [[nodiscard]] std::size_t read_at(std::span<char> to, std::uint64_t offset) const noexcept;
  [[nodiscard]] bool append(std::string_view bytes) const noexcept;
  /// Where the first byte at or behind `offset` stands that is in no hole, or the end; `offset`
  /// where the system cannot say.
  [[nodiscard]] std::uint64_t data_from(std::uint64_t offset) const noexcept;

 private:
  int fd_ = -1;
  int error_ = ENOENT;
};

/// Absent: no regular file of that name.
[[nodiscard]] std::optional<file_state> state_of(const std::string& path,
                                                 bool follow_links) noexcept;

struct rotated_file {
  std::string path{};
  file_state state{};
  bool compressed = false;  ///< its name ends in .gz
};
/// The files that `name` was rotated to, oldest first. Their names are that of the log with digits
/// and `-_.:TZ` behind it or in front of its `.log`, all that with or without `.gz`; and the stamps
/// of svlogd and multilog beside `current`. The time of the last change says which is older; the
/// numbers of numbered ones do, in the direction that the times have.
[[nodiscard]] std::vector<rotated_file> rotated_files(const folder& in, const std::string& name);
/// Opens the file that was at `path` when it had that key, whatever its name is by now. ENOENT: it
/// has none any more. A number may have gone to another file since: see what is in it.
[[nodiscard]] file open_by_key(const folder& in, const std::string& path, const file_key& key);

inline constexpr std::size_t mark_bytes = 4096;  ///< of a first line that its mark is made of
/// Names a file by how it begins; 0: it has no whole line yet. Also right for a copy.
[[nodiscard]] std::uint64_t mark_of(const file& f);
[[nodiscard]] std::uint64_t mark_of_head(std::string_view begin) noexcept;  ///< its first bytes
[[nodiscard]] std::uint64_t mark_of_line(std::string_view first_line) noexcept;
/// Of what stands in front of `offset`.
[[nodiscard]] content_check check_at(const file& f, std::uint64_t offset);

/// Whether a line or piece begins at `offset` in the middle of a line.
[[nodiscard]] bool goes_on_at(const file& f, std::uint64_t offset);
/// The last offset up to `from` at which a line or piece begins. `longest` as of a line_cutter.
[[nodiscard]] std::uint64_t last_line_end(const file& f, std::uint64_t from, std::size_t longest);
/// Goes `lines` lines back from `from`, where one ends; what is left of `lines` are those that were
/// not there. It looks back a few MiB, and takes no more lines than it finds there.
[[nodiscard]] std::uint64_t lines_back(const file& f, std::uint64_t from, std::uint64_t& lines,
                                       std::size_t longest);

struct log_name {
  std::string id{};  ///< the file's name without .log
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
};
/// Whether it can name a log in a directory: no slash, no leading dot, UTF-8 without controls.
[[nodiscard]] bool is_log_id(std::string_view id) noexcept;
/// The file of that id: `id.log`, but `current` for that id, as svlogd and multilog have it.
[[nodiscard]] std::string file_name_of(std::string_view id);
/// Every log, newest first.
[[nodiscard]] std::vector<log_name> list_logs(const folder& in);

}  // namespace logs
