// A rotation is many steps, and so is a look of the follower: every step of every way to rotate
// falls between any two of a look's calls of the system. Nothing waits here.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "file_calls.hpp"
#include "following.hpp"
#include "log_directory.hpp"
#include "logs/unpacker.hpp"

using namespace test;

namespace {

/// What gzip would make of it, had it found nothing to save.
std::string stored_gzip(std::string_view plain) {
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char c : plain) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
  }
  std::string out{"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01", 11};
  const auto number = [&out](std::uint32_t n, int bytes) {
    for (; bytes > 0; --bytes, n >>= 8) out += static_cast<char>(n & 0xffU);
  };
  REQUIRE(plain.size() < 65536);
  number(static_cast<std::uint32_t>(plain.size()), 2);
  number(~static_cast<std::uint32_t>(plain.size()), 2);
  out += plain;
  number(~crc, 4);
  number(static_cast<std::uint32_t>(plain.size()), 4);
  return out;
}

/// A directory in which rotations are done step by step.
class stage_of_files {
 public:
  using step = std::function<void()>;

  log_directory d{true};
  std::string log = "app.log";
  std::vector<step> steps;  ///< those that are still to come

  /// The next two lines, at once.
  void write() {
    d.append(log, numbered(next_line_, next_line_ + 1));
    next_line_ += 2;
    touch(log);
  }
  void then(step s) { steps.push_back(std::move(s)); }
  void then_write() {
    then([this] { write(); });
  }
  void then_rename(const std::string& from, const std::string& to) {
    then([=, this] { d.rename(from, to); });
  }
  void then_compress(const std::string& name) {
    then([=, this] { d.append(name + ".gz", packed(name).substr(0, 15)); });
    then([=, this] {
      d.append(name + ".gz", packed(name).substr(15));
      const auto when = std::filesystem::last_write_time(d.file(name));
      std::filesystem::last_write_time(d.file(name + ".gz"), when);
    });
    then([=, this] { d.remove(name); });
  }
  /// app.log.3 to app.log.4 and so on, as far as they are there when it comes to that.
  void then_shift(int from, const std::string& behind = "") {
    for (int n = from; n >= 1; --n) {
      then([=, this] {
        const std::string name = log + "." + std::to_string(n) + behind;
        if (std::filesystem::exists(d.file(name)))
          d.rename(name, log + "." + std::to_string(n + 1) + behind);
      });
    }
  }
  /// What of it a copy has that is not done, and what it has not.
  [[nodiscard]] std::string begin_of(const std::string& name) const {
    return content(name).substr(0, some);
  }
  [[nodiscard]] std::string rest_of(const std::string& name) const {
    return content(name).substr(some);
  }
  void run_steps(std::size_t n) {
    for (; n != 0 && done_ != steps.size(); --n) steps[done_++]();
  }
  void run_all() { run_steps(steps.size()); }
  [[nodiscard]] bool over() const { return done_ == steps.size(); }
  void forget_steps() {
    steps.clear();
    done_ = 0;
  }
  [[nodiscard]] int last_line() const { return next_line_ - 1; }

