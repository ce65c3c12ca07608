// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// openssl: TLS for every host, by OpenSSL 3. One layer on a non-blocking descriptor; the hosts of
// this library take it as a type, loops of your own call it.
//
//   sse::tls::context tls{{.certificate = "chain.pem", .key = "key.pem"}};
//   if (auto e = tls.load()) return fail(e.message);  // again on SIGHUP, for what comes then
//
//   sse::epoll_server<sse::no_user, sse::tls::epoll_transport> server{options, &tls};
//   sse::uring_server<sse::no_user, sse::tls::uring_transport> server{options, &tls};
//   sse::asio_server<sse::no_user, sse::tls::asio_stream> server{...};  // sse/asio_openssl.hpp
//
// TLS 1.2 and 1.3, ALPN http/1.1, session tickets, no renegotiation, no early data, no compression.
// A stream that has nothing to send keeps no buffers (SSL_MODE_RELEASE_BUFFERS). POSIX; on Windows
// asio::ssl::stream does for sse/asio.hpp.
//
// Not here: TLS for the client, which asio::ssl::stream does (sse/asio_client.hpp).
#pragma once
#ifndef SSEHUB_OPENSSL_HPP
#define SSEHUB_OPENSSL_HPP

#if defined(_WIN32)
#error "sse/openssl.hpp needs POSIX sockets; on Windows name asio::ssl::stream, see sse/asio.hpp"
#endif

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <sse/function.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

template <class Layer>
class basic_epoll_transport;
template <class Layer>
class basic_uring_transport;

/// TLS by OpenSSL, for all hosts.
namespace tls {

/// Of a server's context; see context::load().
struct options {
  std::string certificate{};  ///< PEM file: the server's own first, then those that vouch for it
  std::string key{};          ///< PEM file, without a passphrase
  /// Tickets, by which a client that comes back is spared most of a handshake. Their keys live as
  /// long as what load() made: after a reload each client shakes hands in full once.
  bool tickets = true;
  bool tls_1_2 = true;  ///< false: TLS 1.3 only
  /// Sets what has no option here (ciphers, groups, client certificates) of each SSL_CTX that is
  /// made. False: refused.
  function<bool(SSL_CTX*)> configure{};
};

/// Why nothing was loaded; true if there is something.
struct load_error {
  std::string message{};  ///< the file, the cause, what to do
  [[nodiscard]] explicit operator bool() const noexcept { return !message.empty(); }
};

/// Certificate, key and rules for the sessions of any number of servers. Thread-safe, but for
/// construction and destruction; it must outlive the servers, not the sessions.
class context {
 public:
  explicit context(options o) : options_{std::move(o)} {}  ///< nothing is read before load()
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  /// Reads the files. Sessions that begin from now on use them; those that are there keep what they
  /// have. On failure all stays as it was.
  [[nodiscard]] load_error load() {
    const std::lock_guard<std::mutex> one_at_a_time{loading_};
    if (load_error e = readable(options_.certificate, "certificate")) return e;
    if (load_error e = readable(options_.key, "key")) return e;
    ERR_clear_error();
    handle made{SSL_CTX_new(TLS_server_method()), &SSL_CTX_free};
    if (made == nullptr) return {"OpenSSL gives no context: " + reason(ERR_peek_error())};
    SSL_CTX* const c = made.get();
    SSL_CTX_set_min_proto_version(c, options_.tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(c, SSL_MODE_AUTO_RETRY);  // one record at a time, whatever it holds
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);  // tickets are kept by the clients
    SSL_CTX_set_session_id_context(c, reinterpret_cast<const unsigned char*>("ssehub"), 6);
    SSL_CTX_set_num_tickets(c, options_.tickets ? 1 : 0);
    if (!options_.tickets) SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_alpn_select_cb(c, &choose_protocol, nullptr);
    // Nobody is asked on a terminal.
    SSL_CTX_set_default_passwd_cb(c, [](char*, int, int, void*) { return -1; });
    if (SSL_CTX_use_certificate_chain_file(c, options_.certificate.c_str()) != 1) {
      return {"certificate " + options_.certificate + ": " + reason(ERR_peek_error()) +
              "; it must be PEM: -----BEGIN CERTIFICATE-----, the server's own first"};
    }
    if (SSL_CTX_use_PrivateKey_file(c, options_.key.c_str(), SSL_FILETYPE_PEM) != 1) {
      const unsigned long e = ERR_peek_error();
      if (ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH) return mismatch();
      return {"key " + options_.key + ": " + reason(e) +
              "; it must be PEM without a passphrase: -----BEGIN PRIVATE KEY-----"};
    }
    if (SSL_CTX_check_private_key(c) != 1) return mismatch();
    if (options_.configure && !options_.configure(c)) {
      return {"tls::options::configure refused the context"};
    }
    const std::lock_guard<std::mutex> lock{swapping_};
    current_.swap(made);
    return {};
  }

