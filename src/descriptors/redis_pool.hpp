// RedisPool: the connections of one event loop, and how a request finds its way to one of them.
//
// Requests share connections: each goes to the one with the fewest in flight, and another is opened beside them when
// that is many. One connection is opened at a time, at the addresses in turn, beginning with the one that served last.
//
// Threads: its loop's thread alone, but for `used`. Owned by the RedisDescriptorCache, shared with posted handlers.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "descriptors/redis_batch.hpp"
#include "descriptors/redis_breaker.hpp"
#include "descriptors/redis_connection.hpp"
#include "descriptors/redis_params.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"

namespace sluice::descriptors {

struct RedisMetrics {
  explicit RedisMetrics(metrics::Registry& registry);

  metrics::Counter& errors(RedisFailure::Reason reason) { return *errors_[static_cast<std::size_t>(reason)]; }

  metrics::Gauge& breaker_open;
  metrics::Gauge& connections;
  metrics::Counter& connects;
  metrics::Counter& skipped;

 private:
  std::vector<metrics::Counter*> errors_;  // by Reason
};

class RedisPool final : public std::enable_shared_from_this<RedisPool>, private RedisConnection::Owner {
 public:
  // All must outlive it.
  RedisPool(runtime::Loop& loop, runtime::Resolver& resolver, const RedisParams& params, RedisBreaker& breaker,
            RedisMetrics& metrics);
  RedisPool(const RedisPool&) = delete;
  RedisPool& operator=(const RedisPool&) = delete;
  virtual ~RedisPool();

  struct Answer {
    std::vector<RedisReply> replies;  // one for each command
    std::uint64_t epoch = 0;          // for a complaint to the breaker
  };

  // The answers to `commands`, which leave in one write and are not mixed with others. Sent a second time when the
  // connection broke: they must bear that. None of the answers is an error but for wrong types and want of memory.
  // Errors: overloaded while Redis is out of reach, and when it was found to be; cancelled; closed.
  runtime::Task<Result<Answer>> execute(std::vector<RedisCommand> commands);

  // Ends everything. From then on execute() says `closed`.
  void close();

  [[nodiscard]] runtime::Loop& loop() noexcept { return loop_; }
  // Whether there may be anything to close. From any thread.
  [[nodiscard]] bool used() const noexcept { return used_; }

 private:
  void ready(RedisConnection& connection) override;
  void closed(RedisConnection& connection, const RedisFailure& why) override;

  void submit(const std::shared_ptr<RedisBatch>& batch);
  runtime::Task<Result<void>> wait(std::shared_ptr<RedisBatch> batch);
  void give_up(RedisBatch& batch);
  void drop(const RedisConnection* connection, const RedisFailure& why);
  void probe();
  void open();
  void open_next();
  [[nodiscard]] RedisConnection* least_loaded() noexcept;

  runtime::Loop& loop_;
  runtime::Resolver& resolver_;
  const RedisParams& params_;
  RedisBreaker& breaker_;
  RedisMetrics& metrics_;
  std::atomic<bool> used_{false};
  bool closed_ = false;

  std::vector<std::shared_ptr<RedisConnection>> ready_;
  std::shared_ptr<RedisConnection> opening_;
  std::size_t address_ = 0;  // the one that is tried first
  std::size_t tried_ = 0;    // by the present opening
  bool probing_ = false;     // the breaker waits for the present opening
  std::deque<std::shared_ptr<RedisBatch>> waiting_;
};

}  // namespace sluice::descriptors
