// The parser on any bytes: no chunking changes what comes out, the word-for-word algorithm agrees,
// limits hold. Input: byte 0 picks the chunking, byte 1 the options; the rest is the stream.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../reference_parser.hpp"

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint8_t chunking = data[0];
  const std::uint8_t mode = data[1];
  const std::string_view in{reinterpret_cast<const char*>(data) + 2, size - 2};

  sse::parser_options options;
  if ((mode & 1) != 0) options.utf8 = sse::invalid_utf8::replace;
  if ((mode & 2) != 0)
    options.limits = {.line = mode,
                      .event = mode / 2U,
                      .data_lines = mode / 16U,
                      .id = mode / 8U,
                      .type = mode / 8U};

  const test::trace whole = test::parse(in, 0, options);
  require(test::parse(in, 1, options) == whole);
  require(test::parse(in, 1U + chunking % 16U, options) == whole);
  require(test::parse_cut(in, std::min<std::size_t>(chunking, in.size()), options) == whole);
  if ((mode & 3) == 0) require(whole == test::reference_parse(in));
  for (const test::got_event& e : whole.events) {
    require(e.data.size() <= options.limits.event && e.id.size() <= options.limits.id &&
            e.type.size() <= options.limits.type);
    require(e.retry >= sse::no_retry);
    require(e.id.find_first_of(std::string_view{"\r\n\0", 3}) == e.id.npos);
  }
  return 0;
}
