// ssehub example logs. SPDX-License-Identifier: MIT
#include "log_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <tuple>

#include "common/flags.hpp"
#include "sse/request.hpp"

namespace logs {
namespace {

constexpr std::size_t mark_bytes = 4096;  ///< of a first line that count

file_state to_state(const struct stat& s) noexcept {
#if defined(__APPLE__)
  const timespec& t = s.st_mtimespec;
#else
  const timespec& t = s.st_mtim;
#endif
  return {{static_cast<std::uint64_t>(s.st_dev), static_cast<std::uint64_t>(s.st_ino)},
          static_cast<std::uint64_t>(s.st_size),
          std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec};
}

/// Calls f(name) for each entry of a directory.
template <class F>
void for_each_name(const std::string& directory, F f) {
  DIR* const d = ::opendir(directory.c_str());
  if (d == nullptr) return;
  while (const dirent* const e = ::readdir(d)) f(std::string_view{e->d_name});
  ::closedir(d);
}

/// Behind `.` or `-`: what a rotation adds, and no compression.
bool is_rotation(std::string_view suffix) noexcept {
  return suffix.size() > 1 && (suffix[0] == '.' || suffix[0] == '-') &&
         suffix.find_first_not_of("0123456789-_.:TZ", 1) == std::string_view::npos &&
         suffix.find_first_of("0123456789") != std::string_view::npos;
}

}  // namespace

file::~file() {
  if (fd_ >= 0) ::close(fd_);
}

file file::open(const std::string& path) {
  file f;
  // Not blocking: the open of a pipe would wait for its writer.
  f.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat s {};
  if (f.fd_ >= 0 && (::fstat(f.fd_, &s) != 0 || !S_ISREG(s.st_mode))) return file{};
  return f;
}

file file::again() const noexcept {
  file f;
  if (fd_ >= 0) f.fd_ = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  return f;
}

file_key file::key() const noexcept {
  struct stat s {};
  return ::fstat(fd_, &s) == 0 ? to_state(s).key : file_key{};
}

std::uint64_t file::size() const noexcept {
  struct stat s {};
  return ::fstat(fd_, &s) == 0 ? static_cast<std::uint64_t>(s.st_size) : 0;
}

std::size_t file::read_at(std::span<char> to, std::uint64_t offset) const noexcept {
  std::size_t got = 0;
  while (got < to.size()) {
    const ssize_t n =
        ::pread(fd_, to.data() + got, to.size() - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  return got;
}

std::optional<file_state> state_of(const std::string& path) noexcept {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return std::nullopt;
  return to_state(s);
}

std::vector<rotated_file> rotated_files(const std::string& directory, const std::string& name) {
  struct numbered {
    rotated_file file{};
    std::uint64_t number = 0;
  };
  std::vector<numbered> found;
  bool numbers = true;  // all of them have one
  for_each_name(directory, [&](std::string_view entry) {
    if (!entry.starts_with(name) || !is_rotation(entry.substr(name.size()))) return;
    std::string path = directory + "/" + std::string{entry};
    const auto state = state_of(path);
    if (!state) return;
    const auto number = examples::parse_count(entry.substr(name.size() + 1), 0, 999'999);
    numbers = numbers && number;
    found.push_back({{std::move(path), *state}, number.value_or(0)});
  });
  std::sort(found.begin(), found.end(), [&](const numbered& a, const numbered& b) {
    if (numbers) return a.number > b.number;
    return std::tie(a.file.state.modified_ns, a.file.path) <
           std::tie(b.file.state.modified_ns, b.file.path);
  });
  std::vector<rotated_file> out;
  for (numbered& n : found) out.push_back(std::move(n.file));
  return out;
}

std::uint64_t mark_of_line(std::string_view first_line) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, 64 bits
  for (const char c : first_line.substr(0, mark_bytes)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash == 0 ? 1 : hash;
}

std::uint64_t mark_of(const file& f) {
  std::array<char, mark_bytes + 2> bytes{};
  const std::string_view begin{bytes.data(), f.read_at(bytes, 0)};
  const std::size_t lf = begin.find('\n');
  if (lf == std::string_view::npos && begin.size() < mark_bytes) return 0;
  std::string_view line = begin.substr(0, lf);
  if (lf != std::string_view::npos && line.ends_with('\r')) line.remove_suffix(1);
  return mark_of_line(line);
}

bool is_line_end(const file& f, std::uint64_t offset, std::size_t longest) {
  if (offset == 0) return true;
  char last = 0;
  if (f.read_at({&last, 1}, offset - 1) != 1) return false;
  if (last == '\n') return true;
  // The end of a piece: it is nearly as long as a line may be, give or take a character.
  if (offset + 3 < longest) return false;
  std::string before(longest - 3, '\0');
  return f.read_at(before, offset - before.size()) == before.size() &&
         before.find('\n') == std::string::npos;
}

std::uint64_t last_line_end(const file& f, std::uint64_t from) {
  std::uint64_t lines = 0;
  return lines_back(f, from, lines);
}

std::uint64_t lines_back(const file& f, std::uint64_t from, std::uint64_t& lines) {
  char last = 0;
  const bool whole = from != 0 && f.read_at({&last, 1}, from - 1) == 1 && last == '\n';
  // The LF right in front of `from` ends the first of the lines; what has none counts as a line.
  std::uint64_t needed = std::max<std::uint64_t>(whole ? lines + 1 : lines, 1);
  std::uint64_t seen = whole || from == 0 ? 0 : 1;
  std::vector<char> bytes(std::size_t{64} << 10);
  for (std::uint64_t end = from; end > 0;) {
    const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), end));
    const std::uint64_t begin = end - n;
    if (f.read_at({bytes.data(), n}, begin) != n) break;  // it shrinks as we look
    for (std::size_t i = n; i-- > 0;) {
      if (bytes[i] != '\n') continue;
      if (--needed == 0) {
        lines = 0;
        return begin + i + 1;
      }
      ++seen;
    }
    end = begin;
  }
  lines -= std::min(lines, seen);
  return 0;
}

bool is_log_id(std::string_view id) noexcept {
  if (id.empty() || id.size() > 200 || id.front() == '.') return false;
  for (const char c : id) {
    if (c == '/' || sse::detail::text::is_control(c)) return false;
  }
  return sse::detail::text::is_utf8(id);
}

std::vector<log_name> list_logs(const std::string& directory) {
  std::vector<log_name> out;
  for_each_name(directory, [&](std::string_view entry) {
    if (!entry.ends_with(".log")) return;
    const std::string_view id = entry.substr(0, entry.size() - 4);
    if (!is_log_id(id)) return;
    const auto state = state_of(directory + "/" + std::string{entry});
    if (state) out.push_back({std::string{id}, state->size, state->modified_ns});
  });
  std::sort(out.begin(), out.end(), [](const log_name& a, const log_name& b) {
    return std::tie(b.modified_ns, a.id) < std::tie(a.modified_ns, b.id);
  });
  return out;
}

}  // namespace logs
