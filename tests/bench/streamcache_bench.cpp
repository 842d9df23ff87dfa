// What it costs to publish and to wake, and how fast a gigabyte goes through a pipe.
//
//   bench_streamcache [directory for the file [MiB]]
//
// Times are of this process alone. The wake-ups are measured with bare cursors: one thread publishes, readers wait on
// loops of their own. The gigabyte is written in pieces of 256 KiB to a file and read back with pread, as a session
// would send it.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"
#include "streamcache/cursor.hpp"
#include "streamcache/pipe.hpp"

namespace sluice::streamcache {
namespace {

using runtime::Task;
using Seconds = std::chrono::duration<double>;

constexpr std::size_t kPiece = 256 * 1024;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double since(std::chrono::steady_clock::time_point start) {
  return Seconds(std::chrono::steady_clock::now() - start).count();
}

Task<void> follow(Cursor& cursor, std::uint64_t until) {
  std::uint64_t at = 0;
  while (at < until) {
    const Result<std::uint64_t> now = co_await cursor.wait_past(at);
    if (!now || *now <= at) co_return;
    at = *now;
  }
}

// Every round starts when all readers wait, so each publish wakes them all.
void wake(std::size_t readers, std::size_t loop_count, std::uint64_t rounds) {
  runtime::LoopPool loops(loop_count);
  runtime::TaskGroup group("readers");
  Cursor cursor;
  cursor.attach();
  loops.start();
  for (std::size_t i = 0; i < readers; ++i) {
    group.spawn(loops.at(i % loop_count).get_executor(), follow(cursor, rounds));
  }
  std::vector<double> publishing;
  const double cpu = cpu_seconds();
  for (std::uint64_t i = 1; i <= rounds; ++i) {
    while (cursor.waiting() < readers) std::this_thread::sleep_for(std::chrono::microseconds{50});
    const auto start = std::chrono::steady_clock::now();
    cursor.advance(i);
    publishing.push_back(since(start));
  }
  group.wait_for(std::chrono::seconds{60});
  const double spent = cpu_seconds() - cpu;
  std::sort(publishing.begin(), publishing.end());
  fmt::print("wake   {:4} readers on {} loops: publish {:7.2f} us (median)   all CPU {:7.0f} ns a wake-up\n", readers,
             loop_count, publishing[publishing.size() / 2] * 1e6, spent * 1e9 / static_cast<double>(rounds * readers));
}

Task<void> write_all(std::shared_ptr<Pipe> pipe, std::uint64_t size) {
  const auto writer = std::make_shared<Writer>(pipe);
  writer->set_size(size);
  const std::vector<std::byte> piece(kPiece, std::byte{42});
  Result<void> written;
  for (std::uint64_t at = 0; written && at < size; at += kPiece) {
    written = co_await writer->write(
        std::span(piece).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size - at))));
  }
  (void)pipe->finish(written);
}

Task<void> read_all(std::unique_ptr<Stream> stream, runtime::Filesystem& filesystem,
                    std::atomic<std::uint64_t>& total) {
  std::vector<std::byte> buffer(kPiece);
  std::uint64_t at = 0;
  for (;;) {
    const Result<std::uint64_t> end = co_await stream->wait_readable(at);
    if (!end || *end == at) break;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, *end - at));
    const Result<std::size_t> got = filesystem.read_at(stream->file(), at, std::span(buffer).first(length));
    if (!got || *got == 0) break;
    at += *got;
    stream->advance(at);
  }
  total += at;
}

void transfer(const std::filesystem::path& directory, std::uint64_t size, std::size_t readers,
              std::optional<std::uint64_t> window) {
  runtime::PosixFilesystem filesystem;
  runtime::DiskPool disk(1);
  SystemClock clock;
  metrics::Registry registry;
  const Metrics metrics(registry);
  PipeParams params;
  params.window_bytes = window;
  params.hold_back_bytes = 1;
  const auto pipe = std::make_shared<Pipe>(params, clock, metrics);
  const std::filesystem::path path = directory / "bench-streamcache";
  Result<runtime::File> file = filesystem.create(path);
  if (!file) {
    fmt::print("{}\n", file.error().message);
    std::exit(1);
  }
  (void)filesystem.remove(path);
  pipe->open(make_file_storage(*std::move(file), path, filesystem, disk));

  std::atomic<std::uint64_t> total{0};
  runtime::LoopPool loops(2);
  runtime::TaskGroup group("transfer");
  const double cpu = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < readers; ++i) {
    group.spawn(loops.at(1).get_executor(), read_all(*pipe->open_reader(), filesystem, total));
  }
  group.spawn(loops.at(0).get_executor(), write_all(pipe, size));
  loops.start();
  group.wait_for(std::chrono::seconds{600});
  const double wall = since(start);
  const double gib = static_cast<double>(size) / (1 << 30);
  const double waited = static_cast<double>(metrics.backpressure_wait_nanoseconds->value()) / 1e9;
  fmt::print(
      "pipe   {:4} readers, window {:>5}: {:5.2f} s wall, {:5.2f} s CPU for a GiB written and {} read, writer waited "
      "{:.2f} s\n",
      readers, window ? fmt::format("{}M", *window >> 20) : "off", wall / gib, (cpu_seconds() - cpu) / gib,
      total == size * readers ? "all" : "NOT ALL", waited);
}

}  // namespace
}  // namespace sluice::streamcache

int main(int argc, char** argv) {
  using namespace sluice::streamcache;
  const std::filesystem::path directory =
      argc > 1 ? std::filesystem::path(argv[1]) : std::filesystem::temp_directory_path();
  const std::uint64_t size = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20;
  for (const std::size_t readers : {1, 50, 500}) wake(readers, 1, 2000);
  for (const std::size_t readers : {50, 500}) wake(readers, 4, 2000);
  // The first pass pays for memory that the page cache has not used before; it is the one to leave out.
  transfer(directory, size, 1, std::nullopt);
  for (const std::optional<std::uint64_t> window :
       {std::optional<std::uint64_t>(8 << 20), std::optional<std::uint64_t>()}) {
    transfer(directory, size, 1, window);
  }
  transfer(directory, size / 8, 50, 8 << 20);
}
