#include "http/client_pool.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "runtime/timer.hpp"

namespace sluice::http {

using runtime::Task;
using std::chrono::steady_clock;

class Client::Pool::Waiter {
 public:
  Waiter(Pool& pool, Host& host) : pool_(pool), host_(host), timer_(pool.loop()) {
    host_.waiters.push_back(this);
    at_ = std::prev(host_.waiters.end());
  }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() {
    if (granted_ && !taken_) pool_.release(host_);
    if (!granted_) host_.waiters.erase(at_);
  }

  // Has been taken off the list.
  void grant() {
    granted_ = true;
    timer_.cancel();
  }
  Task<Result<void>> wait(const Url& url, steady_clock::duration patience) {
    timer_.expires_after(patience);
    const auto [error] = co_await timer_.async_wait(runtime::kAwaitTuple);
    if (granted_) {
      taken_ = true;
      co_return Result<void>{};
    }
    if (error) co_return Error(Errc::cancelled, "cancelled while waiting for a connection to " + url.authority());
    co_return Error(Errc::overloaded, fmt::format("timed out waiting for a free connection to {}: {} are busy",
                                                  url.authority(), host_.active));
  }

 private:
  Pool& pool_;
  Host& host_;
  runtime::Timer timer_;
  std::list<Waiter*>::iterator at_;
  bool granted_ = false;
  bool taken_ = false;
};

Task<Result<Client::Pool::Host*>> Client::Pool::enter(const Url& url, std::shared_ptr<const Channel> channel,
                                                      steady_clock::duration patience) {
  const auto at = hosts_.try_emplace(Key(channel.get(), url.scheme, url.host, url.port)).first;
  Host& host = at->second;
  if (!host.channel) {
    host.at = at;
    host.limit = std::max<std::size_t>(channel->max_connections_per_host, 1);
    host.channel = std::move(channel);
  }
  if (host.active < host.limit && host.waiters.empty()) {
    ++host.active;
    co_return &host;
  }
  Waiter waiter(*this, host);
  Result<void> waited = co_await waiter.wait(url, patience);
  if (!waited) co_return waited.error();
  co_return &host;
}

void Client::Pool::release(Host& host) noexcept {
  if (host.waiters.empty()) {
    --host.active;
    // Redirects lead to ever new hosts, some of which keep no connection.
    if (host.active == 0 && host.idle.empty()) hosts_.erase(host.at);
    return;
  }
  Waiter* next = host.waiters.front();
  host.waiters.pop_front();
  next->grant();
}

std::unique_ptr<ClientConnection> Client::Pool::take_idle(Host& host, const std::optional<Referral>& referral) {
  while (!host.idle.empty()) {
    std::unique_ptr<ClientConnection> connection = std::move(host.idle.back());
    host.idle.pop_back();
    // It may have been made for the word of another server.
    if (!connection->is_permitted(referral)) continue;
    const bool young = steady_clock::now() - connection->idle_since < params_.idle_age;
    // Anything that came unasked, a close above all, ends its life.
    if (young && connection->pending() == ClientConnection::Pending::nothing) return connection;
  }
  return nullptr;
}

void Client::Pool::put_idle(Host& host, std::unique_ptr<ClientConnection> connection) {
  if (params_.idle_limit_per_host == 0) return;
  if (host.idle.size() >= params_.idle_limit_per_host) host.idle.erase(host.idle.begin());
  connection->trim();
  connection->idle_since = steady_clock::now();
  host.idle.push_back(std::move(connection));
  if (!reaping_) {
    reaping_ = true;
    reaper_.arm(params_.idle_age);
  }
}

void Client::Pool::drop_one_idle(Host& host) {
  if (!host.idle.empty()) host.idle.erase(host.idle.begin());
}

void Client::Pool::drop_all_idle(Host& host) { host.idle.clear(); }

void Client::Pool::reap() {
  const auto now = steady_clock::now();
  auto oldest = steady_clock::time_point::max();
  for (auto at = hosts_.begin(); at != hosts_.end();) {
    Host& host = at->second;
    std::erase_if(host.idle, [&](const auto& connection) { return now - connection->idle_since >= params_.idle_age; });
    if (!host.idle.empty()) oldest = std::min(oldest, host.idle.front()->idle_since);
    at = host.idle.empty() && host.active == 0 && host.waiters.empty() ? hosts_.erase(at) : std::next(at);
  }
  reaping_ = oldest != steady_clock::time_point::max();
  if (reaping_) reaper_.arm(oldest + params_.idle_age - now);
}

std::size_t Client::Pool::idle() const {
  std::size_t n = 0;
  for (const auto& [key, host] : hosts_) n += host.idle.size();
  return n;
}

}  // namespace sluice::http
