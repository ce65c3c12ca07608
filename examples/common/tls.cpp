// ssehub examples. SPDX-License-Identifier: MIT
#include "common/tls.hpp"

namespace examples {

void add_tls_flags(flag_set& flags, tls_files& out, std::string_view again) {
  const auto file = [&flags](std::string_view name, std::string_view help, std::string& to) {
    flags.add(name, "FILE", help, [&to](std::string_view value) {
#ifdef EXAMPLES_OPENSSL
      to = value;
      return value.empty() ? "a file" : "";
#else
      (void)to;
      (void)value;
      return "left out: built without OpenSSL";
#endif
    });
  };
  file("--tls-cert", "https, with this certificate and those that vouch for it (none)",
       out.certificate);
  file("--tls-key", "and this key, both PEM" + std::string{again}, out.key);
}

#ifdef EXAMPLES_OPENSSL
tls_of_server::tls_of_server(const tls_files& files) {
  if (files.certificate.empty() && files.key.empty()) return;
  context_ = std::make_unique<sse::tls::context>(
      sse::tls::options{.certificate = files.certificate, .key = files.key});
}
std::string tls_of_server::load() { return is_on() ? context_->load().message : ""; }
bool tls_of_server::is_on() const noexcept { return context_ != nullptr; }
#else
tls_of_server::tls_of_server(const tls_files&) {}
std::string tls_of_server::load() { return {}; }
bool tls_of_server::is_on() const noexcept { return false; }
#endif

}  // namespace examples
