// RedisConnection: a connection to one address of Redis, from the look-up of its name to its end.
//
//   new ──open()──▶ resolving ──▶ connecting (each IP address in turn) ──▶ greeting ──▶ ready ──▶ closed
//        └──────────────── any failure: closed, and the owner is told ────────────────┘
//
// The greeting is AUTH and SELECT where they are needed, and HDEL of a hash that nobody uses: a harmless command of
// the kind that we need, which a server that is loading, read-only or not allowing us to write refuses. A greeting that
// was answered too late to be of use is repeated.
//
// Threads: the loop's thread alone. Owned by a RedisPool.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>

#include "descriptors/redis_batch.hpp"
#include "descriptors/redis_context.hpp"
#include "descriptors/redis_params.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "runtime/resolver.hpp"

namespace sluice::descriptors {

class RedisConnection final : public std::enable_shared_from_this<RedisConnection>, private RedisContext::Listener {
 public:
  class Owner {
   public:
    virtual void ready(RedisConnection& connection) = 0;
    // It is over; its batches have been failed. May let go of it.
    virtual void closed(RedisConnection& connection, const RedisFailure& why) = 0;

   protected:
    ~Owner() = default;
  };

  // `resolver` and `params` must outlive it.
  RedisConnection(runtime::Loop& loop, runtime::Resolver& resolver, const RedisParams& params, Owner& owner);
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;
  virtual ~RedisConnection();

  // Once. `patience` is how long the greeting may take. May tell the owner before it returns.
  void open(const RedisAddress& address, std::chrono::milliseconds patience);

  // When ready. The commands stay together, also among those of other batches.
  void send(std::shared_ptr<RedisBatch> batch);

  // Fails what is in flight. The owner is not told. Idempotent.
  void close(const RedisFailure& why);

  [[nodiscard]] std::size_t in_flight() const noexcept { return batches_.size(); }

 private:
  enum class State : std::uint8_t { idle, resolving, connecting, greeting, ready, closed };

  void connected() override;
  void replied(RedisReply reply) override;
  void broken(std::string why) override;

  void resolve();
  void connect_next();
  void greet();
  void greeted(const RedisReply& reply);
  void expired();
  void fail(RedisFailure::Reason reason, std::string_view why);

  runtime::Loop& loop_;
  runtime::Resolver& resolver_;
  const RedisParams& params_;
  Owner* owner_;
  State state_ = State::idle;
  RedisAddress address_;
  std::chrono::milliseconds patience_{0};
  runtime::Deadline deadline_;
  std::shared_ptr<runtime::Resolver::Inquiry> inquiry_;
  std::deque<std::string> ips_;  // still to be tried
  std::string last_failure_;
  std::shared_ptr<RedisContext> context_;
  std::deque<std::string> greeting_;  // the names of the commands that have not been answered
  std::chrono::steady_clock::time_point greeted_at_;
  std::deque<std::shared_ptr<RedisBatch>> batches_;  // in flight, the oldest first
};

}  // namespace sluice::descriptors
