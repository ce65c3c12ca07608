// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Events on their way to the stream: accepted, sent, sent again until an acknowledgement came, and
// given up in the end. Stored once each, by their message ids.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP
#define SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/size.hpp>
#include <sse/detail/jetstream/messages.hpp>
#include <sse/detail/jetstream/stream.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class order_outbox {
 public:
  /// `name`: of this run of the process, in message ids.
  order_outbox(const jetstream_options& o, const jetstream_link& link,
               const order_messages& messages, const order_place& place, std::string name)
      : options_{&o}, link_{&link}, messages_{&messages}, place_{&place}, name_{std::move(name)} {}

  /// False: it may not subscribe to its inbox.
  [[nodiscard]] bool open() {
    max_payload_ =
        to_size(static_cast<std::uint64_t>(natsConnection_GetMaxPayload(link_->connection())));
    inbox_ = link_->new_inbox();
    receipts_ = link_->subscribe(inbox_ + ".*");
    return receipts_ != nullptr;
  }
  /// See jetstream::publish().
  [[nodiscard]] publish_result publish(std::size_t channel, const event& e,
                                       const publish_options& o,
                                       function<void(const jetstream_receipt&)> done) {
    const auto fail = [](publish_error why) { return publish_result{no_id, why}; };
    if (channel >= options_->channels.size()) return fail(publish_error::no_channel);
    if (o.transient || e.retry != no_retry) return fail(publish_error::bad_type);
    id_text text;
    const numbered_event n =
        give_id(max_event_id, text, e, o, options_->limits, messages_->most_bytes(o));
    if (n.error != publish_error::none) return fail(n.error);
    if (!order_messages::is_header(o.audience) || !order_messages::is_header(o.key))
      return fail(publish_error::bad_type);
    const std::size_t headers = e.type.size() + o.audience.size() + o.key.size() + 512;
    const std::size_t size = e.data.size() + headers;
    if (size > max_payload_ || headers > order_messages::max_headers)
      return fail(publish_error::too_large);
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (closed_) return fail(publish_error::closed);
    if (waiting_bytes_ + size > options_->queue_bytes) return fail(publish_error::full);
    letter l{.number = next_, .size = size, .done = std::move(done)};
    if (!make(l, channel, e, o)) return fail(publish_error::no_memory);
    ++next_;
    ++published_;
    waiting_bytes_ += size;
    const clock::time_point now = clock::now();
    l.accepted_at = now;
    letters_.push_back(std::move(l));
    if (sender_sleeps_) to_send_.notify_one();
    return {};
  }
  /// Sends, in a thread of its own, until it is stopped.
  void send_all() {
    std::unique_lock<std::mutex> lock{mutex_};
    std::uint64_t next = 0;  // the number of the first that was never sent
    clock::time_point looked{};
    while (!stopping_) {
      bury();
      const clock::time_point now = clock::now();
      if (now - looked >= std::chrono::milliseconds{100}) {
        looked = now;
        lock.unlock();
        const bool connected = link_->connected();
        lock.lock();
        connected_ = connected;
        if (connected) send_again(lock, now, next);
        give_up(lock, now);
      }
      const std::uint64_t first = letters_.empty() ? next_ : letters_.front().number;
      if (next < first) next = first;
      if (connected_ && next != next_ && next - first < options_->max_in_flight) {
        letter& l = letters_[to_size(next++ - first)];
        if (!l.over) send(lock, l, now);
        continue;
      }
      sender_sleeps_ = true;
      to_send_.wait_for(lock, std::chrono::milliseconds{100});
      sender_sleeps_ = false;
    }
  }
  /// Takes acknowledgements, in a thread of its own, until it is stopped.
  void take_receipts() {
    hear(receipts_.get(), stopping_, [this](natsMsg* m) {
      const std::string_view subject = text_of(natsMsg_GetSubject(m));
      std::uint64_t number = 0;
      if (read_decimal(subject.substr(subject.rfind('.') + 1), UINT64_MAX, number) ==
          decimal::number)
        take_receipt(number, data_of(m), header_of(m, "Status"));
    });
  }
  /// It came from the stream: if it was sent from here it is stored, whether or not the
  /// acknowledgement comes.
  void take_own(std::string_view message_id, std::uint64_t sequence) {
    std::uint64_t number = 0;
    if (message_id.size() <= name_.size() || !message_id.starts_with(name_) ||
        message_id[name_.size()] != '.' ||
        read_decimal(message_id.substr(name_.size() + 1), UINT64_MAX, number) != decimal::number)
      return;
    std::unique_lock<std::mutex> lock{mutex_};
    letter* const l = find(number);
    if (l != nullptr) stored(lock, *l, sequence);
  }
  /// publish() answers `closed` from now on. Waits for what was accepted if `wait`, at most
  /// jetstream_options::stop_wait; then both threads end.
  void stop(bool wait) {
    {
      std::unique_lock<std::mutex> lock{mutex_};
      closed_ = true;
      if (wait)
        all_stored_.wait_for(lock, std::chrono::milliseconds{options_->stop_wait.ms()},
                             [this] { return letters_.empty(); });
      stopping_ = true;
    }
    to_send_.notify_all();
  }
  /// What is left was not stored. REQUIRES: the threads ended.
  void fail_all(std::string_view why) {
    std::unique_lock<std::mutex> lock{mutex_};
    for (std::size_t i = 0; i < letters_.size(); ++i) {
      if (!letters_[i].over) finish(lock, letters_[i], {false, no_id, why});
    }
    bury();
    connected_ = false;
    receipts_.reset();
  }
  void tell(jetstream_stats& s) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    s.published = published_;
    s.stored = stored_;
    s.resent = resent_;
    s.failed = failed_;
    s.waiting = letters_.size() - acknowledged_;
    s.waiting_bytes = waiting_bytes_;
    s.connected = connected_;
  }
  /// Why it cannot store now; empty: it can.
  [[nodiscard]] std::string problem() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return problem_;
  }

 private:
  using clock = std::chrono::steady_clock;

  /// An event that waits for its acknowledgement.
  struct letter {
    std::uint64_t number = 0;
    std::size_t size = 0;
    nats_message message{};
    clock::time_point accepted_at{};
    clock::time_point sent_at{};  // or long ago: send it again
    clock::time_point left_at{};
    bool over = false;
    function<void(const jetstream_receipt&)> done{};
  };
  /// REQUIRES: the lock.
  [[nodiscard]] bool make(letter& l, std::size_t channel, const event& e,
                          const publish_options& o) {
    const std::string subject = messages_->subject_of(channel);
    const std::string reply = inbox_ + '.' + std::to_string(l.number);
    const std::string id = name_ + '.' + std::to_string(l.number);
    natsStatus s = nats_make(l.message, natsMsg_Create, subject.c_str(), reply.c_str(),
                             e.data.data(), static_cast<int>(e.data.size()));
    const auto add = [&](const char* name, std::string_view value) {
      if (s == NATS_OK && !value.empty())
        s = natsMsgHeader_Set(l.message.get(), name, std::string{value}.c_str());
    };
    add(order_messages::number, id);
    add("Nats-Expected-Stream", link_->stream());
    add(order_messages::type, e.type);
    add(order_messages::key, o.key);
    add(order_messages::audience, o.audience);
    add(order_messages::role, order_messages::name_of(o.role));
    return s == NATS_OK;
  }
  /// Without the lock: letters stay where they are until they are over, and this thread alone takes
  /// them away.
  void send(std::unique_lock<std::mutex>& lock, letter& l, clock::time_point now) {
    l.sent_at = l.left_at = now;
    lock.unlock();
    const natsStatus s = natsConnection_PublishMsg(link_->connection(), l.message.get());
    lock.lock();
    if (s != NATS_OK) l.sent_at = now - std::chrono::milliseconds{options_->ack_wait.ms()};
  }
  void send_again(std::unique_lock<std::mutex>& lock, clock::time_point now, std::uint64_t next) {
    const auto wait = std::chrono::milliseconds{options_->ack_wait.ms()};
    const clock::time_point caught_up = place_->caught_up_at();
    for (std::size_t i = 0; i < letters_.size() && letters_[i].number < next; ++i) {
      letter& l = letters_[i];
      if (l.over || now - l.sent_at < wait) continue;
      // Not before the stream shows that it is not there: nats-server 2.9 was seen to lose count
      // of what it stored twice and did not, when a leader is lost next.
      if (caught_up < l.left_at + wait / 2) continue;
      ++resent_;
      send(lock, l, now);
    }
  }
  void give_up(std::unique_lock<std::mutex>& lock, clock::time_point now) {
    const auto most = std::chrono::milliseconds{options_->give_up.ms()};
    for (std::size_t i = 0; i < letters_.size(); ++i) {
      if (now - letters_[i].accepted_at < most) break;
      if (!letters_[i].over)
        finish(lock, letters_[i],
               {false, no_id, "no acknowledgement in time: it may be stored or not"});
    }
  }
  /// REQUIRES: the lock. Called without it: the program's.
  void finish(std::unique_lock<std::mutex>& lock, letter& l, const jetstream_receipt& r) {
    l.over = true;
    ++acknowledged_;
    ++(r.stored ? stored_ : failed_);
    waiting_bytes_ -= l.size;
    if (!l.done) return;
    const function<void(const jetstream_receipt&)> done = std::move(l.done);
    lock.unlock();
    done(r);
    lock.lock();
  }
  /// REQUIRES: the lock, and the sending thread.
  void bury() {
    while (!letters_.empty() && letters_.front().over) {
      letters_.pop_front();
      --acknowledged_;
    }
    if (letters_.empty()) all_stored_.notify_all();
  }
  /// That waits for an acknowledgement. REQUIRES: the lock.
  [[nodiscard]] letter* find(std::uint64_t number) noexcept {
    if (letters_.empty() || number < letters_.front().number) return nullptr;
    const std::uint64_t i = number - letters_.front().number;
    if (i >= letters_.size() || letters_[to_size(i)].over) return nullptr;
    return &letters_[to_size(i)];
  }
  /// REQUIRES: the lock.
  void stored(std::unique_lock<std::mutex>& lock, letter& l, std::uint64_t sequence) {
    problem_.clear();
    const bool first = &l == &letters_.front();
    finish(lock, l, {true, place_->base() + sequence, {}});
    if (sender_sleeps_ && first) to_send_.notify_one();
  }
  void take_receipt(std::uint64_t number, std::string_view answer, std::string_view status) {
    std::unique_lock<std::mutex> lock{mutex_};
    letter* const l = find(number);
    if (l == nullptr) return;
    const bool bad = answer.find("\"error\"") != answer.npos;
    const std::uint64_t sequence = number_in(answer, "\"seq\"");
    if (!bad && sequence != 0) {
      stored(lock, *l, sequence);
    } else if (bad && !is_passing(number_in(answer, "\"err_code\""))) {
      const std::string why =
          "the stream did not store an event: " + std::string{text_in(answer, "\"description\"")} +
          "; look at its limits, and the servers' disks";
      problem_ = why;
      finish(lock, *l, {false, no_id, why});
    } else if (bad || status == "503") {  // no leader just now: it is sent again
      problem_ = "no server stores events now; they wait and are sent again";
      return;
    }
  }
  /// An error that goes away by itself.
  [[nodiscard]] static bool is_passing(std::uint64_t code) noexcept {
    return code == JSClusterNotAvailErr || code == JSClusterNotLeaderErr ||
           code == JSClusterIncompleteErr || code == JSStreamNotFoundErr;
  }

  const jetstream_options* options_;
  const jetstream_link* link_;
  const order_messages* messages_;
  const order_place* place_;
  std::string name_;
  std::size_t max_payload_ = 0;
  std::string inbox_;
  nats_subscription receipts_;
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable to_send_;
  std::condition_variable all_stored_;
  std::deque<letter> letters_;
  std::uint64_t next_ = 0;        // the number of the next letter
  std::size_t acknowledged_ = 0;  // letters that are over
  bool sender_sleeps_ = false;
  bool connected_ = false;
  bool closed_ = false;
  std::uint64_t published_ = 0;
  std::uint64_t stored_ = 0;
  std::uint64_t resent_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t waiting_bytes_ = 0;
  std::string problem_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_OUTBOX_HPP
