// What the servers under test with TLS share: the context of --certificate and --key.
#pragma once

#include <sse/openssl.hpp>

#include "common.hpp"

namespace bench {

inline const sse::tls::context* tls_of(const options& o) {
  static sse::tls::context c{{.certificate = o.certificate, .key = o.key}};
  if (const auto e = c.load()) {
    std::fprintf(stderr, "%s\n", e.message.c_str());
    std::exit(1);
  }
  return &c;
}

}  // namespace bench
