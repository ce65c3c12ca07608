// Counts this thread's allocations, and makes one of them fail. Test programs that link
// unit/allocations.cpp have its operator new.
#pragma once

#include <cstddef>
#include <cstdint>

// Clang's thread sanitizer brings an operator new that cannot be replaced: nothing is counted
// there, and nothing fails.
#if defined(SSEHUB_TEST_TSAN) && defined(__clang__)
#define TEST_ALLOCATIONS 0
#else
#define TEST_ALLOCATIONS 1
#endif

namespace test {

/// Since the thread began.
std::uint64_t allocations() noexcept;
/// Bytes that this thread allocated and did not free.
std::int64_t live_bytes() noexcept;

/// While it lives, the allocation number `n` (from 0) of this thread and those after it, `how_many`
/// in all, fail; nothrow ones give nullptr.
class failing_allocations {
 public:
  explicit failing_allocations(std::uint64_t n, std::uint64_t how_many = UINT64_MAX) noexcept;
  ~failing_allocations();
  failing_allocations(const failing_allocations&) = delete;
  failing_allocations& operator=(const failing_allocations&) = delete;

  /// True if an allocation failed since this began.
  [[nodiscard]] bool hit() const noexcept;
};

}  // namespace test
