// The search for line ends against a loop over bytes: each length, each place, each way to search.
#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <sse/detail/base/lines.hpp>

#include "catch.hpp"

namespace {

using search = const char* (*)(const char*, const char*);

struct way {
  const char* name;
  search find;
};

const std::vector<way> ways = {
    {"as the library searches",
     [](const char* p, const char* end) { return sse::detail::find_line_end(p, end); }},
    {"by words", sse::detail::find_line_end_by_words},
#if defined(__SSE2__) && defined(__GNUC__)
    {"by vectors", sse::detail::find_line_end_by_vectors},
#endif
};

// In a block of its own that ends with the text, so that ASan sees a byte read behind it.
std::size_t place(search find, std::string_view text) {
  const std::vector<char> block(text.begin(), text.end());
  const char* const p = block.data();
  return static_cast<std::size_t>(find(p, p + block.size()) - p);
}

std::size_t expected(std::string_view text) {
  return std::min(text.find_first_of("\r\n"), text.size());
}

// All that is near a line end in value, and what a signed comparison takes for less.
const std::string fills = std::string("x\t\v\f\x0E\x7F\x80\x8A\x8D\xFF") + '\0';

TEST_CASE("a line end is found at each place of each length", "[lines]") {
  for (const way& w : ways) {
    INFO(w.name);
    for (const char fill : fills) {
      INFO("filled with " << static_cast<int>(fill));
      for (std::size_t size = 0; size <= 700; size += size < 140 ? 1 : 37) {
        std::string text(size, fill);
        if (place(w.find, text) != size) FAIL("none in " << size);
        for (std::size_t at = 0; at < size; at += size < 140 ? 1 : 3) {
          for (const char end : {'\n', '\r'}) {
            text.assign(size, fill);
            text[at] = end;
            if (at + 1 < size) text[at + 1] = text.back() = '\r';  // only the first counts
            const std::size_t found = place(w.find, text);
            if (found != at) FAIL("found at " << found << ", it is at " << at << " of " << size);
          }
        }
      }
    }
  }
}

TEST_CASE("what a field may not hold is found at each place of each length", "[lines]") {
  for (const char fill : fills) {
    if (fill == '\0') continue;
    for (std::size_t size = 0; size <= 40; ++size) {
      std::string text(size, fill);
      if (!sse::detail::is_field_text(text)) FAIL("found in " << size);
      for (std::size_t at = 0; at < size; ++at) {
        for (const char bad : {'\n', '\r', '\0'}) {
          text.assign(size, fill);
          text[at] = bad;
          const std::vector<char> block(text.begin(), text.end());  // ASan sees a byte behind it
          if (sse::detail::is_field_text({block.data(), block.size()}))
            FAIL("not found at " << at << " of " << size);
        }
      }
    }
  }
}

TEST_CASE("a line end is found in any bytes, from any address", "[lines]") {
  std::mt19937 random{7};
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 600, '\0');
    for (char& c : text) {
      const unsigned kind = random() % 8;
      c = static_cast<char>(kind == 0 ? random() % 16 : kind == 1 ? random() % 256 : 'x');
      if ((c == '\n' || c == '\r') && random() % 8 != 0) c = '\t';
    }
    for (const way& w : ways) {
      for (std::size_t from = 0; from < std::min<std::size_t>(text.size(), 33); ++from) {
        const std::string_view rest = std::string_view{text}.substr(from);
        const char* const p = rest.data();
        const auto found = static_cast<std::size_t>(w.find(p, p + rest.size()) - p);
        if (found != expected(rest)) FAIL(w.name << ": " << found << " in round " << round);
      }
    }
  }
}

TEST_CASE("a long line is searched to its end", "[lines]") {
  for (const way& w : ways) {
    for (const std::size_t size : {1000U, 65'536U, 1'000'003U}) {
      std::string text(size, 'y');
      for (std::size_t tab = 0; tab < size; tab += 977) text[tab] = '\t';
      CHECK(place(w.find, text) == size);
      for (const std::size_t from_end : {1U, 15U, 16U, 17U, 63U, 64U, 255U, 256U, 320U, 400U}) {
        text[size - from_end] = '\r';
        CHECK(place(w.find, text) == size - from_end);
        text[size - from_end] = 'y';
      }
    }
  }
}

// The same at compile time.
constexpr std::string_view two_lines = "ab\r\ncd";
static_assert(sse::detail::find_line_end(two_lines.data(), two_lines.data() + 6) ==
              two_lines.data() + 2);
static_assert(sse::detail::count_lines(two_lines).lines == 2);
static_assert(sse::detail::count_lines(two_lines).bytes == 4);

}  // namespace
