// ssehub examples. SPDX-License-Identifier: MIT
//
// What a program of one file is started with: --port, --tls-cert and --tls-key.
//
//   examples::flag_set flags{"hello", "A counter.", SSEHUB_VERSION};
//   examples::endpoint at{flags};
//   if (const auto end = at.parse(argc, argv)) return end->print();
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/flags.hpp"
#include "common/tls.hpp"

namespace examples {

class endpoint {
 public:
  /// Adds its flags.
  explicit endpoint(flag_set& flags);
  endpoint(const endpoint&) = delete;
  endpoint& operator=(const endpoint&) = delete;

  /// Reads the command line, and the certificate if it names one. Absent: go on.
  [[nodiscard]] std::optional<early_end> parse(int argc, const char* const* argv);
  /// The end of a program that cannot listen there.
  [[nodiscard]] early_end taken(std::string_view why) const;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] const tls_of_server& tls() const noexcept { return *tls_; }  ///< after parse()
  /// https://HOST:PORT/, or http.
  [[nodiscard]] std::string url(std::uint16_t port, std::string_view host = "127.0.0.1") const;

 private:
  flag_set& flags_;
  std::uint16_t port_ = 8080;
  tls_files files_{};
  std::optional<tls_of_server> tls_{};
};

}  // namespace examples
