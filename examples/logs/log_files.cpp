// ssehub example logs. SPDX-License-Identifier: MIT
#include "log_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <set>
#include <tuple>

#include "common/flags.hpp"
#include "line_cutter.hpp"
#include "sse/request.hpp"

namespace logs {
namespace {

constexpr int most_scans = 100;  ///< at a directory in which names change all the time
constexpr std::uint64_t most_back = std::uint64_t{16} << 20;  ///< bytes that are looked through

file_state to_state(const struct stat& s) noexcept {
#if defined(__APPLE__)
  const timespec& t = s.st_mtimespec;
#else
  const timespec& t = s.st_mtim;
#endif
  return {{static_cast<std::uint64_t>(s.st_dev), static_cast<std::uint64_t>(s.st_ino)},
          static_cast<std::uint64_t>(s.st_size),
          std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec,
          static_cast<std::uint64_t>(s.st_nlink)};
}

/// Calls f(name, inode) for each entry of a directory.
template <class F>
void for_each_name(const std::string& directory, F f) {
  DIR* const d = ::opendir(directory.c_str());
  if (d == nullptr) return;
  while (const dirent* const e = ::readdir(d))
    f(std::string_view{e->d_name}, std::uint64_t{e->d_ino});
  ::closedir(d);
}

/// What a rotation adds: `.1`, `-20250921`, `.2025-09-21_10-30-05`.
bool is_rotation(std::string_view added) noexcept {
  return added.size() > 1 && (added[0] == '.' || added[0] == '-') &&
         added.find_first_not_of("0123456789-_.:TZ", 1) == std::string_view::npos &&
         added.find_first_of("0123456789") != std::string_view::npos;
}

bool has_date(std::string_view added) noexcept {
  return std::count_if(added.begin(), added.end(), [](char c) { return c >= '0' && c <= '9'; }) >=
         6;
}

/// `@400000003b4a39c23294b13c.s`: a time in TAI64N, in hexadecimal digits.
bool is_tai_stamp(std::string_view entry) noexcept {
  return entry.size() == 27 && entry[0] == '@' && entry[25] == '.' &&
         entry.substr(1, 24).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// What a rotation of `name` added to make `entry`; empty: it is none.
std::string_view added_to(std::string_view name, std::string_view entry) noexcept {
  if (name == "current" && is_tai_stamp(entry)) return entry;
  if (entry.starts_with(name) && is_rotation(entry.substr(name.size())))
    return entry.substr(name.size());
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return {};
  const std::string_view stem = name.substr(0, dot);
  const std::string_view extension = name.substr(dot);
  if (entry.size() <= name.size() || !entry.starts_with(stem) || !entry.ends_with(extension))
    return {};
  const std::string_view added = entry.substr(stem.size(), entry.size() - name.size());
  // app-2.log may well be the log of a second app; app.2.log and app-20250921.log are no such.
  return is_rotation(added) && (added[0] == '.' || has_date(added)) ? added : std::string_view{};
}

}  // namespace

file::~file() {
  if (fd_ >= 0) ::close(fd_);
}

file file::open(const std::string& path, bool follow_links) {
  file f;
  // Not blocking: the open of a pipe would wait for its writer.
  f.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow_links ? 0 : O_NOFOLLOW));
  if (f.fd_ < 0) {
    f.error_ = errno == ELOOP || errno == ENOTDIR || errno == ENXIO ? ENOENT : errno;
    return f;
  }
  struct stat s {};
  if (::fstat(f.fd_, &s) != 0 || !S_ISREG(s.st_mode)) return file{};
  return f;
}

file file::temporary() {
  file f;
  if (std::FILE* const t = std::tmpfile()) {
    f.fd_ = ::fcntl(::fileno(t), F_DUPFD_CLOEXEC, 0);
    std::fclose(t);
  }
  return f;
}

file file::again() const noexcept {
  file f;
  if (fd_ >= 0) f.fd_ = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (f.fd_ < 0) f.error_ = errno;
  return f;
}

file_state file::state() const noexcept {
  struct stat s {};
  return ::fstat(fd_, &s) == 0 ? to_state(s) : file_state{};
}