 private:
  void touch(const std::string& name) {
    const struct timespec t[2] = {{1'700'000'000 + ++second_, 0}, {1'700'000'000 + second_, 0}};
    REQUIRE(::utimensat(AT_FDCWD, d.file(name).c_str(), t, 0) == 0);
  }
  static constexpr std::size_t some = 10;
  [[nodiscard]] std::string content(const std::string& name) const {
    std::ifstream in{d.file(name), std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
  }
  [[nodiscard]] std::string packed(const std::string& name) const {
    return stored_gzip(content(name));
  }

  std::size_t done_ = 0;
  int next_line_ = 1;
  int second_ = 0;
};

struct way_to_rotate {
  const char* name;
  const char* log;
  void (*rotate)(stage_of_files& s, int n);  ///< adds the steps of the n-th rotation
  /// A log that was seen empty, filled, copied and truncated again before the next look is as it
  /// was: nothing tells that there was something.
  bool once = false;
};

const way_to_rotate ways[] = {
    {"logrotate", "app.log",
     [](stage_of_files& s, int) {
       s.then_shift(3);
       s.then_rename("app.log", "app.log.1");
       s.then_write();
     }},
    {"logrotate compress", "app.log",
     [](stage_of_files& s, int) {
       s.then_shift(3, ".gz");
       s.then_rename("app.log", "app.log.1");
       s.then_write();
       s.then_compress("app.log.1");
     }},
    {"logrotate compress, the writer comes late", "app.log",
     [](stage_of_files& s, int) {
       s.then_shift(3, ".gz");
       s.then_rename("app.log", "app.log.1");
       s.then_compress("app.log.1");
       s.then_write();
     }},
    {"logrotate compress delaycompress", "app.log",
     [](stage_of_files& s, int n) {
       if (n > 1) s.then_compress("app.log.1");
       s.then_shift(3, ".gz");
       s.then_rename("app.log", "app.log.1");
       s.then_write();
     }},
    {"logrotate copytruncate", "app.log",
     [](stage_of_files& s, int) {
       s.then_shift(3);
       s.then([&s] { s.d.copy("app.log", "app.log.1"); });
       s.then([&s] { s.d.truncate("app.log"); });
       s.then_write();
     },
     true},
    {"logrotate copytruncate, killed with a copy that is done and in the middle of one", "app.log",
     [](stage_of_files& s, int n) {
       if (n % 2 == 0) {
         s.then_shift(n + 1);
         s.then([&s] { s.d.copy("app.log", "app.log.1"); });
         s.then_write();
         s.then_shift(n + 2);
         s.then([&s] { s.d.append("app.log.1", s.begin_of("app.log")); });
       }
       s.then_shift(n + 3);
       s.then([&s] { s.d.append("app.log.1", s.begin_of("app.log")); });
       s.then([&s] { s.d.append("app.log.1", s.rest_of("app.log")); });
       s.then([&s] { s.d.truncate("app.log"); });
       s.then_write();
     },
     true},
    {"log4j max", "app.log",
     [](stage_of_files& s, int n) {
       s.then_rename("app.log", "app.log." + std::to_string(n));
       s.then_write();
     }},
    {"svlogd", "current",
     [](stage_of_files& s, int n) {
       const std::string stamp = "@40000000654321" + std::to_string(10 + n) + "0a1b2c3d.";
       s.then_rename("current", stamp + "u");
       s.then_rename(stamp + "u", stamp + "s");
       s.then([&s] { s.d.append("current", ""); });
       s.then_write();
     }},
    {"multilog", "current",
     [](stage_of_files& s, int n) {
       const std::string stamp = "@40000000654321" + std::to_string(10 + n) + "0a1b2c3d.s";
       s.then([&s, stamp] {
         std::filesystem::create_hard_link(s.d.file("current"), s.d.file(stamp));
       });
       s.then([&s] { s.d.remove("current"); });
       s.then([&s] { s.d.append("current", ""); });
       s.then_write();
     }},
};

/// Three rotations have been, with a look behind each; a fourth is to come, and most often a fifth.
void set_up(stage_of_files& s, const way_to_rotate& w, const std::function<void()>& look) {
  s.log = w.log;
  s.write();
  look();
  for (int n = 1; n <= 3; ++n) {
    w.rotate(s, n);
    s.run_all();
    s.forget_steps();
    look();
  }
  w.rotate(s, 4);
  s.then_write();
  if (w.once) return;
  w.rotate(s, 5);
  s.then_write();
}

strings lines_alone(const strings& all) {
  strings out;
  for (const std::string& s : all) {
    if (s != "[rotated]" && s != "[renamed]" && s != "[truncated]") out.push_back(s);
  }
  return out;
}

/// When the steps come: `before` of them before the look, and in it from the call `first` on one in
/// front of each call, `most` in all.
struct timing {
  std::size_t before;
  long first;
  std::size_t most;
};

/// Looks while the steps come. False: the look was over before they came.
bool look_while(stage_of_files& s, const timing& t, bool at_once,
                const std::function<void()>& look) {
  s.run_steps(t.before);
  std::size_t left = t.most;
  before_file_calls([&](long n) {
    if (n < t.first || left == 0) return;
    const std::size_t now = at_once ? left : 1;
    left -= now;
    s.run_steps(now);
  });
  look();
  return end_file_calls() > t.first;
}

/// All steps in front of each call of a look; one in front of each call from each call on; and each
/// step alone in front of every eleventh call, another eleventh for each.
void at_every_call(const std::function<bool(const timing&, bool at_once)>& one_case,
                   std::size_t steps) {
  for (std::size_t k = 0; k < steps; ++k) {
    for (long i = static_cast<long>(k % 11); one_case({k, i, 1}, true); i += 11) {
    }
  }
  for (const bool at_once : {false, true}) {
    for (long i = 0; one_case({0, i, steps}, at_once); ++i) {
    }
  }
}

std::size_t steps_of(const way_to_rotate& w) {
  stage_of_files s;
  set_up(s, w, [] {});
  return s.steps.size();
}

}  // namespace

TEST_CASE("X-16 a rotation may fall between any two calls of a look at a log that is followed") {
  if (!file_calls_are_seen() || !logs::unpacker::available()) return;
  for (const way_to_rotate& w : ways) {
    CAPTURE(w.name);
    bool good = true;
    at_every_call(
        [&](const timing& t, bool at_once) {
          stage_of_files s;
          std::unique_ptr<followed> f;
          set_up(s, w, [&] {
            if (!f) {
              f = std::make_unique<followed>(s.d, w.log);
              REQUIRE(f->log.open());
            }
            f->poll();
          });
          const bool reached = look_while(s, t, at_once, [&] { f->poll(); });
          s.run_all();
          f->poll(2000);
          f->poll(4000);
          const strings expected = lines(3, s.last_line());
          if (lines_alone(f->told) != expected) {
            CAPTURE(t.before, t.first, t.most, at_once);
            CHECK(lines_alone(f->told) == expected);
            good = false;
          }
          return reached && good;
        },
        steps_of(w));
  }
}

