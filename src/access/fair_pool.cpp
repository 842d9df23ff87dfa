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
    const auto at = counts_.find(client);
    if (at != counts_.end() && at->second >= params_.max_waiting_per_client) return false;
    waiting_.push(client, {client, std::move(work)});
    ++counts_[client];
    ++count_;
  }
  // One call for each piece of work, but not for this very one.
  pool_.post(runtime::Lane::bulk, [this] { run_next(); });
  return true;
}

void FairPool::run_next() {
  Job job;
  {
    const std::scoped_lock lock(mutex_);
    job = std::move(waiting_.front());
    waiting_.pop();
  }
  job.work();
  const std::scoped_lock lock(mutex_);
  --count_;
  const auto at = counts_.find(job.client);
  if (--at->second == 0) counts_.erase(at);
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
