// ssehub example logs. SPDX-License-Identifier: MIT
//
// deployments: mock deployments, each of which writes a log file of its own for a minute, so that
// there is something to look at.
//
//   deployments mock{io, directory};
//   const std::string id = mock.start();   // its log is <id>.log; empty: it cannot be written
//
// On the thread that runs `io`.
#pragma once

#include <cstddef>
#include <memory>
#include <random>
#include <string>

#include <asio/io_context.hpp>

namespace logs {

class deployments {
 public:
  static constexpr std::size_t most = 50;  ///< at a time

  deployments(asio::io_context& io, std::string directory);

  /// Begins one; returns its id, 32 hexadecimal digits.
  [[nodiscard]] std::string start();
  /// Those that write now.
  [[nodiscard]] std::size_t running() const noexcept { return *running_; }

 private:
  struct job;

  asio::io_context& io_;
  std::string directory_;
  std::random_device random_;
  std::shared_ptr<std::size_t> running_ = std::make_shared<std::size_t>(0);
};

/// Line number n, from 0, of a mock deployment; empty: it has ended.
[[nodiscard]] std::string deployment_line(std::size_t n, const std::string& id);

}  // namespace logs
