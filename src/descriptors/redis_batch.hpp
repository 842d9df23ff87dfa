// RedisBatch: commands that go out together on one connection, and who waits for their answers.
//
//   waiting (in a pool's queue, or in flight on a connection) ──complete() or fail()──▶ done
//
// Threads: the thread of its loop alone. Shared by whoever waits and by who holds it in a queue.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "descriptors/redis_reply.hpp"
#include "runtime/loop.hpp"
#include "runtime/timer.hpp"

namespace sluice::descriptors {

struct RedisFailure {
  enum class Reason : std::uint8_t {
    connect,   // no address could be reached
    timeout,   // connected, or nearly, and no answer in time
    broken,    // the connection ended before the answer
    refused,   // the server does not serve us
    nonsense,  // an answer of the wrong kind
    closed,    // the provider was closed
  };
  Reason reason = Reason::broken;
  std::string message;
};

class RedisConnection;

struct RedisBatch {
  RedisBatch(runtime::Loop& loop, std::vector<RedisCommand> what)
      : commands(std::move(what)), timer(loop.get_executor()) {}

  void complete() {
    done = true;
    timer.cancel();
  }
  void fail(RedisFailure why) {
    failure = std::move(why);
    complete();
  }
  // To be sent once more.
  void reset() {
    done = false;
    failure.reset();
    replies.clear();
    connection = nullptr;
  }

  const std::vector<RedisCommand> commands;
  std::vector<RedisReply> replies;  // in the order of the commands; as many, when done without a failure
  std::optional<RedisFailure> failure;
  bool done = false;
  bool abandoned = false;  // nobody waits any more; what has not left need not
  // That it went to. It lives while the batch is in flight; afterwards this is a name for it and no more.
  const RedisConnection* connection = nullptr;

  // Waited for until the deadline of the request; complete() cuts that short.
  runtime::Timer timer;
};

}  // namespace sluice::descriptors
