// ssehub examples. SPDX-License-Identifier: MIT
#include "common/endpoint.hpp"

namespace examples {

endpoint::endpoint(flag_set& flags) : flags_{flags} {
  flags.number("--port", "N", "port to listen on; 0 picks one (8080)", port_);
  add_tls_flags(flags, files_);
}

std::optional<early_end> endpoint::parse(int argc, const char* const* argv) {
  if (auto end = flags_.parse(argc, argv)) return end;
  tls_.emplace(files_);
  if (const std::string wrong = tls_->load(); !wrong.empty()) return flags_.unusable(wrong);
  return std::nullopt;
}

early_end endpoint::taken(std::string_view why) const {
  return flags_.failed("cannot listen on " + url(port_) + ": " + std::string{why});
}

std::string endpoint::url(std::uint16_t port, std::string_view host) const {
  const std::string_view scheme = tls_->is_on() ? "https://" : "http://";
  return std::string{scheme}.append(host) + ":" + std::to_string(port) + "/";
}

}  // namespace examples
