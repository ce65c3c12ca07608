// In front of the tests of the Asio host when they are compiled with Boost's Asio: what they call
// asio is that.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

namespace boost::asio {
using error_code = boost::system::error_code;
using system_error = boost::system::system_error;
}  // namespace boost::asio
namespace asio = boost::asio;
