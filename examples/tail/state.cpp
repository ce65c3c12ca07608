#include "tail/state.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "common/replace_file.hpp"

namespace tail {

namespace {

constexpr std::string_view first_line = "tail 1";

std::string what(std::string_view path, int error) {
  return std::string{path}.append(": ").append(std::strerror(error));
}

/// A descriptor to read from, closed at the end.
class file {
 public:
  explicit file(const std::string& path) : fd_{::open(path.c_str(), O_RDONLY | O_CLOEXEC)} {}
  file(const file&) = delete;
  file& operator=(const file&) = delete;
  ~file() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool read(std::string& out) const {
    char buffer[4096];
    for (;;) {
      const ssize_t n = ::read(fd_, buffer, sizeof buffer);
      if (n == 0) return true;
      if (n < 0 && errno != EINTR) return false;
      if (n > 0) out.append(buffer, static_cast<std::size_t>(n));
      if (out.size() > 1'000'000) return true;  // no file of ours: reading it says so
    }
  }

 private:
  int fd_;
};

/// Takes a line off, without its end. False: there is no whole one.
bool take_line(std::string_view& text, std::string_view& line) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return false;
  line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return true;
}

template <class T>
bool take_number(std::string_view& text, T& n) {
  if (text.starts_with(' ')) text.remove_prefix(1);
  const auto r = std::from_chars(text.data(), text.data() + text.size(), n);
  if (r.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(r.ptr - text.data()));
  return true;
}

}  // namespace

state_file::output state_file::output::now() {
  output o;
  struct stat s {};
  if (::fstat(STDOUT_FILENO, &s) != 0 || !S_ISREG(s.st_mode)) return o;
  o.device = static_cast<std::uint64_t>(s.st_dev);
  o.node = static_cast<std::uint64_t>(s.st_ino);
  const bool appends = (::fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND) != 0;  // NOLINT: variadic
  o.size = appends ? s.st_size : ::lseek(STDOUT_FILENO, 0, SEEK_CUR);
  return o;
}

bool state_file::read(std::string_view text, output& then) {
  std::string_view line;
  if (!take_line(text, line) || line != first_line) return false;
  if (!take_line(text, line) || !line.starts_with("id ")) return false;
  id_ = line.substr(3);
  if (text.empty()) return true;
  if (!take_line(text, line) || !line.starts_with("stdout")) return false;
  line.remove_prefix(6);
  return take_number(line, then.device) && take_number(line, then.node) &&
         take_number(line, then.size) && line.empty() && text.empty() && then.size >= 0;
}

std::string state_file::load() {
  std::string text;
  {
    const file f{path_};
    if (f.get() < 0) return errno == ENOENT ? std::string{} : what(path_, errno);
    if (!f.read(text)) return what(path_, errno);
  }
  output then;
  if (!read(text, then)) return path_ + ": no state that tail wrote; remove it to begin anew";
  const output now = output::now();
  const bool same =
      then.size >= 0 && now.size >= 0 && then.device == now.device && then.node == now.node;
  if (!same) return {};
  struct stat s {};
  if (::fstat(STDOUT_FILENO, &s) != 0) return what("stdout", errno);
  if (s.st_size > then.size && ::ftruncate(STDOUT_FILENO, then.size) != 0) {
    return what("stdout", errno);
  }
  return ::lseek(STDOUT_FILENO, 0, SEEK_END) < 0 ? what("stdout", errno) : std::string{};
}

std::string state_file::save(std::string_view id) {
  const output o = output::now();
  if (o.size >= 0 && ::fdatasync(STDOUT_FILENO) != 0) return what("stdout", errno);
  std::string text{first_line};
  text.append("\nid ").append(id).append("\n");
  if (o.size >= 0) {
    text.append("stdout ").append(std::to_string(o.device)).append(" ");
    text.append(std::to_string(o.node)).append(" ").append(std::to_string(o.size)).append("\n");
  }
  std::string wrong = examples::replace_file(path_, text, S_IRUSR | S_IWUSR);
  if (wrong.empty()) id_ = id;
  return wrong;
}

}  // namespace tail
