// TLS for the Asio host on Boost's Asio, with all its functions. The tests of both run apart.
#include <string>

#include <sse/asio.hpp>
#include <sse/asio_openssl.hpp>
#include <sse/hub.hpp>
#include <sse/shards.hpp>
#include <sse/testing.hpp>

#define HEADERS_asio_openssl
#include "headers/instances.hpp"
