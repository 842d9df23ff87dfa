// The access log: one line for each request that was answered, in text (logfmt) or JSON.
//
// A line is formatted into a buffer of the calling thread and written when that buffer exceeds its limit or when
// somebody calls flush(), which a timer does once a second. So a crash loses at most a second of lines.
//
// Threads: write, flush and reopen are thread-safe. Destroyed when nobody calls it any more; it writes what is left.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "access/cache_result.hpp"
#include "base/log.hpp"
#include "base/result.hpp"

namespace sluice::api {

// What is known of a request when its answer is over. The views need only live through write(). Empty texts are left
// out of the line.
struct AccessRecord {
  std::string_view request_id;
  std::string_view client;  // address:port
  std::string_view method;
  std::string_view target;  // the path as it came; written only where `repository` is empty
  std::string_view upstream;
  std::string_view repository;
  std::string_view reference;  // a digest or a tag
  std::string_view user_agent;
  unsigned status = 0;
  std::uint64_t bytes = 0;  // of the body, sent
  bool complete = true;     // false: the client left, or the body had to be broken off
  access::CacheResult cache = access::CacheResult::none;
  std::chrono::nanoseconds first_byte{0};     // from the end of the request's head to the first byte of the answer
  std::chrono::nanoseconds upstream_wait{0};  // after the first byte: waiting for more of upstream; not in the line
  std::chrono::nanoseconds total{0};          // to the last
};

class AccessLog {
 public:
  struct Params {
    bool enabled = true;  // false: write() logs nothing
    log::Format format = log::Format::text;
    std::filesystem::path file = "-";      // "-": standard output
    std::size_t buffer_bytes = 16 * 1024;  // for each thread; what exceeds it is written at once
    // Gets each record too, also where the log is not enabled. Called in write(), on its thread.
    std::function<void(const AccessRecord&)> also = nullptr;
  };

  // Opens the file for appending, creating it with mode 0640. Errors: as errno_error.
  static Result<std::unique_ptr<AccessLog>> open(const Params& params);

  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;
  ~AccessLog();

  // Never waits: a pipe that takes nothing makes lines wait, up to a mebibyte, and then get lost with a warning.
  void write(const AccessRecord& record);

  // Writes what all threads have buffered.
  void flush();

  // Opens the file by its name again, for logrotate; the old one is kept when that fails. Nothing for standard output.
  Result<void> reopen();

 private:
  struct State;
  explicit AccessLog(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sluice::api