  /// A server's side of a new session; nullptr: nothing was loaded, or memory is out.
  [[nodiscard]] SSL* make_ssl() const noexcept {
    const std::lock_guard<std::mutex> lock{swapping_};
    return current_ == nullptr ? nullptr : SSL_new(current_.get());
  }
  /// What OpenSSL says of an error of its queue.
  [[nodiscard]] static std::string reason(unsigned long error) {
    if (error == 0) return "OpenSSL gives no reason: memory may be out";
    const char* const text = ERR_reason_error_string(error);
    return text != nullptr ? text : "error " + std::to_string(error);
  }

 private:
  using handle = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

  [[nodiscard]] static load_error readable(const std::string& file, const char* what) {
    if (std::FILE* const f = std::fopen(file.c_str(), "rb"); f != nullptr) {
      std::fclose(f);
      return {};
    }
    const std::error_code e{errno, std::system_category()};
    return {std::string{what} + " " + (file.empty() ? "(no file was named)" : file) + ": " +
            e.message()};
  }
  [[nodiscard]] load_error mismatch() const {
    return {"key " + options_.key + " is not that of certificate " + options_.certificate +
            ": name the pair that belongs together"};
  }

  /// RFC 7301: who asks for other protocols only gets no_application_protocol.
  static int choose_protocol(SSL*, const unsigned char** out, unsigned char* size,
                             const unsigned char* in, unsigned int length, void*) noexcept {
    static constexpr unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    unsigned char* chosen = nullptr;
    const int found = SSL_select_next_proto(&chosen, size, ours, sizeof ours - 1, in, length);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
  }

  options options_;
  std::mutex loading_;
  mutable std::mutex swapping_;
  handle current_{nullptr, &SSL_CTX_free};
};

/// What a session waits for.
enum class step : std::uint8_t {
  done,
  want_read,   ///< go on when the descriptor is readable
  want_write,  ///< bytes wait in the session: flush() when the descriptor is writable
  closed,      ///< the peer said goodbye, or is gone
  failed,      ///< see session::reason()
};

/// A server's side of one TLS connection over a non-blocking socket, for any loop. Nothing blocks,
/// raises SIGPIPE or throws after construction.
///
/// What write() takes is on its way: it never has to be given the same bytes again, unlike
/// SSL_write. What the socket does not take of a record waits here, and only then costs memory. At
/// most one record of application data does so.
///
/// Not thread-safe; different sessions may be used by different threads.
class session {
 public:
  static constexpr bool secure = true;  ///< see basic_epoll_transport
  using security = const context*;      ///< nullptr: connections stay plain
  /// A record's (RFC 8446 5.1): more is taken piece by piece.
  static constexpr std::size_t max_record = 16384;
  /// What a record that holds nothing for us (a KeyUpdate) costs: as much as so many bytes, where
  /// what a peer may send is limited.
  static constexpr std::size_t empty_record = 1024;
  /// Of answers to such records, which a peer does not read.
  static constexpr std::size_t max_held = 128U << 10U;

  /// What a call moved, and what has to come before the next.
  struct result {
    std::size_t bytes = 0;   ///< that were moved
    step next = step::done;  ///< what has to come first
  };

  session() noexcept = default;
  /// `fd` is connected; it stays the caller's and open as long as this lives. Throws
  /// std::runtime_error if nothing was loaded, std::bad_alloc.
  session(const context& c, int fd) : state_{new state{}} {
    state_->fd = fd;
    state_->ssl = c.make_ssl();
    BIO* const bio = state_->ssl == nullptr ? nullptr : BIO_new(method());
    if (bio == nullptr) {
      throw std::runtime_error("no TLS session: call tls::context::load(), or memory is out");
    }
    BIO_set_data(bio, state_.get());
    BIO_set_init(bio, 1);
    SSL_set_bio(state_->ssl, bio, bio);
    SSL_set_accept_state(state_->ssl);
  }

  [[nodiscard]] explicit operator bool() const noexcept { return state_ != nullptr; }
  /// For what has no function here. REQUIRES: it is one.
  [[nodiscard]] SSL* native_handle() const noexcept { return state_->ssl; }

