#include "descriptors/redis_pool.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <utility>

namespace sluice::descriptors {
namespace {

namespace asio = boost::asio;
using Reason = RedisFailure::Reason;

// With so many in flight on each connection another one is worth its memory.
constexpr std::size_t kManyInFlight = 64;

constexpr std::array<std::string_view, 6> kReasons{"connect", "timeout", "broken", "refused", "nonsense", "closed"};

Error error_of(const RedisFailure& failure) {
  if (failure.reason == Reason::closed) return {Errc::closed, failure.message};
  return {Errc::overloaded, "Redis is out of reach: " + failure.message};
}

}  // namespace

RedisMetrics::RedisMetrics(metrics::Registry& registry)
    : breaker_open(
          registry.gauge("sluice_descriptor_redis_breaker_open", "1 while Redis is bypassed because it failed")),
      connections(registry.gauge("sluice_descriptor_redis_connections", "Connections to Redis that are ready")),
      connects(registry.counter("sluice_descriptor_redis_connects_total", "Connections to Redis that became ready")),
      skipped(registry.counter("sluice_descriptor_redis_skipped_total",
                               "Requests that bypassed Redis because it had failed")) {
  for (const std::string_view reason : kReasons) {
    errors_.push_back(&registry.counter("sluice_descriptor_redis_errors_total",
                                        "Requests to Redis that failed, by what went wrong",
                                        {{"reason", std::string(reason)}}));
  }
}

RedisPool::RedisPool(runtime::Loop& loop, runtime::Resolver& resolver, const RedisParams& params, RedisBreaker& breaker,
                     RedisMetrics& metrics)
    : loop_(loop), resolver_(resolver), params_(params), breaker_(breaker), metrics_(metrics) {}

RedisPool::~RedisPool() { close(); }

runtime::Task<Result<RedisPool::Answer>> RedisPool::execute(std::vector<RedisCommand> commands) {
  if (closed_) co_return Error(Errc::closed, "the connections to Redis are closed");
  const RedisBreaker::Ticket ticket = breaker_.admit();
  if (!ticket.admitted) {
    if (ticket.probe) probe();
    co_return Error(Errc::overloaded, "Redis is unavailable and bypassed");
  }
  const auto batch = std::make_shared<RedisBatch>(loop_, std::move(commands));
  batch->timer.expires_after(params_.command_timeout);
  for (bool again = false;; again = true) {
    submit(batch);
    if (const Result<void> waited = co_await wait(batch); !waited) co_return waited.error();
    // A connection that Redis or a firewall closed meanwhile says nothing about Redis: one more try tells.
    const bool broken = batch->failure && batch->failure->reason == Reason::broken;
    if (!broken || again || closed_) break;
    batch->reset();
  }
  if (!batch->failure) {
    for (const RedisReply& reply : batch->replies) {
      if (verdict_on(reply) != RedisVerdict::refused) continue;
      batch->failure = RedisFailure{Reason::refused, reply.text.empty() ? "it refuses" : reply.text.substr(0, 200)};
      // The next one may be to another address.
      drop(batch->connection, *batch->failure);
      break;
    }
  }
  if (!batch->failure) {
    co_return Answer{std::move(batch->replies), ticket.epoch};
  }
  metrics_.errors(batch->failure->reason).add();
  if (batch->failure->reason != Reason::closed) breaker_.failed(ticket.epoch, batch->failure->message);
  co_return error_of(*batch->failure);
}

// Until the batch is done, its time is up (which fails it) or the caller is cancelled.
runtime::Task<Result<void>> RedisPool::wait(std::shared_ptr<RedisBatch> batch) {
  // Not suspended between this look and the wait, so the end is not missed.
  if (batch->done) co_return Result<void>();
  const auto [ec] = co_await batch->timer.async_wait(runtime::kAwaitTuple);
  if (batch->done) co_return Result<void>();
  batch->abandoned = true;
  if (ec) {
    std::erase(waiting_, batch);
    co_return Error(Errc::cancelled);
  }
  give_up(*batch);
  co_return Result<void>();
}

void RedisPool::give_up(RedisBatch& batch) {
  if (batch.connection != nullptr) {
    // Its other answers are as late, or come after this one.
    drop(batch.connection, {Reason::timeout, "no answer in time"});
    return;
  }
  std::erase_if(waiting_, [&](const auto& other) { return other.get() == &batch; });
  batch.fail({Reason::timeout, "no connection in time"});
}

void RedisPool::submit(const std::shared_ptr<RedisBatch>& batch) {
  if (closed_) return batch->fail({Reason::closed, "the connections to Redis are closed"});
  used_ = true;
  RedisConnection* const connection = least_loaded();
  if (connection == nullptr) {
    waiting_.push_back(batch);
    open();
    return;
  }
  if (connection->in_flight() >= kManyInFlight && ready_.size() < params_.pool_size) open();
  connection->send(batch);
}

RedisConnection* RedisPool::least_loaded() noexcept {
  const auto at = std::min_element(ready_.begin(), ready_.end(),
                                   [](const auto& a, const auto& b) { return a->in_flight() < b->in_flight(); });
  return at == ready_.end() ? nullptr : at->get();
}

// A ready connection that is of no use any more.
void RedisPool::drop(const RedisConnection* connection, const RedisFailure& why) {
  const auto at = std::find_if(ready_.begin(), ready_.end(), [&](const auto& one) { return one.get() == connection; });
  if (at == ready_.end()) return;
  const std::shared_ptr<RedisConnection> dropped = std::move(*at);
  ready_.erase(at);
  metrics_.connections.add(-1);
  // One that merely ended may have been idle for too long; one that fails us is tried last.
  const bool useless = why.reason == Reason::timeout || why.reason == Reason::refused;
  if (useless && ready_.empty()) address_ = (address_ + 1) % params_.addresses.size();
  dropped->close(why);
}

void RedisPool::probe() {
  if (closed_) return breaker_.probe_failed();
  used_ = true;
  probing_ = true;
  open();
}

void RedisPool::open() {
  if (opening_) return;
  tried_ = 0;
  open_next();
}

void RedisPool::open_next() {
  opening_ = std::make_shared<RedisConnection>(loop_, resolver_, params_, static_cast<RedisConnection::Owner&>(*this));
  // Nobody waits for a probe, and one that is patient notices at once when a server that was stopped goes on. With
  // other addresses to try it must not be.
  const bool patient = probing_ && params_.addresses.size() == 1;
  const std::shared_ptr<RedisConnection> opened = opening_;
  opened->open(params_.addresses[(address_ + tried_) % params_.addresses.size()],
               patient ? std::max(params_.connect_timeout, params_.last_pause) : params_.connect_timeout);
}

void RedisPool::ready(RedisConnection& connection) {
  assert(opening_.get() == &connection);
  static_cast<void>(connection);
  std::shared_ptr<RedisConnection> opened = std::exchange(opening_, nullptr);
  address_ = (address_ + tried_) % params_.addresses.size();
  probing_ = false;
  // A probe may be one too many; what is older than the trouble is the less trustworthy.
  if (ready_.size() >= params_.pool_size) {
    drop(ready_.front().get(), {Reason::broken, "replaced by a newer connection"});
  }
  ready_.push_back(std::move(opened));
  metrics_.connections.add(1);
  metrics_.connects.add();
  breaker_.probe_succeeded();
  for (const auto& batch : std::exchange(waiting_, {})) {
    if (!batch->abandoned) submit(batch);
  }
}

void RedisPool::closed(RedisConnection& connection, const RedisFailure& why) {
  if (opening_.get() != &connection) return drop(&connection, why);
  const std::shared_ptr<RedisConnection> failed = std::exchange(opening_, nullptr);
  if (closed_) return;
  if (++tried_ < params_.addresses.size()) return open_next();
  if (std::exchange(probing_, false)) breaker_.probe_failed();
  RedisFailure all = why;
  // Before it was ready it did not break under anybody: there is nothing to send again.
  if (all.reason == Reason::broken) all.reason = Reason::connect;
  for (const auto& batch : std::exchange(waiting_, {})) batch->fail(all);
}

void RedisPool::close() {
  closed_ = true;
  const RedisFailure why{Reason::closed, "the connections to Redis are closed"};
  if (const auto opening = std::exchange(opening_, nullptr)) opening->close(why);
  if (std::exchange(probing_, false)) breaker_.probe_failed();
  for (const auto& connection : std::exchange(ready_, {})) {
    metrics_.connections.add(-1);
    connection->close(why);
  }
  for (const auto& batch : std::exchange(waiting_, {})) batch->fail(why);
}

}  // namespace sluice::descriptors
