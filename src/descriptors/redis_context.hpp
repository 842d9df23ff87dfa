// RedisContext: one asynchronous context of hiredis on one event loop; our adapter between hiredis and Asio.
//
//   connecting ──connected()──▶ connected ──replied()…──▶ closed, by close() or with broken()
//
// hiredis never sees our code: what it calls only notes what happened, and the listener is told when hiredis has
// returned. So a listener may close the context at any time, and no exception passes through C.
//
// Two habits of hiredis 0.14 are kept from doing harm: it asserts (and so ends the process) when a server answers more
// than it was asked, and it allocates whatever length an array claims. Its reader's functions are wrapped to refuse
// both, which breaks the connection.
//
// Threads: the loop's thread alone. Owned by a RedisConnection; a pending wait of the reactor keeps it alive until
// close(), which must come before the listener is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <hiredis/async.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "base/result.hpp"
#include "descriptors/redis_reply.hpp"
#include "runtime/loop.hpp"

namespace sluice::descriptors {

class RedisContext final : public std::enable_shared_from_this<RedisContext> {
 public:
  class Listener {
   public:
    virtual void connected() = 0;
    // The answers come in the order of the commands.
    virtual void replied(RedisReply reply) = 0;
    // The last call: the connection is gone, answers to what is in flight will not come.
    virtual void broken(std::string why) = 0;

   protected:
    ~Listener() = default;
  };

  // Starts connecting and does not block. Errors: upstream_unreachable.
  static Result<std::shared_ptr<RedisContext>> connect(runtime::Loop& loop, Listener& listener, const std::string& ip,
                                                       std::uint16_t port);
  static Result<std::shared_ptr<RedisContext>> connect(runtime::Loop& loop, Listener& listener,
                                                       const std::string& path);

  explicit RedisContext(runtime::Loop& loop, Listener& listener);
  RedisContext(const RedisContext&) = delete;
  RedisContext& operator=(const RedisContext&) = delete;
  ~RedisContext();

  // Queues a command; all that are sent in one turn of the loop leave in one write. False when it could not be queued,
  // and then it will not be answered.
  bool send(const RedisCommand& command);

  // The listener is not called any more. Idempotent.
  void close() noexcept;

 private:
  struct Hooks;

  Result<void> attach(redisAsyncContext* context);
  template <class Step>
  void step(Step step);
  void deliver();
  void wait_to_read();
  void wait_to_write();
  void flush_soon();
  [[nodiscard]] bool is_connected() const noexcept;
  bool may_begin(const redisReadTask& task) noexcept;

  runtime::Loop& loop_;
  Listener* listener_;
  redisAsyncContext* context_ = nullptr;
  boost::asio::posix::basic_stream_descriptor<runtime::Executor> descriptor_;

  bool want_read_ = false;
  bool want_write_ = false;
  bool reading_ = false;  // a wait is pending
  bool writing_ = false;  // a wait is pending
  bool flush_posted_ = false;
  bool in_hiredis_ = false;
  bool told_connected_ = false;

  std::size_t expected_ = 0;  // answers that have not begun to arrive
  std::vector<RedisReply> replies_;
  std::string why_;
  redisReplyObjectFunctions* default_functions_ = nullptr;
  redisReplyObjectFunctions functions_{};
};

}  // namespace sluice::descriptors