std::int64_t file::born_ns() const noexcept {
#if defined(__APPLE__)
  struct stat s {};
  if (::fstat(fd_, &s) == 0)
    return std::int64_t{s.st_birthtimespec.tv_sec} * 1'000'000'000 + s.st_birthtimespec.tv_nsec;
#elif defined(STATX_BTIME)
  struct statx s {};
  if (::statx(fd_, "", AT_EMPTY_PATH, STATX_BTIME, &s) == 0 && (s.stx_mask & STATX_BTIME) != 0)
    return std::int64_t{s.stx_btime.tv_sec} * 1'000'000'000 + s.stx_btime.tv_nsec;
#endif
  return 0;
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

bool file::append(std::string_view bytes) const noexcept {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::uint64_t file::data_from(std::uint64_t offset) const noexcept {
#if defined(SEEK_DATA)
  const off_t at = ::lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
  if (at >= 0) return static_cast<std::uint64_t>(at);
  if (errno == ENXIO) return std::max(offset, size());
#endif
  return offset;
}

std::optional<file_state> state_of(const std::string& path, bool follow_links) noexcept {
  struct stat s {};
  if ((follow_links ? ::stat(path.c_str(), &s) : ::lstat(path.c_str(), &s)) != 0 ||
      !S_ISREG(s.st_mode))
    return std::nullopt;
  return to_state(s);
}

// --- rotated files -------------------------------------------------------------------------------

namespace {

struct numbered {
  rotated_file file{};
  std::optional<std::uint64_t> number{};  ///< it is all that a rotation added
};

std::vector<numbered> scan(const folder& in, const std::string& name) {
  std::vector<numbered> found;
  for_each_name(in.path, [&](std::string_view entry, std::uint64_t) {
    const bool compressed = entry.ends_with(".gz");
    const std::string_view added =
        added_to(name, compressed ? entry.substr(0, entry.size() - 3) : entry);
    if (added.empty() || entry == name) return;
    std::string path = in.file(entry);
    const auto state = state_of(path, in.follow_links);
    if (!state) return;
    found.push_back({{std::move(path), *state, compressed},
                     examples::parse_count(added.substr(1), 0, 999'999)});
  });
  // What is compressed at this moment is there twice.
  std::set<std::string> plain;
  for (const numbered& n : found) {
    if (!n.file.compressed) plain.insert(n.file.path);
  }
  std::erase_if(found, [&](const numbered& n) {
    return n.file.compressed && plain.contains(n.file.path.substr(0, n.file.path.size() - 3));
  });
  std::sort(found.begin(), found.end(), [](const numbered& a, const numbered& b) {
    return std::tie(a.file.state.modified_ns, a.file.path) <
           std::tie(b.file.state.modified_ns, b.file.path);
  });
  return found;
}

bool same(const std::vector<numbered>& a, const std::vector<numbered>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const numbered& x, const numbered& y) {
                      return x.file.path == y.file.path && x.file.state.key == y.file.state.key;
                    });
}

/// Numbers count backwards, as logrotate has it, unless the times say the contrary.
void sort_by_number(std::vector<numbered>& files) {
  std::sort(files.begin(), files.end(),
            [](const numbered& a, const numbered& b) { return *a.number > *b.number; });
  int rising = 0;
  for (std::size_t i = 1; i < files.size(); ++i) {
    const std::int64_t a = files[i - 1].file.state.modified_ns;
    const std::int64_t b = files[i].file.state.modified_ns;
    rising += a < b ? 1 : a > b ? -1 : 0;
  }
  if (rising < 0) std::reverse(files.begin(), files.end());
}

}  // namespace

std::vector<rotated_file> rotated_files(const folder& in, const std::string& name) {
  // While names are shifted a look may miss one: two that see the same have seen all. Many names
  // take longer to shift than a look does.
  std::vector<numbered> found = scan(in, name);
  for (int looks = 0; looks < most_scans; ++looks) {
    std::vector<numbered> once_more = scan(in, name);
    if (same(found, once_more)) break;
    found = std::move(once_more);
  }
  if (std::all_of(found.begin(), found.end(), [](const numbered& n) { return n.number; }))
    sort_by_number(found);
  std::vector<rotated_file> out;
  for (numbered& n : found) out.push_back(std::move(n.file));
  return out;
}

file open_by_key(const folder& in, const std::string& path, const file_key& key) {
  file f = file::open(path, in.follow_links);
  if (f ? f.key() == key : f.error() != ENOENT) return f;
  for (int looks = 3; looks > 0; --looks) {  // its name may change between a look and the open
    file found;
    for_each_name(in.path, [&](std::string_view entry, std::uint64_t inode) {
      // Some file systems have other numbers in their directories.
      const bool named = inode == key.inode || looks == 1;
      if (found || !named) return;
      f = file::open(in.file(entry), in.follow_links);
      if (f && f.key() == key) found = std::move(f);
    });
    if (found) return found;
  }
  return {};
}

// --- content -------------------------------------------------------------------------------------

std::uint64_t mark_of_line(std::string_view first_line) noexcept {
  content_check all;
  all.feed(first_line.substr(0, mark_bytes));
  return all.value() == 0 ? 1 : all.value();
}

std::uint64_t mark_of(const file& f) {
  std::array<char, mark_bytes + 2> bytes{};
  return mark_of_head({bytes.data(), f.read_at(bytes, 0)});
}

std::uint64_t mark_of_head(std::string_view begin) noexcept {
  const std::size_t lf = begin.find('\n');
  if (lf == std::string_view::npos && begin.size() < mark_bytes) return 0;
  std::string_view line = begin.substr(0, lf);
  if (lf != std::string_view::npos && line.ends_with('\r')) line.remove_suffix(1);
  return mark_of_line(line);
}

content_check check_at(const file& f, std::uint64_t offset) {
  content_check out{offset};
  std::array<char, 2 * content_check::block> bytes{};
  const std::uint64_t begin = content_check::seed_offset(offset);
  out.feed({bytes.data(),
            f.read_at(std::span{bytes}.first(static_cast<std::size_t>(offset - begin)), begin)});
  return out;
}

namespace {

/// Looks at a file from its end on.
class back_reader {
 public:
  explicit back_reader(const file& f) : file_{f} {}

  [[nodiscard]] char at(std::uint64_t offset) {
    if (offset < begin_ || offset >= begin_ + bytes_.size()) load(offset + 1);
    return offset >= begin_ && offset - begin_ < bytes_.size()
               ? bytes_[static_cast<std::size_t>(offset - begin_)]
               : '\0';
  }
  /// The last LF with from <= its offset < to.
  [[nodiscard]] std::optional<std::uint64_t> last_lf(std::uint64_t from, std::uint64_t to) {
    while (to > from) {
      if (to <= begin_ || to > begin_ + bytes_.size()) load(to);
      if (bytes_.empty()) return std::nullopt;  // it shrinks as we look
      const std::size_t lf =
          std::string_view{bytes_}.substr(0, static_cast<std::size_t>(to - begin_)).rfind('\n');
      if (lf != std::string_view::npos)
        return begin_ + lf >= from ? std::optional{begin_ + lf} : std::nullopt;
      to = begin_;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::uint64_t looked_at() const noexcept { return looked_at_; }

 private:
  void load(std::uint64_t end) {
    const std::uint64_t n = std::min<std::uint64_t>(end, std::uint64_t{64} << 10);
    begin_ = end - n;
    bytes_.resize(static_cast<std::size_t>(n));
    if (file_.read_at(bytes_, begin_) != n) bytes_.clear();
    looked_at_ += n;
  }

  const file& file_;
  std::string bytes_;
  std::uint64_t begin_ = 0;
  std::uint64_t looked_at_ = 0;
};

/// Where the line or piece begins of which the byte in front of `end` is the last.
std::uint64_t begin_of(back_reader& back, std::uint64_t end, std::size_t longest) {
  std::uint64_t cut = (end - 1) / longest * longest;
  if (cut == end - 1 && cut != 0 && back.at(cut) == '\n') cut -= longest;
  const auto lf = back.last_lf(cut < longest ? 0 : cut - longest, end - 1);
  if (lf) return *lf + 1;
  if (cut == 0) return 0;
  std::array<char, 4> around{back.at(cut - 3), back.at(cut - 2), back.at(cut - 1), back.at(cut)};
  return cut - split_character({around.data(), around.size()}, 3);
}

}  // namespace

bool goes_on_at(const file& f, std::uint64_t offset) {
  char last = '\n';
  return offset != 0 && f.read_at({&last, 1}, offset - 1) == 1 && last != '\n';
}

std::uint64_t last_line_end(const file& f, std::uint64_t from, std::size_t longest) {
  if (from == 0 || !goes_on_at(f, from)) return from;
  back_reader back{f};
  return begin_of(back, from, longest);
}

std::uint64_t lines_back(const file& f, std::uint64_t from, std::uint64_t& lines,
                         std::size_t longest) {
  const std::uint64_t first = f.data_from(0);  // what a copy-truncate leaves may begin with a hole
  back_reader back{f};
  for (; lines != 0; --lines) {
    if (from <= first) return 0;
    if (back.looked_at() > most_back) lines = 1;
    from = begin_of(back, from, longest);
  }
  return from;
}

// --- names ---------------------------------------------------------------------------------------

bool is_log_id(std::string_view id) noexcept {
  if (id.empty() || id.size() > 200 || id.front() == '.') return false;
  for (const char c : id) {
    if (c == '/' || sse::detail::text::is_control(c)) return false;
  }
  return sse::detail::text::is_utf8(id);
}

std::string file_name_of(std::string_view id) {
  return id == "current" ? "current" : std::string{id} + ".log";
}

std::vector<log_name> list_logs(const folder& in) {
  std::vector<log_name> out;
  for_each_name(in.path, [&](std::string_view entry, std::uint64_t) {
    const std::string_view id = entry.ends_with(".log") ? entry.substr(0, entry.size() - 4) : entry;
    if (!is_log_id(id) || file_name_of(id) != entry) return;
    const auto state = state_of(in.file(entry), in.follow_links);
    if (state) out.push_back({std::string{id}, state->size, state->modified_ns});
  });
  std::sort(out.begin(), out.end(), [](const log_name& a, const log_name& b) {
    return std::tie(b.modified_ns, a.id) < std::tie(a.modified_ns, b.id);
  });
  return out;
}

}  // namespace logs
