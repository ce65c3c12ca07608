#include <cstdlib>

#include <sse/sse.hpp>
#ifdef WITH_ASIO
#include <sse/asio.hpp>
#endif

int main() {
#ifdef WITH_ASIO
  asio::io_context ctx;
  sse::asio_server<> server{ctx};
#endif
  return sse::event{.data = "x"}.data == "x" ? EXIT_SUCCESS : EXIT_FAILURE;
}