  /// Goes on with the handshake. want_read: when there is more; then bytes may be held, too.
  [[nodiscard]] step handshake() noexcept {
    forget_errors();
    const int r = SSL_do_handshake(state_->ssl);
    return r == 1 ? step::done : outcome(r);
  }

  /// What came of application data, one record's at most. {0, done}: a record that held nothing,
  /// ask again. want_read: all that came was read.
  [[nodiscard]] result read(std::span<char> into) noexcept {
    if (state_->said_goodbye) return discard(into);
    if (state_->over) return {0, step::closed};
    forget_errors();
    state_->drained = false;
    std::size_t n = 0;
    const int r = SSL_read_ex(state_->ssl, into.data(), into.size(), &n);
    if (r == 1) return {n, step::done};
    const step s = outcome(r);
    return {0, s == step::want_read && !state_->drained ? step::done : s};
  }

  /// Takes a prefix of one record's length at most. done: all that was taken is out, more may
  /// follow at once. want_write: nothing more is taken before flush() answered done.
  [[nodiscard]] result write(std::string_view bytes) noexcept {
    if (state_->over) return {0, step::closed};
    if (const step s = flush(); s != step::done) return {0, s};
    const result r = encrypt(bytes);
    return {r.bytes, r.next == step::done && held() != 0 ? step::want_write : r.next};
  }

  /// As write(), for loops that send by themselves: what would have been sent is appended to `to`.
  /// Until that is out the loop calls hold(true).
  [[nodiscard]] result write(std::string_view bytes, std::string& to) noexcept {
    if (state_->over) return {0, step::closed};
    state_->to = &to;
    if (held() != 0) {
      append(*state_, state_->held.data() + state_->sent, held());
      let_go();
    }
    const result r = encrypt(bytes);
    state_->to = nullptr;
    return state_->broken ? result{0, step::closed} : r;
  }
  /// On: nothing is sent by itself any more; what has to be, such as the answer to a KeyUpdate, is
  /// held until the next write(bytes, to).
  void hold(bool on) noexcept { state_->holds = on; }

  /// Sends what is held. done: nothing is any more.
  [[nodiscard]] step flush() noexcept {
    state& s = *state_;
    if (s.broken) return step::closed;
    if (held() == 0 || s.holds) return step::done;
    const std::size_t n = send_to(s, s.held.data() + s.sent, held());
    if (s.broken) return step::closed;
    s.sent += n;
    if (held() != 0) return step::want_write;
    let_go();
    return step::done;
  }
  /// Bytes that wait here.
  [[nodiscard]] std::size_t held() const noexcept { return state_->held.size() - state_->sent; }

  /// Says goodbye (close_notify, RFC 8446 6.1); nothing can be written after it, and what comes is
  /// nothing to us. want_write: it waits for room: again when the descriptor is writable. closed:
  /// there was no handshake, or an error.
  step shutdown() noexcept {
    if (!state_->over) {
      if (!SSL_is_init_finished(state_->ssl)) return step::closed;
      if (const step s = flush(); s != step::done) return s;
      forget_errors();
      (void)SSL_shutdown(state_->ssl);
      state_->over = state_->said_goodbye = true;
    }
    return state_->said_goodbye ? flush() : step::closed;
  }

  /// Why a step failed, in OpenSSL's words.
  [[nodiscard]] std::string reason() const { return context::reason(state_->error); }
  /// The handshake failed since the peer speaks HTTP without TLS.
  [[nodiscard]] bool met_plain_http() const noexcept {
    const int r = ERR_GET_REASON(state_->error);
    return ERR_GET_LIB(state_->error) == ERR_LIB_SSL &&
           (r == SSL_R_HTTP_REQUEST || r == SSL_R_HTTPS_PROXY_REQUEST);
  }

 private:
  struct state {
    state() noexcept = default;
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() { SSL_free(ssl); }

    SSL* ssl = nullptr;
    std::string held{};
    std::size_t sent = 0;       // of it
    std::string* to = nullptr;  // takes what is written, in place of the socket
    unsigned long error = 0;
    int fd = -1;
    bool holds = false;
    bool drained = false;  // the socket has nothing more
    bool ended = false;    // the peer sends nothing more
    bool broken = false;   // what was to be sent is lost
    bool over = false;     // nothing may be asked of OpenSSL any more
    bool said_goodbye = false;
  };

