#include "http/connect_race.hpp"

#include <algorithm>
#include <list>
#include <memory>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/timer.hpp"

namespace sluice::http {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

// Shared with the attempts' handlers, which may run after the race is over. One loop's thread alone.
struct Race {
  explicit Race(const runtime::Executor& on) : executor(on), wake(on) {}

  const runtime::Executor executor;
  std::list<TcpSocket> attempts;
  std::size_t running = 0;
  TcpSocket* winner = nullptr;
  boost::system::error_code last_error = asio::error::host_unreachable;
  bool moved = false;  // an attempt has ended since somebody looked
  runtime::Timer wake;
};

void start(const std::shared_ptr<Race>& race, const asio::ip::tcp::endpoint& endpoint) {
  TcpSocket& socket = race->attempts.emplace_back(race->executor);
  ++race->running;
  socket.async_connect(endpoint, [race, &socket](const boost::system::error_code& error) {
    --race->running;
    if (!error && race->winner == nullptr) race->winner = &socket;
    if (error) race->last_error = error;
    race->moved = true;
    race->wake.cancel();
  });
}

// However the race ends, also when its task is unwound.
struct End {
  std::shared_ptr<Race> race;
  ~End() {
    boost::system::error_code ignored;
    for (TcpSocket& attempt : race->attempts) attempt.close(ignored);
  }
};

}  // namespace

TcpEndpoints alternate_families(const TcpEndpoints& endpoints) {
  TcpEndpoints first;
  TcpEndpoints second;
  for (const auto& endpoint : endpoints) {
    (endpoint.address().is_v6() == endpoints.front().address().is_v6() ? first : second).push_back(endpoint);
  }
  TcpEndpoints out;
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) out.push_back(first[i]);
    if (i < second.size()) out.push_back(second[i]);
  }
  return out;
}

runtime::Task<RaceOutcome> race_to_connect(TcpEndpoints endpoints, steady_clock::time_point until,
                                           std::chrono::milliseconds delay) {
  const runtime::Executor executor = co_await asio::this_coro::executor;
  const End end{std::make_shared<Race>(executor)};
  Race& race = *end.race;
  std::size_t next = 0;
  auto start_next = steady_clock::now();
  while (true) {
    if (next < endpoints.size() && (race.running == 0 || steady_clock::now() >= start_next)) {
      start(end.race, endpoints[next++]);
      start_next = steady_clock::now() + delay;
    }
    if (race.running == 0) co_return RaceOutcome{TcpSocket(executor), race.last_error, false};
    race.moved = false;
    race.wake.expires_at(next < endpoints.size() ? std::min(until, start_next) : until);
    const auto [interrupted] = co_await race.wake.async_wait(runtime::kAwaitTuple);
    if (race.winner != nullptr) co_return RaceOutcome{std::move(*race.winner), {}, false};
    if (race.moved) {
      start_next = steady_clock::now();  // one has failed: the next one need not wait
    } else if (interrupted) {
      co_return RaceOutcome{TcpSocket(executor), asio::error::operation_aborted, false};
    }
    if (steady_clock::now() >= until) co_return RaceOutcome{TcpSocket(executor), asio::error::timed_out, true};
  }
}

}  // namespace sluice::http
