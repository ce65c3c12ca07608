// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once

// ---- sse/sse.hpp
//
// The core, whole: no dependencies, no I/O, no threads. See hub.hpp for where to begin.

// ---- sse/admission.hpp
//
// admission: who may open a stream, what it joins, and how many there may be.
//
//   hub.on_admit([&](const sse::request& r) -> sse::verdict<> {
//     if (!token_is_good(sse::bearer_token(r))) return sse::refuse(401, "who are you?\n");
//     return sse::admit("user-7").join(*orders);
//   });
//
// Plain data, no thread safety of its own.

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/channel.hpp
//
// channel: a named stream of events: a log that subscribers read with a cursor each. A hub opens
// and owns it.
//
//   sse::channel* ticks = hub.open_channel("ticks", {.keep = 10'000});
//   ticks->publish({.type = "tick", .data = json});
//   hub.flush();
//
// Not thread-safe: it belongs to its hub's thread. Other threads publish through a mailbox
// (sse/mailbox.hpp).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// ---- sse/config.hpp
//
// Vocabulary that every other header uses: time, and the limits that several headers share.

#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>

// ---- sse/version.hpp

/// The version of the library; CMake, vcpkg and Conan read it from here, its only source.
#define SSEHUB_VERSION_MAJOR 0
#define SSEHUB_VERSION_MINOR 1
#define SSEHUB_VERSION_PATCH 0
#define SSEHUB_VERSION "0.1.0"

namespace sse::inline v0 {

namespace detail {

/// Matches std::chrono::duration without including <chrono>, which would double the cost of this
/// library.
template <class D>
concept chrono_duration = requires(const D& d) {
  d.count();
  D::period::num;
  D::period::den;
};

template <class T>
concept chrono_time_point = requires(const T& t) {
  { t.time_since_epoch() } -> chrono_duration;
};

}  // namespace detail

/// A span of time in milliseconds. Converts from every std::chrono duration; the core includes no
/// <chrono>.
class duration {
 public:
  constexpr duration() noexcept = default;

  template <detail::chrono_duration D>
  constexpr duration(D d) noexcept  // NOLINT: implicit, so that `.every = 10s` reads well
      : ms_{to_ms(d)} {}

  [[nodiscard]] static constexpr duration milliseconds(std::int64_t n) noexcept {
    duration d;
    d.ms_ = n;
    return d;
  }
  [[nodiscard]] static constexpr duration seconds(std::int64_t n) noexcept {
    return milliseconds(n * 1000);
  }
  /// Never; also what 0 means in an option that can be off.
  [[nodiscard]] static constexpr duration off() noexcept { return {}; }
  [[nodiscard]] static constexpr duration forever() noexcept {
    return milliseconds(std::numeric_limits<std::int64_t>::max());
  }

  [[nodiscard]] constexpr std::int64_t ms() const noexcept { return ms_; }
  [[nodiscard]] constexpr bool is_off() const noexcept { return ms_ <= 0; }
  friend constexpr bool operator==(duration, duration) noexcept = default;
  friend constexpr auto operator<=>(duration, duration) noexcept = default;

 private:
  template <class D>
  static constexpr std::int64_t to_ms(D d) noexcept {
    using p = typename D::period;
    if constexpr (std::floating_point<typename D::rep>) {
      return static_cast<std::int64_t>(d.count() * static_cast<typename D::rep>(p::num) * 1000 /
                                       static_cast<typename D::rep>(p::den));
    } else if constexpr (p::den >= 1000) {
      return static_cast<std::int64_t>(d.count()) * p::num / (p::den / 1000);
    } else {
      return static_cast<std::int64_t>(d.count()) * p::num * (1000 / p::den);
    }
  }

  std::int64_t ms_ = 0;
};

/// A moment on the host's monotonic clock, in milliseconds since any origin. The core reads no
/// clock: time comes in.
class time_point {
 public:
  constexpr time_point() noexcept = default;

  template <detail::chrono_time_point T>
  constexpr time_point(T t) noexcept  // NOLINT: implicit, see duration
      : ms_{duration{t.time_since_epoch()}.ms()} {}

  [[nodiscard]] static constexpr time_point milliseconds(std::int64_t n) noexcept {
    time_point t;
    t.ms_ = n;
    return t;
  }
  [[nodiscard]] static constexpr time_point never() noexcept {
    return milliseconds(std::numeric_limits<std::int64_t>::max());
  }

  [[nodiscard]] constexpr std::int64_t ms() const noexcept { return ms_; }
  friend constexpr bool operator==(time_point, time_point) noexcept = default;
  friend constexpr auto operator<=>(time_point, time_point) noexcept = default;
  friend constexpr time_point operator+(time_point t, duration d) noexcept {
    return milliseconds(t.ms_ + d.ms());
  }
  friend constexpr duration operator-(time_point a, time_point b) noexcept {
    return duration::milliseconds(a.ms_ - b.ms_);
  }

 private:
  std::int64_t ms_ = 0;
};

}  // namespace sse::inline v0
// ---- sse/detail/function.hpp
//
// A move-only callable for hooks. The core does not include <functional>, and hooks own things that
// cannot be copied.

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace sse::inline v0 {

template <class Signature>
class function;

/// Holds any callable of that signature; small ones without an allocation. Calling an empty one is
/// a defect of the caller: test with operator bool.
template <class R, class... Args>
class function<R(Args...)> {
 public:
  function() noexcept = default;

  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, function> &&
           std::is_invocable_r_v<R, F&, Args...>)
      function(
          F&& f) {  // NOLINT: implicit, so that a lambda can be given where a hook is asked for
    using stored = std::remove_cvref_t<F>;
    if constexpr (fits<stored>) {
      ::new (static_cast<void*>(&storage_)) stored(std::forward<F>(f));
      ops_ = &ops_inline<stored>;
    } else {
      ::new (static_cast<void*>(&storage_)) stored*(new stored(std::forward<F>(f)));
      ops_ = &ops_heap<stored>;
    }
  }
  function(function&& o) noexcept : ops_{std::exchange(o.ops_, nullptr)} {
    if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
  }
  function& operator=(function&& o) noexcept {
    if (this != &o) {
      reset();
      ops_ = std::exchange(o.ops_, nullptr);
      if (ops_ != nullptr) ops_->relocate(&storage_, &o.storage_);
    }
    return *this;
  }
  function(const function&) = delete;
  function& operator=(const function&) = delete;
  ~function() { reset(); }

  [[nodiscard]] explicit operator bool() const noexcept { return ops_ != nullptr; }
  R operator()(Args... args) const {
    return ops_->call(const_cast<void*>(static_cast<const void*>(&storage_)),
                      std::forward<Args>(args)...);
  }

 private:
  static constexpr std::size_t room = 3 * sizeof(void*);
  template <class F>
  static constexpr bool fits =
      sizeof(F) <= room && alignof(F) <= alignof(void*) && std::is_nothrow_move_constructible_v<F>;

  struct operations {
    R (*call)(void*, Args&&...);
    void (*relocate)(void* to, void* from) noexcept;
    void (*destroy)(void*) noexcept;
  };
  template <class F>
  static constexpr operations ops_inline{
      [](void* p, Args&&... a) -> R { return (*static_cast<F*>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept {
        ::new (to) F(std::move(*static_cast<F*>(from)));
        static_cast<F*>(from)->~F();
      },
      [](void* p) noexcept { static_cast<F*>(p)->~F(); }};
  template <class F>
  static constexpr operations ops_heap{
      [](void* p, Args&&... a) -> R { return (**static_cast<F**>(p))(std::forward<Args>(a)...); },
      [](void* to, void* from) noexcept { ::new (to) F*(*static_cast<F**>(from)); },
      [](void* p) noexcept { delete *static_cast<F**>(p); }};

  void reset() noexcept {
    if (ops_ != nullptr) ops_->destroy(&storage_);
    ops_ = nullptr;
  }

  alignas(void*) unsigned char storage_[room]{};
  const operations* ops_ = nullptr;
};

}  // namespace sse::inline v0
// ---- sse/detail/latest.hpp
//
// latest_values: the newest entry of each key of a channel, oldest first: what a reader that
// coalesces, or begins with a snapshot, still has to see. Memory: at most `most` keys with an event
// each; the key that was silent longest goes first.

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

// ---- sse/detail/memory.hpp
//
// The core's containers. Growing may fail and says so: nothing here throws, so one failed
// allocation costs one call.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

namespace sse::inline v0::detail {

inline constexpr std::uint32_t none = 0xffffffffU;

[[nodiscard]] inline void* allocate(std::size_t bytes) noexcept {
  return ::operator new(bytes, std::nothrow);
}
inline void deallocate(void* p) noexcept { ::operator delete(p); }

/// A growable array of plain data. It keeps little in reserve: some have a place for every session.
template <class T>
class vec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  vec() noexcept = default;
  vec(vec&& o) noexcept
      : data_{std::exchange(o.data_, nullptr)},
        size_{std::exchange(o.size_, 0)},
        capacity_{std::exchange(o.capacity_, 0)} {}
  vec& operator=(vec&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
    return *this;
  }
  vec(const vec&) = delete;
  vec& operator=(const vec&) = delete;
  ~vec() { deallocate(data_); }

  [[nodiscard]] bool reserve(std::uint32_t n) noexcept {
    if (n <= capacity_) return true;
    std::uint32_t grown = capacity_ + (capacity_ < 64 ? 8 : capacity_ / 8);
    if (grown < n) grown = n;
    auto* p = static_cast<T*>(allocate(std::size_t{grown} * sizeof(T)));
    if (p == nullptr) return false;
    if (size_ != 0) std::memcpy(static_cast<void*>(p), data_, std::size_t{size_} * sizeof(T));
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  [[nodiscard]] bool push_back(const T& v) noexcept {
    if (!reserve(size_ + 1)) return false;
    ::new (static_cast<void*>(data_ + size_)) T(v);
    ++size_;
    return true;
  }
  /// REQUIRES: reserve() made room.
  void push_reserved(const T& v) noexcept { ::new (static_cast<void*>(data_ + size_++)) T(v); }
  void pop_back() noexcept { --size_; }
  void clear() noexcept { size_ = 0; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept { return data_[i]; }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept { return data_[i]; }
  [[nodiscard]] T& back() noexcept { return data_[size_ - 1]; }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  void swap(vec& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(capacity_, o.capacity_);
  }

 private:
  T* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
};

/// A queue of plain data, addressed by ordinals that never repeat: [first(), end()).
template <class T>
class ring {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ring() noexcept = default;
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { deallocate(data_); }

  /// Makes room for one more, so that the next push_back cannot fail.
  [[nodiscard]] bool reserve_one() noexcept {
    if (end_ - first_ < capacity_) return true;
    const std::uint64_t grown = capacity_ == 0 ? 16 : capacity_ * 2;
    auto* p = static_cast<T*>(allocate(static_cast<std::size_t>(grown) * sizeof(T)));
    if (p == nullptr) return false;
    for (std::uint64_t i = first_; i != end_; ++i)
      ::new (static_cast<void*>(p + (i & (grown - 1)))) T((*this)[i]);
    deallocate(data_);
    data_ = p;
    capacity_ = grown;
    return true;
  }
  void push_reserved(const T& v) noexcept {
    ::new (static_cast<void*>(data_ + (end_ & (capacity_ - 1)))) T(v);
    ++end_;
  }
  void pop_front() noexcept { ++first_; }
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
  [[nodiscard]] bool empty() const noexcept { return first_ == end_; }
  [[nodiscard]] T& operator[](std::uint64_t ordinal) noexcept {
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] const T& operator[](std::uint64_t ordinal) const noexcept {
    return data_[ordinal & (capacity_ - 1)];
  }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }

 private:
  T* data_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t end_ = 0;
};

/// Numbered slots at addresses that never change. Slots are made in chunks and used again; T has
/// `free_link()`, a number that it does not need while its slot is free.
template <class T>
class slots {
 public:
  static constexpr std::uint32_t chunk_size = 128;  ///< few bytes of overhead each

  slots() noexcept = default;
  slots(const slots&) = delete;
  slots& operator=(const slots&) = delete;
  ~slots() {
    for (T* chunk : chunks_) {
      for (std::uint32_t i = 0; i < chunk_size; ++i) chunk[i].~T();
      deallocate(chunk);
    }
  }

  /// Makes room for one more, so that the next take() cannot fail.
  [[nodiscard]] bool reserve_one() noexcept { return free_ != none || add_chunk(); }
  /// Makes `n` slots exist.
  [[nodiscard]] bool reserve_extent(std::uint32_t n) noexcept {
    while (extent() < n) {
      if (!add_chunk()) return false;
    }
    return true;
  }
  [[nodiscard]] std::uint32_t take() noexcept {
    if (!reserve_one()) return none;
    const std::uint32_t i = free_;
    free_ = (*this)[i].free_link();
    ++in_use_;
    return i;
  }
  void give_back(std::uint32_t i) noexcept {
    (*this)[i].free_link() = free_;
    free_ = i;
    --in_use_;
  }
  /// Slots that exist, in use or free.
  [[nodiscard]] std::uint32_t extent() const noexcept { return chunks_.size() * chunk_size; }
  [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept {
    return chunks_[i / chunk_size][i % chunk_size];
  }

 private:
  [[nodiscard]] bool add_chunk() noexcept {
    const std::uint32_t base = extent();
    if (!chunks_.reserve(chunks_.size() + 1)) return false;
    auto* chunk = static_cast<T*>(allocate(sizeof(T) * chunk_size));
    if (chunk == nullptr) return false;
    for (std::uint32_t i = 0; i < chunk_size; ++i) ::new (static_cast<void*>(chunk + i)) T();
    chunks_.push_reserved(chunk);
    for (std::uint32_t i = chunk_size; i-- > 0;) {
      chunk[i].free_link() = free_;
      free_ = base + i;
    }
    return true;
  }

  vec<T*> chunks_;
  std::uint32_t free_ = none;
  std::uint32_t in_use_ = 0;
};

/// Bytes that several may hold.
struct blob {
  std::uint32_t refs = 0;
  std::uint32_t size = 0;
  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
};
/// With one reference, or nullptr when memory is out.
[[nodiscard]] inline blob* make_blob(std::uint32_t size) noexcept {
  void* p = allocate(sizeof(blob) + size);
  if (p == nullptr) return nullptr;
  return ::new (p) blob{1, size};
}
inline void unref(blob* b) noexcept {
  if (--b->refs == 0) deallocate(b);
}

/// A piece of text that owns its bytes; assigning may fail.
class owned_text {
 public:
  owned_text() noexcept = default;
  owned_text(owned_text&& o) noexcept : bytes_{std::move(o.bytes_)} {}
  owned_text& operator=(owned_text&& o) noexcept {
    bytes_.swap(o.bytes_);
    return *this;
  }
  [[nodiscard]] bool assign(std::string_view s) noexcept {
    bytes_.clear();
    if (!bytes_.reserve(static_cast<std::uint32_t>(s.size()))) return false;
    for (char c : s) bytes_.push_reserved(c);
    return true;
  }
  [[nodiscard]] std::string_view view() const noexcept {
    return bytes_.empty() ? std::string_view{} : std::string_view{&bytes_[0], bytes_.size()};
  }

 private:
  vec<char> bytes_;
};

}  // namespace sse::inline v0::detail
// ---- sse/detail/names.hpp
//
// Users and addresses that have connections now, numbered, with a count each: what the caps per
// user and per address ask.

#include <cstdint>
#include <string_view>

namespace sse::inline v0::detail {

/// One user or address.
struct name {
  owned_text key;
  std::uint64_t hash = 0;
  std::uint32_t refs = 0;      ///< sessions that hold it
  std::uint32_t count = 0;     ///< sessions that count against a cap
  std::uint32_t first = none;  ///< its sessions, oldest first (users only)
  std::uint32_t last = none;
  std::uint32_t chain = none;  ///< next in the hash bucket
  [[nodiscard]] std::uint32_t& free_link() noexcept { return chain; }
};

class names {
 public:
  [[nodiscard]] name& operator[](std::uint32_t i) noexcept { return pool_[i]; }

  [[nodiscard]] std::uint32_t find(std::string_view key) noexcept {
    if (buckets_.empty()) return none;
    const std::uint64_t h = hash(key);
    for (std::uint32_t i = buckets_[bucket(h)]; i != none; i = pool_[i].chain) {
      if (pool_[i].hash == h && pool_[i].key.view() == key) return i;
    }
    return none;
  }

  /// Finds or adds, and takes a reference; none when memory is out.
  [[nodiscard]] std::uint32_t acquire(std::string_view key) noexcept {
    std::uint32_t i = find(key);
    if (i == none) {
      if (!grow() || !pool_.reserve_one()) return none;
      i = pool_.take();
      name& n = pool_[i];
      if (!n.key.assign(key)) {
        pool_.give_back(i);
        return none;
      }
      n.hash = hash(key);
      n.refs = n.count = 0;
      n.first = n.last = none;
      std::uint32_t& b = buckets_[bucket(n.hash)];
      n.chain = b;
      b = i;
      ++used_;
    }
    ++pool_[i].refs;
    return i;
  }

  void release(std::uint32_t i) noexcept {
    if (--pool_[i].refs != 0) return;
    std::uint32_t* at = &buckets_[bucket(pool_[i].hash)];
    while (*at != i) at = &pool_[*at].chain;
    *at = pool_[i].chain;
    pool_[i].key = owned_text{};
    pool_.give_back(i);
    --used_;
  }

  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

 private:
  /// FNV-1a with a seed and a finish: keys come from outside, so the seed is the host's secret
  /// against crowding a bucket.
  [[nodiscard]] std::uint64_t hash(std::string_view key) const noexcept {
    std::uint64_t h = 0xcbf29ce484222325ULL ^ seed_;
    for (char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 29);
  }
  [[nodiscard]] std::uint32_t bucket(std::uint64_t h) const noexcept {
    return static_cast<std::uint32_t>(h) & (buckets_.size() - 1);
  }
  [[nodiscard]] bool grow() noexcept {
    if (!buckets_.empty() && used_ < buckets_.size()) return true;
    const std::uint32_t n = buckets_.empty() ? 64 : buckets_.size() * 2;
    vec<std::uint32_t> bigger;
    if (!bigger.reserve(n)) return !buckets_.empty();  // a fuller table still works
    for (std::uint32_t i = 0; i < n; ++i) bigger.push_reserved(none);
    buckets_.swap(bigger);
    for (std::uint32_t head : bigger) {
      while (head != none) {
        const std::uint32_t next = pool_[head].chain;
        std::uint32_t& b = buckets_[bucket(pool_[head].hash)];
        pool_[head].chain = b;
        b = head;
        head = next;
      }
    }
    return true;
  }

  slots<name> pool_;
  vec<std::uint32_t> buckets_;
  std::uint32_t used_ = 0;
  std::uint64_t seed_ = 0;
};

}  // namespace sse::inline v0::detail

namespace sse::inline v0::detail {

struct latest_value {
  blob* bytes = nullptr;  ///< the encoded event
  owned_text audience;
  std::uint64_t position = 0;  ///< its id, or its stamp where there are no ids
  std::uint32_t newer = none;
  std::uint32_t older = none;
};

class latest_values {
 public:
  latest_values(std::uint32_t most, std::uint64_t seed) noexcept : most_{most} {
    keys_.set_seed(seed);
  }
  latest_values(const latest_values&) = delete;
  latest_values& operator=(const latest_values&) = delete;
  ~latest_values() {
    while (oldest_ != none) drop(oldest_);
  }

  /// An entry was published. Without a key, or when memory is out, it is one that no later value
  /// makes up for.
  void put(std::string_view key, std::uint64_t position, std::string_view bytes,
           std::string_view audience) noexcept {
    if (key.empty() || !store(key, position, bytes, audience)) lost_ = position;
  }

  /// The oldest value behind `position`; none.
  [[nodiscard]] std::uint32_t after(std::uint64_t position) const noexcept {
    std::uint32_t found = none;
    for (std::uint32_t i = newest_; i != none && values_[i].position > position;
         i = values_[i].older)
      found = i;
    return found;
  }
  [[nodiscard]] const latest_value& operator[](std::uint32_t i) const noexcept {
    return values_[i];
  }
  /// The newest entry that is in no value and was replaced by none; 0: none.
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }

 private:
  [[nodiscard]] bool store(std::string_view key, std::uint64_t position, std::string_view bytes,
                           std::string_view audience) noexcept {
    const std::uint32_t known = keys_.find(key);
    if (known != none) {
      unlink(known);
    } else if (count_ == most_) {
      if (values_[oldest_].position > lost_) lost_ = values_[oldest_].position;
      drop(oldest_);
    }
    const std::uint32_t i = known != none ? known : keys_.acquire(key);
    if (i == none) return false;
    if (known == none) ++count_;
    if (!values_.reserve_extent(i + 1)) {
      if (known == none) {
        keys_.release(i);
        --count_;
      }
      return false;
    }
    latest_value& v = values_[i];
    link(i);
    v.position = position;
    const auto size = static_cast<std::uint32_t>(bytes.size());
    // else nobody is sending it
    if (v.bytes == nullptr || v.bytes->refs != 1 || v.bytes->size != size) {
      if (v.bytes != nullptr) unref(v.bytes);
      v.bytes = make_blob(size);
    }
    if (v.bytes == nullptr || !v.audience.assign(audience)) {
      drop(i);
      return false;
    }
    std::memcpy(v.bytes->bytes(), bytes.data(), size);
    return true;
  }

  void link(std::uint32_t i) noexcept {
    values_[i].older = newest_;
    values_[i].newer = none;
    (newest_ == none ? oldest_ : values_[newest_].newer) = i;
    newest_ = i;
  }
  void unlink(std::uint32_t i) noexcept {
    const latest_value& v = values_[i];
    (v.older == none ? oldest_ : values_[v.older].newer) = v.newer;
    (v.newer == none ? newest_ : values_[v.newer].older) = v.older;
  }
  void drop(std::uint32_t i) noexcept {
    unlink(i);
    latest_value& v = values_[i];
    if (v.bytes != nullptr) unref(v.bytes);
    v.bytes = nullptr;
    v.audience = owned_text{};
    keys_.release(i);
    --count_;
  }

  /// Values have the numbers of their keys.
  struct slot : latest_value {
    [[nodiscard]] std::uint32_t& free_link() noexcept { return newer; }
  };

  names keys_;
  slots<slot> values_;
  std::uint32_t most_;
  std::uint32_t count_ = 0;
  std::uint32_t newest_ = none;
  std::uint32_t oldest_ = none;
  std::uint64_t lost_ = 0;
};

}  // namespace sse::inline v0::detail
// ---- sse/encode.hpp
//
// encode: events, comments and retry blocks to the bytes of a text/event-stream. The only place
// that writes "data:". Not needed to publish through a hub, which calls it; use it for hosts,
// recordings and tests that have no hub.
//
// Threads: no state, so any thread. Nothing throws but the std::string of the three append
// functions, if its own growth fails. The *_to functions allocate nothing.
//
//   std::string out;
//   if (sse::encode(out, {.type = "fill", .data = json, .id = "17"}) != sse::encode_error::none)
//     return false;
//   (void)sse::encode_comment(out, "keep-alive");
//   send(fd, out.data(), out.size(), 0);
//
// What is written (WHATWG HTML 9.2.5): `id: N`, `event: T`, `retry: N`, each only if it is set,
// then one `data: LINE` per line of the data, then a blank line; every line ends with LF, one space
// follows every colon. Data always has at least one line, so an event is fired even if its data is
// empty. A parser gets the data back exactly, but CR and CRLF as LF. Field text that could forge a
// field (CR, LF, NUL) is refused, never repaired.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// ---- sse/detail/lines.hpp
//
// Line ends and decimal numbers, as the encoder and the parser see them. Not public.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace sse::inline v0::detail {

/// True if one of the eight bytes is below 14: only such a word needs a closer look for CR and LF.
[[nodiscard]] constexpr bool has_low_byte(std::uint64_t word) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  return ((word - ones * 14) & ~word & (ones << 7)) != 0;
}

[[nodiscard]] inline std::uint64_t load_word(const char* p) noexcept {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

/// The first CR or LF in [p, end), or end. Each byte is looked at once.
[[nodiscard]] constexpr const char* find_line_end(const char* p, const char* end) noexcept {
  if (!std::is_constant_evaluated()) {
    while (end - p >= 32) {
      const bool low = has_low_byte(load_word(p)) || has_low_byte(load_word(p + 8)) ||
                       has_low_byte(load_word(p + 16)) || has_low_byte(load_word(p + 24));
      if (!low) {
        p += 32;
        continue;
      }
      for (const char* const stop = p + 32; p != stop; ++p) {
        if (*p == '\n' || *p == '\r') return p;
      }
    }
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
  }
  for (; p != end; ++p) {
    if (*p == '\n' || *p == '\r') return p;
  }
  return end;
}

/// The byte after the line end at `p`; CRLF is one line end. REQUIRES: p != end, *p is CR or LF.
[[nodiscard]] constexpr const char* skip_line_end(const char* p, const char* end) noexcept {
  const bool cr = *p == '\r';
  ++p;
  return cr && p != end && *p == '\n' ? p + 1 : p;
}

/// What a text becomes when it is written line by line.
struct line_count {
  std::size_t lines = 1;  ///< at least one, also of an empty text
  std::size_t bytes = 0;  ///< without the line ends
};

[[nodiscard]] constexpr line_count count_lines(std::string_view s) noexcept {
  line_count n;
  const char* p = s.data();
  const char* const end = p + s.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    n.bytes += static_cast<std::size_t>(stop - p);
    if (stop == end) return n;
    ++n.lines;
    p = skip_line_end(stop, end);
  }
}

/// No CR, LF or NUL.
[[nodiscard]] constexpr bool is_field_text(std::string_view s) noexcept {
  const char* p = s.data();
  const char* const end = p + s.size();
  if (!std::is_constant_evaluated()) {
    while (end - p >= 8 && !has_low_byte(load_word(p))) p += 8;
  }
  for (; p != end; ++p) {
    if (*p == '\0' || *p == '\n' || *p == '\r') return false;
  }
  return true;
}

[[nodiscard]] constexpr std::size_t decimal_size(std::uint64_t n) noexcept {
  std::size_t size = 1;
  for (; n >= 10; n /= 10) ++size;
  return size;
}

/// memcpy that takes an empty view; returns the byte after it.
inline char* put(char* out, std::string_view s) noexcept {
  if (!s.empty()) std::memcpy(out, s.data(), s.size());
  return out + s.size();
}

inline char* put_decimal(char* out, std::uint64_t n) noexcept {
  char* const end = out + decimal_size(n);
  char* p = end;
  do {
    *--p = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  return end;
}

}  // namespace sse::inline v0::detail
// ---- sse/event.hpp
//
// event: one event, as it is sent and as it is received. event_id: the number that orders a stream.
//
//   channel.publish({.type = "fill", .data = json});
//
// All members are views: they must live until the call that takes the event returns; inside a
// parser's callback they are valid until the callback returns. Plain data, no thread safety of its
// own.

#include <cstdint>
#include <string_view>

namespace sse::inline v0 {

/// A stream position. Strictly increasing within a sequence, never reused, below 2^53 so that
/// JavaScript can hold it.
using event_id = std::uint64_t;
inline constexpr event_id no_id = 0;
inline constexpr event_id max_event_id = (event_id{1} << 53) - 1;

/// `event::retry` when the event carries no `retry:` field.
inline constexpr std::int64_t no_retry = -1;

/// One event (WHATWG HTML 9.2.5 and 9.2.6).
struct event {
  /// `event:`; empty: unnamed, a browser's `onmessage` gets it. REQUIRES: no CR, LF, NUL.
  std::string_view type{};
  /// `data:`; any text; CR, LF and CRLF inside it are line ends and arrive as LF.
  std::string_view data{};
  /// `id:`; empty: none. As received: the last event ID. REQUIRES: no CR, LF, NUL.
  std::string_view id{};
  std::int64_t retry = no_retry;  ///< `retry:` in milliseconds. REQUIRES: >= 0, or no_retry.
};

}  // namespace sse::inline v0

namespace sse::inline v0 {

/// Why an event is refused.
enum class encode_error : std::uint8_t {
  none,
  bad_type,     ///< CR, LF or NUL in event::type
  bad_id,       ///< CR, LF or NUL in event::id
  bad_retry,    ///< retry below zero (and not no_retry)
  bad_comment,  ///< NUL in a comment
  too_large,    ///< over a limit of encode_limits
};

[[nodiscard]] constexpr std::string_view to_string(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return "none";
    case encode_error::bad_type: return "bad_type";
    case encode_error::bad_id: return "bad_id";
    case encode_error::bad_retry: return "bad_retry";
    case encode_error::bad_comment: return "bad_comment";
    case encode_error::too_large: return "too_large";
  }
  return "unknown";
}

