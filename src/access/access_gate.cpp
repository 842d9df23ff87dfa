#include "access/access_gate.hpp"

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/errc_kind.hpp"

namespace sluice::access {
namespace {

metrics::Counter& counter(metrics::Registry& registry, const char* result) {
  return registry.counter("sluice_access_checks_total",
                          "Requests to upstreams with access: passthrough: remembered (the client was checked a moment "
                          "ago), granted or refused by upstream, failed (upstream could not be asked)",
                          {{"result", result}});
}

}  // namespace

AccessGate::Counters::Counters(metrics::Registry& registry)
    : remembered(counter(registry, "remembered")),
      granted(counter(registry, "granted")),
      refused(counter(registry, "refused")),
      failed(counter(registry, "failed")) {}

AccessGate::AccessGate(Params params, const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry)
    : clock_(clock), counters_(registry), grants_(params.max_grants == 0 ? 1 : params.max_grants), flights_(group) {}

bool AccessGate::is_granted(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic* until = grants_.find(key);
  if (until == nullptr) return false;
  if (clock_.now() < *until) return true;
  grants_.erase(key);
  return false;
}

void AccessGate::grant(const std::string& key, std::chrono::milliseconds ttl) {
  if (ttl.count() <= 0) return;
  const std::scoped_lock lock(mutex_);
  grants_.insert(key, clock_.now() + ttl);
}

std::size_t AccessGate::grants() const {
  const std::scoped_lock lock(mutex_);
  return grants_.size();
}

// The grant is there before those who wait go on, so that nobody who comes in between asks again.
runtime::Task<Result<AccessGate::Yes>> AccessGate::ask_once(Route route, Wants wants, std::string reference,
                                                            std::string key) {
  if (is_granted(key)) co_return Yes{};
  Result<Yes> answer = co_await ask(route, wants, std::move(reference));
  if (answer) grant(key, route.passthrough->grant_ttl);
  co_return answer;
}

runtime::Task<Result<AccessGate::Yes>> AccessGate::ask(Route route, Wants wants, std::string reference) {
  if (wants == Wants::manifest) {
    Result<oci::Reference> parsed = oci::Reference::parse(reference);
    if (!parsed) co_return parsed.error();
    const Result<upstream::ManifestHead> head =
        co_await route.registry->stat_manifest(route.repository, std::move(*parsed), {});
    if (!head) co_return head.error();
  } else if (wants == Wants::blob) {
    const Result<oci::Digest> digest = oci::Digest::parse(reference);
    if (!digest) co_return digest.error();
    const Result<oci::Descriptor> descriptor = co_await route.registry->stat_blob(route.repository, *digest);
    if (!descriptor && !has_without_size(descriptor.error().code)) co_return descriptor.error();
  } else {
    const Result<upstream::ListAnswer> listed = co_await route.registry->list(route.repository, "tags/list?n=1");
    if (!listed) co_return listed.error();
  }
  co_return Yes{};
}

runtime::Task<Result<Route>> AccessGate::admit(Route route, std::string authorization, Wants wants,
                                               std::string reference) {
  const std::string key = hash_.of({route.registry->name(), std::to_string(term_number(route)),
                                    wants == Wants::list ? "list" : "pull", route.repository.str(), authorization});
  const bool remembered = is_granted(key);
  route.on_behalf = route.registry->on_behalf_of(std::move(authorization));
  if (!route.on_behalf) co_return Error{Errc::internal, "this upstream cannot be asked on behalf of a client"};
  route.registry = route.on_behalf.get();
  route.client = key;
  if (remembered) {
    counters_.remembered.add();
    co_return route;
  }
  // What is asked for is a part of the key: a no is about that alone.
  std::string flight = key;
  flight.append(1, static_cast<char>('0' + static_cast<int>(wants))).append(reference);
  runtime::SingleFlight<std::string, Yes>::Work work = [this, route, wants, reference, key] {
    return ask_once(route, wants, reference, key);
  };
  const auto outcome = co_await wait_for(route, flights_.run(std::move(flight), std::move(work)));
  if (outcome.result) {
    counters_.granted.add();
    co_return route;
  }
  Error error = outcome.result.error();
  if (error.code == Errc::throttled || !is_no_answer(error.code)) {
    counters_.refused.add();
    co_return error;
  }
  counters_.failed.add();
  error.message = fmt::format("upstream cannot be asked whether you may pull this: {}", error.message);
  error.code = Errc::overloaded;
  co_return error;
}

Result<void> AccessGate::ping_in_vain(const std::string& upstream, const std::string& term, bool anonymous,
                                      const Error& error) {
  const std::scoped_lock lock(mutex_);
  if (error.code == Errc::unauthorized) {
    challenges_[upstream] = {term, error.challenges};
    return error;
  }
  if (error.code == Errc::denied) return error;
  const auto known = challenges_.find(upstream);
  if (!anonymous || known == challenges_.end() || known->second.term != term) return Result<void>{};
  Error challenged(Errc::unauthorized, "upstream wants a login; it cannot be asked right now");
  challenged.challenges = known->second.fields;
  return challenged;
}

runtime::Task<Result<void>> AccessGate::ping(const Upstreams::Upstream& upstream, std::string authorization,
                                             upstream::Asker asker) {
  const std::string name(upstream.registry->name());
  const std::string term = std::to_string(upstream.term ? upstream.term->number : 0);
  const bool anonymous = authorization.empty();
  const std::string key = hash_.of({name, term, "ping", "", authorization});
  if (is_granted(key)) co_return Result<void>{};
  std::shared_ptr<upstream::Registry> registry = upstream.registry->on_behalf_of(std::move(authorization));
  if (!registry) co_return Result<void>{};
  if (std::shared_ptr<upstream::Registry> asking = registry->asking_for(std::move(asker))) {
    registry = std::move(asking);
  }
  const std::chrono::milliseconds timeout = upstream.options.request_timeout;
  const auto until =
      timeout.count() > 0 ? std::chrono::steady_clock::now() + timeout : std::chrono::steady_clock::time_point::max();
  const std::optional<Result<void>> answered = co_await runtime::within(registry->ping(), until);
  const Result<void> pinged = answered ? *answered : Result<void>(not_in_time(name));
  if (!pinged) co_return ping_in_vain(name, term, anonymous, pinged.error());
  grant(key, upstream.options.passthrough ? upstream.options.passthrough->grant_ttl : std::chrono::milliseconds{0});
  co_return Result<void>{};
}

}  // namespace sluice::access
