// ssehub example logs. SPDX-License-Identifier: MIT
#include "deployments.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <string_view>
#include <system_error>
#include <utility>

#include <asio/steady_timer.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace logs {
namespace {

constexpr std::chrono::milliseconds pace{500};
constexpr std::size_t instances = 18;

/// 2025-09-21T10:30:15.123456
std::string stamp() {
  using namespace std::chrono;
  const auto now = system_clock::now().time_since_epoch();
  const auto us = duration_cast<microseconds>(now).count();
  return fmt::format("{:%FT%T}.{:06}", fmt::gmtime(static_cast<std::time_t>(us / 1'000'000)),
                     us % 1'000'000);
}

}  // namespace

std::string deployment_line(std::size_t n, const std::string& id) {
  static constexpr std::string_view begin[] = {
      "INFO  deploy: deployment {} accepted",
      "INFO  deploy: reading release manifest",
      "DEBUG deploy: manifest lists 4 services, {} instances",
      "INFO  build: restoring layers from cache",
      "INFO  build: layer 1 of 5 is up to date",
      "INFO  build: layer 2 of 5 is up to date",
      "INFO  build: layer 3 of 5 is up to date",
      "WARN  build: layer 4 of 5 is not in the cache, it is built",
      "INFO  build: layer 4 of 5 done",
      "INFO  build: layer 5 of 5 done",
      "DEBUG build: image checksum verified",
      "INFO  registry: pushing image",
      "WARN  registry: push timed out, second attempt",
      "INFO  registry: image pushed",
      "INFO  rollout: begins",
  };
  static constexpr std::string_view each[] = {
      "INFO  rollout: instance {}: draining connections",
      "DEBUG rollout: instance {}: old process ended",
      "INFO  rollout: instance {}: started",
      "ERROR health: instance {}: not ready yet: connection refused",
      "INFO  health: instance {}: ready",
  };
  constexpr std::size_t head = std::size(begin);
  constexpr std::size_t body = instances * std::size(each);
  if (n == 0) return fmt::format(fmt::runtime(begin[0]), id);
  if (n < head) return fmt::format(fmt::runtime(begin[n]), instances);
  if (n < head + body) {
    const std::size_t i = n - head;
    return fmt::format(fmt::runtime(each[i % std::size(each)]), i / std::size(each) + 1);
  }
  return n == head + body ? fmt::format("INFO  deploy: deployment {} finished", id) : "";
}

struct deployments::job : std::enable_shared_from_this<job> {
  job(asio::io_context& io, int f, std::string i, std::shared_ptr<std::size_t> r)
      : timer{io}, fd{f}, id{std::move(i)}, running{std::move(r)} {
    ++*running;
  }
  ~job() {
    ::close(fd);
    --*running;
  }

  void write_next() {
    const std::string text = deployment_line(n++, id);
    if (text.empty()) return;
    const std::string line = stamp() + ": " + text + "\n";
    if (::write(fd, line.data(), line.size()) < 0) return;
    timer.expires_after(pace);
    timer.async_wait([self = shared_from_this()](const std::error_code& e) {
      if (!e) self->write_next();
    });
  }

  asio::steady_timer timer;
  int fd;
  std::string id;
  std::shared_ptr<std::size_t> running;
  std::size_t n = 0;
};

deployments::deployments(asio::io_context& io, std::string directory)
    : io_{io}, directory_{std::move(directory)} {}

std::string deployments::start() {
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", static_cast<std::uint32_t>(random_()));
  const std::string path = directory_ + "/" + id + ".log";
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return {};
  std::make_shared<job>(io_, fd, id, running_)->write_next();
  return id;
}

}  // namespace logs