/// The largest sizes that are accepted, in bytes.
struct encode_limits {
  std::size_t event = std::size_t{1} << 20;  ///< the encoded event or comment, whole
  std::size_t id = 64;                       ///< event::id
  std::size_t type = 128;                    ///< event::type
};

/// The verdict on one event and the size it will have: one pass over the data, for callers that
/// check and then write.
struct encode_plan {
  encode_error error = encode_error::none;
  std::size_t size = 0;   ///< encoded bytes; 0 if refused
  std::size_t lines = 0;  ///< `data:` lines
};

namespace detail {

/// `id: N`, `event: T` and `retry: N` with their line ends.
[[nodiscard]] constexpr std::size_t fields_size(const event& e) noexcept {
  std::size_t size = 0;
  if (!e.id.empty()) size += 5 + e.id.size();
  if (!e.type.empty()) size += 8 + e.type.size();
  if (e.retry >= 0) size += 8 + decimal_size(static_cast<std::uint64_t>(e.retry));
  return size;
}

/// Each line with a prefix and its line end.
[[nodiscard]] constexpr std::size_t lines_size(const line_count& n, std::size_t prefix) noexcept {
  return n.lines * (prefix + 1) + n.bytes;
}

}  // namespace detail

/// Exactly the bytes that encode_to writes. Linear in the data.
[[nodiscard]] constexpr std::size_t encoded_size(const event& e) noexcept {
  return detail::fields_size(e) + detail::lines_size(detail::count_lines(e.data), 6) + 1;
}

/// Checks and measures. Errors as check(); if there is one, size is 0.
[[nodiscard]] constexpr encode_plan plan(const event& e,
                                         const encode_limits& limits = {}) noexcept {
  if (e.type.size() > limits.type || e.id.size() > limits.id || e.data.size() > limits.event) {
    return {encode_error::too_large};
  }
  if (!detail::is_field_text(e.type)) return {encode_error::bad_type};
  if (!detail::is_field_text(e.id)) return {encode_error::bad_id};
  if (e.retry < no_retry) return {encode_error::bad_retry};
  const detail::line_count data = detail::count_lines(e.data);
  const std::size_t size = detail::fields_size(e) + detail::lines_size(data, 6) + 1;
  if (size > limits.event) return {encode_error::too_large};
  return {encode_error::none, size, data.lines};
}

/// none, or why encode would refuse: CR, LF or NUL in type or id, retry below -1, or a size over
/// its limit.
[[nodiscard]] constexpr encode_error check(const event& e,
                                           const encode_limits& limits = {}) noexcept {
  return plan(e, limits).error;
}

namespace detail {

inline char* put_lines(char* out, std::string_view text, std::string_view prefix) noexcept {
  const char* p = text.data();
  const char* const end = p + text.size();
  for (;;) {
    const char* const stop = find_line_end(p, end);
    out = put(out, prefix);
    out = put(out, {p, static_cast<std::size_t>(stop - p)});
    *out++ = '\n';
    if (stop == end) return out;
    p = skip_line_end(stop, end);
  }
}

inline char* put_fields(char* out, const event& e) noexcept {
  if (!e.id.empty()) {
    out = put(out, "id: ");
    out = put(out, e.id);
    *out++ = '\n';
  }
  if (!e.type.empty()) {
    out = put(out, "event: ");
    out = put(out, e.type);
    *out++ = '\n';
  }
  if (e.retry >= 0) {
    out = put(out, "retry: ");
    out = put_decimal(out, static_cast<std::uint64_t>(e.retry));
    *out++ = '\n';
  }
  return out;
}

}  // namespace detail

/// Writes the event and returns the byte after it. REQUIRES: check(e) passed; encoded_size(e) bytes
/// at `out`.
inline char* encode_to(char* out, const event& e) noexcept {
  out = detail::put_fields(out, e);
  out = detail::put_lines(out, e.data, "data: ");
  *out++ = '\n';
  return out;
}

/// The same with one pass less over the data. REQUIRES: `p` is plan(e) without error; p.size bytes
/// at `out`.
inline char* encode_to(char* out, const event& e, const encode_plan& p) noexcept {
  if (p.lines != 1) return encode_to(out, e);
  out = detail::put_fields(out, e);
  out = detail::put(out, "data: ");
  out = detail::put(out, e.data);
  return detail::put(out, "\n\n");
}

/// Appends the event to `out`, or leaves `out` alone and says why. Errors as check().
[[nodiscard]] inline encode_error encode(std::string& out, const event& e,
                                         const encode_limits& limits = {}) {
  const encode_plan p = plan(e, limits);
  if (p.error != encode_error::none) return p.error;
  const std::size_t before = out.size();
  out.resize(before + p.size);
  encode_to(out.data() + before, e, p);
  return encode_error::none;
}

/// Exactly the bytes that encode_comment_to writes.
[[nodiscard]] constexpr std::size_t encoded_comment_size(std::string_view text) noexcept {
  const detail::line_count n = detail::count_lines(text);
  return n.lines * 3 + n.bytes + 1;
}

/// none, or why encode_comment would refuse: NUL in the text, or larger than limits.event when
/// encoded.
[[nodiscard]] constexpr encode_error check_comment(std::string_view text,
                                                   const encode_limits& limits = {}) noexcept {
  if (text.size() > limits.event || encoded_comment_size(text) > limits.event)
    return encode_error::too_large;
  return text.find('\0') == text.npos ? encode_error::none : encode_error::bad_comment;
}

/// Writes one `: LINE` per line of the text and a blank line (`: keep-alive\n\n`); returns the byte
/// after it. Clients ignore comments. REQUIRES: check_comment(text) passed;
/// encoded_comment_size(text) bytes at `out`.
inline char* encode_comment_to(char* out, std::string_view text) noexcept {
  out = detail::put_lines(out, text, ": ");
  *out++ = '\n';
  return out;
}

/// Appends the comment to `out`, or leaves `out` alone and says why. Errors as check_comment().
[[nodiscard]] inline encode_error encode_comment(std::string& out, std::string_view text,
                                                 const encode_limits& limits = {}) {
  const encode_error e = check_comment(text, limits);
  if (e != encode_error::none) return e;
  const std::size_t before = out.size();
  out.resize(before + encoded_comment_size(text));
  encode_comment_to(out.data() + before, text);
  return encode_error::none;
}

/// Exactly the bytes that encode_retry_to writes. REQUIRES: ms >= 0.
[[nodiscard]] constexpr std::size_t encoded_retry_size(std::int64_t ms) noexcept {
  return 9 + detail::decimal_size(static_cast<std::uint64_t>(ms));
}

/// Writes `retry: N\n\n`: the client will wait `ms` milliseconds before it reconnects; no event is
/// fired. Returns the byte after it. REQUIRES: ms >= 0; encoded_retry_size(ms) bytes at `out`.
inline char* encode_retry_to(char* out, std::int64_t ms) noexcept {
  out = detail::put(out, "retry: ");
  out = detail::put_decimal(out, static_cast<std::uint64_t>(ms));
  return detail::put(out, "\n\n");
}

/// Appends a retry block. Errors: bad_retry if ms is negative; `out` is then left alone.
[[nodiscard]] inline encode_error encode_retry(std::string& out, std::int64_t ms) {
  if (ms < 0) return encode_error::bad_retry;
  const std::size_t before = out.size();
  out.resize(before + encoded_retry_size(ms));
  encode_retry_to(out.data() + before, ms);
  return encode_error::none;
}

}  // namespace sse::inline v0
// ---- sse/fwd.hpp
//
// Forward declarations, for headers that only name these types.

namespace sse::inline v0 {

struct event;
struct request;
struct response;
struct session_id;
class backfill_writer;
class channel;

namespace detail {
class engine;
struct timer_places;
}  // namespace detail

}  // namespace sse::inline v0
// ---- sse/log.hpp
//
// event_log: a channel's events as encoded bytes in segments, an index over them, and what is
// retained for resuming. Used by the hub; a program that wants a stream uses a channel.
//
// Invariants:
//   1. Bytes in a segment never change or move after append: the kernel gets them as they lie.
//   2. A cursor, or a write still pending, pins its segment: nobody frees a pinned segment, even
//      after the log let it go (detached).
//   3. Retained entries are the newest ones within `retention`, exactly; the log holds more only
//      while somebody reads it.
//
// Not thread-safe: it belongs to the hub's thread.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sse::inline v0::detail {

/// A block of log bytes. Stream offset of its byte i: base + i.
struct segment {
  segment* next = nullptr;  ///< the newer neighbour, while attached
  std::uint64_t base = 0;
  std::uint32_t used = 0;
  std::uint32_t capacity = 0;
  std::uint32_t pins = 0;  ///< cursors in it and writes pending on it
  bool attached = true;    ///< still in its log
  bool mixed = false;      ///< holds entries that not every cursor may send: look at each one

  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] std::uint64_t end() const noexcept { return base + used; }
};

/// Makes segments and keeps a few for use again, so that a steady stream allocates nothing.
class segment_pool {
 public:
  static constexpr std::uint32_t smallest = 4096 - sizeof(segment);
  static constexpr std::uint32_t largest = 65536 - sizeof(segment);

  segment_pool() noexcept = default;
  segment_pool(const segment_pool&) = delete;
  segment_pool& operator=(const segment_pool&) = delete;
  ~segment_pool() {
    while (segment* s = spare_) {
      spare_ = s->next;
      free_segment(s);
    }
  }

  /// A segment with at least `room` bytes, or nullptr when memory is out.
  [[nodiscard]] segment* take(std::uint32_t room) noexcept {
    segment* s = nullptr;
    if (room <= largest && room > largest / 2 && spare_ != nullptr) {
      s = spare_;
      spare_ = s->next;
      --spares_;
      const std::uint32_t capacity = s->capacity;
      *s = segment{};
      s->capacity = capacity;
    } else {
      void* p = allocate(sizeof(segment) + room);
      if (p == nullptr) return nullptr;
      s = ::new (p) segment{};
      s->capacity = room;
      held_ += room;
    }
    return s;
  }
  void give_back(segment* s) noexcept {
    if (s->capacity == largest && spares_ < max_spares) {
      s->next = spare_;
      spare_ = s;
      ++spares_;
    } else {
      free_segment(s);
    }
  }
  /// A cursor or a pending write lets go.
  void unpin(segment* s) noexcept {
    if (--s->pins == 0 && !s->attached) give_back(s);
  }
  /// Bytes of all segments that exist, spare ones too.
  [[nodiscard]] std::uint64_t held() const noexcept { return held_; }

 private:
  static constexpr std::uint32_t max_spares = 16;

  void free_segment(segment* s) noexcept {
    held_ -= s->capacity;
    s->~segment();
    deallocate(s);
  }

  segment* spare_ = nullptr;
  std::uint32_t spares_ = 0;
  std::uint64_t held_ = 0;
};

/// One event in the log. Its audience, if it has one, lies in the `audience` bytes in front of
/// `begin`.
struct entry {
  event_id id = no_id;      ///< no_id: none
  std::uint64_t begin = 0;  ///< stream offset of its first byte
  std::uint64_t stamp = 0;  ///< order of publication over all channels of the hub
  std::int64_t at = 0;      ///< ms, hub time of publication
  segment* seg = nullptr;
  std::uint32_t size = 0;
  std::uint16_t audience = 0;  ///< bytes of its audience
  bool heartbeat = false;      ///< not an application event

  [[nodiscard]] std::uint64_t end() const noexcept { return begin + size; }
  [[nodiscard]] std::uint32_t offset() const noexcept {
    return static_cast<std::uint32_t>(begin - seg->base);
  }
  [[nodiscard]] std::string_view bytes() const noexcept { return {seg->bytes() + offset(), size}; }
  [[nodiscard]] std::string_view audience_view() const noexcept {
    return {seg->bytes() + offset() - audience, audience};
  }
};

/// What a log keeps for those who resume. An entry is kept while all three hold.
struct retention {
  std::uint64_t events = 1000;       ///< newest entries kept; exact
  std::uint64_t bytes = UINT64_MAX;  ///< encoded bytes kept
  duration age = duration::off();    ///< off: any age
};

class event_log {
 public:
  event_log(segment_pool& pool, const retention& keep) noexcept : pool_{&pool}, keep_{keep} {}
  event_log(const event_log&) = delete;
  event_log& operator=(const event_log&) = delete;
  ~event_log() {
    while (head_ != nullptr) drop_head();
  }

  /// Room for one entry of `size` bytes behind `audience` bytes, or nullptr when memory is out;
  /// nothing changes until commit().
  [[nodiscard]] char* prepare(std::uint32_t size, std::uint32_t audience) noexcept {
    const std::uint64_t room = std::uint64_t{size} + audience;
    if (room > 0xffff0000U || !index_.reserve_one()) return nullptr;
    if (tail_ == nullptr || tail_->capacity - tail_->used < room) {
      std::uint32_t capacity = tail_ == nullptr ? segment_pool::smallest : segment_pool::largest;
      if (tail_ != nullptr && tail_->capacity < segment_pool::largest / 4)
        capacity = tail_->capacity * 4;
      if (capacity < room) capacity = static_cast<std::uint32_t>(room);
      segment* s = pool_->take(capacity);
      if (s == nullptr) return nullptr;
      s->base = end_;
      if (tail_ == nullptr) {
        head_ = s;
      } else {
        tail_->next = s;
      }
      tail_ = s;
    }
    return tail_->bytes() + tail_->used;
  }

  /// Makes sure that a cursor has a segment to stand in.
  [[nodiscard]] bool ensure_tail() noexcept {
    if (tail_ != nullptr) return true;
    segment* s = pool_->take(segment_pool::smallest);
    if (s == nullptr) return false;
    s->base = end_;
    head_ = tail_ = s;
    return true;
  }

  /// Makes the prepared bytes an entry. `e` brings all but its place.
  void commit(entry e) noexcept {
    e.seg = tail_;
    e.begin = tail_->base + tail_->used + e.audience;
    tail_->used += e.audience + e.size;
    if (e.audience != 0) tail_->mixed = selective_ = true;
    end_ = tail_->end();
    index_.push_reserved(e);
    retained_bytes_ += e.size;
    if (e.id != no_id) last_id_ = e.id;
  }

  /// Lets entries go that retention no longer covers, and segments that nobody needs.
  void trim(std::int64_t now) noexcept {
    while (retained_ != index_.end()) {
      const entry& e = index_[retained_];
      const bool fits = retained_events() <= keep_.events && retained_bytes_ <= keep_.bytes &&
                        (keep_.age.is_off() || now - e.at < keep_.age.ms());
      if (fits) break;
      retained_bytes_ -= e.size;
      if (e.id != no_id) forgotten_id_ = e.id;
      ++retained_;
    }
    while (head_ != tail_ && head_->pins == 0 && unretained(*head_)) drop_head();
  }

  /// Lets every segment go that ends at or before `offset` and is not retained, also while somebody
  /// still pins it.
  void detach_before(std::uint64_t offset) noexcept {
    while (head_ != tail_ && head_->end() <= offset && unretained(*head_)) drop_head();
  }

  /// When retention by age next lets an entry go; max: never.
  [[nodiscard]] std::int64_t next_expiry() const noexcept {
    if (keep_.age.is_off() || retained_ >= index_.end()) return INT64_MAX;
    return index_[retained_].at + keep_.age.ms();
  }

  // Entries, by ordinal. [first, end) is stored, [retained, end) may be replayed.
  [[nodiscard]] std::uint64_t first() const noexcept { return index_.first(); }
  [[nodiscard]] std::uint64_t end() const noexcept { return index_.end(); }
  [[nodiscard]] std::uint64_t retained() const noexcept { return retained_; }
  [[nodiscard]] const entry& operator[](std::uint64_t ordinal) const noexcept {
    return index_[ordinal];
  }

  /// The first retained entry with an id above `after`; end() if there is none. O(log n).
  /// REQUIRES: the entries have ids.
  [[nodiscard]] std::uint64_t find(event_id after) const noexcept {
    if (after >= last_id_) return index_.end();
    return first_that([&](const entry& e) { return e.id > after; }, retained_);
  }

  /// The n-th newest entry, or the oldest retained one.
  [[nodiscard]] std::uint64_t newest(std::uint64_t n) const noexcept {
    return n < retained_events() ? index_.end() - n : retained_;
  }

  /// The first entry that ends behind stream offset `pos`: the one a cursor at `pos` is in, or will
  /// send next. O(log n), O(1) for the position asked for last, since most cursors stand at the
  /// same few places.
  [[nodiscard]] std::uint64_t locate(std::uint64_t pos) const noexcept {
    if (pos >= end_) return index_.end();
    if (memo_pos_ == pos && memo_ordinal_ >= index_.first()) return memo_ordinal_;
    memo_ordinal_ = first_that([&](const entry& e) { return e.end() > pos; }, index_.first());
    memo_pos_ = pos;
    return memo_ordinal_;
  }

  /// The id in front of `ordinal`; no_id if there never was one.
  [[nodiscard]] event_id id_before(std::uint64_t ordinal) const noexcept {
    return ordinal > index_.first() ? index_[ordinal - 1].id : dropped_id_;
  }

  [[nodiscard]] segment* tail() const noexcept { return tail_; }
  [[nodiscard]] segment* head() const noexcept { return head_; }
  [[nodiscard]] std::uint64_t end_offset() const noexcept { return end_; }
  [[nodiscard]] event_id last_id() const noexcept { return last_id_; }
  /// The newest id that retention let go; no_id: none.
  [[nodiscard]] event_id forgotten_id() const noexcept { return forgotten_id_; }
  [[nodiscard]] std::uint64_t retained_events() const noexcept { return index_.end() - retained_; }
  [[nodiscard]] std::uint64_t retained_bytes() const noexcept { return retained_bytes_; }
  /// Some entry had an audience: not everybody gets all.
  [[nodiscard]] bool selective() const noexcept { return selective_; }
  [[nodiscard]] const retention& keep() const noexcept { return keep_; }
  /// Bytes held for readers that are behind, not for retention.
  [[nodiscard]] std::uint64_t backlog() const noexcept {
    if (head_ == nullptr) return 0;
    const std::uint64_t from = retained_ < index_.end() ? index_[retained_].seg->base : tail_->base;
    return from > head_->base ? from - head_->base : 0;
  }

 private:
  /// The first entry from `lo` on for which `holds` is true, given that it stays true from there
  /// on.
  template <class Predicate>
  [[nodiscard]] std::uint64_t first_that(Predicate holds, std::uint64_t lo) const noexcept {
    std::uint64_t hi = index_.end();
    while (lo < hi) {
      const std::uint64_t mid = lo + (hi - lo) / 2;
      if (holds(index_[mid])) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  [[nodiscard]] bool unretained(const segment& s) const noexcept {
    return retained_ == index_.end() || index_[retained_].begin >= s.end();
  }
  void drop_head() noexcept {
    segment* s = head_;
    while (!index_.empty() && index_[index_.first()].seg == s) {
      dropped_id_ = index_[index_.first()].id;
      index_.pop_front();
    }
    head_ = s->next;
    if (head_ == nullptr) tail_ = nullptr;
    s->attached = false;
    if (s->pins == 0) pool_->give_back(s);
  }

  segment_pool* pool_;
  retention keep_;
  segment* head_ = nullptr;
  segment* tail_ = nullptr;
  ring<entry> index_;
  std::uint64_t end_ = 0;
  std::uint64_t retained_ = 0;
  std::uint64_t retained_bytes_ = 0;
  bool selective_ = false;
  event_id last_id_ = no_id;
  event_id forgotten_id_ = no_id;
  event_id dropped_id_ = no_id;
  mutable std::uint64_t memo_pos_ = UINT64_MAX;
  mutable std::uint64_t memo_ordinal_ = 0;
};

}  // namespace sse::inline v0::detail
// ---- sse/session.hpp
//
// session_id: the handle of one subscriber's connection. Stale handles are harmless: every hub call
// checks them.

#include <cstdint>

namespace sse::inline v0 {

/// Slot and generation. A slot is used again, a generation is not, so an id kept too long names
/// nobody.
struct session_id {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  ///< 0: no session

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return generation != 0; }
  friend constexpr bool operator==(session_id, session_id) noexcept = default;
};

}  // namespace sse::inline v0
// ---- sse/stats.hpp
//
// stats: what happened so far, as plain numbers; append_prometheus writes them as text exposition
// format 0.0.4.
//
//   std::string page;
//   sse::append_prometheus(page, hub.stats(), hub.channel_stats());
//
// Copies; take them on the hub's thread, use them anywhere.

#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// ---- sse/transport.hpp
//
// transport: all that a host must give the hub: one write that never blocks, and a close.
//
//   struct my_transport {
//     struct connection { int fd; };
//     sse::write_result write(connection& c, std::span<const sse::buffer> bytes) noexcept;
//     void close(connection& c, sse::close_reason why) noexcept;
//   };
//
// write  takes any prefix of `bytes`, never blocks, throws or calls the hub back.
// close  is called exactly once for each session, also for one that the host itself reported as
//        closed(id); after it the hub destroys the connection object. It never calls the hub back.
//
// Optional members, detected:
//   void opened(connection&, session_id)   right after admission: the moment to remember the id
//   void begin_flush() / end_flush()       around a flush: one io_uring submit, one cork
//   static constexpr std::size_t max_buffers   buffers per write; default 16, 1 for a TLS stream
//   static constexpr bool completes = true     write may answer flow::pending; peek, consume

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace sse::inline v0 {

/// Bytes to be written, as they lie. Valid until write returns, or until written(id, n) after
/// flow::pending.
struct buffer {
  const char* data = nullptr;
  std::size_t size = 0;

  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data, size}; }
};

/// What the transport can do next.
enum class flow : std::uint8_t {
  ready,    ///< `bytes` were taken; ask again at once if more is there
  blocked,  ///< `bytes` were taken, the rest was not; the host will call hub.writable(id)
  pending,  ///< `bytes` were taken but are still being read; the host will call hub.written(id, n)
  closed,   ///< the peer is gone
};

struct write_result {
  std::size_t bytes = 0;
  flow next = flow::ready;
};

/// Why a session ended.
enum class close_reason : std::uint8_t {
  peer,       ///< the other side is gone, or a write failed
  lag,        ///< too slow: a reconnect resumes where it stopped (channel_options::max_lag)
  hub_full,   ///< too slow while the hub was over its own memory cap (hub_options::max_backlog)
  stalled,    ///< no write progress within hub_options::write_deadline
  idle,       ///< no application event within hub_options::idle
  age,        ///< the connection reached hub_options::max_age
  evicted,    ///< made room for a newer connection (limits::when_full)
  revoked,    ///< hub.revoke(user)
  finished,   ///< hub.finish(id), or the end of a retry stream
  drain,      ///< hub.drain()
  channel,    ///< its channel was closed
  host,       ///< hub.close(id), or the hub was destroyed
  no_memory,  ///< an allocation failed while serving it
};

[[nodiscard]] constexpr std::string_view to_string(close_reason r) noexcept {
  switch (r) {
    case close_reason::peer: return "peer";
    case close_reason::lag: return "lag";
    case close_reason::hub_full: return "hub_full";
    case close_reason::stalled: return "stalled";
    case close_reason::idle: return "idle";
    case close_reason::age: return "age";
    case close_reason::evicted: return "evicted";
    case close_reason::revoked: return "revoked";
    case close_reason::finished: return "finished";
    case close_reason::drain: return "drain";
    case close_reason::channel: return "channel";
    case close_reason::host: return "host";
    case close_reason::no_memory: return "no_memory";
  }
  return "unknown";
}
inline constexpr std::size_t close_reason_count = 13;

/// All that a host must give (see the top of this file).
template <class T>
concept transport = std::movable<typename T::connection> &&
    requires(T& t, typename T::connection& c, std::span<const buffer> bytes, close_reason why) {
  { t.write(c, bytes) }
  noexcept->std::same_as<write_result>;
  { t.close(c, why) }
  noexcept;
};

/// One connection of a host that has several kinds of them (plain and TLS, say).
class any_connection {
 public:
  virtual ~any_connection() = default;
  virtual void opened(session_id) noexcept {}
  [[nodiscard]] virtual write_result write(std::span<const buffer> bytes) noexcept = 0;
  virtual void close(close_reason why) noexcept = 0;
};

/// A transport whose connections bring their own write and close. Costs a virtual call per write.
struct any_transport {
  static constexpr bool completes = true;

  /// Owns one.
  class connection {
   public:
    explicit connection(any_connection* owned) noexcept : owned_{owned} {}
    connection(connection&& o) noexcept : owned_{std::exchange(o.owned_, nullptr)} {}
    connection& operator=(connection&& o) noexcept {
      std::swap(owned_, o.owned_);
      return *this;
    }
    ~connection() { delete owned_; }
    any_connection* operator->() const noexcept { return owned_; }

   private:
    any_connection* owned_;
  };

  void opened(connection& c, session_id id) noexcept { c->opened(id); }
  [[nodiscard]] write_result write(connection& c, std::span<const buffer> bytes) noexcept {
    return c->write(bytes);
  }
  void close(connection& c, close_reason why) noexcept { c->close(why); }
};

}  // namespace sse::inline v0

namespace sse::inline v0 {

struct channel_stats {
  std::string_view name{};        ///< valid while the channel is open
  std::uint64_t subscribers = 0;  ///< now
  std::uint64_t published = 0;    ///< events accepted, transient ones too, heartbeats not
  /// Events handed whole to transports, heartbeats in the log too.
  std::uint64_t delivered = 0;
  /// Events that slow subscribers were skipped over, each announced by a gap.
  std::uint64_t dropped = 0;
  /// Events that slow subscribers left for the newest of each key.
  std::uint64_t coalesced = 0;
  std::uint64_t gaps = 0;             ///< gap frames
  std::uint64_t replays = 0;          ///< joins that resumed from a Last-Event-ID
  std::uint64_t retained_events = 0;  ///< now
  std::uint64_t retained_bytes = 0;   ///< now
  std::uint64_t backlog_bytes = 0;    ///< now, held only for readers that are behind
  std::uint64_t last_id = 0;
};

struct hub_stats {
  std::uint64_t sessions = 0;  ///< now
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;  ///< by shape, caps, the admit hook, or while draining
  std::uint64_t writes = 0;   ///< calls of Transport::write
  std::uint64_t bytes = 0;    ///< bytes taken by transports
  std::uint64_t heartbeats = 0;
  std::uint64_t log_bytes = 0;                    ///< now, memory of all logs
  std::uint64_t closed[close_reason_count] = {};  ///< by close_reason
};

namespace detail {
inline void append_number(std::string& out, std::uint64_t n) {
  char digits[20];
  const auto r = std::to_chars(digits, digits + sizeof digits, n);
  out.append(digits, r.ptr);
}
inline void append_family(std::string& out, std::string_view name, std::string_view type,
                          std::string_view help) {
  out.append("# HELP ")
      .append(name)
      .append(" ")
      .append(help)
      .append("\n# TYPE ")
      .append(name)
      .append(" ");
  out.append(type).append("\n");
}
inline void append_label(std::string& out, std::string_view value) {
  for (char c : value) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out.append("\\n");
    } else {
      out.push_back(c);
    }
  }
}
}  // namespace detail

/// Appends every counter as Prometheus text. Throws only if std::string does.
inline void append_prometheus(std::string& out, const hub_stats& h,
                              std::span<const channel_stats> channels) {
  const auto single = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t v) {
    detail::append_family(out, name, type, help);
    out.append(name).append(" ");
    detail::append_number(out, v);
    out.push_back('\n');
  };
  single("sse_sessions", "gauge", "Open streams.", h.sessions);
  single("sse_accepted_total", "counter", "Streams opened.", h.accepted);
  single("sse_refused_total", "counter", "Streams refused.", h.refused);
  single("sse_writes_total", "counter", "Transport writes.", h.writes);
  single("sse_bytes_total", "counter", "Bytes taken by transports.", h.bytes);
  single("sse_heartbeats_total", "counter", "Heartbeats sent.", h.heartbeats);
  single("sse_log_bytes", "gauge", "Memory held by all logs.", h.log_bytes);
  detail::append_family(out, "sse_closed_total", "counter", "Streams closed, by reason.");
  for (std::size_t i = 0; i < close_reason_count; ++i) {
    out.append("sse_closed_total{reason=\"")
        .append(to_string(static_cast<close_reason>(i)))
        .append("\"} ");
    detail::append_number(out, h.closed[i]);
    out.push_back('\n');
  }
  const auto family = [&](std::string_view name, std::string_view type, std::string_view help,
                          std::uint64_t channel_stats::*field) {
    detail::append_family(out, name, type, help);
    for (const channel_stats& c : channels) {
      out.append(name).append("{channel=\"");
      detail::append_label(out, c.name);
      out.append("\"} ");
      detail::append_number(out, c.*field);
      out.push_back('\n');
    }
  };
  family("sse_channel_subscribers", "gauge", "Subscribers.", &channel_stats::subscribers);
  family("sse_channel_published_total", "counter", "Events published.", &channel_stats::published);
  family("sse_channel_delivered_total", "counter", "Events delivered.", &channel_stats::delivered);
  family("sse_channel_dropped_total", "counter", "Events skipped for slow readers.",
         &channel_stats::dropped);
  family("sse_channel_coalesced_total", "counter",
         "Events left for the newest of each key by slow readers.", &channel_stats::coalesced);
  family("sse_channel_gaps_total", "counter", "Gap frames sent.", &channel_stats::gaps);
  family("sse_channel_replays_total", "counter", "Joins that resumed.", &channel_stats::replays);
  family("sse_channel_retained_events", "gauge", "Events kept for resuming.",
         &channel_stats::retained_events);
  family("sse_channel_retained_bytes", "gauge", "Bytes kept for resuming.",
         &channel_stats::retained_bytes);
  family("sse_channel_backlog_bytes", "gauge", "Bytes held for slow readers.",
         &channel_stats::backlog_bytes);
}

}  // namespace sse::inline v0

