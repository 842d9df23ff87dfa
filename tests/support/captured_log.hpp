// What is written to standard error while this lives, as the log's lines are. One at a time; no other thread may write
// to the log when it is made or destroyed.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/log.hpp"
#include "support/temp_directory.hpp"

namespace sluice::test {

class CapturedLog {
 public:
  CapturedLog() {
    std::fflush(stderr);
    before_ = ::dup(STDERR_FILENO);
    const int file = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (before_ < 0 || file < 0 || ::dup2(file, STDERR_FILENO) < 0) throw std::runtime_error("cannot capture the log");
    ::close(file);
    log::configure({log::Level::warn, log::Format::text});
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  ~CapturedLog() {
    std::fflush(stderr);
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
  }

  // How many lines have that in them.
  [[nodiscard]] std::size_t lines_with(std::string_view text) const {
    std::fflush(stderr);
    std::ifstream lines(file_);
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line);) count += line.find(text) != std::string::npos ? 1 : 0;
    return count;
  }

 private:
  const TempDirectory directory_;
  const std::filesystem::path file_ = directory_.path() / "stderr";
  int before_ = -1;
};

}  // namespace sluice::test
