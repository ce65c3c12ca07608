// operator new that counts, and fails on demand: see allocations.hpp.
#include "allocations.hpp"

#if TEST_ALLOCATIONS

#include <cstdlib>
#include <limits>
#include <new>

#if __has_include(<malloc/malloc.h>)
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

namespace {

std::int64_t size_of(void* p) noexcept {
#if __has_include(<malloc/malloc.h>)
  return static_cast<std::int64_t>(malloc_size(p));
#else
  return static_cast<std::int64_t>(malloc_usable_size(p));
#endif
}

constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
thread_local std::uint64_t count = 0;
thread_local std::uint64_t fail_from = never;
thread_local std::uint64_t fail_until = never;
thread_local bool failed = false;
thread_local std::int64_t live = 0;

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  const std::uint64_t number = count++;
  if (number >= fail_from && number < fail_until) {
    failed = true;
    return nullptr;
  }
  if (size == 0) size = 1;
  void* const p =
      alignment <= alignof(std::max_align_t)
          ? std::malloc(size)
          : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p != nullptr) live += size_of(p);
  return p;
}

void release(void* p) noexcept {
  if (p != nullptr) live -= size_of(p);
  std::free(p);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const p = allocate(size, alignment);
  if (p == nullptr) throw std::bad_alloc{};
  return p;
}

constexpr std::size_t plain = alignof(std::max_align_t);

}  // namespace

namespace test {

std::uint64_t allocations() noexcept { return count; }
std::int64_t live_bytes() noexcept { return live; }
failing_allocations::failing_allocations(std::uint64_t n, std::uint64_t how_many) noexcept {
  failed = false;
  fail_from = count + n;
  fail_until = how_many < never - fail_from ? fail_from + how_many : never;
}
failing_allocations::~failing_allocations() { fail_from = never; }
bool failing_allocations::hit() const noexcept { return failed; }

}  // namespace test

void* operator new(std::size_t n) { return allocate_or_throw(n, plain); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, plain); }
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n) { return allocate_or_throw(n, plain); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, plain); }
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }

#endif
