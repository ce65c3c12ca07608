// ssehub examples. SPDX-License-Identifier: MIT
//
// --tls-cert and --tls-key, and the certificate that they name. Without OpenSSL the flags are
// refused, and a server is always plain.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#ifdef EXAMPLES_OPENSSL
#include <sse/openssl.hpp>
#endif

#include "common/flags.hpp"

namespace examples {

/// PEM files; empty: http.
struct tls_files {
  std::string certificate{};
  std::string key{};
};

/// `again`: more of the help, such as when they are read again.
void add_tls_flags(flag_set& flags, tls_files& out, std::string_view again = {});

/// The certificate of a server, if it has one.
class tls_of_server {
 public:
  explicit tls_of_server(const tls_files& files);
  /// Reads the files, also again. What is wrong; empty: nothing, or there is no TLS.
  [[nodiscard]] std::string load();
  [[nodiscard]] bool is_on() const noexcept;
#ifdef EXAMPLES_OPENSSL
  /// What a server or transport is given; nullptr: plain.
  [[nodiscard]] const sse::tls::context* context() const noexcept { return context_.get(); }

 private:
  std::unique_ptr<sse::tls::context> context_{};
#endif
};

}  // namespace examples
