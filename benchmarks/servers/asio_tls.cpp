// Ours on Asio with TLS.
#include <sse/asio_openssl.hpp>

#include "asio_host.hpp"
#include "tls.hpp"

int main(int argc, char** argv) {
  const bench::options o = bench::read_options(argc, argv);
  bench::on_asio<sse::tls::asio_stream>{o, sse::tls::asio_streams(bench::tls_of(o))}.run();
}
