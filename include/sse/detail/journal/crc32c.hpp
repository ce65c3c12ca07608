// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// crc32c: the checksum of RFC 3720 12.1 (Castagnoli), eight bytes at a time: by the processor's own
// instruction where it has one, else by tables. The instruction takes three times as long as it
// keeps the processor busy, so that three checksums at once cost what one does.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_CRC32C_HPP
#define SSEHUB_DETAIL_JOURNAL_CRC32C_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

using crc_tables = std::array<std::array<std::uint32_t, 256>, 8>;

[[nodiscard]] constexpr crc_tables make_crc_tables() noexcept {
  crc_tables t{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1U) != 0 ? 0x82f63b78U ^ (c >> 1U) : c >> 1U;
    t[0][n] = c;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t n = 0; n < 256; ++n) t[k][n] = t[0][t[k - 1][n] & 0xffU] ^ (t[k - 1][n] >> 8U);
  }
  return t;
}
inline constexpr crc_tables crc_table = make_crc_tables();

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SSEHUB_HAS_CRC32 1
[[nodiscard]] __attribute__((target("sse4.2"))) inline std::uint32_t crc32c_by_instruction(
    const void* bytes, std::size_t size, std::uint32_t crc) noexcept {
  const auto* p = static_cast<const unsigned char*>(bytes);
  std::uint64_t c = ~crc;
  for (; size >= 8; p += 8, size -= 8) {
    std::uint64_t eight;
    std::memcpy(&eight, p, sizeof eight);
    c = __builtin_ia32_crc32di(c, eight);
  }
  auto rest = static_cast<std::uint32_t>(c);
  if ((size & 4U) != 0) {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    rest = __builtin_ia32_crc32si(rest, four);
    p += 4;
  }
  if ((size & 2U) != 0) {
    std::uint16_t two;
    std::memcpy(&two, p, sizeof two);
    rest = __builtin_ia32_crc32hi(rest, two);
    p += 2;
  }
  if ((size & 1U) != 0) rest = __builtin_ia32_crc32qi(rest, *p);
  return ~rest;
}
/// Three, of `size` bytes each, a multiple of eight.
__attribute__((target("sse4.2"))) inline void crc32c_three_by_instruction(
    const char* const (&bytes)[3], std::size_t size, std::uint32_t (&crc)[3]) noexcept {
  // Each in a register of its own: compilers do not unroll this for -O2.
  std::uint64_t a = ~crc[0];
  std::uint64_t b = ~crc[1];
  std::uint64_t c = ~crc[2];
  for (std::size_t at = 0; at != size; at += 8) {
    std::uint64_t eight[3];
    std::memcpy(&eight[0], bytes[0] + at, 8);
    std::memcpy(&eight[1], bytes[1] + at, 8);
    std::memcpy(&eight[2], bytes[2] + at, 8);
    a = __builtin_ia32_crc32di(a, eight[0]);
    b = __builtin_ia32_crc32di(b, eight[1]);
    c = __builtin_ia32_crc32di(c, eight[2]);
  }
  crc[0] = ~static_cast<std::uint32_t>(a);
  crc[1] = ~static_cast<std::uint32_t>(b);
  crc[2] = ~static_cast<std::uint32_t>(c);
}
#else
#define SSEHUB_HAS_CRC32 0
#endif

/// Of `size` bytes behind those whose checksum is `crc`.
[[nodiscard]] inline std::uint32_t crc32c_by_tables(const void* bytes, std::size_t size,
                                                    std::uint32_t crc = 0) noexcept {
  const auto* p = static_cast<const unsigned char*>(bytes);
  const auto word = [](const unsigned char* at) {
    return std::uint32_t{at[0]} | std::uint32_t{at[1]} << 8U | std::uint32_t{at[2]} << 16U |
           std::uint32_t{at[3]} << 24U;
  };
  std::uint32_t c = ~crc;
  for (; size >= 8; p += 8, size -= 8) {
    const std::uint32_t a = word(p) ^ c;
    const std::uint32_t b = word(p + 4);
    c = crc_table[7][a & 0xffU] ^ crc_table[6][a >> 8U & 0xffU] ^ crc_table[5][a >> 16U & 0xffU] ^
        crc_table[4][a >> 24U] ^ crc_table[3][b & 0xffU] ^ crc_table[2][b >> 8U & 0xffU] ^
        crc_table[1][b >> 16U & 0xffU] ^ crc_table[0][b >> 24U];
  }
  for (; size != 0; ++p, --size) c = crc_table[0][(c ^ *p) & 0xffU] ^ (c >> 8U);
  return ~c;
}

#if SSEHUB_HAS_CRC32
[[nodiscard]] inline bool has_crc32c_instruction() noexcept {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}
#endif

[[nodiscard]] inline std::uint32_t crc32c(const void* bytes, std::size_t size,
                                          std::uint32_t crc = 0) noexcept {
#if SSEHUB_HAS_CRC32
  if (has_crc32c_instruction()) return crc32c_by_instruction(bytes, size, crc);
#endif
  return crc32c_by_tables(bytes, size, crc);
}
/// The same three times.
inline void crc32c_three(const char* const (&bytes)[3], const std::size_t (&size)[3],
                         std::uint32_t (&crc)[3]) noexcept {
#if SSEHUB_HAS_CRC32
  if (has_crc32c_instruction()) {
    const std::size_t done = (std::min)({size[0], size[1], size[2]}) / 8 * 8;
    crc32c_three_by_instruction(bytes, done, crc);
    for (std::size_t k = 0; k != 3; ++k) {
      if (size[k] != done) crc[k] = crc32c_by_instruction(bytes[k] + done, size[k] - done, crc[k]);
    }
    return;
  }
#endif
  for (std::size_t k = 0; k != 3; ++k) crc[k] = crc32c_by_tables(bytes[k], size[k], crc[k]);
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_CRC32C_HPP
