// Debian's redis-server, started for one test, and a blocking client to look at what is in it.
//
// It listens on a free port of 127.0.0.1 and on a Unix socket in a temporary directory, keeps nothing on disk, and is
// gone with the object. Threads: the test's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "descriptors/redis_descriptor_cache.hpp"
#include "descriptors/redis_reply.hpp"
#include "support/loop_runner.hpp"
#include "support/temp_directory.hpp"

namespace sluice::test {

class RedisServer {
 public:
  // Further words of its command line.
  explicit RedisServer(std::vector<std::string> options = {});
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  // Whether this machine has one.
  static bool installed();

  void kill();
  void start();  // again, on the same port
  void pause();  // until resume(): it accepts connections and says nothing
  void resume();

  [[nodiscard]] descriptors::RedisAddress tcp() const { return {"127.0.0.1", port_, ""}; }
  [[nodiscard]] descriptors::RedisAddress unix_socket() const { return {"", 6379, socket_}; }

  // Runs a command, in the given database. Throws where Redis cannot be reached.
  descriptors::RedisReply run(const descriptors::RedisCommand& command, unsigned database = 0);
  // What `run` answers as one text: numbers in digits, the elements of an array sorted and joined by spaces.
  std::string ask(const descriptors::RedisCommand& command, unsigned database = 0);

  // For run() and ask().
  std::string username;
  std::string password;

 private:
  bool answers();

  TempDirectory directory_;
  std::vector<std::string> options_;
  std::string socket_;
  std::uint16_t port_ = 0;
  pid_t pid_ = 0;
};

// A port of 127.0.0.1 on which nobody listens.
std::uint16_t free_port();

// A provider on loops of its own. Its breaker's pauses pass when the test moves the clock, its time-outs by themselves.
struct RedisClient {
  // `marks` outlives it.
  explicit RedisClient(descriptors::RedisParams params, std::size_t loop_count = 1,
                       const descriptors::RightsMarks* marks = nullptr);
  ~RedisClient();

  template <class T>
  T run(runtime::Task<T> task, std::size_t loop = 0) {
    return loops.run(std::move(task), loop);
  }
  std::shared_ptr<descriptors::BlobDescriptorService> scoped(const std::string& repository) {
    return cache->repository_scoped(repository).value();
  }
  std::uint64_t errors(const std::string& reason);
  std::uint64_t skipped();
  std::uint64_t connects();
  bool breaker_open();
  // Lets a pause of the breaker pass and probes until it is closed, or gives up after a while.
  bool recovers();

  metrics::Registry registry;
  ManualClock clock;
  LoopRunner loops;
  std::unique_ptr<descriptors::RedisDescriptorCache> cache;
};

// One address, and patience enough for a busy machine.
descriptors::RedisParams params_for(const descriptors::RedisAddress& address);

}  // namespace sluice::test

// Catch 2 cannot skip: says why and ends the test.
#define REQUIRE_REDIS()                                                         \
  if (!sluice::test::RedisServer::installed()) {                                \
    WARN("not tested: redis-server is not installed (./dev test installs it)"); \
    return;                                                                     \
  }
