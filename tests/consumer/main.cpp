// The library as somebody else's program sees it.
#include <cstdio>

#include <sse/sse.hpp>
#ifdef WITH_ASIO
#include <sse/asio.hpp>
#endif

int main() {
  constexpr sse::event e{.type = "hello", .data = SSEHUB_VERSION};
  std::printf("%.*s %.*s\n", static_cast<int>(e.type.size()), e.type.data(),
              static_cast<int>(e.data.size()), e.data.data());
  return 0;
}
