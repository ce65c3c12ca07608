// ssehub example logs. SPDX-License-Identifier: MIT
#include "unpacker.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#ifdef LOGS_ZLIB
#include <zlib.h>
#endif

namespace logs {

#ifdef LOGS_ZLIB

/// Reads a packed file from its beginning.
struct unpacker::stream {
  explicit stream(file f) : packed{std::move(f)} {
    constexpr int gzip_alone = 15 + 16;
    good = packed && ::inflateInit2(&z, gzip_alone) == Z_OK;
    begun = good;
  }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() {
    if (begun) ::inflateEnd(&z);
  }

  /// Fills `to` as far as there is something; less than its size: the end, or it is no good.
  std::size_t read(char* to, std::size_t room) {
    z.next_out = reinterpret_cast<Bytef*>(to);
    z.avail_out = static_cast<uInt>(room);
    while (good && !ended && z.avail_out != 0) {
      if (z.avail_in == 0) {
        const std::size_t n = packed.read_at(input, at);
        at += n;
        z.next_in = reinterpret_cast<Bytef*>(input.data());
        z.avail_in = static_cast<uInt>(n);
        if (n == 0) {
          good = between;  // several may stand one behind the other
          ended = true;
          break;
        }
      }
      if (std::exchange(between, false) && ::inflateReset(&z) != Z_OK) good = false;
      const int r = ::inflate(&z, Z_NO_FLUSH);
      between = r == Z_STREAM_END;
      good = good && (r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
    }
    return room - z.avail_out;
  }

  file packed;
  file plain;
  z_stream z{};
  std::array<char, 32768> input{};
  std::uint64_t at = 0;
  std::uint64_t size = 0;
  bool begun = false;
  bool good = false;
  bool between = false;  ///< one compressed whole has ended
  bool ended = false;
};

bool unpacker::available() noexcept { return true; }

unpacker::state unpacker::step(std::size_t bytes) {
  stream& s = *stream_;
  if (!s.plain) s.plain = file::temporary();
  std::vector<char> out(std::size_t{64} << 10);
  for (std::size_t done = 0; done < bytes; done += out.size()) {
    const std::size_t n = s.read(out.data(), out.size());
    s.size += n;
    if (!s.good || s.size > most || !s.plain.append({out.data(), n})) return state::failed;
    if (s.ended) return state::done;
  }
  return state::more;
}

file unpacker::take() { return std::move(stream_->plain); }

std::string unpacked_head(const file& packed, std::size_t most) {
  std::string out(most, '\0');
  unpacker::stream s{packed.again()};
  out.resize(s.read(out.data(), out.size()));
  return out;
}

#else

struct unpacker::stream {
  explicit stream(file) {}
};

bool unpacker::available() noexcept { return false; }
unpacker::state unpacker::step(std::size_t) { return state::failed; }
file unpacker::take() { return {}; }
std::string unpacked_head(const file&, std::size_t) { return {}; }

#endif

unpacker::unpacker(file packed) : stream_{std::make_unique<stream>(std::move(packed))} {}
unpacker::unpacker(unpacker&&) noexcept = default;
unpacker& unpacker::operator=(unpacker&&) noexcept = default;
unpacker::~unpacker() = default;

std::uint64_t unpacked_size(const file& packed) noexcept {
  std::array<char, 4> bytes{};
  const std::uint64_t size = packed.size();
  if (size < bytes.size() || packed.read_at(bytes, size - bytes.size()) != bytes.size()) return 0;
  std::uint64_t out = 0;
  for (std::size_t i = bytes.size(); i-- > 0;)
    out = out << 8 | static_cast<unsigned char>(bytes[i]);
  return out;
}

}  // namespace logs
