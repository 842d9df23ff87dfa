#include "access/fair_pool.hpp"

#include <memory>
#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

namespace sluice::access {
namespace {

namespace asio = boost::asio;

}  // namespace

FairPool::FairPool(const Params& params) : params_(params), pool_(params.threads) {}

bool FairPool::post(const IpAddress& client, Work work) {
  {
    const std::scoped_lock lock(mutex_);
    if (count_ >= params_.max_waiting) return false;
    const auto at = queues_.find(client);
    const std::size_t already = at == queues_.end() ? 0 : at->second.count;
    if (already >= params_.max_waiting_per_client) return false;
    Queue& queue = at == queues_.end() ? queues_[client] : at->second;
    if (queue.waiting.empty()) turns_.push_back(client);
    queue.waiting.push_back(std::move(work));
    ++queue.count;
    ++count_;
  }
  // One call for each piece of work, but not for this very one.
  pool_.post(runtime::Lane::bulk, [this] { run_next(); });
  return true;
}

void FairPool::run_next() {
  IpAddress client;
  Work work;
  {
    const std::scoped_lock lock(mutex_);
    client = turns_.front();
    turns_.pop_front();
    Queue& queue = queues_.at(client);
    work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    if (!queue.waiting.empty()) turns_.push_back(client);
  }
  work();
  const std::scoped_lock lock(mutex_);
  --count_;
  const auto at = queues_.find(client);
  if (--at->second.count == 0) queues_.erase(at);
}

runtime::Task<std::optional<bool>> FairPool::run(IpAddress client, std::function<bool()> work) {
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<runtime::Executor>, void(std::optional<bool>)>(
      [this, client](auto handler, std::function<bool()> of) {
        // Shared, because std::function wants copyable and a coroutine's handler is not.
        auto done = std::make_shared<decltype(handler)>(std::move(handler));
        auto executor = asio::get_associated_executor(*done);
        const auto resume = [done, guard = asio::make_work_guard(executor)](std::optional<bool> result) {
          asio::post(guard.get_executor(), [done, result] { std::move (*done)(result); });
        };
        if (!post(client, [resume, of = std::move(of)] { resume(of()); })) resume(std::nullopt);
      },
      runtime::kAwait, std::move(work));
}

}  // namespace sluice::access