namespace sse::inline v0 {

/// Where a channel's ids come from.
enum class id_mode : std::uint8_t {
  automatic,  ///< the next of the sequence
  none,       ///< no ids: nothing can be resumed
  given,      ///< publish_options::id; strictly rising within the sequence
};

/// What happens to a subscriber that is further behind than it may be.
enum class lag_policy : std::uint8_t {
  disconnect,  ///< close; its reconnect resumes from the log
  oldest,      ///< once what it needs left the log: a gap frame, then the oldest retained event
  tail,        ///< a gap frame, then live
  /// The newest event of each key, then live; a gap frame only for what had no key. As `tail` on a
  /// session that joined other channels too.
  coalesce,
};

/// Where a subscriber without a Last-Event-ID begins.
enum class start_at : std::uint8_t {
  live,  ///< with the next event
  all,   ///< with everything retained
  /// With the newest event of each key; as `live` on a session that joined other channels too.
  snapshot,
};

/// A sign of life, so that proxies keep the connection and dead peers are found. Carries no id, is
/// never replayed.
struct heartbeat_options {
  enum class pace : std::uint8_t {
    off,
    idle,   ///< when nothing was sent to this subscriber for `every`
    fixed,  ///< every `every`, to all subscribers at once
  };
  pace mode = pace::idle;
  duration every = duration::seconds(15);  ///< REQUIRES: > 0 unless off
  bool comment = true;                     ///< a comment line (WHATWG HTML 9.2.7); false: an event
  std::string_view text = "keep-alive";    ///< the comment, or the event's data. Copied.
  std::string_view type = {};              ///< the event's type; empty: unnamed. Copied.
  /// Writes the event's data each time, instead of `text`.
  function<void(std::string& data)> payload = {};
};

enum class backfill_state : std::uint8_t {
  more,  ///< some events were added; ask again when they are sent
  done,  ///< all events below `before` were added: go on with the log
  wait,  ///< not yet: the host will call hub.writable(session)
  lost,  ///< they are gone: send a gap frame, then the oldest retained event
};

/// What a backfill hook is asked for: the events with after < id < before, oldest first, as many as
/// fit.
struct backfill_request {
  session_id session{};
  event_id after = no_id;
  event_id before = no_id;
  std::size_t room = 0;  ///< encoded bytes that should not be exceeded by much
};

/// Options are copied by open_channel; the views need not live on.
struct channel_options {
  std::uint64_t keep = 1000;              ///< newest events kept for resuming; exact
  std::uint64_t keep_bytes = UINT64_MAX;  ///< encoded bytes kept for resuming
  duration keep_age = duration::off();    ///< age kept for resuming; off: any
  /// Bytes a subscriber may be behind live, beyond its own replay; 0: off.
  std::uint64_t max_lag = 1 << 20;
  std::uint64_t soft_lag = 0;  ///< as max_lag, but only after soft_lag_for; 0: off
  duration soft_lag_for = duration::off();
  lag_policy on_lag = lag_policy::disconnect;
  id_mode ids = id_mode::automatic;
  /// Ids of its own, consecutive; then a session can join no channel beside it.
  bool own_sequence = false;
  /// With own_sequence: the id the sequence stands at when it opens; no_id: as the hub's, or 0
  /// where ids are given.
  event_id first_id = no_id;
  start_at start = start_at::live;
  /// Newest events kept by key (publish_options::key), for lag_policy::coalesce and
  /// start_at::snapshot, which use 10,000 if this is 0. Then the key that was silent longest is
  /// forgotten, and what a reader misses by that is announced as lost.
  std::uint32_t max_keys = 0;
  heartbeat_options heartbeat = {};
  std::uint32_t max_subscribers = 0;  ///< 0: no cap of its own
  encode_limits limits = {};
  /// Gives events that retention let go (WHATWG HTML 9.2.4 resume). Used for sessions on this
  /// channel alone.
  function<backfill_state(const backfill_request&, backfill_writer&)> backfill = {};
};

struct publish_options {
  event_id id = no_id;  ///< id_mode::given only
  /// Empty: everyone; else who may see it, live or replayed (hub: sees). At most 65,535 bytes.
  std::string_view audience = {};
  bool transient = false;  ///< never replayed, no id
  /// What it is the state of, such as a symbol: makes older events of this key superfluous.
  std::string_view key = {};
  /// event::data is a whole event as sse::encode wrote it, with `id` as its id if it has one, and
  /// goes out as it is: for events that are encoded once for several hubs. Checked for size and
  /// blank line only; type and retry must not be set.
  bool encoded = false;
};

enum class publish_error : std::uint8_t {
  none,
  bad_type,  ///< CR, LF or NUL in the type, or too long; publish_options::encoded: see there
  /// The event brought an id, or publish_options::id where ids are not given by the publisher.
  bad_id,
  bad_retry,
  too_large,  ///< encode_limits, or an audience over 65,535 bytes
  /// Given id missing, not above the last one, past 2^53-1, or not given: hub_options::given_ids.
  id_order,
  no_memory,
  no_session,  ///< send: the session is gone
  lane_full,   ///< send: hub_options::control_lane bytes are waiting already
};

[[nodiscard]] constexpr std::string_view to_string(publish_error e) noexcept {
  switch (e) {
    case publish_error::none: return "none";
    case publish_error::bad_type: return "bad_type";
    case publish_error::bad_id: return "bad_id";
    case publish_error::bad_retry: return "bad_retry";
    case publish_error::too_large: return "too_large";
    case publish_error::id_order: return "id_order";
    case publish_error::no_memory: return "no_memory";
    case publish_error::no_session: return "no_session";
    case publish_error::lane_full: return "lane_full";
  }
  return "unknown";
}

/// An accepted event's id (no_id where it has none), or why it was refused. Refused: nothing was
/// published.
struct publish_result {
  event_id id = no_id;
  publish_error error = publish_error::none;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == publish_error::none;
  }
};

namespace detail {

/// Ids in order: `last` was given out last; nothing at or below `start` is of this run.
struct sequence {
  event_id start = no_id;
  event_id last = no_id;
};

/// A log and those who read it. A channel has one for its events and, once needed, one for
/// transient ones.
struct stream {
  stream(segment_pool& pool, const retention& keep, channel& c) noexcept
      : log{pool, keep}, owner{&c} {}

  event_log log;
  vec<std::uint32_t> readers;  ///< subscriptions
  channel* owner;
  stream* next_touched = nullptr;
  /// End offset at which somebody may be over a lag limit.
  std::uint64_t lag_check_at = UINT64_MAX;
  std::uint64_t backlog = 0;   ///< as last counted into the hub's sum
  std::uint32_t index = none;  ///< in engine::streams_
  bool touched = false;        ///< in the engine's list
  bool dirty = false;          ///< got entries since the last flush
  bool ephemeral = false;      ///< transient entries: no ids, nothing retained
};

}  // namespace detail

class channel {
 public:
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  [[nodiscard]] std::string_view name() const noexcept { return name_.view(); }
  [[nodiscard]] const channel_options& options() const noexcept { return options_; }

  /// Appends an event to the log: encoded once, O(1) in subscribers, touches none of them.
  /// hub.flush() sends it.
  [[nodiscard]] publish_result publish(const event& e, const publish_options& o = {}) noexcept;

  [[nodiscard]] std::size_t subscribers() const noexcept { return main_.readers.size(); }
  /// The id given out last in this channel's sequence.
  [[nodiscard]] event_id last_id() const noexcept { return sequence_->last; }
  [[nodiscard]] channel_stats stats() const noexcept {
    channel_stats s = counters_;
    s.name = name();
    s.subscribers = subscribers();
    s.retained_events = main_.log.retained_events();
    s.retained_bytes = main_.log.retained_bytes();
    s.backlog_bytes = main_.log.backlog() + (ephemeral_ != nullptr ? ephemeral_->log.backlog() : 0);
    s.last_id = main_.log.last_id();
    return s;
  }

 private:
  friend class detail::engine;
  friend struct detail::timer_places;

  channel(detail::engine& e, detail::segment_pool& pool, const detail::retention& keep) noexcept
      : engine_{&e}, main_{pool, keep, *this} {}
  ~channel() = default;

  detail::engine* engine_;
  detail::owned_text name_;
  detail::owned_text heartbeat_text_;
  detail::owned_text heartbeat_type_;
  channel_options options_;
  detail::sequence own_;
  detail::sequence* sequence_ = &own_;
  detail::stream main_;
  detail::stream* ephemeral_ = nullptr;
  detail::latest_values* latest_ = nullptr;  // only with max_keys
  channel_stats counters_;
  std::uint32_t index_ = detail::none;       // in engine::channels_
  std::uint32_t timer_ = detail::none;       // place in the timer queue
  std::int64_t next_heartbeat_ = INT64_MAX;  // ms, pace::fixed
};

}  // namespace sse::inline v0
// ---- sse/request.hpp
//
// request: what the hub asks about an HTTP request, in whatever version it came; response: a plain
// answer. Also the reading of the fields that a stream needs: Last-Event-ID, Accept, query and form
// fields, bearer tokens.
//
//   sse::request req{.method = m, .headers = fields, .address = peer};
//   std::string path;
//   if (auto e = sse::set_target(req, target, path); e != sse::target_error::none) refuse(e);
//   if (!sse::accepts_event_stream(req)) answer(sse::response::text(406, "a stream only\n"));
//   sse::resume_point from = sse::resume_from(req);
//
// Not for reading HTTP/1 from a socket: http1.hpp does that and fills a request.
//
// Views must live until the call that takes them returns. Free functions without state: any thread.
// Nothing here throws, but a std::string that cannot grow does (std::bad_alloc); the functions
// marked noexcept allocate nothing.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/detail/text.hpp
//
// The character rules of HTTP and URLs that request.hpp, cors.hpp and http1.hpp share. Each rule
// stands here once.

#include <cstddef>
#include <string_view>

// ---- sse/detail/utf8.hpp
//
// UTF-8: find and replace what is not well-formed, as the WHATWG Encoding Standard decodes (4.1
// and 8.1.1). Not public.

#include <cstddef>
#include <cstdint>
#include <string_view>

// ---- sse/detail/bytes.hpp
//
// bytes: a growing byte buffer that says when memory is out instead of throwing. Not public.

#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace sse::inline v0::detail {

class bytes {
 public:
  bytes() noexcept = default;
  bytes(bytes&& other) noexcept { swap(other); }
  bytes& operator=(bytes&& other) noexcept {
    bytes moved{std::move(other)};
    swap(moved);
    return *this;
  }
  ~bytes() { ::operator delete(data_); }

  [[nodiscard]] std::string_view view() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// False if memory is out; nothing changed then. Amortised constant time per byte.
  [[nodiscard]] bool append(std::string_view more) noexcept {
    if (more.size() > capacity_ - size_ && !grow(more.size())) return false;
    if (!more.empty()) std::memcpy(data_ + size_, more.data(), more.size());
    size_ += more.size();
    return true;
  }
  [[nodiscard]] bool assign(std::string_view text) noexcept {
    size_ = 0;
    return append(text);
  }

  /// Drops the end. REQUIRES: size <= size().
  void truncate(std::size_t size) noexcept { size_ = size; }
  /// Keeps a small block for the next use and gives a large one back.
  void clear() noexcept {
    size_ = 0;
    if (capacity_ > 64 * 1024) release();
  }
  void release() noexcept {
    ::operator delete(data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  void swap(bytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  [[nodiscard]] bool grow(std::size_t more) noexcept {
    if (more > static_cast<std::size_t>(-1) / 2 - size_) return false;
    std::size_t capacity = capacity_ < 64 ? 64 : capacity_ * 2;
    if (capacity < size_ + more) capacity = size_ + more;
    auto* const data = static_cast<char*>(::operator new(capacity, std::nothrow));
    if (data == nullptr) return false;
    if (size_ != 0) std::memcpy(data, data_, size_);
    ::operator delete(data_);
    data_ = data;
    capacity_ = capacity;
    return true;
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace sse::inline v0::detail

namespace sse::inline v0::detail {

struct utf8_step {
  std::size_t size =
      0;  ///< bytes of this code point, or of the ill-formed part that becomes one U+FFFD
  bool valid = true;
};

/// Looks at the code point at the start of `text`. REQUIRES: not empty.
[[nodiscard]] constexpr utf8_step next_utf8(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true};
}

/// How many bytes at the start of `text` are well-formed.
[[nodiscard]] constexpr std::size_t valid_utf8_prefix(std::string_view text) noexcept {
  std::size_t i = 0;
  for (;;) {
    if (!std::is_constant_evaluated()) {
      while (text.size() - i >= 8 && (load_word(text.data() + i) & 0x8080808080808080U) == 0)
        i += 8;
    }
    if (i == text.size()) return i;
    const utf8_step step = next_utf8(text.substr(i));
    if (!step.valid) return i;
    i += step.size;
  }
}

/// Appends `text` with every ill-formed part replaced by U+FFFD. False if memory is out.
[[nodiscard]] inline bool append_repaired(bytes& out, std::string_view text) noexcept {
  for (;;) {
    const std::size_t good = valid_utf8_prefix(text);
    if (!out.append(text.substr(0, good))) return false;
    if (good == text.size()) return true;
    text.remove_prefix(good);
    text.remove_prefix(next_utf8(text).size);
    if (!out.append("\xEF\xBF\xBD")) return false;
  }
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0::detail::text {

using view = std::string_view;

[[nodiscard]] constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// ASCII only, as header names, schemes and hosts compare.
[[nodiscard]] constexpr bool equal_fold(view a, view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

[[nodiscard]] constexpr bool starts_fold(view s, view prefix) noexcept {
  return equal_fold(s.substr(0, prefix.size()), prefix);
}

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

[[nodiscard]] constexpr bool is_alnum(char c) noexcept {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

/// 0x00 to 0x1F and 0x7F.
[[nodiscard]] constexpr bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == '\x7f';
}

/// RFC 9110 5.6.2 tchar.
[[nodiscard]] constexpr bool is_token_char(char c) noexcept {
  return is_alnum(c) || view{"!#$%&'*+-.^_`|~"}.find(c) != view::npos;
}

[[nodiscard]] constexpr bool is_token(view s) noexcept {
  for (const char c : s) {
    if (!is_token_char(c)) return false;
  }
  return !s.empty();
}

/// RFC 9110 5.5: visible characters, space, tab and bytes above 0x7F; no CR, LF, NUL or other
/// controls.
[[nodiscard]] constexpr bool is_field_value(view s) noexcept {
  for (const char c : s) {
    if (is_control(c) && c != '\t') return false;
  }
  return true;
}

/// RFC 9110 5.6.3: without spaces and tabs at both ends.
[[nodiscard]] constexpr view trim(view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

/// The characters of RFC 3986 3.2.2 host and 3.2.3 port; no user information, no separators.
[[nodiscard]] constexpr bool is_authority(view s) noexcept {
  for (const char c : s) {
    if (!is_alnum(c) && view{"-._~%!$&'()*+,;=:[]"}.find(c) == view::npos) return false;
  }
  return true;
}

/// Takes the next element of a list off `rest`, trimmed; separators inside quotes do not count (RFC
/// 9110 5.6.1, 5.6.4).
[[nodiscard]] constexpr view next_element(view& rest, char separator) noexcept {
  bool quoted = false;
  std::size_t i = 0;
  for (; i < rest.size() && (quoted || rest[i] != separator); ++i) {
    if (rest[i] == '"') {
      quoted = !quoted;
    } else if (quoted && rest[i] == '\\' && i + 1 < rest.size()) {
      ++i;
    }
  }
  const view element = trim(rest.substr(0, i));
  rest.remove_prefix(i < rest.size() ? i + 1 : i);
  return element;
}

[[nodiscard]] constexpr bool list_has(view list, view token) noexcept {
  while (!list.empty()) {
    if (equal_fold(next_element(list, ','), token)) return true;
  }
  return false;
}

/// Takes the next part of `rest` up to the separator off it.
[[nodiscard]] constexpr view next_part(view& rest, char separator) noexcept {
  const std::size_t end = rest.find(separator);
  const view part = rest.substr(0, end);
  rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
  return part;
}

[[nodiscard]] constexpr int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/// The byte at `i`, with its percent escape undone (RFC 3986 2.1); moves `i` behind it. -1: a
/// malformed escape.
[[nodiscard]] constexpr int next_byte(view s, std::size_t& i, bool plus_as_space) noexcept {
  const char c = s[i++];
  if (c == '+' && plus_as_space) return ' ';
  if (c != '%') return static_cast<unsigned char>(c);
  if (s.size() - i < 2) return -1;
  const int high = hex_digit(s[i]);
  const int low = hex_digit(s[i + 1]);
  if (high < 0 || low < 0) return -1;
  i += 2;
  return high * 16 + low;
}

/// Writes the decoded bytes to `out`, which has room for s.size(); false: a malformed escape.
[[nodiscard]] constexpr bool decode(view s, bool plus_as_space, char* out,
                                    std::size_t& n) noexcept {
  n = 0;
  for (std::size_t i = 0; i < s.size();) {
    const int byte = next_byte(s, i, plus_as_space);
    if (byte < 0) return false;
    out[n++] = static_cast<char>(byte);
  }
  return true;
}

/// No overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] constexpr bool is_utf8(view s) noexcept { return valid_utf8_prefix(s) == s.size(); }

/// A segment that climbs; a backslash separates too, since some file systems think so.
[[nodiscard]] constexpr bool has_dot_dot(view path) noexcept {
  std::size_t start = 0;
  for (std::size_t i = 0; i <= path.size(); ++i) {
    if (i < path.size() && path[i] != '/' && path[i] != '\\') continue;
    if (path.substr(start, i - start) == "..") return true;
    start = i + 1;
  }
  return false;
}

}  // namespace sse::inline v0::detail::text

namespace sse::inline v0 {

struct header {
  std::string_view name;   ///< compared without case
  std::string_view value;  ///< without spaces around it; never decoded
};

/// One HTTP request. Every member is a view.
struct request {
  std::string_view method = "GET";
  /// As received; log it through redact_target().
  std::string_view target{};
  /// Decoded once, see set_target(); "*" for the server itself (OPTIONS).
  std::string_view path{};
  /// Raw, without the question mark.
  std::string_view query{};
  /// In their order; an HTTP/2 host may include ":authority".
  std::span<const header> headers{};
  /// Of the peer, counted by the caps per address; empty: not counted.
  std::string_view address{};
  /// Bytes put in front of the stream: the HTTP/1 response head; empty: the host sends it.
  std::string_view preamble{};
  /// Frame the stream as chunks (RFC 9112 7.1). REQUIRES: minor_version >= 1.
  bool chunked = false;
  /// Of HTTP/1; 0: no chunked coding, the end of the connection ends the stream.
  int minor_version = 1;

  /// The first header of that name; nullptr: absent.
  [[nodiscard]] constexpr const header* find(std::string_view name) const noexcept {
    for (const header& h : headers) {
      if (detail::text::equal_fold(h.name, name)) return &h;
    }
    return nullptr;
  }
  /// The first value of that name; empty also when the header is absent, which find() can tell.
  [[nodiscard]] constexpr std::string_view header_value(std::string_view name) const noexcept {
    const header* h = find(name);
    return h != nullptr ? h->value : std::string_view{};
  }
  /// The value of a header that must not come twice; empty: absent, empty, or there twice.
  [[nodiscard]] constexpr std::string_view only_value(std::string_view name) const noexcept {
    std::string_view value;
    int seen = 0;
    for (const header& h : headers) {
      if (!detail::text::equal_fold(h.name, name)) continue;
      value = h.value;
      if (++seen > 1) return {};
    }
    return value;
  }
};

// --- target, query, form

/// Undoes percent escapes once (RFC 3986 2.1), and `+` as a form writes it if asked. False, with
/// `out` empty: a malformed escape, a NUL, or a result that is not UTF-8.
[[nodiscard]] inline bool percent_decode(std::string_view in, std::string& out,
                                         bool plus_as_space = false) {
  std::size_t n = 0;
  out.resize(in.size());
  const bool ok = detail::text::decode(in, plus_as_space, out.data(), n);
  out.resize(n);
  if (ok && out.find('\0') == std::string::npos && detail::text::is_utf8(out)) return true;
  out.clear();
  return false;
}

enum class target_error : std::uint8_t {
  none,
  form,         ///< not as set_target() reads it; or a fragment, a space, a byte that is not ASCII
  escape,       ///< `%` without two hexadecimal digits
  control,      ///< the decoded path has a control character, such as %00 or %0A
  utf8,         ///< the decoded path is not UTF-8, or an overlong form of it
  dot_segment,  ///< the decoded path has a `..` segment
};

/// What to answer: 400 for a target that cannot be read, 404 for one that can name nothing.
[[nodiscard]] constexpr int status_of(target_error e) noexcept {
  return e == target_error::none                                ? 200
         : e == target_error::form || e == target_error::escape ? 400
                                                                : 404;
}

namespace detail {

struct target_parts {
  std::string_view authority{};  ///< host and port, of an absolute form only
  std::string_view path{};       ///< raw
  std::string_view query{};
};

[[nodiscard]] constexpr bool split_target(std::string_view method, std::string_view target,
                                          target_parts& out) noexcept {
  for (const char c : target) {
    if (c <= ' ' || c > '~' || c == '#') return false;
  }
  if (target == "*") {
    out.path = target;
    return method == "OPTIONS";
  }
  std::size_t path = 0;
  if (!target.starts_with('/')) {
    const std::size_t scheme = text::starts_fold(target, "http://")    ? 7
                               : text::starts_fold(target, "https://") ? 8
                                                                       : 0;
    if (scheme == 0) return false;
    path = target.find_first_of("/?", scheme);
    if (path == std::string_view::npos) path = target.size();
    out.authority = target.substr(scheme, path - scheme);
    if (out.authority.empty() || !text::is_authority(out.authority)) return false;
  }
  std::string_view rest = target.substr(path);
  out.path = text::next_part(rest, '?');
  if (out.path.empty()) out.path = "/";
  out.query = rest;
  return true;
}

/// Decodes to `out`, which has room for raw.size().
[[nodiscard]] constexpr target_error decode_path(std::string_view raw, char* out,
                                                 std::size_t& n) noexcept {
  if (!text::decode(raw, false, out, n)) return target_error::escape;
  const std::string_view path{out, n};
  for (const char c : path) {
    if (text::is_control(c)) return target_error::control;
  }
  if (!text::is_utf8(path)) return target_error::utf8;
  return text::has_dot_dot(path) ? target_error::dot_segment : target_error::none;
}

/// Whether the encoded form field name spells `key`.
[[nodiscard]] constexpr bool spells(std::string_view raw, std::string_view key,
                                    bool fold) noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < raw.size(); ++n) {
    const int byte = text::next_byte(raw, i, true);
    if (byte < 0 || n == key.size()) return false;
    const char c = static_cast<char>(byte);
    if (fold ? text::lower(c) != text::lower(key[n]) : c != key[n]) return false;
  }
  return n == key.size();
}

/// Decimal digits only, at most max_event_id.
[[nodiscard]] constexpr bool parse_id(std::string_view s, bool encoded, event_id& out) noexcept {
  event_id n = 0;
  for (std::size_t i = 0; i < s.size();) {
    const int c = encoded ? text::next_byte(s, i, true) : static_cast<unsigned char>(s[i++]);
    if (c < '0' || c > '9') return false;
    n = n * 10 + static_cast<event_id>(c - '0');
    if (n > max_event_id) return false;
  }
  out = n;
  return !s.empty();
}

}  // namespace detail

/// Fills target, path and query of `r` from the target as received (origin-form, absolute-form, or
/// `*` with OPTIONS: RFC 9112 3.2; set the method first). The path is decoded once into `decoded`,
/// which must outlive `r`; an encoded slash becomes a slash. On an error `r` keeps the target and
/// has neither path nor query.
[[nodiscard]] inline target_error set_target(request& r, std::string_view target,
                                             std::string& decoded) {
  r.target = target;
  r.path = r.query = {};
  detail::target_parts parts;
  if (!detail::split_target(r.method, target, parts)) return target_error::form;
  std::size_t n = 0;
  decoded.resize(parts.path.size());
  const target_error e = detail::decode_path(parts.path, decoded.data(), n);
  if (e != target_error::none) return e;
  decoded.resize(n);
  r.path = decoded;
  r.query = parts.query;
  return e;
}

enum class lookup : std::uint8_t { absent, found, malformed };

/// Looks `key` up in a raw query or form body and decodes its value (WHATWG URL 5.1: `&` separates,
/// `+` is a space). The first field of that name wins. malformed: see percent_decode(); `out` is
/// empty unless found.
[[nodiscard]] inline lookup query_value(std::string_view raw_query, std::string_view key,
                                        std::string& out) {
  out.clear();
  while (!raw_query.empty()) {
    std::string_view value = detail::text::next_part(raw_query, '&');
    const std::string_view name = detail::text::next_part(value, '=');
    if (!detail::spells(name, key, false)) continue;
    return percent_decode(value, out, true) ? lookup::found : lookup::malformed;
  }
  return lookup::absent;
}

/// Calls f(name, value) for each field of a raw query or of an application/x-www-form-urlencoded
/// body, decoded; both views end with the call. If `f` returns bool, false stops. False: stopped
/// there by a malformed field, see percent_decode().
template <class F>
bool for_each_pair(std::string_view raw, F&& f) {
  std::string name;
  std::string decoded;
  while (!raw.empty()) {
    std::string_view value = detail::text::next_part(raw, '&');
    const std::string_view key = detail::text::next_part(value, '=');
    if (key.empty() && value.empty()) continue;
    if (!percent_decode(key, name, true) || !percent_decode(value, decoded, true)) return false;
    if constexpr (std::is_same_v<std::invoke_result_t<F&, std::string_view, std::string_view>,
                                 bool>) {
      if (!f(std::string_view{name}, std::string_view{decoded})) return true;
    } else {
      f(std::string_view{name}, std::string_view{decoded});
    }
  }
  return true;
}

// --- where to resume

/// Where a client wants to go on.
struct resume_point {
  enum class kind : std::uint8_t {
    absent,     ///< it said nothing
    given,      ///< after `after`; 0: everything retained
    malformed,  ///< the query cannot be read: 400
  };
  kind state = kind::absent;
  event_id after = 0;
};

/// The header Last-Event-ID if it is a number from 0 to max_event_id (decimal digits, nothing
/// else); otherwise it is ignored, as one that comes twice, and the query field `query_name`
/// decides (empty: no such field). The header wins because a browser repeats its old URL when it
/// reconnects. A query field that is empty, not such a number, or there with two different values
/// is malformed.
[[nodiscard]] constexpr resume_point resume_from(const request& r,
                                                 std::string_view query_name = "last_id") noexcept {
  using kind = resume_point::kind;
  resume_point out;
  if (detail::parse_id(r.only_value("Last-Event-ID"), false, out.after)) {
    out.state = kind::given;
    return out;
  }
  std::string_view rest = query_name.empty() ? std::string_view{} : r.query;
  while (!rest.empty()) {
    std::string_view value = detail::text::next_part(rest, '&');
    if (!detail::spells(detail::text::next_part(value, '='), query_name, false)) continue;
    event_id id = 0;
    if (!detail::parse_id(value, true, id) || (out.state == kind::given && id != out.after)) {
      return {kind::malformed, 0};
    }
    out = {kind::given, id};
  }
  return out;
}

// --- fields

namespace detail {

/// The most exact range that covers text/event-stream decides (RFC 9110 12.5.1).
struct accept_match {
  int exactness = -1;  ///< 0: */*, 1: text/*, 2: text/event-stream
  bool wanted = false;
  bool stated = false;

  constexpr void add(std::string_view list) noexcept {
    while (!list.empty()) {
      std::string_view range = text::next_element(list, ',');
      if (range.empty()) continue;
      stated = true;
      const std::string_view type = text::next_element(range, ';');
      const int now = text::equal_fold(type, "text/event-stream") ? 2
                      : text::equal_fold(type, "text/*")          ? 1
                      : type == "*/*"                             ? 0
                                                                  : -1;
      bool zero = false;
      while (!range.empty()) {
        const std::string_view parameter = text::next_element(range, ';');
        if (!text::starts_fold(parameter, "q=")) continue;
        const std::string_view q = text::trim(parameter.substr(2));
        zero = q.starts_with('0') && q.find_first_not_of("0.") == std::string_view::npos;
      }
      if (now < exactness || now < 0) continue;
      wanted = now > exactness ? !zero : wanted || !zero;
      exactness = now;
    }
  }
  [[nodiscard]] constexpr bool result() const noexcept { return !stated || wanted; }
};

}  // namespace detail

/// Whether a client with this Accept field takes text/event-stream; if not: 406. Absent or empty:
/// yes (RFC 9110 12.5.1).
[[nodiscard]] constexpr bool accepts_event_stream(std::string_view accept, bool present) noexcept {
  detail::accept_match m;
  if (present) m.add(accept);
  return m.result();
}
[[nodiscard]] constexpr bool accepts_event_stream(const request& r) noexcept {
  detail::accept_match m;
  for (const header& h : r.headers) {
    if (detail::text::equal_fold(h.name, "Accept")) m.add(h.value);
  }
  return m.result();
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 2.1), any run of visible ASCII characters;
/// empty: none, another scheme, or more than one such header.
[[nodiscard]] constexpr std::string_view bearer_token(const request& r) noexcept {
  std::string_view value = r.only_value("Authorization");
  if (!detail::text::starts_fold(value, "Bearer ")) return {};
  value = detail::text::trim(value.substr(7));
  for (const char c : value) {
    if (c <= ' ' || c > '~') return {};
  }
  return value;
}

/// Compares secrets in a time that tells nothing about their bytes; their lengths are not hidden.
[[nodiscard]] inline bool equal_secret(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  }
  return difference == 0;
}

/// The query fields whose values redact_target() hides.
inline constexpr std::string_view secret_fields[] = {"token", "access_token", "ticket", "key",
                                                     "password"};

/// A target for a log line: values of secret query fields become `***` (names compare decoded and
/// without case), and every byte that is not visible ASCII becomes its percent escape.
[[nodiscard]] inline std::string redact_target(
    std::string_view target, std::span<const std::string_view> names = secret_fields) {
  std::string out;
  out.reserve(target.size());
  constexpr std::string_view digits = "0123456789ABCDEF";
  const auto put = [&out, digits](std::string_view s) {
    for (const char c : s) {
      if (c > ' ' && c <= '~') {
        out += c;
      } else {
        const auto byte = static_cast<unsigned char>(c);
        out.append(1, '%').append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
      }
    }
  };
  std::size_t mark = target.find('?');  // then each & before a field
  put(target.substr(0, mark));
  while (mark != std::string_view::npos) {
    const std::size_t next = target.find('&', mark + 1);
    const std::string_view field =
        target.substr(mark + 1, next == std::string_view::npos ? next : next - mark - 1);
    const std::size_t equals = field.find('=');
    bool secret = false;
    for (const std::string_view n : names) {
      secret = secret || detail::spells(field.substr(0, equals), n, true);
    }
    out += target[mark];
    if (secret && equals != std::string_view::npos) {
      put(field.substr(0, equals + 1));
      out += "***";
    } else {
      put(field);
    }
    mark = next;
  }
  return out;
}

// --- answers

/// RFC 9110 15 and RFC 6585; empty for others, which RFC 9112 4 allows.
[[nodiscard]] constexpr std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return {};
  }
}

namespace detail {

/// A header that may be sent, and is not one of those that the HTTP/1 writer owns.
[[nodiscard]] constexpr bool is_field(std::string_view name, std::string_view value) noexcept {
  return text::is_token(name) && text::is_field_value(value) &&
         !text::equal_fold(name, "Connection") && !text::equal_fold(name, "Content-Length") &&
         !text::equal_fold(name, "Transfer-Encoding");
}

/// Appends one header line; false, with nothing appended: not a valid one.
inline bool add_field(std::string& lines, std::string_view name, std::string_view value) {
  if (!is_field(name, value)) return false;
  lines.append(name).append(": ").append(value).append("\r\n");
  return true;
}

}  // namespace detail

/// Calls f(name, value) for each "Name: value\r\n" line, for hosts that send headers one by one.
/// False: a line that is not one, or one that belongs to the HTTP/1 writer (Connection,
/// Content-Length, Transfer-Encoding); nothing after it is read.
template <class F>
constexpr bool for_each_field(std::string_view lines, F&& f) {
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    const std::size_t colon = line.find(':');
    if (end == std::string_view::npos || colon == std::string_view::npos) return false;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = detail::text::trim(line.substr(colon + 1));
    if (!detail::is_field(name, value)) return false;
    f(name, value);
    lines.remove_prefix(end + 2);
  }
  return true;
}

/// A refusal or a plain answer. The host writes it: http1::write_response() does for HTTP/1.
struct response {
  int status = 200;       ///< 200 to 999
  std::string headers{};  ///< "Name: value\r\n" lines; add() checks what it appends
  std::string body{};
  bool refused = false;  ///< add() dropped a header

  /// Appends a header. Not a token as the name, a control character such as CR, LF or NUL in the
  /// value, or a header that the HTTP/1 writer owns (see for_each_field): dropped, and `refused` is
  /// set.
  response& add(std::string_view name, std::string_view value) & {
    if (!detail::add_field(headers, name, value)) refused = true;
    return *this;
  }
  response&& add(std::string_view name, std::string_view value) && {
    return std::move(add(name, value));
  }

  [[nodiscard]] static response json(int status, std::string body) {
    return {status, "Content-Type: application/json\r\n", std::move(body)};
  }
  /// `text/plain; charset=utf-8`.
  [[nodiscard]] static response text(int status, std::string body) {
    return {status, "Content-Type: text/plain; charset=utf-8\r\n", std::move(body)};
  }
};

/// 405 with what the resource allows, such as "GET, HEAD, OPTIONS".
[[nodiscard]] inline response method_not_allowed(std::string_view allow) {
  return response::text(405, "method not allowed\n").add("Allow", allow);
}

}  // namespace sse::inline v0

namespace sse::inline v0 {

/// What a full cap does.
enum class when_full : std::uint8_t {
  refuse,        ///< answer `status` with Retry-After. Final for a browser's EventSource.
  evict_oldest,  ///< close the oldest stream it counts, and admit
  /// Answer 200 with a stream that says `retry:` and ends: an EventSource comes back by itself.
  retry_stream,
};

/// A cap on concurrent streams.
struct cap {
  std::uint32_t max = 0;  ///< 0: off
  when_full then = when_full::refuse;
  int status = 429;  ///< of a refusal
  duration retry_after = duration::seconds(5);
};

struct limits {
  cap total{.status = 503};
  cap per_user{};              ///< per key that admit() named; an empty key is not counted
  cap per_address{.max = 64};  ///< per request::address; an empty one is not counted
};

/// Counts the streams of several hubs together, so that the caps of each hold over all of them:
/// hub_options::counter. Must be thread-safe where the hubs have threads of their own.
/// sse/shards.hpp has one.
class cap_counter {
 public:
  enum class kind : std::uint8_t { total, user, address };
  /// One more of `key` (total: empty), unless there are `max` already; `max` 0: in any case. False
  /// too: memory is out.
  [[nodiscard]] virtual bool take(kind k, std::string_view key, std::uint32_t max) noexcept = 0;
  /// Once for each take that was true, when the stream is over.
  virtual void give_back(kind k, std::string_view key) noexcept = 0;
  [[nodiscard]] virtual std::uint32_t count(kind k, std::string_view key) noexcept = 0;

 protected:
  ~cap_counter() = default;
};

/// The User of a hub that needs none.
struct no_user {};

template <class User = no_user>
class verdict;

namespace detail {

inline constexpr std::uint32_t max_joins = 16;

/// What an admitted request asks of the engine.
struct joining {
  std::string key{};
  channel* channels[max_joins] = {};
  std::uint32_t count = 0;
  bool start_given = false;
  start_at start = start_at::live;
  std::uint64_t backlog = 0;
  bool after_given = false;
  event_id after = no_id;
  time_point until = time_point::never();
};

}  // namespace detail

/// What the admit hook says of a request: a refusal, or a user and the channels to join.
template <class User>
class verdict {
 public:
  /// Refuses with any status, headers and body.
  verdict(response r)
      : refusal_{std::move(r)} {}  // NOLINT: implicit, so that a hook can return refuse(...)

  /// Admits. `key` names the user for the cap per user, for revoke(), and as an audience; empty:
  /// anonymous.
  verdict(User user, std::string key) : admitted_{true}, user_{std::move(user)} {
    joining_.key = std::move(key);
  }

  /// Subscribes to one more channel, at most 16. Several must share one sequence.
  verdict& join(channel& c) & {
    if (joining_.count < detail::max_joins) joining_.channels[joining_.count] = &c;
    ++joining_.count;
    return *this;
  }
  verdict&& join(channel& c) && { return std::move(join(c)); }

  /// Where to begin without a Last-Event-ID; default: as the channel says.
  verdict&& start(start_at s) && {
    joining_.start_given = true;
    joining_.start = s;
    return std::move(*this);
  }
  /// Begin with the newest `n` retained events of each channel, if there is no Last-Event-ID.
  verdict&& backlog(std::uint64_t n) && {
    joining_.backlog = n;
    return std::move(*this);
  }
  /// Begin after `id`, whatever the request says: for programs whose clients bring ids that the
  /// program itself has to translate. 0: with everything, also what a backfill hook has to bring.
  verdict&& after(event_id id) && {
    joining_.after_given = true;
    joining_.after = id;
    return std::move(*this);
  }
  /// End the stream at `t`, for example when the token expires. REQUIRES: hub.tick() told the time
  /// before.
  verdict&& until(time_point t) && {
    joining_.until = t;
    return std::move(*this);
  }

  [[nodiscard]] bool admitted() const noexcept { return admitted_; }
  [[nodiscard]] response& refusal() noexcept { return refusal_; }
  [[nodiscard]] User& user() noexcept { return user_; }
  [[nodiscard]] detail::joining& joining() noexcept { return joining_; }

 private:
  bool admitted_ = false;
  response refusal_{};
  User user_{};
  detail::joining joining_{};
};

/// Refuses: 401, 403, 5xx, or 204 to make an EventSource give up (WHATWG HTML 9.2.3).
[[nodiscard]] inline response refuse(int status, std::string body = {}) {
  return response::text(status, std::move(body));
}

/// Admits a user without data of its own.
[[nodiscard]] inline verdict<> admit(std::string key = {}) { return {no_user{}, std::move(key)}; }

/// Admits a user; the hub keeps `user` while the session lives and shows it to its hooks.
template <class User>
requires(!std::is_convertible_v<User, std::string>)
    [[nodiscard]] verdict<std::remove_cvref_t<User>> admit(User&& user, std::string key) {
  return {std::forward<User>(user), std::move(key)};
}

/// What accept() did. An id: the session is open. None: write `refusal`; for HEAD (`head_only`) the
/// preamble alone.
struct accept_result {
  session_id id{};
  bool head_only = false;
  response refusal{};
  duration retry_after = duration::off();  ///< what a full cap or a drain said in Retry-After

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(id); }
};

/// What a gap frame said, for the host's log.
struct gap_notice {
  session_id session{};
  const channel* where = nullptr;
  event_id requested = no_id;  ///< the id asked for, or the last one the slow reader got
  event_id first = no_id;      ///< the first id that can come
  std::uint64_t lost = 0;
  bool lost_known = false;
};

struct hub_options {
  limits caps = {};
  /// Counts for `caps` with other hubs, which must have the same caps; nullptr: alone. evict_oldest
  /// closes a stream of this hub; where it has none to close, the cap refuses. Must outlive the
  /// hub.
  cap_counter* counter = nullptr;
  /// Where the shared sequence begins: the wall clock in microseconds keeps ids rising over
  /// restarts.
  event_id first_id = no_id;
  /// The shared sequence's ids are all given: id_mode::automatic on it is refused with id_order.
  bool given_ids = false;
  std::uint64_t seed = 0x9e3779b97f4a7c15ULL;  ///< for jitter and hashing; give something random
  duration retry = duration::off();            ///< `retry:` at the start of each stream; off: none
  /// Comment at the start of each stream: bytes that open a buffering proxy. Copied.
  std::string_view opening = {};
  /// Query field beside the header Last-Event-ID; empty: none. Copied.
  std::string_view resume_query = "last_id";
  duration write_deadline = duration::seconds(10);  ///< no write progress: closed
  /// No application event delivered: closed. At most 24 days.
  duration idle = duration::off();
  /// Of a connection: closed, up to a tenth earlier (jitter).
  duration max_age = duration::off();
  /// A clean close sends a random `retry:` between these two, so that reconnects are spread.
  duration retry_min = duration::seconds(1);
  duration retry_max = duration::seconds(5);
  /// Bytes of all logs held only for slow readers; 0: off.
  std::uint64_t max_backlog = std::uint64_t{256} << 20;
  /// Bytes of control and unicast frames waiting per session.
  std::uint32_t control_lane = 256 << 10;
  /// Bytes written to one session before the next gets its turn.
  std::uint32_t flush_share = 256 << 10;
};

struct drain_options {
  duration deadline = duration::seconds(5);  ///< then the rest is cut
  /// Last event; empty data and type: none. Its id is not sent. Copied.
  event farewell{};
};

}  // namespace sse::inline v0
// ---- sse/hub.hpp
//
// hub: channels, sessions, and who gets what when. It runs inside the host's own loop: bytes go out
// through Transport, readiness and time come in as calls. It opens no socket, reads no clock,
// starts no thread, throws and logs nothing.
//
//   sse::hub<my_transport> hub{transport, {.first_id = wall_clock_us}};
//   sse::channel* ticks = hub.open_channel("ticks", {});
//   hub.on_admit([&](const sse::request&) { return sse::admit().join(*ticks); });
//   if (auto r = hub.accept(std::move(connection), request); !r) answer(r.refusal);
//   hub.tick(now); hub.flush();                       // once in each turn of the loop
//
// Not for hosts that want a server: sse/asio.hpp is one. Not thread-safe: one thread owns a hub,
// others publish through a mailbox (sse/mailbox.hpp).

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

// ---- sse/detail/engine.hpp
//
// The hub's engine: what is behind hub<Transport, User> and depends on neither. Its parts:
//
//   engine.hpp           what it is made of: sessions, subscriptions, control lanes
//   engine_channels.hpp  channels: opened, found, closed
//   engine_sessions.hpp  sessions: control lanes, cursors, slots in and out
//   engine_publish.hpp   publish, unicast, heartbeats: bytes in
//   engine_admit.hpp     accept: caps, where to begin, gap frames
//   engine_flush.hpp     gather, write, advance: bytes out
//   engine_time.hpp      deadlines, lag, drain
//
// Invariants:
//   1. A cursor pins its segment; each piece of a pending write does too, also past its session.
//   2. Ids rise strictly along a session, across its channels: entries leave in order of stamps.
//   3. Control bytes enter between events only: first `rest` of a half-sent event, then the lane,
//      then the logs.
//   4. No engine call runs inside write or close of the host: the dead are reaped after the walk.
//   5. Memory: sum over channels of max(keep, max_lag), plus a small constant for each session.
//   6. An accepted event is delivered, or a gap frame says that it is lost, or the stream closes.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>

// ---- sse/detail/timer_queue.hpp
//
// The hub's one timer structure: a heap of (deadline, id) in which every id stands once. Each owner
// keeps its own place, so a deadline is moved in O(log n) and costs eight bytes.

#include <cstdint>

namespace sse::inline v0::detail {

/// `Places` has `std::uint32_t& place(std::uint32_t id)`. Deadlines are ms, kept modulo 2^32: a far
/// one is cut to about twelve days ahead, and its owner simply arms it again then.
template <class Places>
class timer_queue {
 public:
  explicit timer_queue(Places& places) noexcept : places_{&places} {}

