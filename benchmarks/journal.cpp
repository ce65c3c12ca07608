// A journal beside what else one could write history with: SQLite (WAL, prepared statements,
// batches of 1,000) and LMDB (appending, batches of 1,000), each made without its syncs, as
// durability::page_cache; and beside publishing without any.
//
//   bench_journal [--events N] [--publishers N] [--pause MICROSECONDS] [--only NAME] [--dir DIR]
//
// One JSON object on stdout. --pause: each publisher sleeps behind each event, so that they come
// one by one. --only: one of them, once; scripts/bench runs them by turns.
//
// Per event, the least of three runs: nanoseconds and CPU nanoseconds to append; then to read all
// of them again, from the page cache, and hand each one on; bytes on disk for each byte of an
// event; calls of fdatasync for 1,000 events. With a journal, and `without` it through a sequencer,
// one shard takes all events into its log, in a thread of its own. `floor_read_ns` is read(2) of as
// many bytes in pieces of 64 KiB.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <sse/journal.hpp>

#include "servers/common.hpp"
#ifdef SSEHUB_BENCH_SQLITE
#include <sqlite3.h>
#endif
#ifdef SSEHUB_BENCH_LMDB
#include <lmdb.h>
#endif

namespace {

namespace fs = std::filesystem;

std::size_t events = 1'000'000;
std::size_t publishers = 1;
unsigned pause_us = 0;  // of a publisher, behind each event
const std::string data(150, 'x');
std::string frame(std::uint64_t id) {
  return "id: " + std::to_string(id) + "\nevent: tick\ndata: " + data + "\n\n";
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}
std::uint64_t size_of(const fs::path& dir) {
  std::uint64_t n = 0;
  for (const auto& f : fs::recursive_directory_iterator{dir}) {
    struct stat s {};
    if (::stat(f.path().c_str(), &s) == 0) n += static_cast<std::uint64_t>(s.st_size);
  }
  return n;
}

struct figures {
  double append_ns = 0, append_cpu_ns = 0, read_ns = 0, bytes_ratio = 0, syncs = 0;
};
void must(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_journal: %s failed\n", what);
  std::exit(1);
}
std::uint64_t sum = 0;
void use(std::string_view bytes) { sum += bytes.size() + static_cast<unsigned char>(bytes.back()); }

figures measure_append(const std::function<void()>& append) {
  const double n = static_cast<double>(events);
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  append();
  return {.append_ns = static_cast<double>(bench::now_ns() - start) / n,
          .append_cpu_ns = (cpu_seconds() - cpu) * 1e9 / n};
}
figures measure(const fs::path& dir, const std::function<void()>& append,
                const std::function<std::size_t()>& read) {
  const double n = static_cast<double>(events);
  figures f = measure_append(append);
  for (int round = 0; round < 2; ++round) {  // the second time from the page cache
    const std::int64_t from = bench::now_ns();
    must(read() == events, "reading all of it");
    f.read_ns = static_cast<double>(bench::now_ns() - from) / n;
  }
  f.bytes_ratio =
      static_cast<double>(size_of(dir)) / (n * static_cast<double>(frame(events).size()));
  return f;
}

struct forgetting_transport {
  struct connection {};
  sse::write_result write(connection&, std::span<const sse::buffer>) noexcept { return {}; }
  void close(connection&, sse::close_reason) noexcept {}
};

/// One shard in a thread that sleeps where there is nothing for it.
class shard_thread {
 public:
  explicit shard_thread(sse::sequencer& s)
      : shard_{s, net_, {.wake = &wake, .context = this}}, thread_{[this] { run(); }} {}
  ~shard_thread() {
    ends_ = true;
    wake(this);
    thread_.join();
    ::close(event_);
  }
  void wait_for(sse::event_id id) const {
    while (last_.load() < id) ::usleep(100);
  }

 private:
  static void wake(void* s) noexcept {
    const std::uint64_t one = 1;
    (void)!::write(static_cast<shard_thread*>(s)->event_, &one, sizeof one);
  }
  void run() {
    while (!ends_) {
      const bool more = shard_.turn(sse::time_point::milliseconds(bench::now_ns() / 1'000'000));
      last_ = shard_.at(0).last_id();
      if (more || !shard_.prepare_sleep()) continue;
      pollfd p{event_, POLLIN, 0};
      (void)::poll(&p, 1, 100);
      std::uint64_t n = 0;
      (void)!::read(event_, &n, sizeof n);
      shard_.awake();
    }
  }

