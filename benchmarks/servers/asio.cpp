// Ours on Asio.
#include "asio_host.hpp"

int main(int argc, char** argv) {
  bench::on_asio<asio::ip::tcp::socket>{bench::read_options(argc, argv)}.run();
}