  /// Reads past OpenSSL, which reads nothing after its goodbye.
  [[nodiscard]] result discard(std::span<char> into) noexcept {
    if (receive(*state_, into.data(), into.size()) > 0) return {};
    return {0, state_->ended ? step::closed : step::want_read};
  }
  [[nodiscard]] result encrypt(std::string_view bytes) noexcept {
    forget_errors();
    std::size_t n = 0;
    const std::size_t most = bytes.size() < max_record ? bytes.size() : max_record;
    const int r = SSL_write_ex(state_->ssl, bytes.data(), most, &n);
    return r == 1 ? result{n, step::done} : result{0, outcome(r)};
  }
  [[nodiscard]] step outcome(int r) noexcept {
    switch (SSL_get_error(state_->ssl, r)) {
      case SSL_ERROR_WANT_READ: return step::want_read;
      case SSL_ERROR_ZERO_RETURN: return step::closed;
      case SSL_ERROR_WANT_WRITE: break;  // our BIO takes all
      default: break;
    }
    state_->over = true;
    state_->error = ERR_peek_error();
    return state_->ended || state_->broken ? step::closed : step::failed;
  }
  /// What others left in the thread's queue would be taken for ours (SSL_get_error). Clearing it is
  /// a tenth of a small record's cost, and mostly it is empty.
  static void forget_errors() noexcept {
    if (ERR_peek_error() != 0) ERR_clear_error();
  }
  void let_go() noexcept {
    std::string{}.swap(state_->held);
    state_->sent = 0;
  }

  // --- a BIO on the descriptor. Writing to it always succeeds, so that OpenSSL is never in the
  // --- middle of a record, and never asks for the same bytes again.

  [[nodiscard]] static const BIO_METHOD* method() {
    struct made {
      made() : m{BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ssehub")} {
        if (m == nullptr) throw std::bad_alloc{};
        BIO_meth_set_write(m, &on_write);
        BIO_meth_set_read(m, &on_read);
        BIO_meth_set_ctrl(
            m, [](BIO*, int what, long, void*) -> long { return what == BIO_CTRL_FLUSH ? 1 : 0; });
      }
      made(const made&) = delete;
      made& operator=(const made&) = delete;
      ~made() { BIO_meth_free(m); }
      BIO_METHOD* m;
    };
    static const made once;
    return once.m;
  }

  static int on_write(BIO* bio, const char* bytes, int size) noexcept {
    state& s = *static_cast<state*>(BIO_get_data(bio));
    const auto all = static_cast<std::size_t>(size);
    BIO_clear_retry_flags(bio);
    const bool direct = s.to == nullptr && !s.holds && s.held.empty();
    const std::size_t out = direct ? send_to(s, bytes, all) : 0;
    if (!s.broken && out != all) append(s, bytes + out, all - out);
    return s.broken ? -1 : size;
  }
  static void append(state& s, const char* bytes, std::size_t size) noexcept {
    std::string& to = s.to != nullptr ? *s.to : s.held;
    try {
      if (to.size() + size > max_held) throw std::bad_alloc{};
      to.append(bytes, size);
    } catch (...) {
      s.broken = true;
    }
  }

  static int on_read(BIO* bio, char* into, int size) noexcept {
    state& s = *static_cast<state*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const ssize_t n = receive(s, into, static_cast<std::size_t>(size));
    if (n < 0 && !s.ended) BIO_set_retry_read(bio);
    return static_cast<int>(n);
  }

  /// Below 0: nothing is there, or there will be nothing any more.
  [[nodiscard]] static ssize_t receive(state& s, char* into, std::size_t size) noexcept {
    ssize_t n = 0;
    do {
      n = ::recv(s.fd, into, size, dont_wait);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
      s.drained = true;
    } else if (n <= 0) {
      s.ended = true;
    }
    return n;
  }

  /// How much the socket takes.
  [[nodiscard]] static std::size_t send_to(state& s, const char* bytes, std::size_t size) noexcept {
    ssize_t n = 0;
    do {
      n = ::send(s.fd, bytes, size, dont_wait | no_signal);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) return static_cast<std::size_t>(n);
    s.broken = s.broken || errno != EAGAIN;
    return 0;
  }

  static constexpr int dont_wait = MSG_DONTWAIT;
#if defined(MSG_NOSIGNAL)
  static constexpr int no_signal = MSG_NOSIGNAL;
#else
  static constexpr int no_signal = 0;  // there a program ignores SIGPIPE
#endif

  std::unique_ptr<state> state_;
};

/// Transports of the epoll and io_uring hosts. Constructed with the loop's epoll and a context;
/// nullptr: plain.
using epoll_transport = basic_epoll_transport<session>;
using uring_transport = basic_uring_transport<session>;  ///< the same over io_uring

}  // namespace tls

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_OPENSSL_HPP
