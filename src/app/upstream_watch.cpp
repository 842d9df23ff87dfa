#include "app/upstream_watch.hpp"

#include <chrono>
#include <vector>

#include <fmt/format.h>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

namespace sluice::app {
namespace {

constexpr std::chrono::seconds kPause{30};

}  // namespace

UpstreamWatch::UpstreamWatch(admin::Readiness& readiness) : condition_(readiness.add("upstreams")) { condition_.met(); }

void UpstreamWatch::tell(std::string_view upstream, std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (why.empty()) {
    const auto known = wrong_.find(upstream);
    if (known == wrong_.end()) return;
    wrong_.erase(known);
  } else {
    wrong_.insert_or_assign(std::string(upstream), std::string(why));
  }
  show();
}

void UpstreamWatch::show() {
  std::string remark;
  for (const auto& [name, why] : wrong_) remark += fmt::format("{}{} {}", remark.empty() ? "" : "; ", name, why);
  remark.empty() ? condition_.met() : condition_.met_but(remark + "; what is stored is served");
}

runtime::Task<void> UpstreamWatch::keep_asking(const proxy::Upstreams& upstreams) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  runtime::asio::basic_waitable_timer<std::chrono::steady_clock, runtime::asio::wait_traits<std::chrono::steady_clock>,
                                      runtime::Executor>
      timer(executor);
  std::vector<std::string> to_ask{upstreams.default_name()};
  for (;;) {
    for (const std::string& name : to_ask) {
      const std::shared_ptr<upstream::Registry> registry = upstreams.find(name);
      if (registry == nullptr) continue;
      // How it went, the registry tells whoever watches it.
      const Result<void> pinged = co_await registry->ping();
      static_cast<void>(pinged);
    }
    timer.expires_after(kPause);
    co_await timer.async_wait(runtime::kAwait);
    const std::scoped_lock lock(mutex_);
    to_ask.clear();
    for (const auto& [name, why] : wrong_) to_ask.push_back(name);
  }
}

}  // namespace sluice::app
