// What Exchange makes of the state of its endpoints: doubts, pauses.
#include <algorithm>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "runtime/every.hpp"
#include "runtime/task_group.hpp"
#include "upstream/exchange.hpp"
#include "upstream/refusal.hpp"

namespace sluice::upstream {

namespace {

constexpr std::string_view kPlain = "/v2/";

}  // namespace

using runtime::Task;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Clients choose what is asked for, a probe's request too. One who asks for what upstream always fails with would keep
// everybody out.
Task<std::optional<Result<void>>> HttpRegistry::Exchange::ask_about_endpoint(std::size_t endpoint, Request request) {
  const auto latest = steady_clock::now() + params.probe_timeout;
  const bool has_time = !request.until || *request.until >= latest;
  if (has_time) request.until = latest;
  request.turn_until = request.until;
  Result<Transport::Answer> pinged = co_await endpoints_[endpoint]->ask_plain(request);
  if (!pinged) {
    const Errc code = pinged.error().code;
    // What is left of the request's time may be too little.
    if (code == Errc::upstream_timeout && !has_time) co_return std::nullopt;
    if (!is_outage(code) && !is_odd_answer(code)) co_return std::nullopt;
    co_return Result<void>(pinged.error());
  }
  const int status = pinged->response->status();
  const bool speaks = !pinged->redirected || pinged->by_registry;
  Result<void> well{};
  if (!speaks || status >= 500 || status == 408 || status == 429) {
    well = refusal(status, Wanted::registry, pinged->asked, std::nullopt, std::chrono::seconds(0));
  }
  co_await let_go(std::move(*pinged));
  co_return well;
}

Task<void> HttpRegistry::Exchange::settle_doubt(std::size_t endpoint, Request request, Error last) {
  std::optional<Breaker::Check> check = endpoints_[endpoint]->begin_check();
  if (!check) co_return;
  if (request.path == "/v2/") {
    endpoints_[endpoint]->check_failed(std::move(*check), last);
    co_return;
  }
  const std::optional<Result<void>> well = co_await ask_about_endpoint(endpoint, std::move(request));
  if (!well) co_return;
  if (*well) {
    endpoints_[endpoint]->check_passed(std::move(*check), last);
  } else {
    endpoints_[endpoint]->check_failed(std::move(*check), well->error());
  }
}

std::vector<std::size_t> HttpRegistry::Exchange::order_of_round(const Request& request) const {
  std::vector<std::size_t> out = order(request);
  if (out.size() < 2) return out;
  std::vector<std::size_t> avoided;
  // One trial at most, by the request that goes there first; none by what nobody waits for.
  bool may_try = !request.urgency || request.urgency->raised();
  std::erase_if(out, [&](std::size_t endpoint) {
    Silence& silence = endpoints_[endpoint]->silence();
    const bool behind = may_try ? !silence.goes_first() : !silence.is_well();
    may_try = may_try && behind;
    if (behind) avoided.push_back(endpoint);
    return behind;
  });
  out.insert(out.end(), avoided.begin(), avoided.end());
  return out;
}

Task<void> HttpRegistry::Exchange::found_silent(std::size_t endpoint) {
  if (endpoints_.size() < 2) co_return;
  Silence& silence = endpoints_[endpoint]->silence();
  const bool starts = silence.note();
  const bool has_other =
      std::any_of(endpoints_.begin(), endpoints_.end(), [](const auto& other) { return other->silence().is_well(); });
  if (has_other) silence.wake();
  if (!starts) co_return;
  log::debug("upstream", fmt::format("{}: {} gave no answer in time; other endpoints are asked first", params.name,
                                     endpoints_[endpoint]->base().authority()));
  if (params.background == nullptr) {
    // Nobody would find out that it answers again but a request.
    silence.answers_plain();
    static_cast<void>(silence.goes_on());
    co_return;
  }
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  params.background->spawn(executor, ask_while_silent(weak_from_this(), endpoint));
}

Task<void> HttpRegistry::Exchange::ask_while_silent(std::weak_ptr<Exchange> exchange, std::size_t endpoint) {
  for (std::size_t number = 0;; ++number) {
    std::chrono::nanoseconds pause{};
    {
      const std::shared_ptr<Exchange> self = exchange.lock();
      if (!self) co_return;
      Endpoint& asked = *self->endpoints_[endpoint];
      if (!asked.silence().goes_on()) co_return;
      co_await runtime::attempt("upstream", self->ask_plain_once(endpoint, number));
      if (!asked.silence().goes_on()) co_return;
      pause = std::max<std::chrono::nanoseconds>(asked.pause_left(Breaker::thing(kPlain)),
                                                 self->params.breaker.first_pause);
    }
    co_await runtime::sleep_for(pause);
  }
}

Task<void> HttpRegistry::Exchange::ask_plain_once(std::size_t endpoint, std::size_t number) {
  Endpoint& asked = *endpoints_[endpoint];
  const bool was_well = asked.is_well();
  // An outage is silence about different things, and this is asked at different times.
  const Breaker::Thing thing = Breaker::thing(fmt::format("{}{}", kPlain, number));
  std::optional<Breaker::Permit> permit = was_well ? std::optional(asked.watch(thing)) : asked.enter(thing, true);
  if (!permit) co_return;
  Request request{"GET", std::string(kPlain), {}, {}, Wanted::registry, false};
  const std::optional<Result<void>> answered = co_await ask_about_endpoint(endpoint, std::move(request));
  if (!answered) co_return;
  if (*answered) {
    // While the breaker is closed this answer says nothing about the things that were silent.
    if (!was_well) asked.succeeded(std::move(*permit));
    asked.silence().answers_plain();
    co_return;
  }
  const Error& error = answered->error();
  auto how = Breaker::Failure::answer;
  if (error.code == Errc::upstream_timeout) how = Breaker::Failure::silence;
  if (error.code == Errc::upstream_unreachable) how = Breaker::Failure::no_connection;
  asked.failed(std::move(*permit), how, error);
}

HttpRegistry::Exchange::Tried HttpRegistry::Exchange::all_down(const Request& request) const {
  std::string hosts;
  bool is_down = false;
  auto pause = std::chrono::nanoseconds::max();
  for (const std::size_t i : order(request)) {
    const std::chrono::nanoseconds left = endpoints_[i]->pause_left(request.thing());
    if (left.count() == 0) continue;
    is_down = is_down || endpoints_[i]->is_down();
    const std::string cause = endpoints_[i]->is_down() ? endpoints_[i]->cause() : std::string();
    hosts += fmt::format("{}{}{}", hosts.empty() ? "" : ", ", endpoints_[i]->base().authority(),
                         cause.empty() ? std::string() : fmt::format(" ({})", cause));
    pause = std::min(pause, left);
  }
  if (hosts.empty()) pause = {};  // answers again in this very moment
  Tried tried;
  tried.wait = std::chrono::ceil<milliseconds>(pause);
  const auto again = std::max(std::chrono::ceil<std::chrono::seconds>(pause), std::chrono::seconds(1));
  std::string why;
  if (is_down) {
    why = fmt::format("{} is down: no usable answer from {}; next try in {} s", params.name, hosts, again.count());
  } else {
    // The endpoints are well, and what was asked for alone has to wait; or they answer again in this very moment.
    why = fmt::format("{}: this request timed out a moment ago; next try in {} s", params.name, again.count());
  }
  tried.error = Error(Errc::upstream_down, std::move(why), again);
  tried.again = request.patient || hosts.empty();
  return tried;
}

// Nothing has come of it anywhere: others that ask for the same need not wait as long for the same.
void HttpRegistry::Exchange::rest(const Request& request, std::uint64_t silent) {
  for (std::size_t i = 0; i < std::min<std::size_t>(endpoints_.size(), 64); ++i) {
    if (((silent >> i) & 1) != 0) endpoints_[i]->rest(request.thing());
  }
}

}  // namespace sluice::upstream