  /// Makes room for `n` ids, so that arm() cannot fail for them.
  [[nodiscard]] bool reserve(std::uint32_t n) noexcept { return heap_.reserve(n); }

  /// Sets or moves a deadline.
  void arm(std::uint32_t id, std::int64_t when, std::int64_t now) noexcept {
    constexpr std::int64_t farthest = std::int64_t{1} << 30;
    if (when > now + farthest) when = now + farthest;
    if (when < now) when = now;
    const item it{static_cast<std::uint32_t>(when), id};
    std::uint32_t at = places_->place(id);
    if (at == none) {
      at = heap_.size();
      heap_.push_reserved(it);
      up(at, it);
    } else if (sooner(it, heap_[at])) {
      up(at, it);
    } else {
      down(at, it);
    }
  }
  void disarm(std::uint32_t id) noexcept {
    const std::uint32_t at = places_->place(id);
    if (at == none) return;
    places_->place(id) = none;
    const item last = heap_.back();
    heap_.pop_back();
    if (last.id == id) return;
    if (at > 0 && sooner(last, heap_[(at - 1) / 4])) {
      up(at, last);
    } else {
      down(at, last);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::uint32_t top_id() const noexcept { return heap_[0].id; }
  [[nodiscard]] std::int64_t top_when(std::int64_t now) const noexcept {
    return expand(heap_[0].when, now);
  }
  [[nodiscard]] std::int64_t when(std::uint32_t id, std::int64_t now) const noexcept {
    const std::uint32_t at = places_->place(id);
    return at == none ? INT64_MAX : expand(heap_[at].when, now);
  }

 private:
  struct item {
    std::uint32_t when;
    std::uint32_t id;
  };
  static bool sooner(item a, item b) noexcept {
    return static_cast<std::int32_t>(a.when - b.when) < 0;
  }
  static std::int64_t expand(std::uint32_t when, std::int64_t now) noexcept {
    return now + static_cast<std::int32_t>(when - static_cast<std::uint32_t>(now));
  }
  void put(std::uint32_t at, item it) noexcept {
    heap_[at] = it;
    places_->place(it.id) = at;
  }
  void up(std::uint32_t at, item it) noexcept {
    while (at > 0 && sooner(it, heap_[(at - 1) / 4])) {
      put(at, heap_[(at - 1) / 4]);
      at = (at - 1) / 4;
    }
    put(at, it);
  }
  void down(std::uint32_t at, item it) noexcept {
    for (;;) {
      std::uint32_t best = none;
      for (std::uint32_t c = at * 4 + 1; c < heap_.size() && c <= at * 4 + 4; ++c) {
        if (best == none || sooner(heap_[c], heap_[best])) best = c;
      }
      if (best == none || !sooner(heap_[best], it)) break;
      put(at, heap_[best]);
      at = best;
    }
    put(at, it);
  }

  Places* places_;
  vec<item> heap_;
};

}  // namespace sse::inline v0::detail

namespace sse::inline v0::detail {

/// The typed half of the hub as the engine sees it.
struct host_calls {
  void* self = nullptr;
  write_result (*write)(void*, std::uint32_t slot, std::span<const buffer>) noexcept = nullptr;
  /// Destroys connection and user.
  void (*close)(void*, std::uint32_t slot, close_reason, bool announce) noexcept = nullptr;
  bool (*sees)(void*, std::uint32_t slot, std::string_view key,
               std::string_view audience) noexcept = nullptr;
  void (*flush_begins)(void*) noexcept = nullptr;
  void (*flush_ends)(void*) noexcept = nullptr;
  std::uint32_t max_buffers = 16;
  bool completes = false;
};

enum class lane_kind : std::uint8_t {
  control,
  head,   ///< the response head: outside the body, never framed as a chunk
  event,  ///< an application event
};

/// One waiting control frame of a session.
struct lane_item {
  blob* bytes = nullptr;
  std::uint64_t waiting = 0;  ///< of the first: bytes of all
  std::uint32_t sent = 0;
  std::uint32_t next = none;
  std::uint32_t last = none;  ///< of the first: the last
  lane_kind kind = lane_kind::control;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// A subscription: a session's cursor in one stream.
struct subscription {
  segment* seg = nullptr;  ///< pinned; nullptr: backfilling
  /// End of its replay; with `backfilling`: where it is; with `skipping`: the skip.
  std::uint64_t live_from = 0;
  std::uint32_t off = 0;   ///< next byte in seg
  std::uint32_t rest = 0;  ///< bytes left of the event that is half sent
  std::uint32_t session = none;
  std::uint32_t next = none;  ///< the session's next subscription
  std::uint32_t place = 0;    ///< in stream::readers
  std::uint32_t stream_index : 28 = 0;
  /// Too far behind: leaves for live_from's skip once `rest` is sent.
  std::uint32_t skipping : 1 = 0;
  /// Filled by the backfill hook, live_from: the last id it got; or with `coalescing`.
  std::uint32_t backfilling : 1 = 0;
  /// Filled from the channel's newest values, live_from: the last one's position.
  std::uint32_t coalescing : 1 = 0;
  /// Coalescing for the first time: what has no key is not missed.
  std::uint32_t snapshot : 1 = 0;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a reader that is skipped forward missed.
struct skip {
  event_id requested = no_id;
  std::uint64_t ordinal = 0;  ///< of the first entry it did not get
  std::uint64_t stamp = 0;    ///< its stamp
  std::uint32_t next = none;
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }
};

/// What a gap frame says.
struct loss {
  event_id requested = no_id;
  event_id first = no_id;
  std::uint64_t lost = 0;
  bool known = false;
};

enum class session_state : std::uint8_t {
  free,
  live,
  finishing,  ///< sends what is pending, then closes
  dead,       ///< counted out; closed and freed after the walk
  zombie,     ///< closed; its slot waits for a pending write
};

struct session {
  std::uint32_t generation = 0;
  session_state state : 3 = session_state::free;
  close_reason why : 4 = close_reason::peer;
  std::uint8_t chunk_head : 4 = 0;  ///< bytes of the chunk's size line that are out already
  bool queued : 1 = false;          ///< in ready_ (of the slot: outlives the session)
  bool blocked : 1 = false;         ///< the host will call writable() or written()
  bool chunked : 1 = false;
  bool chunk_begun : 1 = false;  ///< a chunk was sent before: its line end is due
  bool chunk_open : 1 = false;   ///< its size line is out, chunk_left bytes are owed
  bool ended : 1 = false;        ///< the last chunk is due
  bool said_farewell : 1 = false;
  bool counted : 1 = false;      ///< in the caps
  bool retry_only : 1 = false;   ///< a retry stream: the host's hooks do not see it
  bool over : 1 = false;         ///< over soft_lag, since over_since
  std::uint32_t chunk_left = 0;  ///< bytes owed to the chunk that was announced
  std::uint32_t first = none;    ///< subscriptions
  std::uint32_t lane = none;     ///< lane items
  std::uint32_t pending = none;  ///< batches_, a write in flight
  std::uint32_t user = none;
  std::uint32_t user_next = none;
  std::uint32_t user_prev = none;
  std::uint32_t address = none;
  std::uint32_t timer = none;
  std::uint32_t queue_next = none;  ///< in ready_ (of the slot, as queued)
  // Times in ms, modulo 2^32.
  std::uint32_t last_event = 0;      ///< application event delivered
  std::uint32_t last_write = 0;      ///< anything delivered
  std::uint32_t progress = 0;        ///< blocked since, or last bytes taken since
  std::uint32_t over_since = 0;      ///< see over
  std::int64_t ends_at = INT64_MAX;  ///< max_age or the verdict's until

  [[nodiscard]] std::uint32_t& free_link() noexcept { return lane; }
  [[nodiscard]] std::uint32_t& dead_next() noexcept { return progress; }
};

/// An option's time as the engine can count it. Forever is off. What is held against a session's
/// 32-bit times ends at 24 days.
[[nodiscard]] constexpr duration countable(duration d,
                                           duration most = duration::seconds(24 * 24 *
                                                                             3600)) noexcept {
  if (d == duration::forever()) return duration::off();
  return d < most ? d : most;
}
inline constexpr duration longest_age = duration::milliseconds(std::int64_t{1} << 50);

inline constexpr std::uint32_t max_pieces = 16;

/// What is to be written to one session next, and where it came from.
struct batch {
  enum : std::uint32_t { from_lane = none, from_frame = none - 1 };
  struct piece {
    segment* seg;        ///< pinned while pending
    std::uint32_t from;  ///< subscription, from_lane or from_frame
    std::uint32_t off;
    std::uint32_t size;
  };
  buffer bytes[max_pieces];
  piece pieces[max_pieces];
  std::uint32_t count = 0;
  std::uint32_t room = 0;   ///< pieces that may be there
  std::uint64_t limit = 0;  ///< begin no further piece at this total
  std::uint64_t total = 0;  ///< bytes of all pieces
  bool all = false;         ///< nothing is left for the session once these are out
  char frame[24];           ///< chunk size line, or the last chunk

  [[nodiscard]] std::uint32_t& free_link() noexcept { return count; }
  [[nodiscard]] bool full() const noexcept { return count >= room || total >= limit; }
  void add(segment* seg, std::uint32_t from, std::uint32_t off, const char* data,
           std::uint32_t size) noexcept {
    bytes[count] = {data, size};
    pieces[count] = {seg, from, off, size};
    ++count;
    total += size;
  }
};

/// Where each id's place in the timer queue stands: sessions by slot, channels with the top bit
/// set.
struct timer_places {
  static constexpr std::uint32_t channel_bit = 0x80000000U;
  engine* e;
  [[nodiscard]] std::uint32_t& place(std::uint32_t id) const noexcept;
};

class engine {
 public:
  engine(const host_calls& host, const hub_options& options) noexcept;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine();

  // Channels.
  [[nodiscard]] channel* open_channel(std::string_view name, channel_options&& o) noexcept;
  [[nodiscard]] channel* find_channel(std::string_view name) const noexcept;
  void close_channel(channel& c) noexcept;
  [[nodiscard]] const vec<channel*>& channels() const noexcept { return channels_; }

  // Bytes in.
  [[nodiscard]] publish_result publish(channel& c, const event& e,
                                       const publish_options& o) noexcept;
  [[nodiscard]] publish_error send(session_id id, const event& e) noexcept;
  std::size_t send_user(std::string_view key, const event& e) noexcept;

  // Sessions.
  /// Draining, and a total cap that evicts nobody, before anybody is asked. False: `out` says why.
  [[nodiscard]] bool precheck(accept_result& out);
  /// Takes a slot; the caller places connection and user in it, then calls join() and open(). none:
  /// `out` says why not.
  [[nodiscard]] std::uint32_t admit(const request& r, const joining& j, resume_point& resume,
                                    accept_result& out);
  void join(std::uint32_t slot, const joining& j, const resume_point& resume) noexcept;
  [[nodiscard]] std::uint32_t admit_retry_stream(const request& r, duration retry) noexcept;
  void open(std::uint32_t slot) noexcept;
  [[nodiscard]] session_id id_of(std::uint32_t slot) const noexcept {
    return {slot, sessions_[slot].generation};
  }
  /// nullptr: no such session, or it is closed and only its slot waits for a pending write.
  [[nodiscard]] session* find(session_id id) noexcept;
  [[nodiscard]] bool alive(session_id id) noexcept {
    const session* s = find(id);
    return s != nullptr && serving(*s);
  }
  [[nodiscard]] std::string_view key_of(std::uint32_t slot) noexcept {
    const std::uint32_t user = sessions_[slot].user;
    return user == none ? std::string_view{} : users_[user].key.view();
  }
  [[nodiscard]] std::uint32_t user_sessions(std::string_view key) noexcept {
    const std::uint32_t i = users_.find(key);
    return i == none ? 0 : users_[i].count;
  }
  [[nodiscard]] std::uint32_t session_count() const noexcept { return counted_; }
  [[nodiscard]] std::uint32_t open_slots() const noexcept { return sessions_.in_use(); }

  // What the host reports.
  void writable(session_id id) noexcept;
  void written(session_id id, std::size_t n) noexcept;
  void closed(session_id id) noexcept { close(id, close_reason::peer); }
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept;

  // Ends.
  void close(session_id id, close_reason why) noexcept;
  void close_all() noexcept;
  void finish(session_id id) noexcept;
  std::size_t revoke(std::string_view key) noexcept;
  void drain(const drain_options& o) noexcept;
  [[nodiscard]] bool draining() const noexcept { return draining_; }

  // Bytes out, and time.
  bool flush() noexcept;
  void tick(time_point host_now) noexcept;
  [[nodiscard]] time_point next_deadline() const noexcept;
  [[nodiscard]] std::uint64_t worst_lag(const channel& c) const noexcept;

  [[nodiscard]] hub_stats stats() const noexcept;
  void count_refusal() noexcept { ++stats_.refused; }
  /// Undoes admit(): the typed half could not be made.
  void abandon(std::uint32_t slot) noexcept;
  void shut_down() noexcept;
  [[nodiscard]] const hub_options& options() const noexcept { return options_; }

  // Hooks of the non-typed kind.
  function<void(const gap_notice&)> on_gap;
  function<void(channel&, std::string_view key, bool present)> on_presence;

 private:
  friend struct timer_places;
  friend class sse::backfill_writer;

  // engine_channels.hpp
  [[nodiscard]] stream* make_stream(channel& c, const retention& keep) noexcept;
  void free_channel(channel* c) noexcept;

  // engine_sessions.hpp
  [[nodiscard]] bool push_lane(std::uint32_t slot, blob* b,
                               lane_kind kind = lane_kind::control) noexcept;
  [[nodiscard]] bool push_lane_bytes(std::uint32_t slot, std::string_view bytes,
                                     lane_kind kind = lane_kind::control) noexcept;
  [[nodiscard]] bool push_lane_event(std::uint32_t slot, const event& e,
                                     lane_kind kind = lane_kind::event) noexcept;
  void pop_lane(session& s) noexcept;
  [[nodiscard]] std::uint64_t lane_bytes(const session& s) const noexcept;
  void queue(std::uint32_t slot) noexcept {
    session& s = sessions_[slot];
    if (s.queued || s.blocked) return;
    s.queued = true;
    s.queue_next = none;
    (ready_last_ == none ? ready_ : sessions_[ready_last_].queue_next) = slot;
    ready_last_ = slot;
  }
  void touch(stream& st) noexcept {
    if (st.touched) return;
    st.touched = true;
    st.next_touched = touched_;
    touched_ = &st;
  }
  [[nodiscard]] bool serving(const session& s) const noexcept {
    return s.state == session_state::live || s.state == session_state::finishing;
  }
  [[nodiscard]] stream& stream_of(const subscription& sub) noexcept {
    return *streams_[sub.stream_index];
  }
  [[nodiscard]] const stream& stream_of(const subscription& sub) const noexcept {
    return *streams_[sub.stream_index];
  }
  [[nodiscard]] static std::uint64_t position(const subscription& sub) noexcept {
    return sub.seg->base + sub.off;
  }
  void move_cursor(subscription& sub, segment* seg, std::uint32_t off) noexcept;
  void release_cursor(subscription& sub) noexcept;
  void place_at(subscription& sub, std::uint64_t ordinal) noexcept;
  [[nodiscard]] bool has_pending(const session& s) const noexcept;
  [[nodiscard]] session* holder(session_id id) noexcept;
  [[nodiscard]] std::uint32_t take_slot(const request& r) noexcept;
  void count_out(std::uint32_t slot) noexcept;
  void leave_user(std::uint32_t slot) noexcept;
  void mark_dead(std::uint32_t slot, close_reason why) noexcept;
  void reap() noexcept;
  void bury(std::uint32_t slot) noexcept;
  void detach_subscriptions(std::uint32_t slot) noexcept;
  [[nodiscard]] std::uint32_t joined(std::uint32_t user, const stream& st) noexcept;

  // engine_publish.hpp
  [[nodiscard]] publish_error append(stream& st, const event& e, entry meta,
                                     const publish_options& o,
                                     const encode_limits& limits) noexcept;
  [[nodiscard]] stream* ephemeral(channel& c) noexcept;
  [[nodiscard]] bool add_reader(std::uint32_t slot, stream& st) noexcept;
  [[nodiscard]] blob* make_heartbeat(channel& c) noexcept;
  void publish_heartbeat(channel& c) noexcept;

  // engine_admit.hpp
  struct victims {
    std::uint32_t slots[3] = {};
    duration retry[3] = {};
    std::uint32_t count = 0;
  };
  [[nodiscard]] std::uint32_t oldest(std::uint32_t user, std::uint32_t address) noexcept;
  void evict(std::uint32_t slot, duration retry) noexcept;
  [[nodiscard]] std::uint32_t held(cap_counter::kind k, std::string_view key, const cap& c,
                                   std::uint32_t here) noexcept {
    return options_.counter != nullptr && c.max != 0 ? options_.counter->count(k, key) : here;
  }
  [[nodiscard]] std::uint32_t leaving(const victims& v, std::uint32_t user,
                                      std::uint32_t address) const noexcept;
  static void say_full(const cap& c, accept_result& out);
  [[nodiscard]] bool take_places(std::uint32_t user, std::uint32_t address, const victims& v,
                                 accept_result& out);
  void give_back(std::uint32_t user, std::uint32_t address, std::uint32_t kinds = 7) noexcept;
  [[nodiscard]] bool fits(const cap& c, std::uint32_t count, std::uint32_t user,
                          std::uint32_t address, victims& v, accept_result& out);
  [[nodiscard]] bool subscribe(std::uint32_t slot, const joining& j,
                               const resume_point& resume) noexcept;
  [[nodiscard]] bool push_gap(std::uint32_t slot, const channel& where, const loss& what,
                              bool with_ids) noexcept;
  [[nodiscard]] static event_id first_possible(const stream& st) noexcept;
  [[nodiscard]] static std::uint64_t skip_target(const stream& st) noexcept;
  [[nodiscard]] event_id next_id(std::uint32_t slot) noexcept;

  // engine_flush.hpp
  void pump(std::uint32_t slot) noexcept;
  void gather(std::uint32_t slot, session& s, batch& b) noexcept;
  [[nodiscard]] bool gather_one(std::uint32_t slot, std::uint32_t index, std::uint32_t off,
                                batch& b) noexcept;
  void gather_merged(std::uint32_t slot, const session& s, batch& b) noexcept;
  void gather_entry(std::uint32_t index, const entry& e, batch& b) noexcept;
  void frame_chunk(session& s, batch& b) noexcept;
  void end_chunks(session& s, batch& b) noexcept;
  void advance(session& s, const batch& b, std::uint64_t n) noexcept;
  void advance_cursor(session& s, const batch::piece& p, std::uint32_t n) noexcept;
  void leave_for_skip(std::uint32_t slot, subscription& sub) noexcept;
  void fill(std::uint32_t slot, subscription& sub) noexcept;
  void ask_backfill(std::uint32_t slot, subscription& sub) noexcept;
  void coalesce(std::uint32_t slot, subscription& sub) noexcept;
  [[nodiscard]] bool alone(const session& s) const noexcept;
  void go_live(subscription& sub, std::uint64_t ordinal) noexcept;
  void block(std::uint32_t slot, session& s, bool progressed) noexcept;
  [[nodiscard]] bool say_farewell(std::uint32_t slot, session& s) noexcept;
  void pin_pending(const batch& b) noexcept;
  void unpin_pending(const batch& b) noexcept;
  [[nodiscard]] bool sees(std::uint32_t slot, const entry& e) noexcept {
    return e.audience == 0 || host_.sees(host_.self, slot, key_of(slot), e.audience_view());
  }

  // engine_time.hpp
  [[nodiscard]] std::int64_t next_beat(std::int64_t every) const noexcept;
  void on_session_timer(std::uint32_t slot) noexcept;
  void on_channel_timer(channel& c) noexcept;
  void arm(std::uint32_t slot) noexcept;
  void arm_channel(channel& c) noexcept;
  [[nodiscard]] const channel* heart_of(const session& s) const noexcept;
  void begin_finish(std::uint32_t slot, close_reason why) noexcept;
  [[nodiscard]] std::uint64_t lag_of(const stream& st, const subscription& sub) const noexcept;
  void watch_lag(stream& st, std::uint64_t from, bool over_soft = false) noexcept;
  [[nodiscard]] bool still_over(const session& s) noexcept;
  void enforce_lag(stream& st) noexcept;
  void over_lag(std::uint32_t index) noexcept;
  void shed_backlog() noexcept;
  void settle() noexcept;
  [[nodiscard]] std::uint64_t random() noexcept;
  [[nodiscard]] std::int64_t jittered_retry() noexcept;
  [[nodiscard]] std::uint32_t now32() const noexcept { return static_cast<std::uint32_t>(now_); }
  [[nodiscard]] static std::int64_t since(std::uint32_t then, std::uint32_t now) noexcept {
    return static_cast<std::int32_t>(now - then);  // below 0: `then` is to come
  }

  host_calls host_;
  hub_options options_;
  owned_text opening_;
  owned_text resume_query_;
  blob* opening_frame_ = nullptr;
  blob* farewell_ = nullptr;

  segment_pool pool_;
  sequence sequence_;
  std::uint64_t stamp_ = 0;
  std::int64_t origin_ = INT64_MIN;  // the host's clock at the first tick
  std::int64_t now_ = 0;             // ms since then
  std::int64_t target_ = 0;          // where the tick under way will end
  std::uint64_t random_ = 0;

  vec<channel*> channels_;
  vec<stream*> streams_;
  stream* touched_ = nullptr;
  std::uint64_t backlog_ = 0;  // sum of stream::backlog

  slots<session> sessions_;
  slots<subscription> subs_;
  slots<lane_item> lane_items_;
  slots<batch> batches_;  // of writes that are pending, and of peeks
  batch scratch_;         // of the pump under way
  slots<skip> skips_;
  names users_;
  names addresses_;
  std::uint32_t ready_ = none;  // sessions that may have bytes and can take them, in turn
  std::uint32_t ready_last_ = none;
  std::uint32_t dead_ = none;  // sessions to be closed after the walk
  timer_places places_{this};
  timer_queue<timer_places> timers_{places_};

  std::uint32_t counted_ = 0;
  std::uint32_t generations_ = 0;
  bool walking_ = false;
  bool draining_ = false;
  std::int64_t drain_deadline_ = INT64_MAX;
  hub_stats stats_;
};

inline std::uint32_t& timer_places::place(std::uint32_t id) const noexcept {
  if ((id & channel_bit) != 0) return e->channels_[id & ~channel_bit]->timer_;
  return e->sessions_[id].timer;
}

inline engine::engine(const host_calls& host, const hub_options& options) noexcept
    : host_{host}, options_{options}, random_{options.seed | 1} {
  if (host_.max_buffers > max_pieces) host_.max_buffers = max_pieces;
  if (host_.max_buffers < 1) host_.max_buffers = 1;
  // Out of memory at construction only costs the texts: streams open without their comment.
  (void)opening_.assign(options.opening);
  (void)resume_query_.assign(options.resume_query);
  options_.opening = opening_.view();
  if (!options_.opening.empty() && check_comment(options_.opening) == encode_error::none) {
    opening_frame_ = make_blob(static_cast<std::uint32_t>(encoded_comment_size(options_.opening)));
    if (opening_frame_ != nullptr) encode_comment_to(opening_frame_->bytes(), options_.opening);
  }
  options_.resume_query = resume_query_.view();
  options_.write_deadline = countable(options.write_deadline);
  options_.idle = countable(options.idle);
  options_.max_age = countable(options.max_age, longest_age);
  if (options_.flush_share == 0) options_.flush_share = 1;
  if (options_.control_lane == 0) options_.control_lane = 1;
  sequence_.start = sequence_.last = options.first_id;
  users_.set_seed(options.seed);
  addresses_.set_seed(options.seed);
}

inline engine::~engine() { shut_down(); }

inline void engine::close_all() noexcept {
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    if (serving(sessions_[slot])) mark_dead(slot, close_reason::host);
  }
  reap();
}

/// Closes everything. The hub calls it first, while its own half still stands.
inline void engine::shut_down() noexcept {
  on_gap = {};
  on_presence = {};
  close_all();
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) {
    // nobody can report on it any more
    if (sessions_[slot].state == session_state::zombie) bury(slot);
  }
  while (!channels_.empty()) free_channel(channels_.back());
  for (blob** b : {&opening_frame_, &farewell_}) {
    if (*b != nullptr) unref(*b);
    *b = nullptr;
  }
}

}  // namespace sse::inline v0::detail
// ---- sse/detail/engine_admit.hpp
//
// accept: how many there may be, where a subscriber begins, and the one gap frame if something it
// asked for is gone.

#include <charconv>
#include <string>

namespace sse::inline v0::detail {

inline response refusal(int status, std::string_view error, duration retry_after) {
  std::string body = "{\"error\":\"";
  body.append(error).append("\"}");
  response r = response::json(status, std::move(body));
  if (!retry_after.is_off()) {
    const std::int64_t seconds = (retry_after.ms() + 999) / 1000;
    r.add("Retry-After", std::to_string(seconds));
  }
  return r;
}

/// The oldest stream that `user` or `address` counts (both none: of all).
inline std::uint32_t engine::oldest(std::uint32_t user, std::uint32_t address) noexcept {
  std::uint32_t found = none;
  const auto look_at = [&](std::uint32_t slot) {
    const session& s = sessions_[slot];
    if (!s.counted || (address != none && s.address != address)) return;
    if (found == none || static_cast<std::int32_t>(s.generation - sessions_[found].generation) < 0)
      found = slot;
  };
  if (user != none) {
    for (std::uint32_t slot = users_[user].first; slot != none && found == none;
         slot = sessions_[slot].user_next)
      look_at(slot);
  } else {
    for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot) look_at(slot);
  }
  return found;
}

/// Closes a stream to make room, with a last word about when to come back.
inline void engine::evict(std::uint32_t slot, duration retry) noexcept {
  char line[32];
  if (!retry.is_off() &&
      push_lane_bytes(slot,
                      {line, static_cast<std::size_t>(encode_retry_to(line, retry.ms()) - line)})) {
    pump(slot);
  }
  mark_dead(slot, close_reason::evicted);
  reap();
}

/// How many of the victims a cap counts.
inline std::uint32_t engine::leaving(const victims& v, std::uint32_t user,
                                     std::uint32_t address) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < v.count; ++i) {
    const session& s = sessions_[v.slots[i]];
    if ((user == none || s.user == user) && (address == none || s.address == address)) ++n;
  }
  return n;
}

inline void engine::say_full(const cap& c, accept_result& out) {
  out.refusal = refusal(c.then == when_full::retry_stream ? 200 : c.status, "too_many_streams",
                        c.retry_after);
  out.retry_after = c.retry_after;
}

/// Whether one more fits under a cap that counts `count` now, once the victims are gone; one more
/// of them may be needed for it. If not, `out` says why.
inline bool engine::fits(const cap& c, std::uint32_t count, std::uint32_t user,
                         std::uint32_t address, victims& v, accept_result& out) {
  if (c.max == 0 || count - leaving(v, user, address) < c.max) return true;
  if (c.then == when_full::evict_oldest) {
    if (const std::uint32_t slot = oldest(user, address); slot != none) {
      v.slots[v.count] = slot;
      v.retry[v.count++] = c.retry_after;
      return true;
    }
  }
  say_full(c, out);
  return false;
}

/// Places with the counter that several hubs share, all or none: between the look and this another
/// hub may have been faster. Where a victim makes room its place is given back right after.
inline bool engine::take_places(std::uint32_t user, std::uint32_t address, const victims& v,
                                accept_result& out) {
  cap_counter* const counter = options_.counter;
  if (counter == nullptr) return true;
  std::uint32_t taken = 0;
  const auto take = [&](cap_counter::kind k, const cap& c, std::string_view key, std::uint32_t u,
                        std::uint32_t a) {
    if (c.max == 0) return true;
    if (!counter->take(k, key, leaving(v, u, a) != 0 ? 0 : c.max)) {
      give_back(user, address, taken);
      say_full(c, out);
      return false;
    }
    taken |= 1U << static_cast<unsigned>(k);
    return true;
  };
  const limits& caps = options_.caps;
  using kind = cap_counter::kind;
  return (user == none || take(kind::user, caps.per_user, users_[user].key.view(), user, none)) &&
         (address == none ||
          take(kind::address, caps.per_address, addresses_[address].key.view(), none, address)) &&
         take(kind::total, caps.total, {}, none, none);
}

inline void engine::give_back(std::uint32_t user, std::uint32_t address,
                              std::uint32_t kinds) noexcept {
  cap_counter* const counter = options_.counter;
  if (counter == nullptr) return;
  const limits& caps = options_.caps;
  using kind = cap_counter::kind;
  const auto has = [&](kind k, const cap& c) {
    return c.max != 0 && (kinds & (1U << static_cast<unsigned>(k))) != 0;
  };
  if (user != none && has(kind::user, caps.per_user))
    counter->give_back(kind::user, users_[user].key.view());
  if (address != none && has(kind::address, caps.per_address)) {
    counter->give_back(kind::address, addresses_[address].key.view());
  }
  if (has(kind::total, caps.total)) counter->give_back(kind::total, {});
}

inline bool engine::precheck(accept_result& out) {
  if (draining_) {
    out.refusal = refusal(503, "draining", options_.retry_max);
    out.retry_after = options_.retry_max;
    return false;
  }
  // Only who is admitted may evict.
  const cap& total = options_.caps.total;
  victims nobody;
  return total.then == when_full::evict_oldest ||
         fits(total, held(cap_counter::kind::total, {}, total, counted_), none, none, nobody, out);
}

inline std::uint32_t engine::admit(const request& r, const joining& j, resume_point& resume,
                                   accept_result& out) {
  const auto fail = [&](int status, std::string_view error,
                        duration retry_after = duration::off()) {
    out.refusal = refusal(status, error, retry_after);
    return none;
  };
  if (j.count == 0 || j.count > max_joins) return fail(500, "bad_join");
  if (j.until != time_point::never() && origin_ == INT64_MIN)
    return fail(500, "until_without_tick");
  for (std::uint32_t i = 0; i < j.count; ++i) {
    const channel& c = *j.channels[i];
    if (c.engine_ != this) return fail(500, "channel_of_another_hub");
    if (c.sequence_ != j.channels[0]->sequence_) return fail(500, "channels_of_two_sequences");
    for (std::uint32_t k = 0; k < i; ++k) {
      if (j.channels[k] == &c) return fail(500, "joined_twice");
    }
    if (c.options_.max_subscribers != 0 && c.subscribers() >= c.options_.max_subscribers) {
      return fail(options_.caps.total.status, "channel_full", options_.caps.total.retry_after);
    }
  }
  struct holder {  // of names, until a session has them
    names& in;
    std::uint32_t i = none;
    ~holder() {
      if (i != none) in.release(i);
    }
  };
  holder user_name{users_};
  holder address_name{addresses_};
  if (!j.key.empty()) user_name.i = users_.acquire(j.key);
  if (!r.address.empty()) address_name.i = addresses_.acquire(r.address);
  const std::uint32_t user = user_name.i;
  const std::uint32_t address = address_name.i;
  if ((user == none && !j.key.empty()) || (address == none && !r.address.empty())) {
    return fail(503, "no_memory", options_.retry_max);
  }
  const limits& caps = options_.caps;
  victims v;  // nobody goes unless all caps are met
  using kind = cap_counter::kind;
  const auto count = [&](kind k, names& in, std::uint32_t i, const cap& c) {
    return held(k, in[i].key.view(), c, in[i].count);
  };
  if ((user != none &&
       !fits(caps.per_user, count(kind::user, users_, user, caps.per_user), user, none, v, out)) ||
      (address != none &&
       !fits(caps.per_address, count(kind::address, addresses_, address, caps.per_address), none,
             address, v, out)) ||
      !fits(caps.total, held(kind::total, {}, caps.total, counted_), none, none, v, out)) {
    return none;
  }
  resume = resume_from(r, options_.resume_query);
  if (resume.state == resume_point::kind::malformed) return fail(400, "bad_params");
  if (j.after_given) resume = {resume_point::kind::given, j.after};
  if (!take_places(user, address, v, out)) return none;
  for (std::uint32_t i = 0; i < v.count; ++i) evict(v.slots[i], v.retry[i]);
  const std::uint32_t slot = take_slot(r);
  if (slot == none) {
    give_back(user, address);
    return fail(503, "no_memory", options_.retry_max);
  }

  session& s = sessions_[slot];
  user_name.i = address_name.i = none;
  s.counted = true;
  ++counted_;
  s.user = user;
  s.address = address;
  if (address != none) ++addresses_[address].count;
  if (user != none) {
    name& u = users_[user];
    ++u.count;
    s.user_prev = u.last;
    (u.last == none ? u.first : sessions_[u.last].user_next) = slot;
    u.last = slot;
  }
  if (!options_.max_age.is_off()) {
    const auto spread = static_cast<std::uint64_t>(options_.max_age.ms() / 10);
    s.ends_at = now_ + options_.max_age.ms() -
                static_cast<std::int64_t>(spread == 0 ? 0 : random() % spread);
  }
  if (j.until != time_point::never() && j.until.ms() - origin_ < s.ends_at) {
    s.ends_at = j.until.ms() - origin_;
  }

  bool ok = push_lane_bytes(slot, r.preamble, lane_kind::head);
  if (ok && !options_.retry.is_off()) {
    char line[32];
    ok = push_lane_bytes(
        slot, {line, static_cast<std::size_t>(encode_retry_to(line, options_.retry.ms()) - line)});
  }
  if (ok && opening_frame_ != nullptr) ok = push_lane(slot, opening_frame_);
  if (!ok) {
    abandon(slot);
    return fail(503, "no_memory", options_.retry_max);
  }
  out.id = id_of(slot);
  return slot;
}

inline void engine::abandon(std::uint32_t slot) noexcept {
  count_out(slot);
  leave_user(slot);
  if (sessions_[slot].user != none) users_.release(sessions_[slot].user);
  bury(slot);
}

/// A stream that says when to come back, and ends. Not counted: the write deadline bounds it.
inline std::uint32_t engine::admit_retry_stream(const request& r, duration retry) noexcept {
  const std::uint32_t slot = take_slot(r);
  if (slot == none) return none;
  char line[32];
  const std::string_view text{line,
                              static_cast<std::size_t>(encode_retry_to(line, retry.ms()) - line)};
  if (!push_lane_bytes(slot, r.preamble, lane_kind::head) || !push_lane_bytes(slot, text)) {
    bury(slot);
    return none;
  }
  sessions_[slot].state = session_state::finishing;
  sessions_[slot].why = close_reason::finished;
  sessions_[slot].retry_only = true;
  return slot;
}

/// Subscribes. REQUIRES: connection and user are in place. Out of memory: the session is dead.
inline void engine::join(std::uint32_t slot, const joining& j,
                         const resume_point& resume) noexcept {
  ++stats_.accepted;
  if (!subscribe(slot, j, resume)) mark_dead(slot, close_reason::no_memory);
}

/// The first bytes go out at once.
inline void engine::open(std::uint32_t slot) noexcept {
  arm(slot);
  session& s = sessions_[slot];
  if (on_presence && s.user != none) {
    for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
      stream& st = stream_of(subs_[i]);
      if (!st.ephemeral && joined(s.user, st) == 1)
        on_presence(*st.owner, users_[s.user].key.view(), true);
    }
  }
  pump(slot);
  reap();
}

/// The oldest id that can still come: the oldest retained, or the next to be published.
inline event_id engine::first_possible(const stream& st) noexcept {
  const event_log& log = st.log;
  return log.retained() < log.end() ? log[log.retained()].id : st.owner->sequence_->last + 1;
}

/// Where a reader that is too slow goes on.
inline std::uint64_t engine::skip_target(const stream& st) noexcept {
  return st.owner->options_.on_lag == lag_policy::oldest ? st.log.retained() : st.log.end();
}

/// The first id that a session can still get, over all its channels.
inline event_id engine::next_id(std::uint32_t slot) noexcept {
  event_id next = max_event_id;
  for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (st.ephemeral || st.owner->options_.ids == id_mode::none) continue;
    event_id id = st.owner->sequence_->last + 1;
    std::uint64_t at = st.log.end();
    if (subs_[i].coalescing) {
      const std::uint32_t value = st.owner->latest_->after(subs_[i].live_from);
      if (value != none) id = (*st.owner->latest_)[value].position;
    } else if (subs_[i].skipping) {
      at = skip_target(st);
    } else if (!subs_[i].backfilling) {
      at = st.log.locate(position(subs_[i]));
    }
    while (at < st.log.end() && !sees(slot, st.log[at])) ++at;
    if (at < st.log.end()) id = st.log[at].id;
    if (id < next) next = id;
  }
  return next;
}

inline bool engine::subscribe(std::uint32_t slot, const joining& j,
                              const resume_point& resume) noexcept {
  const event_id after = resume.after;
  const sequence& seq = *j.channels[0]->sequence_;
  const bool ahead = after > seq.last;
  std::uint32_t gaps = 0;  // bit i: channel i lost something
  for (std::uint32_t i = 0; i < j.count; ++i) {
    channel& c = *j.channels[i];
    event_log& log = c.main_.log;
    log.trim(now_);
    if (!add_reader(slot, c.main_)) return false;
    subscription& sub = subs_[c.main_.readers.back()];
    std::uint64_t at = log.end();
    if (resume.state != resume_point::kind::given || c.options_.ids == id_mode::none) {
      const start_at start = j.start_given ? j.start : c.options_.start;
      if (j.backlog != 0) {
        at = log.newest(j.backlog);
      } else if (start == start_at::all) {
        at = log.retained();
      } else if (start == start_at::snapshot && c.latest_ != nullptr && j.count == 1) {
        release_cursor(sub);
        sub.backfilling = sub.coalescing = sub.snapshot = 1;
        sub.live_from = 0;
      }
    } else if (ahead) {
      if (gaps == 0) gaps = 1U << i;  // live, and told once
    } else {
      ++c.counters_.replays;
      at = log.find(after);
      // Gone from the log: what retention let go, and all that was before this run.
      if ((after != 0 || j.after_given) && (after < log.forgotten_id() || after < seq.start)) {
        if (c.options_.backfill && j.count == 1) {
          release_cursor(sub);
          sub.backfilling = 1;
          sub.live_from = after;
        } else if (after != 0) {
          gaps |= 1U << i;
        }
      }
    }
    if (!sub.backfilling) place_at(sub, at);
    if (c.ephemeral_ != nullptr && !add_reader(slot, *c.ephemeral_)) return false;
  }
  for (std::uint32_t i = 0; i < j.count; ++i) {
    if ((gaps & (1U << i)) == 0) continue;
    const channel& c = *j.channels[i];
    const event_id first = ahead ? seq.last + 1 : first_possible(c.main_);
    // Consecutive ids of this run can be counted.
    const bool known = !ahead && c.options_.own_sequence && c.options_.ids == id_mode::automatic &&
                       after >= seq.start && !c.main_.log.selective();
    if (!push_gap(slot, c, {after, first, known ? first - after - 1 : 0, known}, true))
      return false;
  }
  return true;
}

/// Tells a session of a loss on one channel: `event: gap`, `data:
/// {"requested":R,"first":F,"lost":N}`. F is the first id that can come from that channel; `id:` is
/// one below the first that can come from any (the same, where there is one channel), so that ids
/// never run back and a resume from it misses nothing. Without ids (lost transient events) R and F
/// are null and the client's last id stays as it is.
inline bool engine::push_gap(std::uint32_t slot, const channel& where, const loss& what,
                             bool with_ids) noexcept {
  char data[128];
  char* p = data;
  const auto put = [&](std::string_view s) {
    std::memcpy(p, s.data(), s.size());
    p += s.size();
  };
  const auto number = [&](bool known, std::uint64_t n) {
    if (known) {
      p = std::to_chars(p, p + 20, n).ptr;
    } else {
      put("null");
    }
  };
  put("{\"requested\":");
  number(with_ids, what.requested);
  put(",\"first\":");
  number(with_ids, what.first);
  put(",\"lost\":");
  number(what.known, what.lost);
  put("}");
  const event_id before = with_ids ? next_id(slot) - 1 : no_id;
  char id[20];
  const std::string_view id_view{
      id, static_cast<std::size_t>(std::to_chars(id, id + sizeof id, before).ptr - id)};
  const event e{.type = "gap",
                .data = {data, static_cast<std::size_t>(p - data)},
                .id = with_ids ? id_view : std::string_view{}};
  if (!push_lane_event(slot, e, lane_kind::control)) return false;
  ++channels_[where.index_]->counters_.gaps;
  if (on_gap) {
    on_gap({id_of(slot), &where, with_ids ? what.requested : no_id, with_ids ? what.first : no_id,
            what.lost, what.known});
  }
  return true;
}

}  // namespace sse::inline v0::detail
// ---- sse/detail/engine_channels.hpp
//
// Channels: opened, found, closed.

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

namespace sse::inline v0::detail {

inline stream* engine::make_stream(channel& c, const retention& keep) noexcept {
  void* p = allocate(sizeof(stream));
  if (p == nullptr) return nullptr;
  return ::new (p) stream(pool_, keep, c);
}

inline channel* engine::open_channel(std::string_view name, channel_options&& o) noexcept {
  if (find_channel(name) != nullptr || channels_.size() >= (1U << 27)) return nullptr;
  o.keep_age = countable(o.keep_age, longest_age);
  o.soft_lag_for = countable(o.soft_lag_for);
  o.heartbeat.every = countable(o.heartbeat.every);
  if (o.limits.event > 0xfff00000U) o.limits.event = 0xfff00000U;  // sizes in the log have 32 bits
  const retention keep{o.keep, o.keep_bytes, o.keep_age};
  if (!channels_.reserve(channels_.size() + 1) || !streams_.reserve(streams_.size() + 1) ||
      !timers_.reserve(sessions_.extent() + channels_.size() + 1)) {
    return nullptr;
  }
  void* p = allocate(sizeof(channel));
  if (p == nullptr) return nullptr;
  auto* c = ::new (p) channel(*this, pool_, keep);
  if (!c->name_.assign(name) || !c->heartbeat_text_.assign(o.heartbeat.text) ||
      !c->heartbeat_type_.assign(o.heartbeat.type)) {
    c->~channel();
    deallocate(p);
    return nullptr;
  }
  c->options_ = std::move(o);
  if (c->options_.max_lag == 0) c->options_.max_lag = UINT64_MAX;
  if (c->options_.soft_lag_for.is_off()) c->options_.soft_lag = 0;
  c->options_.heartbeat.text = c->heartbeat_text_.view();
  c->options_.heartbeat.type = c->heartbeat_type_.view();
  if (c->options_.heartbeat.every.is_off())
    c->options_.heartbeat.mode = heartbeat_options::pace::off;
  if (c->options_.own_sequence) {
    const bool own = c->options_.first_id != no_id || c->options_.ids == id_mode::given;
    c->own_.start = c->own_.last = own ? c->options_.first_id : options_.first_id;
  } else {
    c->sequence_ = &sequence_;
  }
  if (c->options_.max_keys == 0 &&
      (c->options_.on_lag == lag_policy::coalesce || c->options_.start == start_at::snapshot)) {
    c->options_.max_keys = 10'000;
  }
  if (c->options_.max_keys != 0) {
    void* table = allocate(sizeof(latest_values));
    if (table == nullptr) {
      c->~channel();
      deallocate(p);
      return nullptr;
    }
    c->latest_ = ::new (table) latest_values(c->options_.max_keys, options_.seed);
  }
  c->index_ = channels_.size();
  c->main_.index = streams_.size();
  channels_.push_reserved(c);
  streams_.push_reserved(&c->main_);
  if (c->options_.heartbeat.mode == heartbeat_options::pace::fixed) {
    c->next_heartbeat_ = now_ + c->options_.heartbeat.every.ms();
  }
  arm_channel(*c);
  return c;
}

inline channel* engine::find_channel(std::string_view name) const noexcept {
  for (std::uint32_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i]->name() == name) return channels_[i];
  }
  return nullptr;
}

inline void engine::close_channel(channel& c) noexcept {
  for (stream* st : {&c.main_, c.ephemeral_}) {
    if (st == nullptr) continue;
    for (std::uint32_t i : st->readers) mark_dead(subs_[i].session, close_reason::channel);
  }
  reap();
  free_channel(&c);
}

/// REQUIRES: no readers left.
inline void engine::free_channel(channel* c) noexcept {
  timers_.disarm(timer_places::channel_bit | c->index_);
  for (stream* st : {c->ephemeral_, &c->main_}) {
    if (st == nullptr) continue;
    for (stream** at = &touched_; *at != nullptr; at = &(*at)->next_touched) {
      if (*at == st) {
        *at = st->next_touched;
        break;
      }
    }
    backlog_ -= st->backlog;
    streams_.back()->index = st->index;
    streams_[st->index] = streams_.back();
    for (std::uint32_t i : streams_.back()->readers) subs_[i].stream_index = st->index & 0xfffffffU;
    streams_.pop_back();
  }
  if (c->ephemeral_ != nullptr) {
    c->ephemeral_->~stream();
    deallocate(c->ephemeral_);
  }
  if (c->latest_ != nullptr) {
    c->latest_->~latest_values();
    deallocate(c->latest_);
  }
  const std::uint32_t index = c->index_;
  if (index + 1 != channels_.size()) {  // the last channel takes its number
    channel* last = channels_.back();
    const std::int64_t when = timers_.when(timer_places::channel_bit | last->index_, now_);
    timers_.disarm(timer_places::channel_bit | last->index_);
    channels_[index] = last;
    last->index_ = index;
    if (when != INT64_MAX) timers_.arm(timer_places::channel_bit | index, when, now_);
  }
  channels_.pop_back();
  c->~channel();
  deallocate(c);
}

}  // namespace sse::inline v0::detail
// ---- sse/detail/engine_flush.hpp
//
// Bytes out: what a session gets next (gather), the one write, and where its cursors stand then
// (advance). Live delivery, replay, and catching up after a stall are the same code: a cursor
// behind the end of a log.

#include <charconv>
#include <cstring>

// ---- sse/detail/engine_publish.hpp
//
// Bytes in: an event becomes a log entry, once, whoever reads it; a unicast event becomes a lane
// item.

#include <charconv>
#include <string>

namespace sse::inline v0::detail {

[[nodiscard]] constexpr publish_error to_publish_error(encode_error e) noexcept {
  switch (e) {
    case encode_error::none: return publish_error::none;
    case encode_error::bad_type: return publish_error::bad_type;
    case encode_error::bad_id: return publish_error::bad_id;
    case encode_error::bad_retry: return publish_error::bad_retry;
    default: return publish_error::too_large;
  }
}

/// An event id as decimal text.
class id_text {
 public:
  explicit id_text(event_id id) noexcept {
    if (id != no_id)
      size_ = static_cast<std::size_t>(std::to_chars(digits_, digits_ + sizeof digits_, id).ptr -
                                       digits_);
  }
  [[nodiscard]] std::string_view view() const noexcept { return {digits_, size_}; }

 private:
  char digits_[20];
  std::size_t size_ = 0;
};

inline publish_error engine::append(stream& st, const event& e, entry meta,
                                    const publish_options& o,
                                    const encode_limits& limits) noexcept {
  const std::string_view audience = o.audience;
  const id_text id{meta.id};
  event out = e;
  out.id = id.view();
  encode_plan p{encode_error::none, e.data.size(), 0};
  if (!o.encoded) {
    p = plan(out, limits);
  } else if (p.size > limits.event) {
    p.error = encode_error::too_large;
  }
  if (p.error != encode_error::none) return to_publish_error(p.error);
  char* at = st.log.prepare(static_cast<std::uint32_t>(p.size),
                            static_cast<std::uint32_t>(audience.size()));
  if (at == nullptr) return publish_error::no_memory;
  if (!audience.empty()) std::memcpy(at, audience.data(), audience.size());
  if (o.encoded) {
    put(at + audience.size(), e.data);
  } else {
    encode_to(at + audience.size(), out, p);
  }
  meta.stamp = ++stamp_;
  meta.at = now_;
  meta.size = static_cast<std::uint32_t>(p.size);
  meta.audience = static_cast<std::uint16_t>(audience.size());
  st.log.commit(meta);
  st.log.trim(now_);
  if (!st.readers.empty()) {
    st.dirty = true;
    touch(st);
  }
  return publish_error::none;
}

inline publish_result engine::publish(channel& c, const event& e,
                                      const publish_options& o) noexcept {
  const bool given = c.options_.ids == id_mode::given && !o.transient;
  if (!e.id.empty() || (o.id != no_id && !given)) return {no_id, publish_error::bad_id};
  if (o.encoded && (!e.type.empty() || e.retry != no_retry || !e.data.ends_with("\n\n"))) {
    return {no_id, publish_error::bad_type};
  }
  if (o.audience.size() > 0xffff) return {no_id, publish_error::too_large};
  sequence& seq = *c.sequence_;
  stream* st = &c.main_;
  entry meta;
  if (o.transient) {
    if ((st = ephemeral(c)) == nullptr) return {no_id, publish_error::no_memory};
  } else if (given) {
    meta.id = o.id;
    if (o.id <= seq.last || o.id > max_event_id) return {no_id, publish_error::id_order};
  } else if (c.options_.ids == id_mode::automatic) {
    meta.id = seq.last + 1;
    const bool taken = options_.given_ids && &seq == &sequence_;  // by whoever gives them
    if (meta.id > max_event_id || taken) return {no_id, publish_error::id_order};
  }
  if (const publish_error bad = append(*st, e, meta, o, c.options_.limits);
      bad != publish_error::none) {
    return {no_id, bad};
  }
  if (meta.id != no_id) seq.last = meta.id;
  ++c.counters_.published;
  if (c.latest_ != nullptr && !o.transient) {
    c.latest_->put(o.key, meta.id != no_id ? meta.id : stamp_,
                   c.main_.log[c.main_.log.end() - 1].bytes(), o.audience);
  }
  if (!c.options_.keep_age.is_off()) arm_channel(c);
  return {meta.id, publish_error::none};
}

/// The stream of a channel's transient entries, made when first needed; its readers are then those
/// of the channel.
inline stream* engine::ephemeral(channel& c) noexcept {
  if (c.ephemeral_ != nullptr) return c.ephemeral_;
  if (!streams_.reserve(streams_.size() + 1)) return nullptr;
  stream* st = make_stream(c, {.events = 0});
  if (st == nullptr) return nullptr;
  st->ephemeral = true;
  st->index = streams_.size();
  streams_.push_reserved(st);
  for (std::uint32_t i : c.main_.readers) {
    if (!add_reader(subs_[i].session, *st)) {
      // Out of memory: this session would miss entries, so it is closed and comes back.
      mark_dead(subs_[i].session, close_reason::no_memory);
    }
  }
  c.ephemeral_ = st;
  reap();
  return st;
}

/// Subscribes a session to a stream, at its end.
inline bool engine::add_reader(std::uint32_t slot, stream& st) noexcept {
  if (!st.log.ensure_tail() || !st.readers.reserve(st.readers.size() + 1)) return false;
  const std::uint32_t i = subs_.take();
  if (i == none) return false;
  subscription& sub = subs_[i];
  sub = subscription{};
  sub.session = slot;
  sub.stream_index = st.index & 0xfffffffU;
  sub.place = st.readers.size();
  st.readers.push_reserved(i);
  std::uint32_t* at = &sessions_[slot].first;
  while (*at != none) at = &subs_[*at].next;
  *at = i;
  place_at(sub, st.log.end());
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
  return true;
}

inline publish_error engine::send(session_id id, const event& e) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return publish_error::no_session;
  if (!e.id.empty()) return publish_error::bad_id;  // it would move the client's resume point
  const encode_plan p = plan(e);
  if (p.error != encode_error::none) return to_publish_error(p.error);
  // One event always fits, so that a small lane does not make a large event unsendable.
  if (s->lane != none && lane_bytes(*s) + p.size > options_.control_lane)
    return publish_error::lane_full;
  if (!push_lane_event(id.slot, e)) return publish_error::no_memory;
  queue(id.slot);
  return publish_error::none;
}

inline std::size_t engine::send_user(std::string_view key, const event& e) noexcept {
  const std::uint32_t user = users_.find(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    if (send(id_of(slot), e) == publish_error::none) ++n;
  }
  return n;
}

// --- heartbeats ----------------------------------------------------------------------------------

/// A heartbeat's bytes, or nullptr: out of memory, or text that no frame may hold.
inline blob* engine::make_heartbeat(channel& c) noexcept {
  const heartbeat_options& h = c.options_.heartbeat;
  std::string made;
  std::string_view text = h.text;
  if (h.payload) {
    h.payload(made);
    text = made;
  }
  if (h.comment) {
    if (check_comment(text) != encode_error::none) return nullptr;
    blob* b = make_blob(static_cast<std::uint32_t>(encoded_comment_size(text)));
    if (b != nullptr) encode_comment_to(b->bytes(), text);
    return b;
  }
  const event e{.type = h.type, .data = text};
  if (check(e) != encode_error::none) return nullptr;
  blob* b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b != nullptr) encode_to(b->bytes(), e);
  return b;
}

/// A fixed-pace heartbeat goes to all readers as one transient entry.
inline void engine::publish_heartbeat(channel& c) noexcept {
  if (c.main_.readers.empty()) return;
  stream* st = ephemeral(c);
  blob* b = make_heartbeat(c);
  if (st != nullptr && b != nullptr) {
    if (char* at = st->log.prepare(b->size, 0); at != nullptr) {
      std::memcpy(at, b->bytes(), b->size);
      entry meta;
      meta.stamp = ++stamp_;
      meta.at = now_;
      meta.size = b->size;
      meta.heartbeat = true;
      st->log.commit(meta);
      st->log.trim(now_);
      st->dirty = true;
      touch(*st);
      stats_.heartbeats += c.main_.readers.size();
    }
  }
  if (b != nullptr) unref(b);
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

inline publish_result channel::publish(const event& e, const publish_options& o) noexcept {
  return engine_->publish(*this, e, o);
}

}  // namespace sse::inline v0

namespace sse::inline v0 {

/// What a backfill hook adds events to (channel_options::backfill).
class backfill_writer {
 public:
  /// Adds one event. False: refused (not above the last id, not below `before`, bad field, or no
  /// memory); the session is then closed unless the hook's later events make up for it, since
  /// nothing may be lost in silence.
  bool add(event_id id, const event& e) noexcept;
  [[nodiscard]] event_id last() const noexcept { return last_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  friend class detail::engine;
  backfill_writer(detail::engine& e, const backfill_request& r,
                  const encode_limits& limits) noexcept
      : engine_{&e}, limits_{&limits}, request_{r}, last_{r.after} {}

  detail::engine* engine_;
  const encode_limits* limits_;  // of the channel
  backfill_request request_;
  event_id last_;
  std::size_t bytes_ = 0;
  bool failed_ = false;
};

}  // namespace sse::inline v0

namespace sse::inline v0::detail {

/// One pass: every session that is behind and can take bytes gets its share. True: more can be sent
/// at once; call again.
inline bool engine::flush() noexcept {
  if (walking_) return false;
  walking_ = true;
  host_.flush_begins(host_.self);
  for (stream* st = touched_; st != nullptr; st = st->next_touched) {
    if (!st->dirty) continue;
    st->dirty = false;
    for (std::uint32_t i : st->readers) pump(subs_[i].session);
  }
  const std::uint32_t last = ready_last_;  // who is queued from here on waits for the next flush
  for (std::uint32_t slot = last == none ? none : ready_; slot != none;) {
    session& s = sessions_[slot];
    ready_ = s.queue_next;
    if (ready_ == none) ready_last_ = none;
    s.queued = false;
    pump(slot);
    slot = slot == last ? none : ready_;
  }
  settle();
  host_.flush_ends(host_.self);
  walking_ = false;
  reap();
  return ready_ != none;
}

/// Writes to one session until it is blocked, has nothing left or had its share.
inline void engine::pump(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!serving(s) || s.blocked) return;
  batch* b = &scratch_;
  if (host_.completes) {  // the bytes of a pending write must lie still
    const std::uint32_t i = batches_.take();
    if (i == none) {
      mark_dead(slot, close_reason::no_memory);
      return;
    }
    s.pending = i;
    b = &batches_[i];
  }
  std::uint64_t share = options_.flush_share;
  for (;;) {
    gather(slot, s, *b);
    if (!serving(s)) break;
    if (b->count == 0) {
      if (s.state == session_state::finishing) {
        if (say_farewell(slot, s)) continue;
        if (s.chunked && !s.ended && !s.chunk_open && s.chunk_head == 0) {
          s.ended = true;  // now the last chunk
          continue;
        }
        mark_dead(slot, s.why);
      }
      break;
    }
    write_result r = host_.write(host_.self, slot, {b->bytes, b->count});
    ++stats_.writes;
    if (r.bytes > b->total) r.bytes = b->total;
    if (r.next == flow::pending && host_.completes) {
      b->total = r.bytes;
      pin_pending(*b);
      block(slot, s, true);
      return;
    }
    advance(s, *b, r.bytes);
    if (b->all && r.bytes == b->total && r.next == flow::ready) break;
    if (r.next == flow::closed || r.next == flow::pending) {
      mark_dead(slot, close_reason::peer);
      break;
    }
    if (r.next == flow::blocked) {
      block(slot, s, r.bytes != 0);
      break;
    }
    // A transport that takes nothing and says ready would hold us here: its turn is over.
    if (r.bytes == 0 || r.bytes >= share) {
      queue(slot);
      break;
    }
    share -= r.bytes;
  }
  if (host_.completes) {
    batches_.give_back(s.pending);
    s.pending = none;
  }
}

/// The next bytes of a session: the rest of a half-sent event, the control lane, the logs.
inline void engine::gather(std::uint32_t slot, session& s, batch& b) noexcept {
  b.count = 0;
  b.total = 0;
  b.all = false;
  b.room = host_.max_buffers;
  b.limit = options_.flush_share;
  if (s.first != none && s.lane == none && !s.chunked) {  // nearly always: one log, nothing else
    const subscription& sub = subs_[s.first];
    if (sub.next == none && sub.rest == 0 && !sub.skipping && !sub.backfilling) {
      b.all = gather_one(slot, s.first, sub.off, b) && s.state == session_state::live;
      return;
    }
  }
  if (s.ended) {
    end_chunks(s, b);
    return;
  }
  if (s.chunked) {
    // the response head goes alone, unframed
    if (s.lane != none && lane_items_[s.lane].kind == lane_kind::head) {
      const lane_item& item = lane_items_[s.lane];
      b.add(nullptr, batch::from_lane, item.sent, item.bytes->bytes() + item.sent,
            item.bytes->size - item.sent);
      return;
    }
    // One buffer is kept for the chunk's size line; a transport with a single buffer gets the line
    // by itself.
    if (b.room > 1) --b.room;
    if (s.chunk_open && s.chunk_left < b.limit) b.limit = s.chunk_left;
  }

  std::uint32_t half_sent = none;
  std::uint32_t half_end = 0;
  for (std::uint32_t i = s.first; i != none && half_sent == none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.rest == 0) continue;
    b.add(sub.seg, i, sub.off, sub.seg->bytes() + sub.off, sub.rest);
    half_sent = i;
    half_end = sub.off + sub.rest;
  }
  for (std::uint32_t i = s.first; i != none && half_sent == none; i = subs_[i].next) {
    subscription& sub = subs_[i];
    if (sub.skipping) leave_for_skip(slot, sub);
    if (serving(s) && sub.backfilling && s.lane == none && s.state == session_state::live)
      fill(slot, sub);
    if (!serving(s)) return;
  }
  for (std::uint32_t i = s.lane; i != none && !b.full(); i = lane_items_[i].next) {
    const lane_item& item = lane_items_[i];
    b.add(nullptr, batch::from_lane, item.sent, item.bytes->bytes() + item.sent,
          item.bytes->size - item.sent);
  }

  // The logs. Usually one stream has something; several are merged in the order of publication.
  std::uint32_t only = none;
  std::uint32_t behind = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    // after a half-sent event its gap frame comes next, in front of what other streams have
    if (sub.skipping) {
      behind = 0;
      break;
    }
    if (sub.backfilling) continue;
    const std::uint64_t at = i == half_sent ? sub.seg->base + half_end : position(sub);
    if (at >= stream_of(sub).log.end_offset()) continue;
    only = i;
    ++behind;
  }
  if (behind == 1) {
    (void)gather_one(slot, only, only == half_sent ? half_end : subs_[only].off, b);
  } else if (behind > 1 && half_sent == none) {
    gather_merged(slot, s, b);  // after a half-sent event the next gather merges
  }
  if (s.chunked && b.count != 0) frame_chunk(s, b);
}

/// All that one stream has, as few pieces as its segments allow. True: once these are out, the
/// cursor is at its end.
inline bool engine::gather_one(std::uint32_t slot, std::uint32_t index, std::uint32_t off,
                               batch& b) noexcept {
  subscription& sub = subs_[index];
  const event_log& log = stream_of(sub).log;
  segment* seg = sub.seg;
  bool passed_over = false;
  while (!b.full()) {
    if (off == seg->used) {
      if (seg->next == nullptr || !seg->attached) return seg->attached && !passed_over;
      seg = seg->next;
      off = 0;
      if (b.count == 0) move_cursor(sub, seg, 0);
      continue;
    }
    if (!seg->mixed) {
      b.add(seg, index, off, seg->bytes() + off, seg->used - off);
      off = seg->used;
      continue;
    }
    // Not everybody gets everything here: entry by entry.
    for (std::uint64_t n = log.locate(seg->base + off);
         n != log.end() && log[n].seg == seg && !b.full(); ++n) {
      const entry& e = log[n];
      off = e.offset() + e.size;
      if (sees(slot, e)) {
        gather_entry(index, e, b);
      } else if (b.count == 0) {
        move_cursor(sub, seg, off);  // past it, without a byte
      } else {
        passed_over = true;  // the next gather moves past it
      }
    }
  }
  return false;
}

/// One entry, joined to the piece before it where the bytes touch.
inline void engine::gather_entry(std::uint32_t index, const entry& e, batch& b) noexcept {
  if (b.count != 0) {
    batch::piece& p = b.pieces[b.count - 1];
    if (p.seg == e.seg && p.from == index && p.off + p.size == e.offset()) {
      p.size += e.size;
      b.bytes[b.count - 1].size += e.size;
      b.total += e.size;
      return;
    }
  }
  b.add(e.seg, index, e.offset(), e.bytes().data(), e.size);
}

/// Several streams, in the order in which their entries were published: ids rise along the session.
inline void engine::gather_merged(std::uint32_t slot, const session& s, batch& b) noexcept {
  struct head {
    std::uint32_t index;
    std::uint64_t ordinal;
  };
  head heads[2 * max_joins];
  std::uint32_t n = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    if (subs_[i].backfilling) continue;
    heads[n++] = {i, stream_of(subs_[i]).log.locate(position(subs_[i]))};
  }
  while (!b.full()) {
    head* first = nullptr;
    std::uint64_t stamp = UINT64_MAX;
    for (std::uint32_t k = 0; k < n; ++k) {
      const event_log& log = stream_of(subs_[heads[k].index]).log;
      if (heads[k].ordinal < log.end() && log[heads[k].ordinal].stamp < stamp) {
        stamp = log[heads[k].ordinal].stamp;
        first = &heads[k];
      }
    }
    if (first == nullptr) return;
    subscription& sub = subs_[first->index];
    const entry& e = stream_of(sub).log[first->ordinal++];
    if (sees(slot, e)) {
      gather_entry(first->index, e, b);
    } else {
      bool gathered = false;
      for (std::uint32_t k = 0; k < b.count; ++k)
        gathered = gathered || b.pieces[k].from == first->index;
      if (!gathered) move_cursor(sub, e.seg, e.offset() + e.size);
    }
  }
}

/// Makes the gathered bytes a chunk (RFC 9112 7.1), or what is still owed to the chunk that was
/// announced.
inline void engine::frame_chunk(session& s, batch& b) noexcept {
  if (!s.chunk_open && s.chunk_head == 0) s.chunk_left = static_cast<std::uint32_t>(b.total);
  while (b.total > s.chunk_left) {  // never more than was announced
    const std::uint64_t excess = b.total - s.chunk_left;
    batch::piece& last = b.pieces[b.count - 1];
    const auto cut = static_cast<std::uint32_t>(excess < last.size ? excess : last.size);
    last.size -= cut;
    b.bytes[b.count - 1].size -= cut;
    b.total -= cut;
    if (last.size == 0) --b.count;
  }
  if (s.chunk_open) return;
  char* p = b.frame;
  if (s.chunk_begun) {
    *p++ = '\r';
    *p++ = '\n';
  }
  p = std::to_chars(p, p + 8, s.chunk_left, 16).ptr;
  *p++ = '\r';
  *p++ = '\n';
  if (b.count == host_.max_buffers) {  // a transport with one buffer gets the size line by itself
    --b.count;
    b.total -= b.pieces[b.count].size;
  }
  for (std::uint32_t k = b.count; k > 0; --k) {
    b.bytes[k] = b.bytes[k - 1];
    b.pieces[k] = b.pieces[k - 1];
  }
  const auto left = static_cast<std::uint32_t>(p - b.frame) - s.chunk_head;
  b.bytes[0] = {b.frame + s.chunk_head, left};
  b.pieces[0] = {nullptr, batch::from_frame, s.chunk_head, left};
  ++b.count;
  b.total += left;
}

/// The last chunk of a clean end.
inline void engine::end_chunks(session& s, batch& b) noexcept {
  const std::string_view text = s.chunk_begun ? "\r\n0\r\n\r\n" : "0\r\n\r\n";
  if (s.chunk_head == text.size()) return;
  std::memcpy(b.frame, text.data(), text.size());
  b.add(nullptr, batch::from_frame, s.chunk_head, b.frame + s.chunk_head,
        static_cast<std::uint32_t>(text.size()) - s.chunk_head);
}

/// Takes `n` written bytes off the batch's pieces.
inline void engine::advance(session& s, const batch& b, std::uint64_t n) noexcept {
  if (n == 0) return;
  stats_.bytes += n;
  s.last_write = now32();
  s.progress = s.last_write;
  for (std::uint32_t k = 0; k < b.count && n != 0; ++k) {
    const batch::piece& p = b.pieces[k];
    const auto took = static_cast<std::uint32_t>(n < p.size ? n : p.size);
    n -= took;
    if (p.from == batch::from_frame) {
      s.chunk_head = (s.chunk_head + took) & 0xfU;
      if (took == p.size && !s.ended) {
        s.chunk_head = 0;
        s.chunk_open = s.chunk_begun = true;
      }
      continue;
    }
    if (s.chunk_open) {
      s.chunk_left -= took;
      s.chunk_open = s.chunk_left != 0;
    }
    if (p.from == batch::from_lane) {
      lane_item& item = lane_items_[s.lane];
      item.sent += took;
      if (item.sent == item.bytes->size) {
        if (item.kind == lane_kind::event) s.last_event = now32();
        pop_lane(s);
      }
    } else {
      advance_cursor(s, p, took);
    }
  }
}

inline void engine::advance_cursor(session& s, const batch::piece& p, std::uint32_t n) noexcept {
  subscription& sub = subs_[p.from];
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  const event_log& log = st.log;
  const std::uint32_t to = p.off + n;
  // its segment may have left the log: only the rest of one event is sent from it
  if (sub.skipping) {
    sub.off = to;
    sub.rest -= n;
    if (sub.rest == 0) ++c.counters_.delivered;
    return;
  }
  const std::uint64_t before = log.locate(p.seg->base + p.off);
  const std::uint64_t end = p.seg->base + to;
  const std::uint64_t after = log.locate(end);
  move_cursor(sub, p.seg, to);
  // Inside an entry (and behind its first byte): the rest of it goes before anything else.
  const bool inside = after != log.end() && log[after].begin < end;
  sub.rest = inside ? static_cast<std::uint32_t>(log[after].end() - end) : 0;
  std::uint64_t whole = 0;
  bool application = !st.ephemeral;
  if (!p.seg->mixed && !st.ephemeral) {
    whole = after - before;
  } else {
    for (std::uint64_t i = before; i < after; ++i) {
      if (log[i].begin >= p.seg->base + p.off + p.size) break;
      ++whole;
      application = application || !log[i].heartbeat;
    }
  }
  c.counters_.delivered += whole;
  if (application && whole != 0) s.last_event = now32();
  if (s.over) s.over = still_over(s);
}

inline void engine::block(std::uint32_t slot, session& s, bool progressed) noexcept {
  if (!s.blocked || progressed) s.progress = now32();
  s.blocked = true;
  const std::int64_t due = now_ + options_.write_deadline.ms();
  if (!options_.write_deadline.is_off() && timers_.when(slot, now_) > due)
    timers_.arm(slot, due, now_);
}

/// Before a clean end: when to come back, and the host's last event. False: said already, or
/// nothing to say.
inline bool engine::say_farewell(std::uint32_t slot, session& s) noexcept {
  if (s.said_farewell || s.why == close_reason::finished) return false;
  s.said_farewell = true;
  char line[32];
  const std::int64_t retry = jittered_retry();
  const bool ok =
      push_lane_bytes(slot, {line, static_cast<std::size_t>(encode_retry_to(line, retry) - line)});
  if (s.why != close_reason::drain || farewell_ == nullptr) return ok;
  return push_lane(slot, farewell_) || ok;
}

// --- slow readers and backfill -------------------------------------------------------------------

/// The half-sent event is out: now the reader jumps, and is told what it missed.
inline void engine::leave_for_skip(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  const auto record = static_cast<std::uint32_t>(sub.live_from);
  const skip missed = skips_[record];
  skips_.give_back(record);
  sub.skipping = 0;
  event_log& log = st.log;
  channel& c = *st.owner;
  const std::uint64_t to = skip_target(st);
  const std::uint64_t lost = to - missed.ordinal;
  if (lost != 0 && c.options_.on_lag == lag_policy::coalesce && !st.ephemeral &&
      alone(sessions_[slot])) {
    c.counters_.coalesced += lost;
    release_cursor(sub);
    sub.backfilling = sub.coalescing = 1;
    sub.live_from = c.options_.ids != id_mode::none ? missed.requested : missed.stamp - 1;
    return;
  }
  go_live(sub, to);
  if (lost == 0) return;
  c.counters_.dropped += lost;
  const event_id first = to < log.end() ? log[to].id : c.sequence_->last + 1;
  const bool with_ids = !st.ephemeral && c.options_.ids != id_mode::none;
  if (!push_gap(slot, c, {missed.requested, first, lost, !log.selective()}, with_ids)) {
    mark_dead(slot, close_reason::no_memory);
  }
}

/// From here on the log serves this subscription.
inline void engine::go_live(subscription& sub, std::uint64_t ordinal) noexcept {
  stream& st = stream_of(sub);
  place_at(sub, ordinal);
  sub.live_from = st.log.end_offset();
  watch_lag(st, sub.live_from);
}

/// Whether a session reads one channel only.
inline bool engine::alone(const session& s) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next)
    n += stream_of(subs_[i]).ephemeral ? 0U : 1U;
  return n == 1;
}

/// A reader that has no place in the log gets its next events from elsewhere. It holds nothing
/// there meanwhile, so a slow one costs no memory.
inline void engine::fill(std::uint32_t slot, subscription& sub) noexcept {
  if (sub.coalescing) {
    coalesce(slot, sub);
  } else {
    ask_backfill(slot, sub);
  }
}

/// The newest events of keys that changed since, oldest first, until there are no more: then live.
/// What had no key, or whose key was forgotten, is announced as lost where it would have come.
inline void engine::coalesce(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  const latest_values& values = *c.latest_;
  const bool with_ids = c.options_.ids != id_mode::none;
  const auto tell_loss = [&](std::uint64_t first) {
    return sub.snapshot != 0 || push_gap(slot, c, {sub.live_from, first, 0, false}, with_ids);
  };
  bool ok = true;
  std::uint64_t lost = values.lost() > sub.live_from ? values.lost() : 0;
  std::uint32_t i = values.after(sub.live_from);
  for (std::uint64_t bytes = 0; ok && i != none && bytes < options_.flush_share;
       i = values[i].newer) {
    const latest_value& v = values[i];
    if (lost != 0 && lost < v.position) {
      ok = tell_loss(v.position);
      lost = 0;
    }
    sub.live_from = v.position;
    if (!v.audience.view().empty() &&
        !host_.sees(host_.self, slot, key_of(slot), v.audience.view()))
      continue;
    ok = ok && push_lane(slot, v.bytes, lane_kind::event);
    bytes += v.bytes->size;
  }
  if (ok && i == none) {
    if (lost != 0) ok = tell_loss(c.sequence_->last + 1);
    sub.backfilling = sub.coalescing = sub.snapshot = 0;
    go_live(sub, st.log.end());
  }
  if (!ok) mark_dead(slot, close_reason::no_memory);
}

/// Asks the channel's hook for events that the log let go, until the log takes over.
inline void engine::ask_backfill(std::uint32_t slot, subscription& sub) noexcept {
  stream& st = stream_of(sub);
  channel& c = *st.owner;
  st.log.trim(now_);
  const event_id floor =
      st.log.forgotten_id() > c.sequence_->start ? st.log.forgotten_id() : c.sequence_->start;
  const event_id first = first_possible(st);
  const event_id after = sub.live_from;
  const std::size_t room =
      options_.flush_share < options_.control_lane ? options_.flush_share : options_.control_lane;
  const backfill_request request{id_of(slot), after, first, room};
  backfill_writer writer{*this, request, c.options_.limits};
  const backfill_state state = c.options_.backfill(request, writer);
  sub.live_from = writer.last_;
  if (writer.failed_) {
    mark_dead(slot, close_reason::no_memory);
  } else if (state == backfill_state::done ||
             (state == backfill_state::more && writer.last_ >= floor)) {
    sub.backfilling = 0;
    go_live(sub, st.log.find(writer.last_));
  } else if (state == backfill_state::lost) {
    sub.backfilling = 0;
    const std::uint64_t to = st.log.retained();
    go_live(sub, to);
    if (!push_gap(slot, c, {writer.last_, first, 0, false}, true))
      mark_dead(slot, close_reason::no_memory);
  } else if (state == backfill_state::more && writer.bytes_ == 0) {
    queue(slot);  // nothing now: ask again in the next flush
  }
}

// --- completion and pull -------------------------------------------------------------------------

inline void engine::pin_pending(const batch& b) noexcept {
  for (std::uint32_t k = 0; k < b.count; ++k) {
    if (b.pieces[k].seg != nullptr) ++b.pieces[k].seg->pins;
  }
}

inline void engine::unpin_pending(const batch& b) noexcept {
  for (std::uint32_t k = 0; k < b.count; ++k) {
    if (b.pieces[k].seg != nullptr) pool_.unpin(b.pieces[k].seg);
  }
}

inline void engine::writable(session_id id) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s) || s->pending != none) return;
  s->blocked = false;
  queue(id.slot);
}

/// A pending write, or a peek, is over: `n` of its bytes left.
inline void engine::written(session_id id, std::size_t n) noexcept {
  session* s = holder(id);
  if (s == nullptr || s->pending == none) return;
  if (s->state == session_state::zombie) {
    bury(id.slot);
    return;
  }
  const std::uint32_t i = s->pending;
  batch& b = batches_[i];
  s->pending = none;
  if (serving(*s)) {
    advance(*s, b, n < b.total ? n : b.total);
    s->blocked = false;
    queue(id.slot);
  }
  unpin_pending(b);
  batches_.give_back(i);
}

/// Shows what a session gets next without taking it; written(id, n) takes. Nothing: it will be
/// written to again.
inline std::size_t engine::peek(session_id id, std::span<buffer> out) noexcept {
  session* s = find(id);
  if (s == nullptr || !serving(*s)) return 0;
  if (s->pending == none) {
    if (!host_.completes) return 0;
    const std::uint32_t i = batches_.take();
    if (i == none) return 0;
    gather(id.slot, *s, batches_[i]);
    if (batches_[i].count == 0 || !serving(*s)) {
      batches_.give_back(i);
      s->blocked = false;
      if (s->state == session_state::finishing) queue(id.slot);
      reap();
      return 0;
    }
    s->pending = i;
    pin_pending(batches_[i]);
    block(id.slot, *s, false);
  }
  const batch& b = batches_[s->pending];
  std::size_t n = 0;
  for (; n < b.count && n < out.size(); ++n) out[n] = b.bytes[n];
  return n;
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

inline bool backfill_writer::add(event_id id, const event& e) noexcept {
  const detail::id_text text{id};
  event out = e;
  out.id = text.view();
  const encode_plan p = plan(out, *limits_);
  if (id <= last_ || id >= request_.before || p.error != encode_error::none) {
    failed_ = true;
    return false;
  }
  if (!engine_->push_lane_event(request_.session.slot, out)) {
    failed_ = true;
    return false;
  }
  last_ = id;
  bytes_ += p.size;
  return true;
}

}  // namespace sse::inline v0
// ---- sse/detail/engine_sessions.hpp
//
// Sessions: their control lanes, cursors and slots, and how they end.

#include <cstdint>
#include <cstring>
#include <string_view>

namespace sse::inline v0::detail {

// --- control lane --------------------------------------------------------------------------------

/// Takes a reference of its own.
inline bool engine::push_lane(std::uint32_t slot, blob* b, lane_kind kind) noexcept {
  const std::uint32_t i = lane_items_.take();
  if (i == none) return false;
  ++b->refs;
  lane_items_[i] = {b, 0, 0, none, none, kind};
  std::uint32_t& first = sessions_[slot].lane;
  (first == none ? first : lane_items_[lane_items_[first].last].next) = i;
  lane_items_[first].last = i;
  lane_items_[first].waiting += b->size;
  return true;
}

inline bool engine::push_lane_bytes(std::uint32_t slot, std::string_view bytes,
                                    lane_kind kind) noexcept {
  if (bytes.empty()) return true;
  blob* b = make_blob(static_cast<std::uint32_t>(bytes.size()));
  if (b == nullptr) return false;
  std::memcpy(b->bytes(), bytes.data(), bytes.size());
  const bool ok = push_lane(slot, b, kind);
  unref(b);
  return ok;
}

/// REQUIRES: check(e) passed.
inline bool engine::push_lane_event(std::uint32_t slot, const event& e, lane_kind kind) noexcept {
  blob* b = make_blob(static_cast<std::uint32_t>(encoded_size(e)));
  if (b == nullptr) return false;
  encode_to(b->bytes(), e);
  const bool ok = push_lane(slot, b, kind);
  unref(b);
  return ok;
}

inline void engine::pop_lane(session& s) noexcept {
  const std::uint32_t i = s.lane;
  const lane_item& item = lane_items_[i];
  if (item.next != none) {
    lane_items_[item.next].waiting = item.waiting - item.bytes->size;
    lane_items_[item.next].last = item.last;
  }
  s.lane = item.next;
  unref(item.bytes);
  lane_items_.give_back(i);
}

inline std::uint64_t engine::lane_bytes(const session& s) const noexcept {
  // only the first is half sent
  return s.lane == none ? 0 : lane_items_[s.lane].waiting - lane_items_[s.lane].sent;
}

// --- cursors -------------------------------------------------------------------------------------

inline void engine::move_cursor(subscription& sub, segment* seg, std::uint32_t off) noexcept {
  sub.off = off;
  if (seg == sub.seg) return;
  ++seg->pins;
  release_cursor(sub);
  sub.seg = seg;
}

inline void engine::release_cursor(subscription& sub) noexcept {
  if (sub.seg == nullptr) return;
  if (sub.seg->pins == 1 && sub.seg->attached) touch(stream_of(sub));  // it may go now
  pool_.unpin(sub.seg);
  sub.seg = nullptr;
}

/// Puts a cursor in front of an entry. REQUIRES: the log has a tail.
inline void engine::place_at(subscription& sub, std::uint64_t ordinal) noexcept {
  const event_log& log = stream_of(sub).log;
  if (ordinal == log.end()) {
    move_cursor(sub, log.tail(), log.tail()->used);
  } else {
    move_cursor(sub, log[ordinal].seg, log[ordinal].offset());
  }
  sub.rest = 0;
}

inline bool engine::has_pending(const session& s) const noexcept {
  if (s.lane != none || s.pending != none) return true;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const subscription& sub = subs_[i];
    if (sub.backfilling || sub.skipping || position(sub) < stream_of(sub).log.end_offset())
      return true;
  }
  return false;
}

// --- slots ---------------------------------------------------------------------------------------

inline session* engine::holder(session_id id) noexcept {
  if (id.generation == 0 || id.slot >= sessions_.extent()) return nullptr;
  session& s = sessions_[id.slot];
  return s.generation == id.generation ? &s : nullptr;
}

inline session* engine::find(session_id id) noexcept {
  session* s = holder(id);
  return s != nullptr && s->state != session_state::zombie ? s : nullptr;
}

/// A slot with room everywhere that later steps need it, so that those cannot fail. none: memory is
/// out.
inline std::uint32_t engine::take_slot(const request& r) noexcept {
  if (!sessions_.reserve_one()) return none;
  const std::uint32_t n = sessions_.extent();
  if (!timers_.reserve(n + channels_.size() + 1)) return none;
  if (host_.completes && !batches_.reserve_extent(n)) return none;
  const std::uint32_t slot = sessions_.take();
  session& s = sessions_[slot];
  const session old = s;
  s = session{};
  s.queued = old.queued;
  s.queue_next = old.queue_next;
  s.state = session_state::live;
  if (++generations_ == 0) ++generations_;
  s.generation = generations_;
  s.chunked = r.chunked && r.minor_version >= 1;
  s.last_event = s.last_write = s.progress = now32();
  return slot;
}

/// Gives the session's place in the caps back. Once.
inline void engine::count_out(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (!s.counted) return;
  s.counted = false;
  --counted_;
  give_back(s.user, s.address);
  if (s.address != none) {
    --addresses_[s.address].count;
    addresses_.release(s.address);
    s.address = none;
  }
  if (s.user != none) --users_[s.user].count;
}

/// Takes the session off its user's list, where it stands until it is reaped: of several that die
/// together, the last one to leave a channel ends the user's presence there.
inline void engine::leave_user(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (s.user == none) return;
  name& u = users_[s.user];
  (s.user_prev == none ? u.first : sessions_[s.user_prev].user_next) = s.user_next;
  (s.user_next == none ? u.last : sessions_[s.user_next].user_prev) = s.user_prev;
}

inline void engine::mark_dead(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (!serving(s)) return;
  s.state = session_state::dead;
  s.why = why;
  count_out(slot);
  s.dead_next() = dead_;
  dead_ = slot;
}

/// How many of a user's sessions read a stream.
inline std::uint32_t engine::joined(std::uint32_t user, const stream& st) noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    for (std::uint32_t i = sessions_[slot].first; i != none; i = subs_[i].next) {
      if (streams_[subs_[i].stream_index] == &st) ++n;
    }
  }
  return n;
}

inline void engine::detach_subscriptions(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  while (s.first != none) {
    const std::uint32_t i = s.first;
    subscription& sub = subs_[i];
    s.first = sub.next;
    stream& st = stream_of(sub);
    const std::uint32_t moved = st.readers.back();
    st.readers[sub.place] = moved;
    subs_[moved].place = sub.place;
    st.readers.pop_back();
    if (sub.skipping) skips_.give_back(static_cast<std::uint32_t>(sub.live_from));
    release_cursor(sub);
    channel& c = *st.owner;
    sub = subscription{};
    subs_.give_back(i);
    if (on_presence && !st.ephemeral && s.user != none && joined(s.user, st) == 0) {
      on_presence(c, users_[s.user].key.view(), false);
    }
  }
}

/// Closes what died, after the walk: the only place where Transport::close is called.
inline void engine::reap() noexcept {
  if (walking_) return;
  while (dead_ != none) {
    const std::uint32_t slot = dead_;
    session& s = sessions_[slot];
    dead_ = s.dead_next();
    if (!s.retry_only) ++stats_.closed[static_cast<std::size_t>(s.why)];
    timers_.disarm(slot);
    leave_user(slot);
    detach_subscriptions(slot);
    host_.close(host_.self, slot, s.why, !s.retry_only);
    if (s.user != none) {
      users_.release(s.user);
      s.user = none;
    }
    if (s.pending != none) {
      s.state = session_state::zombie;
    } else {
      bury(slot);
    }
  }
}

/// Frees the slot. REQUIRES: closed.
inline void engine::bury(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  if (s.pending != none) {
    unpin_pending(batches_[s.pending]);
    batches_.give_back(s.pending);
    s.pending = none;
  }
  while (s.lane != none) pop_lane(s);
  s.generation = 0;
  s.state = session_state::free;
  sessions_.give_back(slot);
}

inline void engine::close(session_id id, close_reason why) noexcept {
  if (find(id) == nullptr) return;
  mark_dead(id.slot, why);
  reap();
}

inline void engine::finish(session_id id) noexcept {
  if (session* s = find(id); s != nullptr && s->state == session_state::live) {
    begin_finish(id.slot, close_reason::finished);
  }
}

inline std::size_t engine::revoke(std::string_view key) noexcept {
  const std::uint32_t user = users_.find(key);
  if (user == none) return 0;
  std::size_t n = 0;
  for (std::uint32_t slot = users_[user].first; slot != none; slot = sessions_[slot].user_next) {
    if (!serving(sessions_[slot])) continue;
    mark_dead(slot, close_reason::revoked);
    ++n;
  }
  reap();
  return n;
}

inline hub_stats engine::stats() const noexcept {
  hub_stats s = stats_;
  s.sessions = counted_;
  s.log_bytes = pool_.held();
  return s;
}

}  // namespace sse::inline v0::detail
// ---- sse/detail/engine_time.hpp
//
// Time and limits: heartbeats and deadlines from one timer queue, what happens to readers that are
// too slow, drain.

namespace sse::inline v0::detail {

/// splitmix64.
inline std::uint64_t engine::random() noexcept {
  random_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

inline std::int64_t engine::jittered_retry() noexcept {
  const std::int64_t low = options_.retry_min.ms();
  const std::int64_t high = options_.retry_max.ms();
  return high <= low ? low
                     : low + static_cast<std::int64_t>(random() %
                                                       static_cast<std::uint64_t>(high - low + 1));
}

/// Deadlines that are due act in their order. Call flush() afterwards.
inline void engine::tick(time_point host_now) noexcept {
  if (origin_ == INT64_MIN) origin_ = host_now.ms();
  target_ = host_now.ms() - origin_;
  while (!timers_.empty() && timers_.top_when(now_) <= target_) {
    const std::uint32_t id = timers_.top_id();
    const std::int64_t due = timers_.top_when(now_);
    if (due > now_) now_ = due;
    if ((id & timer_places::channel_bit) != 0) {
      on_channel_timer(*channels_[id & ~timer_places::channel_bit]);
    } else {
      on_session_timer(id);
    }
  }
  if (target_ > now_) now_ = target_;
  if (draining_ && now_ >= drain_deadline_) {
    for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
      mark_dead(slot, close_reason::drain);
    drain_deadline_ = INT64_MAX;
  }
  reap();
}

inline time_point engine::next_deadline() const noexcept {
  std::int64_t when = drain_deadline_;
  if (!timers_.empty() && timers_.top_when(now_) < when) when = timers_.top_when(now_);
  return when == INT64_MAX || origin_ == INT64_MIN ? time_point::never()
                                                   : time_point::milliseconds(when + origin_);
}

/// The channel whose idle heartbeat a session follows: the first it joined that has one.
inline const channel* engine::heart_of(const session& s) const noexcept {
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    const stream& st = stream_of(subs_[i]);
    if (!st.ephemeral && st.owner->options_.heartbeat.mode == heartbeat_options::pace::idle)
      return st.owner;
  }
  return nullptr;
}

/// One period on; after a long pause of the host the beats that were missed are not all made up
/// for.
inline std::int64_t engine::next_beat(std::int64_t every) const noexcept {
  return (target_ - now_) / every > 16 ? target_ + every : now_ + every;
}

inline void engine::on_session_timer(std::uint32_t slot) noexcept {
  session& s = sessions_[slot];
  timers_.disarm(slot);
  if (!serving(s)) return;
  const auto elapsed = [&](std::uint32_t then) {
    return duration::milliseconds(since(then, now32()));
  };

  if (s.blocked && !options_.write_deadline.is_off() &&
      elapsed(s.progress) >= options_.write_deadline &&
      (s.state == session_state::finishing || has_pending(s))) {
    mark_dead(slot, close_reason::stalled);
    return;
  }
  if (s.state == session_state::live) {
    if (s.over) {
      s.over = false;
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        const channel_options& o = stream_of(subs_[i]).owner->options_;
        if (o.soft_lag == 0 || lag_of(stream_of(subs_[i]), subs_[i]) <= o.soft_lag) continue;
        if (elapsed(s.over_since) >= o.soft_lag_for) {
          over_lag(i);
        } else {
          s.over = true;
        }
      }
      if (!serving(s)) return;
    }
    if (now_ >= s.ends_at) {
      begin_finish(slot, close_reason::age);
    } else if (!options_.idle.is_off() && elapsed(s.last_event) >= options_.idle) {
      begin_finish(slot, close_reason::idle);
    } else if (const channel* heart = heart_of(s);
               heart != nullptr && elapsed(s.last_write) >= heart->options_.heartbeat.every &&
               (!s.blocked || !has_pending(s))) {
      // On a blocked stream with nothing to say it is what the write deadline can be held against.
      if (s.blocked) s.progress = now32();
      if (blob* b = make_heartbeat(*channels_[heart->index_]); b != nullptr) {
        if (lane_bytes(s) < options_.control_lane && push_lane(slot, b)) ++stats_.heartbeats;
        unref(b);
      }
      s.last_write = static_cast<std::uint32_t>(next_beat(heart->options_.heartbeat.every.ms()) -
                                                heart->options_.heartbeat.every.ms());
      queue(slot);
    }
  }
  arm(slot);
}

/// Sets a session's next deadline.
inline void engine::arm(std::uint32_t slot) noexcept {
  const session& s = sessions_[slot];
  if (!serving(s)) return;
  std::int64_t when = INT64_MAX;
  const auto due = [&](std::uint32_t then, duration after) {
    if (after.is_off()) return;
    // What is overdue but cannot act now (a heartbeat on a blocked stream) looks again one period
    // later.
    const std::int64_t left = after.ms() - since(then, now32());
    const std::int64_t at = now_ + (left > 0 ? left : after.ms());
    if (at < when) when = at;
  };
  if (s.blocked || s.state == session_state::finishing) due(s.progress, options_.write_deadline);
  if (s.state == session_state::live) {
    due(s.last_event, options_.idle);
    if (const channel* heart = heart_of(s)) due(s.last_write, heart->options_.heartbeat.every);
    if (s.ends_at < when) when = s.ends_at;
    if (s.over) {
      for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
        due(s.over_since, stream_of(subs_[i]).owner->options_.soft_lag_for);
      }
    }
  }
  if (when != INT64_MAX) {
    timers_.arm(slot, when, now_);
  } else {
    timers_.disarm(slot);
  }
}

inline void engine::arm_channel(channel& c) noexcept {
  const std::int64_t expiry = c.main_.log.next_expiry();
  const std::int64_t when = c.next_heartbeat_ < expiry ? c.next_heartbeat_ : expiry;
  const std::uint32_t id = timer_places::channel_bit | c.index_;
  if (when == INT64_MAX) {
    timers_.disarm(id);
  } else if (when != timers_.when(id, now_)) {
    timers_.arm(id, when, now_);
  }
}

inline void engine::on_channel_timer(channel& c) noexcept {
  timers_.disarm(timer_places::channel_bit | c.index_);
  if (now_ >= c.next_heartbeat_) {
    c.next_heartbeat_ = next_beat(c.options_.heartbeat.every.ms());
    publish_heartbeat(c);
  }
  c.main_.log.trim(now_);
  touch(c.main_);
  arm_channel(c);
}

/// Ends a session cleanly: what is pending, a farewell, then close.
inline void engine::begin_finish(std::uint32_t slot, close_reason why) noexcept {
  session& s = sessions_[slot];
  if (s.state != session_state::live) return;
  s.state = session_state::finishing;
  s.why = why;
  s.progress = now32();
  queue(slot);
  arm(slot);
}

/// Takes no more; tells every stream when to come back; ends each once it has all; cuts the rest at
/// the deadline.
inline void engine::drain(const drain_options& o) noexcept {
  if (draining_) return;
  draining_ = true;
  if (o.deadline != duration::forever())
    drain_deadline_ = now_ + countable(o.deadline, longest_age).ms();
  event last = o.farewell;
  last.id = {};  // it would move the client's resume point
  if ((!last.type.empty() || !last.data.empty()) && check(last) == encode_error::none) {
    farewell_ = make_blob(static_cast<std::uint32_t>(encoded_size(last)));
    if (farewell_ != nullptr) encode_to(farewell_->bytes(), last);
  }
  for (std::uint32_t slot = 0; slot < sessions_.extent(); ++slot)
    begin_finish(slot, close_reason::drain);
}

// --- slow readers --------------------------------------------------------------------------------

/// Bytes behind live. A reader in its replay is not late for what was there before it came.
inline std::uint64_t engine::lag_of(const stream& st, const subscription& sub) const noexcept {
  if (sub.skipping || sub.backfilling) return 0;
  const std::uint64_t at = position(sub) > sub.live_from ? position(sub) : sub.live_from;
  return st.log.end_offset() - at;
}

inline std::uint64_t engine::worst_lag(const channel& c) const noexcept {
  std::uint64_t worst = 0;
  for (const stream* st : {&c.main_, static_cast<const stream*>(c.ephemeral_)}) {
    if (st == nullptr) continue;
    for (std::uint32_t k = 0; k < st->readers.size(); ++k) {
      const subscription& sub = subs_[st->readers[k]];
      if (!serving(sessions_[sub.session])) continue;
      const std::uint64_t lag = lag_of(*st, sub);
      if (lag > worst) worst = lag;
    }
  }
  return worst;
}

/// Somebody stands at `from`: look when the log has grown by the smaller limit, or by the one that
/// is not passed yet.
inline void engine::watch_lag(stream& st, std::uint64_t from, bool over_soft) noexcept {
  const channel_options& o = st.owner->options_;
  std::uint64_t limit = o.max_lag;
  if (!over_soft && o.soft_lag != 0 && o.soft_lag < limit) limit = o.soft_lag;
  const std::uint64_t at = limit > UINT64_MAX - from ? UINT64_MAX : from + limit;
  if (at < st.lag_check_at) st.lag_check_at = at;
}

/// Whether a session that was over a soft limit still is. Where it caught up, the limit is watched
/// again.
inline bool engine::still_over(const session& s) noexcept {
  bool over = false;
  for (std::uint32_t i = s.first; i != none; i = subs_[i].next) {
    stream& st = stream_of(subs_[i]);
    const std::uint64_t lag = lag_of(st, subs_[i]);
    if (st.owner->options_.soft_lag == 0) continue;
    if (lag > st.owner->options_.soft_lag) {
      over = true;
    } else {
      watch_lag(st, st.log.end_offset() - lag);
    }
  }
  return over;
}

/// Looks at a stream's readers once the log grew enough that one may be over a limit: O(1) per
/// publish over time.
inline void engine::enforce_lag(stream& st) noexcept {
  if (st.log.end_offset() <= st.lag_check_at) return;
  const channel_options& o = st.owner->options_;
  st.lag_check_at = UINT64_MAX;
  const std::uint64_t again =
      st.log.end_offset() + o.max_lag / 8 + 1;  // for those that stay over a limit
  // nobody but readers about to skip needs anything in front of it
  std::uint64_t needed = st.log.end_offset();
  for (std::uint32_t i : st.readers) {
    subscription& sub = subs_[i];
    session& s = sessions_[sub.session];
    if (!serving(s)) continue;
    const std::uint64_t lag = lag_of(st, sub);
    if (lag > o.max_lag) {
      over_lag(i);
      if (again < st.lag_check_at) st.lag_check_at = again;
    } else {
      const bool over_soft = o.soft_lag != 0 && lag > o.soft_lag;
      if (over_soft && !s.over) {
        s.over = true;
        s.over_since = now32();
        arm(sub.session);
      }
      watch_lag(st, st.log.end_offset() - lag, over_soft);
    }
    // A cursor at the very end of its segment goes on from there: it needs the segment, not only
    // what follows.
    if (serving(s) && !sub.skipping && !sub.backfilling && sub.seg->base < needed)
      needed = sub.seg->base;
  }
  st.log.detach_before(needed);
}

/// A reader is too far behind: what the channel's policy says.
inline void engine::over_lag(std::uint32_t index) noexcept {
  subscription& sub = subs_[index];
  stream& st = stream_of(sub);
  const lag_policy policy = st.owner->options_.on_lag;
  if (policy == lag_policy::disconnect) {
    mark_dead(sub.session, close_reason::lag);
    return;
  }
  if (sessions_[sub.session].pending != none) {
    // Its bytes are with the kernel: the skip waits for them, within reason.
    if (lag_of(st, sub) / 2 > st.owner->options_.max_lag) mark_dead(sub.session, close_reason::lag);
    return;
  }
  const std::uint64_t at = st.log.locate(position(sub));
  // What is retained anyway costs nothing: only what left retention is lost.
  if (policy == lag_policy::oldest && at >= st.log.retained()) return;
  const std::uint32_t record = skips_.take();
  if (record == none) {
    mark_dead(sub.session, close_reason::no_memory);
    return;
  }
  const std::uint64_t next = sub.rest != 0 ? at + 1 : at;
  const std::uint64_t stamp = next < st.log.end() ? st.log[next].stamp : stamp_ + 1;
  skips_[record] = {st.log.id_before(next), next, stamp};
  sub.live_from = record;
  sub.skipping = 1;
  queue(sub.session);
}

/// Over the hub's memory cap: the worst laggards go first, those in the oldest segment of the
/// stream that holds most.
inline void engine::shed_backlog() noexcept {
  while (options_.max_backlog != 0 && backlog_ > options_.max_backlog) {
    stream* worst = nullptr;
    for (stream* st : streams_) {
      if (worst == nullptr || st->backlog > worst->backlog) worst = st;
    }
    if (worst == nullptr || worst->backlog == 0) return;
    const std::uint64_t end = worst->log.head()->end();
    for (std::uint32_t i : worst->readers) {
      if (subs_[i].seg != nullptr && !subs_[i].skipping && position(subs_[i]) <= end) {
        mark_dead(subs_[i].session, close_reason::hub_full);
      }
    }
    worst->log.detach_before(end);
    const std::uint64_t now = worst->log.backlog();
    backlog_ = backlog_ - worst->backlog + now;
    if (now == worst->backlog) return;
    worst->backlog = now;
  }
}

/// After the walk: limits, then what nobody needs goes.
inline void engine::settle() noexcept {
  stream* list = touched_;
  touched_ = nullptr;
  while (list != nullptr) {
    stream& st = *list;
    list = st.next_touched;
    st.touched = false;
    if (st.dirty) touch(st);
    enforce_lag(st);
    st.log.trim(now_);
    const std::uint64_t held = st.log.backlog();
    backlog_ = backlog_ - st.backlog + held;
    st.backlog = held;
  }
  shed_backlog();
}

}  // namespace sse::inline v0::detail

namespace sse::inline v0 {

/// `Transport`: see sse/transport.hpp; the hub keeps a reference. `User`: what the host wants to
/// know of a session.
///
/// Hooks run on the hub's thread. Those that run inside flush (sees, on_gap, backfill, heartbeat
/// payload) must not call the hub; on_opened, on_closed and on_presence may publish and send. Only
/// on_admit may throw: accept() then took nothing.
template <transport Transport, std::movable User = no_user>
class hub {
 public:
  using connection = typename Transport::connection;
  static_assert(std::is_nothrow_move_constructible_v<connection> &&
                    std::is_nothrow_move_constructible_v<User>,
                "a session takes connection and User over after its slot is counted: moving them "
                "must not throw");

  explicit hub(Transport& t, const hub_options& o = {}) : transport_{&t}, engine_{calls(), o} {}
  hub(const hub&) = delete;
  hub& operator=(const hub&) = delete;
  ~hub() {
    engine_.shut_down();
    for (cell* cells : cells_) detail::deallocate(cells);
  }

  // --- channels ----------------------------------------------------------------------------------

  /// Opens a channel; it lives until close_channel or the hub's end. nullptr: the name is taken, or
  /// memory is out.
  [[nodiscard]] channel* open_channel(std::string_view name, channel_options o = {}) noexcept {
    return engine_.open_channel(name, std::move(o));
  }
  [[nodiscard]] channel* find_channel(std::string_view name) const noexcept {
    return engine_.find_channel(name);
  }
  /// Closes every stream on it, then the channel. Not inside a hook.
  void close_channel(channel& c) noexcept { engine_.close_channel(c); }
  template <class F>
  void for_each_channel(F&& f) {
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i) f(*engine_.channels()[i]);
  }

  // --- publishing --------------------------------------------------------------------------------

  [[nodiscard]] publish_result publish(channel& c, const event& e,
                                       const publish_options& o = {}) noexcept {
    return engine_.publish(c, e, o);
  }
  /// To every channel, also to those that only one user reads: mind what it says. Returns how many
  /// took it.
  std::size_t publish_all(const event& e, const publish_options& o = {}) noexcept {
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i)
      n += engine_.publish(*engine_.channels()[i], e, o) ? 1U : 0U;
    return n;
  }
  /// To one session, between its other events; no id, never replayed.
  [[nodiscard]] publish_error send(session_id id, const event& e) noexcept {
    return engine_.send(id, e);
  }
  /// To all sessions of a user now connected; returns how many took it. To be replayed as well:
  /// publish with an audience.
  std::size_t send_user(std::string_view key, const event& e) noexcept {
    return engine_.send_user(key, e);
  }

  // --- admission ---------------------------------------------------------------------------------

  /// Decides on each accept(connection, request). Without it every request is refused with 403.
  void on_admit(function<verdict<User>(const request&)> f) { admit_ = std::move(f); }
  /// Whether a session may see entries of an audience. Without it: if the audience is the user's
  /// key.
  void on_sees(function<bool(const User&, std::string_view key, std::string_view audience)> f) {
    sees_ = std::move(f);
  }
  void on_opened(function<void(session_id, const User&)> f) { opened_ = std::move(f); }
  /// After a session's end; its slots in the caps are free already.
  void on_closed(function<void(session_id, const User&, close_reason)> f) {
    closed_ = std::move(f);
  }
  /// A user's first session joined a channel (true), or its last one left.
  void on_presence(function<void(channel&, std::string_view key, bool present)> f) {
    engine_.on_presence = std::move(f);
  }
  /// A gap frame was sent: a line for the host's log.
  void on_gap(function<void(const gap_notice&)> f) { engine_.on_gap = std::move(f); }

  /// Opens a stream for a request, or says why not. Order: shape (405, 406), draining (503), total
  /// cap, the admit hook, caps per user and address, resume point (400). The connection is taken
  /// only if a session opens.
  [[nodiscard]] accept_result accept(connection&& c, const request& r) {
    if (r.method != "GET" && r.method != "HEAD")
      return refused({.refusal = method_not_allowed("GET, HEAD")});
    accept_result out;
    if (!before_asking(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    if (!admit_) return refused({.refusal = refuse(403, "no admit hook\n")});
    return take(std::move(c), r, admit_(r), std::move(out));
  }

  /// The same for hosts that have checked the request themselves, perhaps asynchronously; any
  /// method.
  [[nodiscard]] accept_result accept(connection&& c, const request& r, verdict<User> v) {
    accept_result out;
    if (!before_asking(out, r)) return retry_or_refuse(std::move(c), r, std::move(out));
    return take(std::move(c), r, std::move(v), std::move(out));
  }

  // --- the loop ----------------------------------------------------------------------------------

  /// Time comes in: heartbeats and deadlines. Call flush() after it.
  void tick(time_point now) noexcept { engine_.tick(now); }
  /// When tick() is next needed; time_point::never() if not.
  [[nodiscard]] time_point next_deadline() const noexcept { return engine_.next_deadline(); }
  /// Sends to every session that is behind and ready. True: some had their share only, call it
  /// again soon.
  bool flush() noexcept { return engine_.flush(); }
  /// The transport can take bytes again (after flow::blocked). flush() sends them.
  void writable(session_id id) noexcept { engine_.writable(id); }
  /// A write that was flow::pending is over; `n` of its bytes left. Must come also after the
  /// session ended.
  void written(session_id id, std::size_t n) noexcept { engine_.written(id, n); }
  /// The peer is gone. Transport::close is called.
  void closed(session_id id) noexcept { engine_.closed(id); }

  /// Pull hosts (HTTP/2): what this session gets next; the views live until consume. 0 and nothing
  /// pending: the hub calls Transport::write again when there is more, which may answer {0,
  /// flow::blocked}. REQUIRES: Transport::completes.
  [[nodiscard]] std::size_t peek(session_id id, std::span<buffer> out) noexcept {
    return engine_.peek(id, out);
  }
  void consume(session_id id, std::size_t n) noexcept { engine_.written(id, n); }

  // --- ends --------------------------------------------------------------------------------------

  /// At once.
  void close(session_id id) noexcept { engine_.close(id, close_reason::host); }
  /// All streams at once; channels stay, and new streams may come.
  void close_all() noexcept { engine_.close_all(); }
  /// Once all that is pending was sent.
  void finish(session_id id) noexcept { engine_.finish(id); }
  /// Closes all streams of a user before another byte is sent to it; returns how many.
  std::size_t revoke(std::string_view key) noexcept { return engine_.revoke(key); }
  /// Takes no more, tells every stream when to come back, ends each once it has everything, cuts at
  /// the deadline.
  void drain(const drain_options& o = {}) noexcept { engine_.drain(o); }
  [[nodiscard]] bool draining() const noexcept { return engine_.draining(); }
  [[nodiscard]] bool drained() const noexcept {
    return engine_.draining() && engine_.open_slots() == 0;
  }

  // --- what is there -----------------------------------------------------------------------------

  [[nodiscard]] std::size_t sessions() const noexcept { return engine_.session_count(); }
  [[nodiscard]] std::size_t user_sessions(std::string_view key) noexcept {
    return engine_.user_sessions(key);
  }
  [[nodiscard]] bool alive(session_id id) noexcept { return engine_.alive(id); }
  /// The session's user, or nullptr.
  [[nodiscard]] User* user(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).user() : nullptr;
  }
  [[nodiscard]] connection* find(session_id id) noexcept {
    return engine_.find(id) != nullptr ? &at(id.slot).conn() : nullptr;
  }
  /// Bytes that the slowest subscriber is behind live. O(subscribers).
  [[nodiscard]] std::uint64_t worst_lag(const channel& c) const noexcept {
    return engine_.worst_lag(c);
  }
  [[nodiscard]] hub_stats stats() const noexcept { return engine_.stats(); }
  [[nodiscard]] const hub_options& options() const noexcept { return engine_.options(); }
  /// Appends all counters as Prometheus text.
  void write_prometheus(std::string& out) const {
    detail::vec<channel_stats> all;
    for (std::uint32_t i = 0; i < engine_.channels().size(); ++i) {
      if (!all.push_back(engine_.channels()[i]->stats())) break;
    }
    append_prometheus(out, engine_.stats(), {all.begin(), all.end()});
  }

 private:
  /// A session's typed half, in the slot of its number.
  struct cell {
    alignas(connection) unsigned char conn_bytes[sizeof(connection)];
    [[no_unique_address]] alignas(User) unsigned char user_bytes[sizeof(User)];
    connection& conn() noexcept { return *std::launder(reinterpret_cast<connection*>(conn_bytes)); }
    User& user() noexcept { return *std::launder(reinterpret_cast<User*>(user_bytes)); }
  };
  static constexpr std::uint32_t chunk = 64;

  cell& at(std::uint32_t slot) noexcept { return cells_[slot / chunk][slot % chunk]; }

  bool make_cell(std::uint32_t slot) noexcept {
    while (cells_.size() <= slot / chunk) {
      if (!cells_.reserve(cells_.size() + 1)) return false;
      void* p = detail::allocate(sizeof(cell) * chunk);
      if (p == nullptr) return false;
      cells_.push_reserved(static_cast<cell*>(p));
    }
    return true;
  }

  accept_result refused(accept_result out) noexcept {
    engine_.count_refusal();
    return out;
  }

  bool before_asking(accept_result& out, const request& r) {
    if (!accepts_event_stream(r)) {
      out.refusal = refuse(406, "this resource is a text/event-stream\n");
      return false;
    }
    return engine_.precheck(out);
  }

  accept_result take(connection&& c, const request& r, verdict<User> v, accept_result out) {
    if (!v.admitted()) {
      out.refusal = std::move(v.refusal());
      return refused(std::move(out));
    }
    if (r.method == "HEAD") {
      out.head_only = true;
      return out;
    }
    resume_point resume;
    const std::uint32_t slot = engine_.admit(r, v.joining(), resume, out);
    if (slot == detail::none) return retry_or_refuse(std::move(c), r, std::move(out));
    if (!settle_in(slot, std::move(c), std::move(v.user()))) {
      engine_.abandon(slot);
      return refused({.refusal = refuse(503, "out of memory\n")});
    }
    engine_.join(slot, v.joining(), resume);
    if (opened_) opened_(out.id, at(slot).user());
    engine_.open(slot);
    return out;
  }

  /// A refusal, or the retry stream that a cap asked for (status 200).
  accept_result retry_or_refuse(connection&& c, const request& r, accept_result out) {
    if (out.refusal.status == 200 && r.method == "HEAD") {
      out.refusal = {};
      out.head_only = true;
      return refused(std::move(out));
    }
    if (out.refusal.status == 200) {
      const std::uint32_t slot = engine_.admit_retry_stream(r, out.retry_after);
      if (slot != detail::none && settle_in(slot, std::move(c), User{})) {
        out.id = engine_.id_of(slot);
        out.refusal = {};
        engine_.count_refusal();
        engine_.open(slot);
        return out;
      }
      if (slot != detail::none) engine_.abandon(slot);
      out.refusal.status = 503;
    }
    return refused(std::move(out));
  }

  bool settle_in(std::uint32_t slot, connection&& c, User&& u) {
    if (!make_cell(slot)) return false;
    cell& x = at(slot);
    ::new (static_cast<void*>(x.conn_bytes)) connection(std::move(c));
    ::new (static_cast<void*>(x.user_bytes)) User(std::move(u));
    if constexpr (requires(Transport & t, connection & k, session_id id) { t.opened(k, id); }) {
      transport_->opened(x.conn(), engine_.id_of(slot));
    }
    return true;
  }

  detail::host_calls calls() noexcept {
    detail::host_calls h;
    h.self = this;
    h.write = [](void* self, std::uint32_t slot, std::span<const buffer> bytes) noexcept {
      hub& me = *static_cast<hub*>(self);
      return me.transport_->write(me.at(slot).conn(), bytes);
    };
    h.close = [](void* self, std::uint32_t slot, close_reason why, bool announce) noexcept {
      hub& me = *static_cast<hub*>(self);
      cell& x = me.at(slot);
      me.transport_->close(x.conn(), why);
      if (announce && me.closed_) me.closed_(me.engine_.id_of(slot), x.user(), why);
      x.conn().~connection();
      x.user().~User();
    };
    h.sees = [](void* self, std::uint32_t slot, std::string_view key,
                std::string_view audience) noexcept {
      hub& me = *static_cast<hub*>(self);
      if (me.sees_) return me.sees_(me.at(slot).user(), key, audience);
      return key == audience;
    };
    h.flush_begins = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.begin_flush(); })
        static_cast<hub*>(self)->transport_->begin_flush();
      (void)self;
    };
    h.flush_ends = [](void* self) noexcept {
      if constexpr (requires(Transport & t) { t.end_flush(); })
        static_cast<hub*>(self)->transport_->end_flush();
      (void)self;
    };
    if constexpr (requires { Transport::max_buffers; })
      h.max_buffers = static_cast<std::uint32_t>(Transport::max_buffers);
    if constexpr (requires { Transport::completes; }) h.completes = Transport::completes;
    return h;
  }

  Transport* transport_;
  detail::vec<cell*> cells_;
  function<verdict<User>(const request&)> admit_;
  function<bool(const User&, std::string_view, std::string_view)> sees_;
  function<void(session_id, const User&)> opened_;
  function<void(session_id, const User&, close_reason)> closed_;
  detail::engine engine_;
};

}  // namespace sse::inline v0
// ---- sse/parse.hpp
//
// parser: the bytes of a text/event-stream to events. The only place that reads "data:".
// Sans-I/O: it takes bytes in pieces of any size and calls a sink. It does not connect, reconnect
// or know HTTP; that is what sse/client.hpp is for.
//
// Threads: one at a time. Movable, not copyable. Memory is bounded by parse_limits: at most one
// line, one event and one id are held, and only if a piece of input ends inside an event.
//
//   struct my_sink { void on_event(const sse::event& e) { use(e.type, e.data, e.id); } } sink;
//   sse::parser parser;
//   while (auto n = read(fd, buf, sizeof buf); n > 0)
//     if (auto r = parser.feed({buf, n}, sink); !r) return fail(sse::to_string(r.error));
//   parser.finish();
//
// The rules are those of WHATWG HTML 9.2.6, in any chunking: one BOM at the start is skipped; CR,
// LF and CRLF end a line; `field:value` and `field: value` are the same; a line without a colon is
// a field with an empty value; names are case-sensitive and unknown ones are ignored; an id with
// NUL is ignored; retry takes digits only; an event without a data line fires nothing but still
// moves the last event ID; an unfinished event at the end is dropped. Three points that the text
// leaves open: an empty `retry:` is ignored; a retry above 2^63-1 counts as 2^63-1; the last event
// ID lives on from stream to stream (as in browsers) until an empty `id` clears it.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace sse::inline v0 {

/// Why a parser stopped for good: the stream went over a limit, or memory is out.
enum class parse_error : std::uint8_t {
  none,
  line_too_long,    ///< parse_limits::line
  event_too_large,  ///< parse_limits::event
  too_many_lines,   ///< parse_limits::data_lines
  id_too_long,      ///< parse_limits::id
  type_too_long,    ///< parse_limits::type
  no_memory,        ///< an allocation failed
};

[[nodiscard]] constexpr std::string_view to_string(parse_error e) noexcept {
  switch (e) {
    case parse_error::none: return "none";
    case parse_error::line_too_long: return "line_too_long";
    case parse_error::event_too_large: return "event_too_large";
    case parse_error::too_many_lines: return "too_many_lines";
    case parse_error::id_too_long: return "id_too_long";
    case parse_error::type_too_long: return "type_too_long";
    case parse_error::no_memory: return "no_memory";
  }
  return "unknown";
}

/// The largest sizes that are accepted; one more is an error. Bytes, unless said otherwise.
struct parse_limits {
  std::size_t line = std::size_t{16} << 20;       ///< a line of any kind, without its end
  std::size_t event = std::size_t{16} << 20;      ///< event::data as delivered
  std::size_t data_lines = std::size_t{1} << 20;  ///< `data` lines of one event
  std::size_t id = 4096;                          ///< event::id
  std::size_t type = 4096;                        ///< event::type
};

/// What happens to bytes that are not UTF-8.
enum class invalid_utf8 : std::uint8_t {
  pass,     ///< they arrive as they are
  replace,  ///< each ill-formed part of a value arrives as U+FFFD (WHATWG Encoding, UTF-8 decode)
};

struct parser_options {
  parse_limits limits{};
  invalid_utf8 utf8 = invalid_utf8::pass;
};

/// What feed did.
struct parse_result {
  parse_error error = parse_error::none;
  /// Bytes taken; fewer than given only after an error, or because the sink asked to stop.
  std::size_t consumed = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return error == parse_error::none;
  }
};

/// What feed calls. Required: on_event, which returns void, or bool: false stops after this event.
/// Optional, detected:
///   void on_comment(std::string_view text)   a comment line, without its colon and one space
///   void on_retry(std::int64_t ms)           a valid `retry` field, at once, even if its event is
///                                            never finished
/// All views are valid until the callback returns. Callbacks may read the parser, never feed or
/// reset it. A sink that throws leaves the parser fit only for reset() and destruction.
template <class S>
concept event_sink = requires(S& sink, const event& e) {
  requires std::same_as<decltype(sink.on_event(e)), void> ||
      std::same_as<decltype(sink.on_event(e)), bool>;
};

class parser {
 public:
  parser() noexcept = default;
  explicit parser(const parser_options& options) noexcept : options_{options} {}

  /// Takes the next piece of the stream, of any size. event::id is the last event ID, event::retry
  /// the event's own retry. Views point into `in` where the value lies in it in one piece, else
  /// into the parser. If the sink stops it, feed the rest later: in.substr(result.consumed). After
  /// an error nothing is taken any more, and every call returns it, until reset().
  template <event_sink Sink>
  [[nodiscard]] parse_result feed(std::string_view in, Sink&& sink);

  /// The stream ended: what is unfinished is dropped, the last event ID stays, the next feed starts
  /// a new stream. Returns true if an event or a line was cut off. An error stays until reset().
  bool finish() noexcept;

  /// Ready for a new stream: drops what is unfinished and the error. The last event ID stays;
  /// set_last_event_id({}) forgets it.
  void reset() noexcept;

  [[nodiscard]] parse_error error() const noexcept { return error_; }

  /// The id of the last finished event that had one, for the Last-Event-ID header. Valid until the
  /// next call that is not const.
  [[nodiscard]] std::string_view last_event_id() const noexcept { return last_id_.view(); }

  /// Where a resumed stream starts. False, and nothing changes, if `id` holds CR, LF or NUL, is
  /// longer than parse_limits::id, or memory is out. Call it between streams.
  [[nodiscard]] bool set_last_event_id(std::string_view id) noexcept;

  /// Bytes held for an unfinished event.
  [[nodiscard]] std::size_t buffered() const noexcept {
    return line_.size() + data_.size() + type_.size() + next_id_.size();
  }

 private:
  enum class step : std::uint8_t { next, event, comment, retry, failed };

  step fail(parse_error e) noexcept;
  void drop_event() noexcept;
  void drop_stream() noexcept;
  [[nodiscard]] const char* skip_bom(const char* p, const char* end) noexcept;
  [[nodiscard]] bool hold(std::string_view part) noexcept;
  [[nodiscard]] bool keep() noexcept;
  [[nodiscard]] step take_line(std::string_view line) noexcept;
  [[nodiscard]] step take_data(std::string_view value) noexcept;
  [[nodiscard]] step take_type(std::string_view value) noexcept;
  [[nodiscard]] step take_id(std::string_view value) noexcept;
  [[nodiscard]] step take_retry(std::string_view value) noexcept;
  [[nodiscard]] step end_event() noexcept;
  [[nodiscard]] bool needs_repair(std::string_view value) const noexcept {
    return options_.utf8 == invalid_utf8::replace &&
           detail::valid_utf8_prefix(value) != value.size();
  }

  parser_options options_{};
  detail::bytes line_{};     // the start of a line whose end has not come
  detail::bytes data_{};     // joined data lines, unless the one line there is lies in the input
  detail::bytes type_{};     // the type, unless it lies in the input
  detail::bytes next_id_{};  // the id that this event will set
  detail::bytes last_id_{};
  detail::bytes comment_{};       // a repaired comment
  std::string_view data_view_{};  // the only data line, in the input; used if !own_data_
  std::string_view type_view_{};  // the type, in the input; used if !own_type_
  std::string_view comment_view_{};
  std::size_t data_lines_ = 0;
  std::int64_t retry_ = no_retry;
  parse_error error_ = parse_error::none;
  std::uint8_t bom_ = 0;  // bytes of the BOM seen at the start; 3: past it
  bool own_data_ = false;
  bool own_type_ = false;
  bool has_next_id_ = false;
  bool after_cr_ = false;  // an LF that comes next belongs to the CR before it
};

template <event_sink Sink>
parse_result parser::feed(std::string_view in, Sink&& sink) {
  if (error_ != parse_error::none) return {error_, 0};
  const char* const begin = in.data();
  const char* const end = begin + in.size();
  const auto result = [&](const char* at) {
    return parse_result{error_, static_cast<std::size_t>(at - begin)};
  };
  const char* p = skip_bom(begin, end);
  while (p != end && error_ == parse_error::none) {
    if (after_cr_) {
      after_cr_ = false;
      if (*p == '\n') {
        ++p;
        continue;
      }
    }
    const char* const stop = detail::find_line_end(p, end);
    std::string_view line{p, static_cast<std::size_t>(stop - p)};
    const bool held = stop == end || !line_.empty();
    if (held) {
      if (!hold(line)) return result(p);
      if (stop == end) break;
      line = line_.view();
    } else if (line.size() > options_.limits.line) {
      fail(parse_error::line_too_long);
      return result(p);
    }
    p = detail::skip_line_end(stop, end);
    after_cr_ = p == end && p[-1] == '\r';

    bool go_on = true;
    switch (take_line(line)) {
      case step::next: break;
      case step::event: {
        event e;
        e.type = own_type_ ? type_.view() : type_view_;
        e.data = own_data_ ? data_.view() : data_view_;
        e.id = last_id_.view();
        e.retry = retry_;
        if constexpr (std::same_as<decltype(sink.on_event(e)), bool>) {
          go_on = sink.on_event(e);
        } else {
          sink.on_event(e);
        }
        drop_event();
        break;
      }
      case step::comment:
        if constexpr (requires { sink.on_comment(comment_view_); }) {
          if (needs_repair(comment_view_)) {
            if (!detail::append_repaired(comment_, comment_view_)) {
              fail(parse_error::no_memory);
              return result(p);
            }
            comment_view_ = comment_.view();
          }
          sink.on_comment(comment_view_);
          comment_.clear();
        }
        break;
      case step::retry:
        if constexpr (requires { sink.on_retry(retry_); }) sink.on_retry(retry_);
        break;
      case step::failed: return result(p);
    }
    if (held) {
      if (!keep()) return result(p);
      line_.clear();
    }
    if (!go_on) return result(p);
  }
  return keep() ? result(end) : result(p);
}

inline bool parser::finish() noexcept {
  const bool cut = data_lines_ != 0 || !line_.empty();
  drop_stream();
  return cut;
}

inline void parser::reset() noexcept {
  drop_stream();
  error_ = parse_error::none;
}

inline bool parser::set_last_event_id(std::string_view id) noexcept {
  if (id.size() > options_.limits.id || !detail::is_field_text(id)) return false;
  detail::bytes copy;
  if (!copy.append(id)) return false;
  last_id_.swap(copy);
  return true;
}

inline parser::step parser::fail(parse_error e) noexcept {
  drop_stream();
  line_.release();
  data_.release();
  error_ = e;
  return step::failed;
}

inline void parser::drop_event() noexcept {
  data_.clear();
  type_.clear();
  data_view_ = type_view_ = {};
  data_lines_ = 0;
  retry_ = no_retry;
  own_data_ = own_type_ = false;
}

inline void parser::drop_stream() noexcept {
  drop_event();
  line_.clear();
  next_id_.clear();
  comment_.clear();
  has_next_id_ = after_cr_ = false;
  bom_ = 0;
}

inline const char* parser::skip_bom(const char* p, const char* end) noexcept {
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  if (bom_ == 3) return p;
  while (p != end && bom_ < 3 && *p == mark[bom_]) {
    ++p;
    ++bom_;
  }
  if (p != end && bom_ < 3) {  // it was none: what looked like it starts the first line
    const std::string_view part = mark.substr(0, bom_);
    bom_ = 3;
    (void)hold(part);
  }
  return p;
}

// Keeps the start of a line until its end comes.
inline bool parser::hold(std::string_view part) noexcept {
  const bool fits = part.size() <= options_.limits.line - line_.size();
  if (fits && line_.append(part)) return true;
  fail(fits ? parse_error::no_memory : parse_error::line_too_long);
  return false;
}

// Copies what still lies in the input, which is about to go away.
inline bool parser::keep() noexcept {
  if (error_ != parse_error::none) return false;
  const bool keep_data = data_lines_ != 0 && !own_data_;
  const bool keep_type = !type_view_.empty() && !own_type_;
  if ((keep_data && !data_.assign(data_view_)) || (keep_type && !type_.assign(type_view_))) {
    fail(parse_error::no_memory);
    return false;
  }
  own_data_ = own_data_ || keep_data;
  own_type_ = own_type_ || keep_type;
  return true;
}

inline parser::step parser::take_line(std::string_view line) noexcept {
  if (line.empty()) return end_event();
  const auto value_after = [line](std::size_t name) {
    if (line.size() == name) return std::string_view{};
    return line.substr(line.size() > name + 1 && line[name + 1] == ' ' ? name + 2 : name + 1);
  };
  const auto is = [line](std::string_view name) {
    return line.starts_with(name) && (line.size() == name.size() || line[name.size()] == ':');
  };
  switch (line[0]) {
    case ':': comment_view_ = value_after(0); return step::comment;
    case 'd': return is("data") ? take_data(value_after(4)) : step::next;
    case 'e': return is("event") ? take_type(value_after(5)) : step::next;
    case 'i': return is("id") ? take_id(value_after(2)) : step::next;
    case 'r': return is("retry") ? take_retry(value_after(5)) : step::next;
    default: return step::next;
  }
}

inline parser::step parser::take_data(std::string_view value) noexcept {
  if (data_lines_ == options_.limits.data_lines) return fail(parse_error::too_many_lines);
  const std::size_t limit = options_.limits.event;
  if (data_lines_ == 0) {
    ++data_lines_;
    if (value.size() > limit) return fail(parse_error::event_too_large);
    if (!needs_repair(value)) {
      data_view_ = value;
      return step::next;
    }
    own_data_ = true;
  } else {
    ++data_lines_;
    if (!keep()) return step::failed;
    if (data_.size() >= limit || value.size() > limit - data_.size() - 1) {
      return fail(parse_error::event_too_large);
    }
    if (!data_.append("\n")) return fail(parse_error::no_memory);
  }
  const bool done =
      needs_repair(value) ? detail::append_repaired(data_, value) : data_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return data_.size() > limit ? fail(parse_error::event_too_large) : step::next;
}

inline parser::step parser::take_type(std::string_view value) noexcept {
  if (value.size() > options_.limits.type) return fail(parse_error::type_too_long);
  type_.clear();
  type_view_ = value;
  own_type_ = needs_repair(value);
  if (!own_type_) return step::next;
  if (!detail::append_repaired(type_, value)) return fail(parse_error::no_memory);
  return type_.size() > options_.limits.type ? fail(parse_error::type_too_long) : step::next;
}

inline parser::step parser::take_id(std::string_view value) noexcept {
  if (value.find('\0') != value.npos) return step::next;
  if (value.size() > options_.limits.id) return fail(parse_error::id_too_long);
  next_id_.clear();
  has_next_id_ = true;
  const bool done =
      needs_repair(value) ? detail::append_repaired(next_id_, value) : next_id_.append(value);
  if (!done) return fail(parse_error::no_memory);
  return next_id_.size() > options_.limits.id ? fail(parse_error::id_too_long) : step::next;
}

inline parser::step parser::take_retry(std::string_view value) noexcept {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (value.empty()) return step::next;
  std::int64_t ms = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return step::next;
    const std::int64_t digit = c - '0';
    ms = ms > (most - digit) / 10 ? most : ms * 10 + digit;
  }
  retry_ = ms;
  return step::retry;
}

// The blank line: the id counts even if no event is fired.
inline parser::step parser::end_event() noexcept {
  if (has_next_id_) {
    last_id_.swap(next_id_);
    next_id_.clear();
    has_next_id_ = false;
  }
  if (data_lines_ != 0) return step::event;
  drop_event();
  return step::next;
}

}  // namespace sse::inline v0
