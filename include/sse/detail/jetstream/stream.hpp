// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// A connection to the cluster and what an order asks of it: the stream and its settings, the record
// of its epoch, a consumer, a run of old messages. Each call waits for an answer, so that none
// belongs into a hub's thread.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_STREAM_HPP
#define SSEHUB_DETAIL_JETSTREAM_STREAM_HPP

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sse/detail/jetstream/epoch.hpp>
#include <sse/detail/jetstream/nats.hpp>
#include <sse/jetstream_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class jetstream_link {
 public:
  static constexpr std::int64_t second_ns = 1'000'000'000;
  static constexpr std::int64_t duplicate_window_ns = 300 * second_ns;

  explicit jetstream_link(const jetstream_options& o)
      : options_{&o},
        stream_{o.stream.empty() ? o.prefix + '_' + o.hub : o.stream},
        subjects_{o.prefix + '.' + o.hub + '.'} {}

  [[nodiscard]] const std::string& stream() const noexcept { return stream_; }
  /// What is in front of a channel's name.
  [[nodiscard]] const std::string& subjects() const noexcept { return subjects_; }
  [[nodiscard]] natsConnection* connection() const noexcept { return connection_.get(); }
  [[nodiscard]] bool connected() const noexcept {
    return natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
  }
  [[nodiscard]] std::string new_inbox() const {
    nats_inbox inbox;
    return nats_make(inbox, natsInbox_Create) == NATS_OK ? std::string{inbox.get()} : std::string{};
  }
  /// Without limits: what waits is bounded by the server's flow control.
  [[nodiscard]] nats_subscription subscribe(const std::string& subject) const {
    nats_subscription s;
    if (nats_make(s, natsConnection_SubscribeSync, connection_.get(), subject.c_str()) != NATS_OK ||
        natsSubscription_SetPendingLimits(s.get(), -1, -1) != NATS_OK)
      return {};
    return s;
  }

  /// Instead of destroying it, while there is a connection: cnats's thread that reads may have
  /// found it for a message already, without holding it. Once the server answered what was asked
  /// after that, it has not.
  void retire(nats_subscription s) const {
    if (s == nullptr) return;
    (void)natsSubscription_Unsubscribe(s.get());
    const std::scoped_lock<std::mutex> lock{retired_mutex_};
    retired_.push_back(std::move(s));
    if (retired_.size() >= 8 &&
        natsConnection_FlushTimeout(connection_.get(), answer_wait()) == NATS_OK)
      retired_.clear();
  }

  // --- start -------------------------------------------------------------------------------------

  [[nodiscard]] jetstream_error open() {
    if (const char* bad = bad_options()) return {jetstream_errc::options, bad};
    if (jetstream_error e = connect()) return e;
    jsOptions o;
    jsOptions_Init(&o);
    o.Wait = answer_wait();
    if (nats_make(js_, natsConnection_JetStream, connection_.get(), &o) != NATS_OK)
      return {jetstream_errc::refused, where() + "no JetStream context: " + last_error()};
    if (jetstream_error e = patiently([this](jsErrCode& c) { return open_stream(c); })) return e;
    return patiently([this](jsErrCode&) { return open_bucket(); });
  }
  /// Nothing comes any more: subscriptions may be destroyed.
  void hang_up() noexcept {
    if (connection_ != nullptr) natsConnection_Close(connection_.get());
    retired_.clear();
  }
  void close() noexcept {
    hang_up();
    bucket_.reset();
    js_.reset();
    connection_.reset();
  }

  // --- the stream --------------------------------------------------------------------------------

  /// nullopt: it does not answer, or is not there, `why` says it.
  [[nodiscard]] std::optional<stream_sight> look(std::string& why) const {
    return look(stream_, why);
  }
  [[nodiscard]] std::optional<stream_sight> look(const std::string& stream,
                                                 std::string& why) const {
    nats_stream_info info;
    jsErrCode code{};
    const natsStatus s = nats_make(info, js_GetStreamInfo, js_.get(), stream.c_str(),
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s != NATS_OK) {
      why = sentence(s, code).text;
      return std::nullopt;
    }
    return sight(*info);
  }
  /// When message `sequence` was stored; 0: it is not there. nullopt: no answer.
  [[nodiscard]] std::optional<std::uint64_t> stored_at(std::uint64_t sequence) const {
    nats_message m;
    jsErrCode code{};
    const natsStatus s = nats_make(m, js_GetMsg, js_.get(), stream_.c_str(), sequence,
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_OK) return static_cast<std::uint64_t>(natsMsg_GetTime(m.get()));
    if (code == JSNoMessageFoundErr || code == JSSequenceNotFoundErr || s == NATS_NOT_FOUND)
      return 0;
    return std::nullopt;
  }

  /// A consumer of its own that sends all from `sequence` on to `inbox`; empty: `why` not.
  [[nodiscard]] std::string follow(std::uint64_t sequence, const std::string& inbox,
                                   std::string& why) const {
    jsConsumerConfig c;
    jsConsumerConfig_Init(&c);
    c.DeliverSubject = inbox.c_str();
    c.DeliverPolicy = js_DeliverByStartSequence;
    c.OptStartSeq = sequence;
    c.AckPolicy = js_AckNone;
    c.MaxDeliver = 1;
    c.FlowControl = true;
    c.Heartbeat = second_ns;
    c.InactiveThreshold = 10 * second_ns;
    c.MemoryStorage = true;
    c.Replicas = 1;
    nats_consumer_info info;
    jsErrCode code{};
    const natsStatus s = nats_make(info, js_AddConsumer, js_.get(), stream_.c_str(), &c,
                                   static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_OK) return info->Name;
    why = sentence(s, code).text;
    return {};
  }
  void unfollow(const std::string& consumer) const { unfollow(stream_, consumer); }
  void unfollow(const std::string& stream, const std::string& consumer) const {
    if (connected())
      (void)natsConnection_PublishString(
          connection_.get(), ("$JS.API.CONSUMER.DELETE." + stream + '.' + consumer).c_str(), "");
  }

  /// f(natsMsg*, const delivery&) for each message from `first` to `last` that is there. False: it
  /// broke off.
  template <class F>
  [[nodiscard]] bool read(std::uint64_t first, std::uint64_t last, F f) const {
    return read(stream_, first, last, std::move(f));
  }
  template <class F>
  [[nodiscard]] bool read(const std::string& stream, std::uint64_t first, std::uint64_t last,
                          F f) const {
    jsConsumerConfig c;
    jsConsumerConfig_Init(&c);
    c.DeliverPolicy = js_DeliverByStartSequence;
    c.OptStartSeq = first;
    c.AckPolicy = js_AckNone;
    c.InactiveThreshold = 10 * second_ns;
    c.MemoryStorage = true;
    c.Replicas = 1;
    nats_consumer_info info;
    if (nats_make(info, js_AddConsumer, js_.get(), stream.c_str(), &c,
                  static_cast<jsOptions*>(nullptr), static_cast<jsErrCode*>(nullptr)) != NATS_OK)
      return false;
    const std::string inbox = new_inbox();
    nats_subscription in = subscribe(inbox);
    const bool ok =
        in != nullptr && read_from(stream + '.' + info->Name, inbox, in.get(), first, last, f);
    unfollow(stream, info->Name);
    retire(std::move(in));
    return ok;
  }

  // --- the record of the epoch -------------------------------------------------------------------

  /// False: no answer, `why` says it. nullopt: there is no record.
  [[nodiscard]] bool record(std::optional<stream_epoch>& out, std::string& why) {
    out.reset();
    if (bucket_ == nullptr) {
      if (const jetstream_error e = open_bucket()) {
        why = e.text;
        return false;
      }
    }
    nats_entry e;
    const natsStatus s = nats_make(e, kvStore_Get, bucket_.get(), "epoch");
    if (s == NATS_OK) {
      out = read_epoch(text_of(kvEntry_ValueString(e.get())), kvEntry_Revision(e.get()));
      if (out) return true;
      why = where() + "the record in bucket " + bucket_name() +
            " cannot be read: delete its key `epoch` while no process follows the stream";
      return false;
    }
    if (s == NATS_NOT_FOUND) return true;
    bucket_.reset();  // it may be gone
    why = sentence(s, jsErrCode{}).text;
    return false;
  }
  /// False: somebody else was first, or there was no answer.
  [[nodiscard]] bool write_record(const stream_epoch& e) {
    if (bucket_ == nullptr) return false;
    std::uint64_t revision = 0;
    const std::string text = epoch_text(e);
    return e.revision == 0
               ? kvStore_CreateString(&revision, bucket_.get(), "epoch", text.c_str()) == NATS_OK
               : kvStore_UpdateString(&revision, bucket_.get(), "epoch", text.c_str(),
                                      e.revision) == NATS_OK;
  }
  /// A message comes here when the record changes.
  [[nodiscard]] std::string record_subject() const { return "$KV." + bucket_name() + ".epoch"; }

  /// The key-value bucket of that name, which is made if it is not there. `ttl_ns`: of its keys; 0:
  /// they stay.
  [[nodiscard]] jetstream_error open_bucket(nats_bucket& out, const std::string& name,
                                            std::int64_t ttl_ns) const {
    natsStatus s = nats_make(out, js_KeyValue, js_.get(), name.c_str());
    if (s == NATS_OK) return {};
    kvConfig c;
    kvConfig_Init(&c);
    c.Bucket = name.c_str();
    c.History = 1;
    c.TTL = ttl_ns;
    c.StorageType = js_FileStorage;
    c.Replicas = static_cast<int>(options_->replicas);
    s = nats_make(out, js_CreateKeyValue, js_.get(), &c);
    if (s == NATS_OK) return {};
    if (nats_make(out, js_KeyValue, js_.get(), name.c_str()) == NATS_OK) return {};
    return sentence(s, jsErrCode{});
  }
  /// How long a bucket keeps its keys, in ns; 0: for ever. nullopt: no answer.
  [[nodiscard]] std::optional<std::int64_t> bucket_ttl(const std::string& name) const {
    nats_stream_info info;
    const std::string stream = "KV_" + name;
    if (nats_make(info, js_GetStreamInfo, js_.get(), stream.c_str(),
                  static_cast<jsOptions*>(nullptr), static_cast<jsErrCode*>(nullptr)) != NATS_OK)
      return std::nullopt;
    return info->Config->MaxAge;
  }

  /// Servers that were just started elect their leaders first.
  template <class F>
  [[nodiscard]] jetstream_error patiently(F f) const {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::milliseconds{options_->connect_wait.ms()};
    for (;; std::this_thread::sleep_for(std::chrono::milliseconds{100})) {
      jsErrCode code{};
      jetstream_error e = f(code);
      const bool passes = e.what == jetstream_errc::unreachable || code == JSClusterNotAvailErr ||
                          code == JSClusterNotLeaderErr || code == JSClusterNoPeersErr ||
                          code == JSClusterIncompleteErr;
      if (!e || !passes || std::chrono::steady_clock::now() >= end) return e;
    }
  }

  /// A sentence or two of a call that failed.
  [[nodiscard]] jetstream_error sentence(natsStatus s, jsErrCode code) const {
    using e = jetstream_errc;
    const std::string at = where() + "stream " + stream_ + ": ";
    const std::string said = std::string{natsStatus_GetText(s)} + last_error();
    switch (static_cast<int>(code)) {
      case JSNotEnabledErr:
      case JSNotEnabledForAccountErr:
        return {e::no_jetstream, at +
                                     "JetStream is off there: start the server with -js, and let "
                                     "this account use it (" +
                                     said + ")"};
      case JSInsufficientResourcesErr:
      case JSAccountResourcesExceededErr:
      case JSStorageResourcesExceededErr:
      case JSMaximumStreamsLimitErr:
      case JSClusterNoPeersErr:
      case JSStreamReplicasNotSupportedErr:
        return {e::full, at +
                             "no room for it, or fewer servers than replicas: give JetStream more "
                             "storage, or ask for fewer replicas or bytes (" +
                             said + ")"};
      default: break;
    }
    if (s == NATS_NO_RESPONDERS || s == NATS_NO_SERVER_SUPPORT)
      return {e::no_jetstream,
              at + "nobody answers for JetStream: start the servers with -js (" + said + ")"};
    if (s == NATS_TIMEOUT || s == NATS_NO_SERVER || s == NATS_CONNECTION_CLOSED ||
        s == NATS_CONNECTION_DISCONNECTED || s == NATS_IO_ERROR)
      return {e::unreachable, at +
                                  "no answer in time: look whether a majority of the servers runs "
                                  "and its network works (" +
                                  said + ")"};
    if (s == NATS_CONNECTION_AUTH_FAILED || s == NATS_NOT_PERMITTED)
      return {e::denied, at + "not allowed: look at the user's permissions (" + said + ")"};
    return {e::refused, at + said};
  }

 private:
  /// For one server, in ms: one that stands still must not keep us from the others.
  [[nodiscard]] std::int64_t answer_wait() const noexcept {
    return (std::min)(options_->connect_wait.ms(), std::int64_t{2000});
  }
  [[nodiscard]] std::string where() const {
    std::string s = "NATS at ";
    for (std::size_t i = 0; i < options_->servers.size(); ++i) {
      const std::string& url = options_->servers[i];
      const std::size_t scheme = url.find("://");
      const std::size_t user = url.rfind('@');  // a password is nobody's business
      s.append(i == 0 ? "" : ",");
      s.append(user == url.npos
                   ? url
                   : url.substr(0, scheme == url.npos ? 0 : scheme + 3) + url.substr(user + 1));
    }
    return s + ": ";
  }
  [[nodiscard]] std::string bucket_name() const { return stream_ + "_epoch"; }
  [[nodiscard]] static std::string last_error() {
    const char* const text = nats_GetLastError(nullptr);
    return text == nullptr || *text == '\0' ? std::string{} : ": " + std::string{text};
  }

  [[nodiscard]] static bool is_token(std::string_view s, bool dots) noexcept {
    bool empty = true;  // the token that is being read
    for (const char c : s) {
      if (c == '.' ? !dots || empty : c <= ' ' || c == '*' || c == '>' || c == 0x7f) return false;
      empty = c == '.';
    }
    return !empty;
  }
  [[nodiscard]] const char* bad_options() const noexcept {
    const jetstream_options& o = *options_;
    if (o.servers.empty()) return "jetstream_options::servers: name at least one";
    if (!is_token(o.prefix, false)) return "jetstream_options::prefix is no token of a subject";
    if (!is_token(o.hub, false)) return "jetstream_options::hub is no token of a subject";
    if (!is_token(stream_, false)) return "jetstream_options::stream is no name of a stream";
    if (o.replicas < 1 || o.replicas > 5) return "jetstream_options::replicas: 1 to 5";
    if (o.channels.empty()) return "jetstream_options::channels: name at least one";
    for (const std::string& c : o.channels) {
      if (!is_token(c, true)) return "jetstream_options::channels: a name is no subject";
    }
    return nullptr;
  }

  [[nodiscard]] jetstream_error connect() {
    nats_options o;
    if (nats_make(o, natsOptions_Create) != NATS_OK)
      return {jetstream_errc::refused, "cnats cannot begin: " + last_error()};
    std::vector<const char*> urls;
    for (const std::string& s : options_->servers) urls.push_back(s.c_str());
    const auto file = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    natsOptions* const p = o.get();
    natsStatus s = natsOptions_SetServers(p, urls.data(), static_cast<int>(urls.size()));
    const auto also = [&s](natsStatus next) {
      if (s == NATS_OK) s = next;
    };
    also(natsOptions_SetName(p, ("ssehub " + options_->node).c_str()));
    also(natsOptions_SetTimeout(p, answer_wait()));
    also(natsOptions_SetMaxReconnect(p, -1));
    also(natsOptions_SetReconnectWait(p, 200));
    also(natsOptions_SetReconnectJitter(p, 100, 100));
    also(natsOptions_SetPingInterval(p, 1000));  // a server that stands still is left
    also(natsOptions_SetMaxPingsOut(p, 2));
    also(natsOptions_SetWriteDeadline(p, 2000));
    also(natsOptions_SetFailRequestsOnDisconnect(p, true));
    also(natsOptions_SetSendAsap(p, false));
    if (!options_->credentials.empty())
      also(natsOptions_SetUserCredentialsFromFiles(p, options_->credentials.c_str(), nullptr));
    if (!options_->tls_ca.empty() || !options_->tls_cert.empty()) {
      also(natsOptions_SetSecure(p, true));
      if (!options_->tls_ca.empty())
        also(natsOptions_LoadCATrustedCertificates(p, file(options_->tls_ca)));
      if (!options_->tls_cert.empty())
        also(natsOptions_LoadCertificatesChain(p, file(options_->tls_cert),
                                               file(options_->tls_key)));
    }
    if (s != NATS_OK)
      return {jetstream_errc::options, where() + "options are refused: " + natsStatus_GetText(s) +
                                           last_error() + "; look at URLs and files"};
    s = nats_make(connection_, natsConnection_Connect, p);
    if (s == NATS_OK) return {};
    const std::string said = std::string{natsStatus_GetText(s)} + last_error();
    if (s == NATS_CONNECTION_AUTH_FAILED || said.find("uthorization") != said.npos)
      return {jetstream_errc::denied,
              where() + "credentials are refused (" + said +
                  "): look at user, password or the credentials file, and whether they expired"};
    return {jetstream_errc::unreachable,
            where() + "cannot connect (" + said +
                "): look whether a server runs there, and at firewall and TLS"};
  }

  [[nodiscard]] static stream_sight sight(const jsStreamInfo& i) noexcept {
    return {i.Created, i.State.FirstSeq, i.State.LastSeq};
  }

  [[nodiscard]] jetstream_error open_stream(jsErrCode& code) const {
    nats_stream_info info;
    natsStatus s = nats_make(info, js_GetStreamInfo, js_.get(), stream_.c_str(),
                             static_cast<jsOptions*>(nullptr), &code);
    if (s == NATS_NOT_FOUND || code == JSStreamNotFoundErr) {
      code = {};
      s = make_stream(info, code);
      if (code == JSStreamNameExistErr)  // another process made it a moment ago
        s = nats_make(info, js_GetStreamInfo, js_.get(), stream_.c_str(),
                      static_cast<jsOptions*>(nullptr), &code);
    }
    return s == NATS_OK ? check_settings(*info->Config) : sentence(s, code);
  }
  [[nodiscard]] natsStatus make_stream(nats_stream_info& info, jsErrCode& code) const {
    jsStreamConfig c;
    jsStreamConfig_Init(&c);
    const std::string all = subjects_ + '>';
    const char* subjects[] = {all.c_str()};
    const auto limit = [](std::uint64_t n) { return n == 0 ? -1 : static_cast<std::int64_t>(n); };
    const duration age = options_->keep_age;
    c.Name = stream_.c_str();
    c.Subjects = subjects;
    c.SubjectsLen = 1;
    c.Storage = js_FileStorage;
    c.Replicas = options_->replicas;
    c.Discard = js_DiscardOld;
    c.MaxMsgs = limit(options_->keep_events);
    c.MaxBytes = limit(options_->keep_bytes);
    c.MaxAge = age.is_off() || age == duration::infinite() ? 0 : age.ms() * 1'000'000;
    c.Duplicates = c.MaxAge != 0 && c.MaxAge < duplicate_window_ns ? c.MaxAge : duplicate_window_ns;
    c.DenyDelete = true;
    c.DenyPurge = true;
    c.AllowDirect = true;
    return nats_make(info, js_AddStream, js_.get(), &c, static_cast<jsOptions*>(nullptr), &code);
  }
  /// That what is promised holds with them.
  [[nodiscard]] jetstream_error check_settings(const jsStreamConfig& c) const {
    const auto bad = [&](const char* setting, const std::string& is, const std::string& must) {
      return jetstream_error{jetstream_errc::settings,
                             where() + "stream " + stream_ + " has " + setting + ' ' + is +
                                 " and must have " + must +
                                 ": change it with the nats tool, or name another stream "
                                 "(jetstream_options::stream)"};
    };
    const std::string all = subjects_ + '>';
    if (c.SubjectsLen != 1 || c.Subjects[0] != all)
      return bad("subjects", c.SubjectsLen == 0 ? "none" : c.Subjects[0], all + " alone");
    if (c.Storage != js_FileStorage) return bad("storage", "memory", "file");
    if (c.Retention != js_LimitsPolicy) return bad("retention", "by interest or work", "limits");
    if (c.Replicas != static_cast<std::int64_t>(options_->replicas))
      return bad("replicas", std::to_string(c.Replicas), std::to_string(options_->replicas));
    if (c.Discard != js_DiscardOld) return bad("discard", "new", "old");
    if (c.MaxMsgsPerSubject > 0)
      return bad("max_msgs_per_subject", std::to_string(c.MaxMsgsPerSubject), "no such limit");
    const std::int64_t window =
        c.MaxAge != 0 && c.MaxAge < duplicate_window_ns ? c.MaxAge : duplicate_window_ns;
    if (c.Duplicates < window)
      return bad("duplicate_window", std::to_string(c.Duplicates / second_ns) + " s",
                 "at least " + std::to_string(window / second_ns) + " s");
    if (c.NoAck) return bad("no_ack", "true", "false");
    if (c.Sealed) return bad("sealed", "true", "false");
    if (c.Mirror != nullptr || c.SourcesLen != 0) return bad("mirror or sources", "set", "none");
    if (!c.DenyDelete) return bad("deny_delete", "false", "true");
    if (!c.DenyPurge) return bad("deny_purge", "false", "true");
    if (!c.AllowDirect)
      return {jetstream_errc::too_old,
              where() + "stream " + stream_ +
                  " has allow_direct false: a server older than 2.9 "
                  "does not know it and has to be replaced; else set it with the nats tool"};
    return {};
  }

  [[nodiscard]] jetstream_error open_bucket() { return open_bucket(bucket_, bucket_name(), 0); }

  template <class F>
  [[nodiscard]] bool read_from(const std::string& consumer, const std::string& inbox,
                               natsSubscription* in, std::uint64_t first, std::uint64_t last,
                               F& f) const {
    const std::string next = "$JS.API.CONSUMER.MSG.NEXT." + consumer;
    while (first <= last) {
      const std::string ask =
          "{\"batch\":" + std::to_string(last - first + 1) + ",\"no_wait\":true}";
      if (natsConnection_PublishRequestString(connection_.get(), next.c_str(), inbox.c_str(),
                                              ask.c_str()) != NATS_OK)
        return false;
      for (bool some = false;; some = true) {
        nats_message m;
        if (nats_make(m, natsSubscription_NextMsg, in, answer_wait()) != NATS_OK) return false;
        const delivery d = delivery_of(m.get());
        if (d.sequence == 0) {  // there is nothing more now
          const std::string_view status = header_of(m.get(), "Status");
          return status == "404" || (status == "408" && some);
        }
        if (d.sequence > last) return true;
        f(m.get(), d);
        first = d.sequence + 1;
        if (d.sequence == last || d.pending == 0) return true;
      }
    }
    return true;
  }

  const jetstream_options* options_;
  std::string stream_;
  std::string subjects_;
  nats_connection connection_;
  nats_jetstream js_;
  nats_bucket bucket_;  // the thread that opens, then the follower's
  mutable std::mutex retired_mutex_;
  mutable std::vector<nats_subscription> retired_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_STREAM_HPP