  int event_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  forgetting_transport net_;
  sse::shard<forgetting_transport> shard_;
  std::atomic<sse::event_id> last_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

/// All events, by `publishers` threads; the last id. Order: a journal or a sequencer.
template <class Order>
sse::event_id publish_all(Order& order) {
  std::atomic<sse::event_id> last{0};
  std::vector<std::thread> all;
  for (std::size_t k = 0; k < publishers; ++k) {
    all.emplace_back([&, k] {
      sse::event_id mine = 0;
      for (std::size_t i = k; i < events;) {
        const sse::publish_result r = order.publish(0, {.type = "tick", .data = data});
        if (r) {
          mine = r.id;
          i += publishers;
          if (pause_us != 0) ::usleep(pause_us);
        } else {
          ::usleep(50);
        }
      }
      for (sse::event_id old = last; old < mine && !last.compare_exchange_weak(old, mine);) {
      }
    });
  }
  for (std::thread& t : all) t.join();
  return last;
}

figures with_journal(const fs::path& dir, sse::durability d) {
  sse::journal j;
  must(!j.open(dir.string(), {.durability = d}), "the journal");
  shard_thread shard{j.order()};
  j.start();
  figures f = measure(
      dir,
      [&] {
        const sse::event_id last = publish_all(j);
        must(j.wait_durable(last, sse::duration::seconds(120)), "waiting");
        shard.wait_for(last);
      },
      [&] {
        std::size_t n = 0;
        j.read(0, sse::max_event_id + 1, [&](const sse::journal_event& e) {
          use(e.bytes);
          ++n;
          return true;
        });
        return n;
      });
  f.syncs = static_cast<double>(j.stats().syncs) * 1000 / static_cast<double>(events);
  return f;
}

figures without_any() {
  sse::sequencer s{{}};
  shard_thread shard{s};
  return measure_append([&] { shard.wait_for(publish_all(s)); });
}

double floor_read(const fs::path& dir) {
  std::string buffer(65536, '\0');
  std::int64_t best = INT64_MAX;
  for (int round = 0; round < 2; ++round) {
    const std::int64_t from = bench::now_ns();
    for (const auto& f : fs::directory_iterator{dir}) {
      if (f.path().extension() != ".log") continue;
      const int fd = ::open(f.path().c_str(), O_RDONLY);
      while (::read(fd, buffer.data(), buffer.size()) > 0) {
      }
      ::close(fd);
    }
    best = bench::now_ns() - from < best ? bench::now_ns() - from : best;
  }
  return static_cast<double>(best) / static_cast<double>(events);
}

#ifdef SSEHUB_BENCH_SQLITE
figures with_sqlite(const fs::path& dir) {
  sqlite3* db = nullptr;
  must(sqlite3_open((dir / "db").c_str(), &db) == SQLITE_OK, "sqlite");
  const auto run = [&](const char* sql) {
    must(sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK, sql);
  };
  run("PRAGMA journal_mode=WAL");
  run("PRAGMA synchronous=OFF");
  run("CREATE TABLE log(id INTEGER PRIMARY KEY, channel INTEGER, bytes BLOB)");
  const figures f = measure(
      dir,
      [&] {
        sqlite3_stmt* insert = nullptr;
        must(sqlite3_prepare_v2(db, "INSERT INTO log VALUES(?,0,?)", -1, &insert, nullptr) ==
                 SQLITE_OK,
             "sqlite");
        for (std::size_t i = 1; i <= events; ++i) {
          if (i % 1000 == 1) run("BEGIN");
          const std::string bytes = frame(i);
          sqlite3_bind_int64(insert, 1, static_cast<sqlite3_int64>(i));
          sqlite3_bind_blob(insert, 2, bytes.data(), static_cast<int>(bytes.size()), SQLITE_STATIC);
          must(sqlite3_step(insert) == SQLITE_DONE, "sqlite");
          sqlite3_reset(insert);
          if (i % 1000 == 0 || i == events) run("COMMIT");
        }
        sqlite3_finalize(insert);
      },
      [&] {
        sqlite3_stmt* select = nullptr;
        sqlite3_prepare_v2(db, "SELECT id, bytes FROM log WHERE id>0 ORDER BY id", -1, &select,
                           nullptr);
        std::size_t n = 0;
        while (sqlite3_step(select) == SQLITE_ROW) {
          use({static_cast<const char*>(sqlite3_column_blob(select, 1)),
               static_cast<std::size_t>(sqlite3_column_bytes(select, 1))});
          ++n;
        }
        sqlite3_finalize(select);
        return n;
      });
  sqlite3_close(db);
  return f;
}
#endif

#ifdef SSEHUB_BENCH_LMDB
figures with_lmdb(const fs::path& dir) {
  MDB_env* env = nullptr;
  must(mdb_env_create(&env) == 0, "lmdb");
  mdb_env_set_mapsize(env, std::size_t{8} << 30);
  must(mdb_env_open(env, dir.c_str(), MDB_NOSYNC, 0644) == 0, "lmdb");
  MDB_dbi dbi = 0;
  const figures f = measure(
      dir,
      [&] {
        MDB_txn* txn = nullptr;
        for (std::uint64_t i = 1; i <= events; ++i) {
          if (i % 1000 == 1) {
            must(mdb_txn_begin(env, nullptr, 0, &txn) == 0, "lmdb");
            must(mdb_dbi_open(txn, nullptr, MDB_CREATE | MDB_INTEGERKEY, &dbi) == 0, "lmdb");
          }
          std::string bytes = frame(i);
          MDB_val key{sizeof i, &i};
          MDB_val value{bytes.size(), bytes.data()};
          must(mdb_put(txn, dbi, &key, &value, MDB_APPEND) == 0, "lmdb");
          if (i % 1000 == 0 || i == events) must(mdb_txn_commit(txn) == 0, "lmdb");
        }
      },
      [&] {
        MDB_txn* txn = nullptr;
        MDB_cursor* cursor = nullptr;
        mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn);
        mdb_cursor_open(txn, dbi, &cursor);
        MDB_val key{}, value{};
        std::size_t n = 0;
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
          use({static_cast<const char*>(value.mv_data), value.mv_size});
          ++n;
        }
        mdb_cursor_close(cursor);
        mdb_txn_abort(txn);
        return n;
      });
  mdb_env_close(env);
  return f;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  fs::path base = fs::temp_directory_path();
  std::string_view only;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--events") {
      events = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--publishers") {
      publishers = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--only") {
      only = argv[i + 1];
    } else if (name == "--pause") {
      pause_us = static_cast<unsigned>(std::strtoul(argv[i + 1], nullptr, 10));
    } else if (name == "--dir") {
      base = argv[i + 1];
    } else {
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
    }
  }
  std::string pattern = (base / "bench-journal-XXXXXX").string();
  must(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  const fs::path all = pattern;
  // The best of three: other work on the machine, and its memory's first use, only add.
  const auto best = [&](const char* name, const std::function<figures(const fs::path&)>& once) {
    if (!only.empty() && only != name) return;
    figures least;
    for (int round = 0; round < (only.empty() ? 3 : 1); ++round) {
      fs::remove_all(all / name);
      fs::create_directories(all / name);
      const figures f = once(all / name);
      const auto keep = [round](double& a, double b) { a = round == 0 || b < a ? b : a; };
      keep(least.append_ns, f.append_ns);
      keep(least.append_cpu_ns, f.append_cpu_ns);
      keep(least.read_ns, f.read_ns);
      keep(least.bytes_ratio, f.bytes_ratio);
      keep(least.syncs, f.syncs);
    }
    std::printf(
        ",\"%s\":{\"append_ns\":%.0f,\"append_cpu_ns\":%.0f,\"read_ns\":%.1f,\"bytes_ratio\":%.2f,"
        "\"syncs_per_1000\":%.2f}",
        name, least.append_ns, least.append_cpu_ns, least.read_ns, least.bytes_ratio, least.syncs);
  };
  std::printf("{\"events\":%zu,\"publishers\":%zu", events, publishers);
  best("without", [](const fs::path&) { return without_any(); });
  for (const sse::durability d : {sse::durability::none, sse::durability::page_cache,
                                  sse::durability::interval, sse::durability::every_batch}) {
    const std::string name{to_string(d)};
    best(name.c_str(), [d](const fs::path& dir) { return with_journal(dir, d); });
  }
  if (only.empty()) std::printf(",\"floor_read_ns\":%.1f", floor_read(all / "page_cache"));
#ifdef SSEHUB_BENCH_SQLITE
  best("sqlite", with_sqlite);
#endif
#ifdef SSEHUB_BENCH_LMDB
  best("lmdb", with_lmdb);
#endif
  std::printf(",\"sum\":%llu}\n", static_cast<unsigned long long>(sum));
  fs::remove_all(all);
}
