// The checksum of a journal's records.
#include <cstdint>
#include <string>

#include <sse/detail/journal/crc32c.hpp>

#include "catch.hpp"
#include "random_source.hpp"

using sse::detail::crc32c;
using sse::detail::crc32c_by_tables;

TEST_CASE("RFC 3720 B.4: the examples of CRC32C", "[journal]") {
  CHECK(crc32c(std::string(32, '\0').data(), 32) == 0x8a9136aa);
  CHECK(crc32c(std::string(32, '\xff').data(), 32) == 0x62a8ab43);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  CHECK(crc32c(rising.data(), 32) == 0x46dd794e);
  CHECK(crc32c("123456789", 9) == 0xe3069283);
  CHECK(crc32c_by_tables("123456789", 9) == 0xe3069283);
}

TEST_CASE("CRC32C: by instruction as by tables, in pieces as in one", "[journal]") {
  test::random_source random{7};
  const auto text = [&random] {
    std::string bytes(random.below(300), ' ');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
    return bytes;
  };
  for (int i = 0; i < 500; ++i) {  // three at once
    const std::string t[3] = {text(), text(), text()};
    std::uint32_t three[3] = {0, 1, 2};
    sse::detail::crc32c_three({t[0].data(), t[1].data(), t[2].data()},
                              {t[0].size(), t[1].size(), t[2].size()}, three);
    for (std::uint32_t k = 0; k < 3; ++k)
      CHECK(three[k] == crc32c_by_tables(t[k].data(), t[k].size(), k));
  }
  for (int i = 0; i < 500; ++i) {
    std::string bytes(random.below(300), ' ');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
    const std::uint32_t all = crc32c(bytes.data(), bytes.size());
    CHECK(all == crc32c_by_tables(bytes.data(), bytes.size()));
    const std::size_t n = bytes.empty() ? 0 : random.below(bytes.size());
    CHECK(all == crc32c(bytes.data() + n, bytes.size() - n, crc32c(bytes.data(), n)));
  }
}
