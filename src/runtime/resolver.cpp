#include "runtime/resolver.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "runtime/timer.hpp"

namespace sluice::runtime {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

// Somebody who waits. `done` is touched on the executor's thread alone; empty: he has left.
struct Waiter {
  const Executor executor;
  std::function<void(Result<Resolver::Addresses>)> done;
};

std::optional<asio::ip::address> address_of(const sockaddr& from) {
  if (from.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &from, sizeof v4);
    return asio::ip::address_v4(ntohl(v4.sin_addr.s_addr));
  }
  if (from.sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &from, sizeof v6);
    asio::ip::address_v6::bytes_type bytes{};
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return asio::ip::address_v6(bytes, v6.sin6_scope_id);
  }
  return std::nullopt;
}

// Blocks.
Result<Resolver::Addresses> ask_system(const std::string& host) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(host.c_str(), nullptr, &wanted, &found); failed != 0) {
    return Error(Errc::upstream_unreachable, fmt::format("resolve {}: {}", host, ::gai_strerror(failed)));
  }
  Resolver::Addresses addresses;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_addr == nullptr) continue;
    if (const auto address = address_of(*at->ai_addr)) addresses.push_back(*address);
  }
  ::freeaddrinfo(found);
  if (addresses.empty()) return Error(Errc::upstream_unreachable, fmt::format("resolve {}: no address", host));
  return addresses;
}

}  // namespace

struct Resolver::State : std::enable_shared_from_this<Resolver::State> {
  using Waiters = std::vector<std::shared_ptr<Waiter>>;

  explicit State(LookUp by) : look_up(std::move(by)) {}

  const LookUp look_up;
  std::mutex mutex;                        // guards running
  std::map<std::string, Waiters> running;  // names being looked up, and who waits for each

  Result<void> join(const std::string& host, const std::shared_ptr<Waiter>& waiter);
  void leave(const std::string& host, const std::shared_ptr<Waiter>& waiter);
  void finish(const std::string& host, const Result<Addresses>& answer);
};

// Starts the look-up where there is none.
Result<void> Resolver::State::join(const std::string& host, const std::shared_ptr<Waiter>& waiter) {
  const std::scoped_lock lock(mutex);
  if (const auto at = running.find(host); at != running.end()) {
    at->second.push_back(waiter);
    return {};
  }
  if (running.size() >= kMaxLookups) {
    return Error(Errc::overloaded, fmt::format("resolve {}: {} names are being looked up already", host, kMaxLookups));
  }
  running[host].push_back(waiter);
  try {
    std::thread([self = shared_from_this(), host] { self->finish(host, self->look_up(host)); }).detach();
  } catch (const std::system_error& error) {
    running.erase(host);
    return Error(Errc::overloaded, fmt::format("resolve {}: {}", host, error.what()));
  }
  return {};
}

void Resolver::State::leave(const std::string& host, const std::shared_ptr<Waiter>& waiter) {
  const std::scoped_lock lock(mutex);
  if (const auto at = running.find(host); at != running.end()) std::erase(at->second, waiter);
}

// On the look-up's thread. Posted under the lock: who is in the list has not left, so its loop is there.
void Resolver::State::finish(const std::string& host, const Result<Addresses>& answer) {
  const std::scoped_lock lock(mutex);
  const auto at = running.find(host);
  for (std::shared_ptr<Waiter>& waiter : at->second) {
    const Executor executor = waiter->executor;
    asio::post(executor, [waiter = std::move(waiter), answer] {
      if (const auto done = std::exchange(waiter->done, nullptr)) done(answer);
    });
  }
  running.erase(at);
}

Resolver::Resolver() : Resolver(ask_system) {}
Resolver::Resolver(LookUp look_up) : state_(std::make_shared<State>(std::move(look_up))) {}
Resolver::~Resolver() = default;

class Resolver::Inquiry {
 public:
  Inquiry(std::shared_ptr<State> state, std::string host, std::shared_ptr<Waiter> waiter)
      : state_(std::move(state)), host_(std::move(host)), waiter_(std::move(waiter)) {}
  Inquiry(const Inquiry&) = delete;
  Inquiry& operator=(const Inquiry&) = delete;
  ~Inquiry() {
    state_->leave(host_, waiter_);
    waiter_->done = nullptr;
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string host_;
  const std::shared_ptr<Waiter> waiter_;
};

Result<std::shared_ptr<Resolver::Inquiry>> Resolver::inquire(std::string host, Executor executor,
                                                             std::function<void(Result<Addresses>)> done) {
  const auto waiter = std::make_shared<Waiter>(Waiter{executor, std::move(done)});
  if (Result<void> joined = state_->join(host, waiter); !joined) return joined.error();
  return std::make_shared<Inquiry>(state_, std::move(host), waiter);
}

Task<Result<Resolver::Addresses>> Resolver::resolve(std::string host, steady_clock::time_point until) {
  const Executor executor = co_await asio::this_coro::executor;
  Timer timer(executor, until);
  std::optional<Result<Addresses>> answer;
  // It leaves however this ends, also when the task is unwound.
  const auto inquiry = inquire(host, executor, [&timer, &answer](Result<Addresses> found) {
    answer = std::move(found);
    timer.cancel();
  });
  if (!inquiry) co_return inquiry.error();
  const auto [interrupted] = co_await timer.async_wait(kAwaitTuple);
  if (answer) co_return *answer;
  if (!interrupted) co_return Error(Errc::upstream_timeout, fmt::format("resolve {}: timed out", host));
  co_return Error(Errc::cancelled, fmt::format("resolve {}: cancelled", host));
}

}  // namespace sluice::runtime
