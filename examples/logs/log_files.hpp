// ssehub example logs. SPDX-License-Identifier: MIT
//
// Log files as they lie in a directory: which there are, which of them a log was rotated to, and
// reading them. Nothing here remembers anything.
//
//   if (const file f = file::open(path)) n = f.read_at(buffer, offset);
//   for (const rotated_file& old : rotated_files(directory, "app.log")) ...   // oldest first
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace logs {

/// Which file it is, whatever its name is now.
struct file_key {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const file_key&, const file_key&) = default;
};

/// A regular file, open for reading.
class file {
 public:
  file() noexcept = default;
  file(file&& o) noexcept : fd_{std::exchange(o.fd_, -1)} {}
  file& operator=(file&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~file();

  /// Not open: there is none, or it may not be read, or it is no regular file.
  [[nodiscard]] static file open(const std::string& path);
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int descriptor() const noexcept { return fd_; }
  /// The same open file once more.
  [[nodiscard]] file again() const noexcept;
  [[nodiscard]] file_key key() const noexcept;
  [[nodiscard]] std::uint64_t size() const noexcept;
  /// As many bytes as there are, up to the span's size; 0 also for an error.
  [[nodiscard]] std::size_t read_at(std::span<char> to, std::uint64_t offset) const noexcept;

 private:
  int fd_ = -1;
};

struct file_state {
  file_key key{};
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
};
/// Absent: no regular file of that name.
[[nodiscard]] std::optional<file_state> state_of(const std::string& path) noexcept;

struct rotated_file {
  std::string path{};
  file_state state{};
};
/// The files that `name` was rotated to, oldest first: `name.1`, `name-20250921` and the like, with
/// nothing but digits and `-_.:TZ` behind the name. Numbers count backwards; else the time of the
/// last change decides.
[[nodiscard]] std::vector<rotated_file> rotated_files(const std::string& directory,
                                                      const std::string& name);

/// Names a file by how it begins; 0: it has no whole line yet. Also right for a copy.
[[nodiscard]] std::uint64_t mark_of(const file& f);
[[nodiscard]] std::uint64_t mark_of_line(std::string_view first_line) noexcept;

/// Whether a line, or a piece of a long one, ends in front of `offset`.
[[nodiscard]] bool is_line_end(const file& f, std::uint64_t offset, std::size_t longest);
/// The last offset up to `from` behind which a line begins.
[[nodiscard]] std::uint64_t last_line_end(const file& f, std::uint64_t from);
/// Goes `lines` lines back from `from`; what is left of `lines` are those that were not there.
[[nodiscard]] std::uint64_t lines_back(const file& f, std::uint64_t from, std::uint64_t& lines);

struct log_name {
  std::string id{};  ///< the file's name without .log
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
};
/// Whether it can name a log in a directory: no slash, no leading dot, UTF-8 without controls.
[[nodiscard]] bool is_log_id(std::string_view id) noexcept;
/// Every *.log, newest first.
[[nodiscard]] std::vector<log_name> list_logs(const std::string& directory);

}  // namespace logs
