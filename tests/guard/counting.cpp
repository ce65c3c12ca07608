// operator new and delete, counted: see counting.hpp.
#include "counting.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace counting {

std::uint64_t allocations = 0;
std::uint64_t allocated = 0;
std::uint64_t asked = 0;

void fail(const char* what) {
  std::fprintf(stderr, "guard: %s\n", what);
  std::exit(1);
}

}  // namespace counting

namespace {

constexpr std::size_t plain = 16;  // alignment, and where the size of a block stands before it

[[gnu::noinline]] void* take(std::size_t size, std::size_t alignment = plain) noexcept {
  auto* const block = static_cast<char*>(
      alignment == plain
          ? std::malloc(size + plain)
          : std::aligned_alloc(alignment, (size + 2 * alignment - 1) / alignment * alignment));
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof size);
  ++counting::allocations;
  counting::allocated += size;
  counting::asked += size;
  return block + alignment;
}

[[gnu::noinline]] void give_back(void* p, std::size_t alignment = plain) noexcept {
  if (p == nullptr) return;
  char* const block = static_cast<char*>(p) - alignment;
  std::size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  counting::allocated -= size;
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new(std::size_t size) {
  if (void* const p = take(size)) return p;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return take(size, static_cast<std::size_t>(a));
}
void* operator new(std::size_t size, std::align_val_t a) {
  if (void* const p = take(size, static_cast<std::size_t>(a))) return p;
  throw std::bad_alloc{};
}
void operator delete(void* p, std::align_val_t a) noexcept {
  give_back(p, static_cast<std::size_t>(a));
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
  give_back(p, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }
