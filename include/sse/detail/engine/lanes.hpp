// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// lanes: the control lane of each session: frames for it alone that wait between the events of its
// channels. A lane is the number of its first item; none: empty.
#pragma once
#ifndef SSEHUB_DETAIL_ENGINE_LANES_HPP
#define SSEHUB_DETAIL_ENGINE_LANES_HPP

#include <cstdint>
#include <cstring>
#include <string_view>

#include <sse/detail/base/blob.hpp>
#include <sse/detail/base/containers.hpp>
#include <sse/encode.hpp>
#include <sse/event.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

enum class lane_kind : std::uint8_t {
  control,
  head,   ///< the response head: outside the body, never framed as a chunk
  event,  ///< an application event
  value,  ///< the newest value of a key; one that is not begun may be taken back
  pass,   ///< says that the values in front of it were all; goes with them
};

/// One waiting frame.
struct lane_item {
  blob* bytes = nullptr;
  std::uint64_t waiting = 0;  ///< of the first: bytes of all
  std::uint32_t sent = 0;
  std::uint32_t next = none;
  std::uint32_t last = none;  ///< of the first: the last
  std::uint32_t from = none;  ///< the subscription whose events these are; none: of no channel
  std::uint32_t key = none;   ///< lane_kind::value: its slot among the values
  lane_kind kind = lane_kind::control;
  // lane_kind::value
  bool counts = false;   ///< it came while its reader was there
  bool lost = false;     ///< it was too old: this is a gap frame
  std::uint32_t at = 0;  ///< hub time of its publish, in ms, modulo 2^32
  [[nodiscard]] std::uint32_t& free_link() noexcept { return next; }

  [[nodiscard]] const char* data() const noexcept { return bytes->bytes() + sent; }
  [[nodiscard]] std::uint32_t left() const noexcept { return bytes->size - sent; }
  /// Nothing is left but the rest of an event that is half sent.
  void cut() noexcept {
    from = none;
    std::uint32_t end = sent;
    if (sent != 0) {  // each ends with a blank line, and has no other
      const std::string_view all{bytes->bytes(), bytes->size};
      end = static_cast<std::uint32_t>(all.find("\n\n", sent < 2 ? 0 : sent - 2) + 2);
    }
    SSEHUB_ASSERT(end >= sent && end <= bytes->size);
    if (end == sent) {
      sent = bytes->size;
    } else if (bytes->refs == 1) {  // several events are a copy of this lane's own
      bytes->size = end;
    }
  }
};

class lanes {
 public:
  /// Takes a reference of its own. False: memory is out.
  [[nodiscard]] bool push(std::uint32_t& lane, blob* b, lane_kind kind,
                          std::uint32_t from = none) noexcept {
    const std::uint32_t i = items_.take();
    if (i == none) return false;
    ++b->refs;
    items_[i] = {.bytes = b, .from = from, .kind = kind};
    append(lane, i);
    return true;
  }
  /// A value, or what says that it is lost. `as`: all but what push() sets.
  [[nodiscard]] bool push_value(std::uint32_t& lane, blob* b, const lane_item& as) noexcept {
    if (!push(lane, b, lane_kind::value, as.from)) return false;
    lane_item& item = items_[items_[lane].last];
    item.key = as.key;
    item.counts = as.counts;
    item.lost = as.lost;
    item.at = as.at;
    return true;
  }
  [[nodiscard]] bool push(std::uint32_t& lane, std::string_view bytes, lane_kind kind) noexcept {
    if (bytes.empty()) return true;
    return push_made(lane, static_cast<std::uint32_t>(bytes.size()), kind,
                     [&](char* out) { std::memcpy(out, bytes.data(), bytes.size()); });
  }
  /// REQUIRES: validate(e) passed.
  [[nodiscard]] bool push(std::uint32_t& lane, const event& e, lane_kind kind) noexcept {
    return push_made(lane, static_cast<std::uint32_t>(encoded_size(e)), kind,
                     [&](char* out) { encode_to(out, e); });
  }
  /// `retry:` in milliseconds.
  [[nodiscard]] bool push_retry(std::uint32_t& lane, std::int64_t ms) noexcept {
    return push_made(lane, static_cast<std::uint32_t>(encoded_retry_size(ms)), lane_kind::control,
                     [&](char* out) { encode_retry_to(out, ms); });
  }
  /// `id:` alone.
  [[nodiscard]] bool push_position(std::uint32_t& lane, event_id id, event_id values,
                                   lane_kind kind = lane_kind::control,
                                   std::uint32_t from = none) noexcept {
    return push_made(
        lane, static_cast<std::uint32_t>(encoded_position_size(id, values)), kind,
        [&](char* out) { encode_position_to(out, id, values); }, from);
  }
  /// `size` bytes that say nothing: a comment, or one or two blank lines (WHATWG HTML 9.2.5).
  /// REQUIRES: size > 0.
  [[nodiscard]] bool push_padding(std::uint32_t& lane, std::uint32_t size) noexcept {
    SSEHUB_ASSERT(size != 0);
    return push_made(lane, size, lane_kind::control, [&](char* out) {
      std::memset(out, ' ', size);
      out[0] = ':';
      out[size - 1] = '\n';
      out[size > 1 ? size - 2 : 0] = '\n';
    });
  }
  /// `size` bytes that `write(char*)` makes.
  template <class Write>
  [[nodiscard]] bool push_made(std::uint32_t& lane, std::uint32_t size, lane_kind kind, Write write,
                               std::uint32_t from = none) noexcept {
    blob* const b = make_blob(size);
    if (b == nullptr) return false;
    write(b->bytes());
    const bool ok = push(lane, b, kind, from);
    unref(b);
    return ok;
  }
  void pop(std::uint32_t& lane) noexcept {
    const std::uint32_t i = lane;
    const lane_item& item = items_[i];
    if (item.next != none) {
      items_[item.next].waiting = item.waiting - item.bytes->size;
      items_[item.next].last = item.last;
    }
    lane = item.next;
    unref(item.bytes);
    items_.give_back(i);
  }
  /// Takes out what is of subscription `from`, but for the rest of an event that is half sent.
  void drop(std::uint32_t& lane, std::uint32_t from) noexcept {
    keep(lane, [from](lane_item& item) {
      if (item.from == from) item.cut();
      return item.left() != 0;
    });
  }
  /// Takes out the values of which nothing is sent, and what says that these were all. `taken` is
  /// called with each.
  template <class Taken>
  void take_back(std::uint32_t& lane, Taken taken) noexcept {
    bool any = false;
    keep(lane, [&](lane_item& item) {
      any = any || (item.kind == lane_kind::value && item.sent == 0);
      if (!any || item.sent != 0 || item.kind < lane_kind::value) return true;
      taken(item);
      return false;
    });
  }
  /// Bytes that wait.
  [[nodiscard]] std::uint64_t waiting(std::uint32_t lane) const noexcept {
    return lane == none ? 0 : items_[lane].waiting - items_[lane].sent;
  }
  [[nodiscard]] lane_item& operator[](std::uint32_t i) noexcept { return items_[i]; }

 private:
  /// Takes out those items for which `stays` is false.
  template <class Stays>
  void keep(std::uint32_t& lane, Stays stays) noexcept {
    std::uint32_t i = lane;
    lane = none;
    while (i != none) {
      lane_item& item = items_[i];
      const std::uint32_t next = item.next;
      if (stays(item)) {
        append(lane, i);
      } else {
        unref(item.bytes);
        items_.give_back(i);
      }
      i = next;
    }
  }
  void append(std::uint32_t& lane, std::uint32_t i) noexcept {
    items_[i].next = none;
    items_[i].waiting = 0;
    (lane == none ? lane : items_[items_[lane].last].next) = i;
    items_[lane].last = i;
    items_[lane].waiting += items_[i].bytes->size;
  }

  slot_pool<lane_item> items_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_ENGINE_LANES_HPP