TEST_CASE("X-16 a rotation may fall between any two calls of what a returning reader needs") {
  if (!file_calls_are_seen() || !logs::unpacker::available()) return;
  for (const bool of_this_run : {true, false}) {
    for (const way_to_rotate& w : ways) {
      CAPTURE(w.name, of_this_run);
      bool good = true;
      at_every_call(
          [&](const timing& t, bool at_once) {
            stage_of_files s;
            std::unique_ptr<followed> f;
            set_up(s, w, [&] {
              if (!f) {
                f = std::make_unique<followed>(s.d, w.log);
                REQUIRE(f->log.open());
              }
              f->poll();
            });
            const sse::event_id begun = f->ids.at(1);  // line 3 was read
            strings got;
            sse::event_id last = begun;
            bool resolved = false;
            const auto read = [&] {  // as a server does for a reader
              if (!resolved) {
                const auto at = f->log.resolve(last);
                if (!at) {
                  if (!f->log.blocked()) got.push_back("lost");
                  return;
                }
                resolved = true;
                last = *at;
              }
              auto state = sse::backfill_state::more;
              while (state == sse::backfill_state::more) {
                state = f->log.read_back(
                    last, f->log.last_id() + 1, SIZE_MAX,
                    [&](sse::event_id id, const sse::event& e) {
                      last = id;
                      const std::string type{e.type};
                      got.push_back(type.empty() ? std::string{e.data} : "[" + type + "]");
                      return true;
                    });
              }
              if (state == sse::backfill_state::lost) got.push_back("lost");
            };
            const bool reached = look_while(s, t, at_once, [&] {
              if (!of_this_run) {
                f = std::make_unique<followed>(s.d, w.log);
                if (!f->log.open()) return;  // between two names: the reader is told to come again
              }
              f->poll();
              read();
            });
            s.run_all();
            if (f->log.descriptor() < 0) {
              CHECK(f->log.error() == EAGAIN);
              f = std::make_unique<followed>(s.d, w.log);
              REQUIRE(f->log.open());
            }
            for (int i = 1; i <= 3; ++i) {
              f->poll(2000 * i);
              read();
            }
            const strings expected = lines(4, s.last_line());
            if (lines_alone(got) != expected) {
              CAPTURE(t.before, t.first, t.most, at_once);
              CHECK(lines_alone(got) == expected);
              good = false;
            }
            return reached && good;
          },
          steps_of(w));
    }
  }
}

TEST_CASE("X-16 two copy-truncates between two looks lose nothing") {
  stage_of_files s;
  s.write();
  followed f{s.d};
  REQUIRE(f.log.open());
  for (int n = 0; n < 2; ++n) {
    s.write();
    s.then_shift(2);
    s.then([&s] { s.d.copy("app.log", "app.log.1"); });
    s.then([&s] { s.d.truncate("app.log"); });
    s.run_all();
    s.forget_steps();
  }
  CHECK(f.take() == lines(3, 4) + strings{"[truncated]"} + lines(5, 6));
  s.write();
  CHECK(f.take() == strings{"[truncated]"} + lines(7, 8));
}

TEST_CASE("X-16 a new file may have the number of one that was compressed and deleted") {
  if (!logs::unpacker::available()) return;
  stage_of_files s;
  s.write();
  followed f{s.d};
  REQUIRE(f.log.open());
  s.write();
  CHECK(f.take() == lines(3, 4));
  const sse::event_id id = f.ids.at(0);
  s.then_rename("app.log", "app.log.1");
  s.then_write();
  s.then_compress("app.log.1");
  s.steps.pop_back();  // instead of deleting it ...
  s.run_all();
  CHECK(f.take() == strings{"[renamed]"} + lines(5, 6));
  s.d.rename("app.log", "app.log.2");
  s.d.truncate("app.log.1");  // ... its number goes to the next log
  s.d.rename("app.log.1", "app.log");
  s.write();
  CHECK(f.take() == strings{"[renamed]"} + lines(7, 8));
  CHECK(f.resumed(id) ==
        lines(4, 4) + strings{"[rotated]"} + lines(5, 6) + strings{"[rotated]"} + lines(7, 8));
}

TEST_CASE(
    "X-16 a log of which only a compressed file is there comes again: it can be asked for later") {
  if (!logs::unpacker::available()) return;
  stage_of_files s;
  s.write();
  s.then_rename("app.log", "app.log.1");
  s.then_compress("app.log.1");
  s.run_all();
  followed f{s.d};
  CHECK_FALSE(f.log.open());
  CHECK(f.log.error() == EAGAIN);
  s.d.remove("app.log.1.gz");
  followed none{s.d};
  CHECK_FALSE(none.log.open());
  CHECK(none.log.error() == 0);
}
