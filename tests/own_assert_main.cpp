// A program with an assertion of its own: the library's checks go there, and nothing of it aborts.
static int broken = 0;
#define SSEHUB_ASSERT(...) ((__VA_ARGS__) ? static_cast<void>(0) : static_cast<void>(++broken))

#include <cstdio>
#include <cstdlib>

#include <sse/sse.hpp>

#ifdef SSEHUB_CHECKED
#error "the program's own assertion is to be enough"
#endif

int main() {
  char out[64];
  sse::encode_retry_to(out, 7);
  if (broken != 0) return std::puts("a kept contract was taken for a broken one"), EXIT_FAILURE;
  (void)sse::encoded_retry_size(-1);
  if (broken != 1) return std::puts("a broken contract was not told"), EXIT_FAILURE;
  return EXIT_SUCCESS;
}
