#include "proxy/resume.hpp"

#include <algorithm>
#include <random>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

namespace sluice::proxy {

namespace asio = boost::asio;

runtime::Task<void> back_off(ResumeParams params, std::size_t failures) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const auto limit = std::chrono::milliseconds(5000);
  auto wait = params.backoff * (1 << std::min<std::size_t>(failures, 10));
  wait = std::min<std::chrono::milliseconds>(wait, limit);
  const double factor = 0.5 + 0.5 * std::uniform_real_distribution<double>(0, 1)(random);
  const runtime::Executor executor = co_await asio::this_coro::executor;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, runtime::Executor>
      timer(executor);
  timer.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait * factor));
  co_await timer.async_wait(runtime::kAwait);
}

}  // namespace sluice::proxy
