// What the tests of the streaming cache share: one loop that the test drives, a disk pool of one thread, a clock that
// stands still, and tasks whose results can be looked at.
#pragma once

#include <catch2/catch.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>

#include <fmt/format.h>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"
#include "streamcache/file_cache.hpp"
#include "streamcache/pipe.hpp"
#include "support/catch_result.hpp"

namespace sluice::streamcache {

namespace asio = runtime::asio;
using runtime::Task;

// Back-pressure at its tightest, and off.
inline const std::vector<std::optional<std::uint64_t>> kWindows{std::optional<std::uint64_t>(1), std::nullopt};

class TempDirectory {
 public:
  TempDirectory() {
    std::random_device device;
    path_ = std::filesystem::temp_directory_path() / fmt::format("sluice-streamcache-{:08x}{:08x}", device(), device());
    std::filesystem::create_directories(path_);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) found.push_back(entry.path());
    }
    return found;
  }
  // Everything in it, but not the directory.
  void wipe() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) std::filesystem::remove_all(entry.path());
  }

 private:
  std::filesystem::path path_;
};

// A task that runs, and its result.
template <class T>
struct Running {
  std::optional<T> result;
  std::exception_ptr exception;
  asio::cancellation_signal signal;
  bool done = false;

  void cancel() { signal.emit(asio::cancellation_type::terminal); }
};

template <class T>
Task<void> keep_result(Task<T> task, std::shared_ptr<Running<T>> running) {
  running->result.emplace(co_await std::move(task));
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// Reproducible, and different at every offset.
inline std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string out(size, '\0');
  std::minstd_rand random(seed);
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// Reads to the end, `step` bytes at a time.
inline Task<Result<std::string>> read_all(Stream& stream, std::size_t step = 4096) {
  std::string out;
  std::string buffer(step, '\0');
  for (;;) {
    const Result<std::size_t> n = co_await stream.read(std::as_writable_bytes(std::span<char>(buffer)));
    if (!n) co_return n.error();
    if (*n == 0) co_return out;
    out.append(buffer, 0, *n);
  }
}

// What comes, and what ends it.
struct Drained {
  std::string text;
  std::optional<Error> error;
};

inline Task<Drained> drain(Stream& stream) {
  Drained out;
  char byte = 0;
  for (;;) {
    const Result<std::size_t> n = co_await stream.read(std::as_writable_bytes(std::span<char>(&byte, 1)));
    if (!n) out.error = n.error();
    if (!n || *n == 0) co_return out;
    out.text.push_back(byte);
  }
}

// Up to `size` bytes.
inline Task<Result<std::string>> read_some(Stream& stream, std::size_t size) {
  std::string out(size, '\0');
  const Result<std::size_t> n = co_await stream.read(std::as_writable_bytes(std::span<char>(out)));
  if (!n) co_return n.error();
  out.resize(*n);
  co_return out;
}

inline Task<Result<void>> write_pieces(std::shared_ptr<Writer> writer, std::string data, std::size_t piece) {
  for (std::size_t at = 0; at < data.size(); at += piece) {
    const std::string_view part = std::string_view(data).substr(at, piece);
    if (Result<void> written = co_await writer->write(bytes_of(part)); !written) co_return written;
  }
  co_return Result<void>{};
}

struct Fixture {
  TempDirectory directory;
  runtime::PosixFilesystem posix;
  runtime::FaultyFilesystem filesystem{posix};
  ManualClock clock;
  metrics::Registry registry;
  Metrics metrics{registry};
  runtime::Loop loop;
  runtime::DiskPool disk{1};
  runtime::TaskGroup fills{"fills"};

  ~Fixture() {
    fills.cancel();
    settle();
  }

  template <class T>
  std::shared_ptr<Running<T>> start(Task<T> task) {
    auto running = std::make_shared<Running<T>>();
    asio::co_spawn(loop.get_executor(), keep_result(std::move(task), running),
                   asio::bind_cancellation_slot(running->signal.slot(), [running](std::exception_ptr exception) {
                     running->exception = exception;
                     running->done = true;
                   }));
    return running;
  }

  // Until nothing can happen any more: every task has ended or waits for something that the test must do.
  void settle() {
    std::size_t events = 0;
    do {
      loop.restart();
      events = loop.poll();
      // Each lane has one thread, so what was posted before has been done.
      for (const runtime::Lane lane : {runtime::Lane::fast, runtime::Lane::bulk}) {
        std::promise<void> reached;
        disk.post(lane, [&reached] { reached.set_value(); });
        reached.get_future().wait();
      }
      loop.restart();
      events += loop.poll();
    } while (events != 0);
  }

  // Runs a task to its end.
  template <class T>
  T run(Task<T> task) {
    const auto running = start(std::move(task));
    settle();
    if (!running->result) FAIL("the task did not end");
    return std::move(*running->result);
  }

  double metric(std::string_view name) const {
    for (const metrics::Family& family : registry.collect()) {
      if (family.name == name) return family.samples.at(0).value;
    }
    return -1;
  }
};

}  // namespace sluice::streamcache
