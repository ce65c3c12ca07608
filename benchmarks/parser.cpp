// sse::parser against a loop over memchr that only finds the line feeds of the same stream, which
// is as fast as this machine's libc can read lines. By CPU time; tests/guard counts the same in
// instructions.
//
//   bench_parser [MEGABYTES]     how much each of the two reads per measurement (default: 50)
//
// Both go through a stream in memory, piece after piece; they take turns, and the best of seven
// measurements of each counts, so that what else the machine does matters little. For each stream a
// line: `memchr` and `parser` in GB/s; `ratio`, the parser's time for each of memchr's.
//
// The pieces are reads of 16 KiB, but for the line of 10 MB that is fed whole. Where an event has
// ten lines, and where the long line comes in pieces, the parser has to copy all data into one
// block, which memchr does not: there the memory sets the pace.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>

#include <sse/parse.hpp>

namespace {

struct counter {
  std::uint64_t bytes = 0;
  void on_event(const sse::event& e) { bytes += e.data.size() + e.type.size(); }
  void on_comment(std::string_view text) { bytes += text.size(); }
};

struct memchr_loop {
  std::uint64_t lines = 0;

  void read(std::string_view in) {
    while (!in.empty()) {
      const void* const at = std::memchr(in.data(), '\n', in.size());
      if (at == nullptr) return;
      ++lines;
      in.remove_prefix(static_cast<std::size_t>(static_cast<const char*>(at) - in.data()) + 1);
    }
  }
};

struct parser_loop {
  sse::parser parser{};
  counter sink{};

  void read(std::string_view in) {
    if (parser.feed(in, sink)) return;
    std::fputs("the parser refused\n", stderr);
    std::exit(1);
  }
};

template <class Reader>
double seconds(Reader& reader, std::string_view stream, std::size_t piece, std::uint64_t times) {
  const std::clock_t start = std::clock();
  for (std::uint64_t i = 0; i < times; ++i) {
    for (std::size_t at = 0; at < stream.size(); at += piece) reader.read(stream.substr(at, piece));
  }
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

void compare(const char* name, const std::string& stream, std::size_t piece, double megabytes) {
  const double size = static_cast<double>(stream.size());
  const auto times = static_cast<std::uint64_t>(std::max(1.0, megabytes * 1e6 / size));
  memchr_loop plain;
  parser_loop ours;
  double best_plain = 1e9;
  double best_ours = 1e9;
  for (int i = 0; i < 7; ++i) {
    best_plain = std::min(best_plain, seconds(plain, stream, piece, times));
    best_ours = std::min(best_ours, seconds(ours, stream, piece, times));
  }
  if (plain.lines == 0 || ours.sink.bytes == 0) std::exit(1);
  const double gigabytes = size * static_cast<double>(times) / 1e9;
  std::printf("%-34s memchr %6.2f   parser %6.2f   ratio %.2f\n", name, gigabytes / best_plain,
              gigabytes / best_ours, best_ours / best_plain);
}

std::string repeated(const std::string& block) {
  std::string stream;
  while (stream.size() < 1'000'000) stream += block;
  return stream;
}

}  // namespace

int main(int argc, char** argv) {
  const double megabytes = argc > 1 ? std::atof(argv[1]) : 50;
  constexpr std::size_t read = 16 * 1024;
  const std::string line = "data: " + std::string(114, 'x');
  std::string ten;
  for (int i = 0; i < 10; ++i) ten += line + '\n';
  const std::string fields = "id: 1795257600123456\nevent: tick\n" + line + "\n\n";
  const std::string large = "data: " + std::string(10'000'000, 'x') + "\n\n";

  compare("lines of 120 bytes", repeated(line + "\n\n"), read, megabytes);
  compare("events of ten lines", repeated(ten + '\n'), read, megabytes);
  compare("all fields", repeated(fields), read, megabytes);
  compare("comments", repeated(": " + std::string(118, 'x') + '\n'), read, megabytes);
  compare("CRLF", repeated(line + "\r\n\r\n"), read, megabytes);
  compare("a line of 10 MB, whole", large, large.size(), megabytes);
  compare("a line of 10 MB, in reads of 16 KiB", large, read, megabytes);
}
