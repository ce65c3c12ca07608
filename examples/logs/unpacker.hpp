// ssehub example logs. SPDX-License-Identifier: MIT
//
// unpacker: a file that gzip compressed, unpacked piece by piece into a file without a name. Built
// without zlib (LOGS_ZLIB is not defined) it fails at once.
//
//   unpacker u{std::move(packed)};
//   if (u.step(budget) == unpacker::state::done) file plain = u.take();
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "log_files.hpp"

namespace logs {

class unpacker {
 public:
  static constexpr std::uint64_t most = std::uint64_t{1} << 30;  ///< bytes; what has more fails

  explicit unpacker(file packed);
  unpacker(unpacker&&) noexcept;
  unpacker& operator=(unpacker&&) noexcept;
  ~unpacker();

  /// Whether this program can.
  [[nodiscard]] static bool available() noexcept;

  enum class state : std::uint8_t { more, done, failed };
  /// Goes on for about that many unpacked bytes.
  [[nodiscard]] state step(std::size_t bytes);
  /// What it became; once it is done.
  [[nodiscard]] file take();

  struct stream;

 private:
  std::unique_ptr<stream> stream_;
};

/// The first bytes of what is packed, at most `most`.
[[nodiscard]] std::string unpacked_head(const file& packed, std::size_t most);
/// How much it is, as the file itself says: of less than 4 GiB, packed at once.
[[nodiscard]] std::uint64_t unpacked_size(const file& packed) noexcept;

}  // namespace logs
