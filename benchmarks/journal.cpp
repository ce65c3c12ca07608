// A journal beside what else one could write history with: SQLite (WAL, prepared statements,
// batches of 1,000) and LMDB (appending, batches of 1,000), each made without its syncs, as
// durability::page_cache; and beside publishing without any.
//
//   bench_journal [--events N] [--dir DIR]     one JSON object on stdout
//
// Per event: nanoseconds and CPU nanoseconds to append; then to read all of them again, from the
// page cache, and hand each one on; bytes on disk for each byte of an event. `floor_read_ns` is
// read(2) of as many bytes in pieces of 64 KiB.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include <sse/journal.hpp>
#include <sse/testing.hpp>

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
  double append_ns, append_cpu_ns, read_ns, bytes_ratio;
};
void must(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_journal: %s failed\n", what);
  std::exit(1);
}
std::uint64_t sum = 0;
void use(std::string_view bytes) { sum += bytes.size() + static_cast<unsigned char>(bytes.back()); }

figures measure(const fs::path& dir, const std::function<void()>& append,
                const std::function<std::size_t()>& read) {
  const double n = static_cast<double>(events);
  const double cpu = cpu_seconds();
  const std::int64_t start = bench::now_ns();
  append();
  const double append_ns = static_cast<double>(bench::now_ns() - start) / n;
  const double append_cpu = (cpu_seconds() - cpu) * 1e9 / n;
  double read_ns = 0;
  for (int round = 0; round < 2; ++round) {  // the second time from the page cache
    const std::int64_t from = bench::now_ns();
    must(read() == events, "reading all of it");
    read_ns = static_cast<double>(bench::now_ns() - from) / n;
  }
  const double bytes = n * static_cast<double>(frame(events).size());
  return {append_ns, append_cpu, read_ns, static_cast<double>(size_of(dir)) / bytes};
}

figures with_journal(const fs::path& dir, sse::durability d) {
  sse::journal j;
  must(!j.open(dir.string(), {.durability = d}), "the journal");
  j.start();
  return measure(
      dir,
      [&] {
        sse::event_id last = 0;
        for (std::size_t i = 0; i < events; ++i) {
          for (;;) {
            const sse::publish_result r = j.publish(0, {.type = "tick", .data = data});
            if (r) {
              last = r.id;
              break;
            }
            ::usleep(50);
          }
        }
        must(j.wait_durable(last, sse::duration::seconds(120)), "waiting");
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
}

/// The same calls without a disk: a sequencer and its lane, drained by another thread.
double without_any() {
  sse::sequencer s{{.lane_bytes = std::size_t{16} << 20}};
  sse::mailbox mail;
  sse::testing::memory_transport net;
  sse::shard<sse::testing::memory_transport> shard{s, net, {}};
  const double cpu = cpu_seconds();
  for (std::size_t i = 0; i < events; ++i) {
    if (i % 1000 == 0) (void)shard.turn(sse::time_point::milliseconds(1));
    must(static_cast<bool>(s.publish(0, {.type = "tick", .data = data})), "publishing");
  }
  return (cpu_seconds() - cpu) * 1e9 / static_cast<double>(events);
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
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--events") {
      events = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--dir") {
      base = argv[i + 1];
    } else {
      return std::fprintf(stderr, "unknown: %s\n", argv[i]), 2;
    }
  }
  std::string pattern = (base / "bench-journal-XXXXXX").string();
  must(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  const fs::path all = pattern;
  const auto in = [&](const char* name) {
    fs::create_directories(all / name);
    return all / name;
  };
  std::printf("{\"events\":%zu,\"without_cpu_ns\":%.0f", events, without_any());
  const auto print = [](const char* name, const figures& f) {
    std::printf(
        ",\"%s\":{\"append_ns\":%.0f,\"append_cpu_ns\":%.0f,\"read_ns\":%.1f,\"bytes_ratio\":%.2f}",
        name, f.append_ns, f.append_cpu_ns, f.read_ns, f.bytes_ratio);
  };
  for (const sse::durability d : {sse::durability::none, sse::durability::page_cache,
                                  sse::durability::interval, sse::durability::every_batch}) {
    const std::string name{to_string(d)};
    print(name.c_str(), with_journal(in(name.c_str()), d));
  }
  std::printf(",\"floor_read_ns\":%.1f", floor_read(all / "page_cache"));
#ifdef SSEHUB_BENCH_SQLITE
  print("sqlite", with_sqlite(in("sqlite")));
#endif
#ifdef SSEHUB_BENCH_LMDB
  print("lmdb", with_lmdb(in("lmdb")));
#endif
  std::printf(",\"sum\":%llu}\n", static_cast<unsigned long long>(sum));
  fs::remove_all(all);
}
