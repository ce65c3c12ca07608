// tail: where a stream was, kept in a file, so that the next run goes on there.
//
// The file says the last event ID and, where stdout is a file, how long that was: what stands
// behind has left, but was not counted, and comes again. It is taken back, so that each event is in
// the file once. A pipe or a terminal takes nothing back: there, what was written since the last
// save comes twice.
//
// A save is a new file in place of the old one: written, synced, renamed; before that, stdout is
// synced. So the file is whole at any moment, and never ahead of the output, whatever ends the
// program or the machine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tail {

class state_file {
 public:
  explicit state_file(std::string path) : path_{std::move(path)} {}

  /// Reads it and takes back what it does not know of. Returns what went wrong; empty: nothing,
  /// also where there is no such file.
  [[nodiscard]] std::string load();
  /// Where the stream was; empty: nowhere yet.
  [[nodiscard]] const std::string& id() const noexcept { return id_; }
  /// All that came with `id` and before is on its way. Returns what went wrong; empty: nothing.
  [[nodiscard]] std::string save(std::string_view id);

 private:
  struct output {
    std::uint64_t device = 0;
    std::uint64_t node = 0;
    std::int64_t size = -1;  // -1: stdout is no file
    [[nodiscard]] static output now();
  };
  [[nodiscard]] bool read(std::string_view text, output& then);

  std::string path_;
  std::string id_{};
};

}  // namespace tail
