// The public templates with all their functions, since a compiler warns of much only where a
// template is used. tests/check-headers includes it behind all headers.
#pragma once

namespace headers_test {
struct user {
  std::string name;
};
}  // namespace headers_test

template class sse::hub<sse::testing::memory_transport, headers_test::user>;
template class sse::hub<sse::testing::memory_completion_transport>;
template class sse::hub<sse::any_transport>;
template class sse::shard<sse::testing::memory_transport, headers_test::user>;
#ifdef HEADERS_asio
template class sse::asio_server<headers_test::user>;
template class sse::basic_server<sse::detail::asio_core<headers_test::user, asio::ip::tcp::socket>>;
template class sse::asio_event_source<>;
template class sse::asio_transport<>;
#endif
#ifdef HEADERS_epoll
template class sse::epoll_server<headers_test::user>;
template class sse::basic_server<sse::detail::epoll_core<headers_test::user, sse::epoll_transport>>;
#endif
#ifdef HEADERS_io_uring
template class sse::uring_server<headers_test::user>;
template class sse::basic_server<sse::detail::epoll_core<headers_test::user, sse::uring_transport>>;
#endif
#if defined(HEADERS_openssl) && defined(HEADERS_epoll)
template class sse::epoll_server<headers_test::user, sse::tls::epoll_transport>;
template class sse::basic_server<
    sse::detail::epoll_core<headers_test::user, sse::tls::epoll_transport>>;
#endif
#if defined(HEADERS_openssl) && defined(HEADERS_io_uring)
template class sse::uring_server<headers_test::user, sse::tls::uring_transport>;
template class sse::basic_server<
    sse::detail::epoll_core<headers_test::user, sse::tls::uring_transport>>;
#endif
#ifdef HEADERS_asio_openssl
template class sse::asio_server<headers_test::user, sse::tls::asio_stream>;
template class sse::basic_server<sse::detail::asio_core<headers_test::user, sse::tls::asio_stream>>;
#endif
