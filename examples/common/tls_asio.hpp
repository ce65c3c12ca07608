// ssehub examples. SPDX-License-Identifier: MIT
//
// Connections on Asio that are https where --tls-cert names a certificate, and plain elsewhere.
#pragma once

#include <sse/asio_transport.hpp>
#ifdef EXAMPLES_OPENSSL
#include <sse/asio_openssl.hpp>
#endif

#include "common/tls.hpp"

namespace examples {

#ifdef EXAMPLES_OPENSSL
template <class Socket>
using stream_on = sse::tls::basic_asio_stream<Socket>;

/// Makes a connection of an accepted socket. `tls` outlives the server.
template <class Socket>
[[nodiscard]] auto streams_on(const tls_of_server& tls) {
  return sse::tls::asio_streams<Socket>(tls.context());
}
#else
template <class Socket>
using stream_on = Socket;

template <class Socket>
[[nodiscard]] auto streams_on(const tls_of_server&) {
  return [](Socket s) { return s; };
}
#endif

}  // namespace examples
