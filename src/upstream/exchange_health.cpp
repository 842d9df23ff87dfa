// What Exchange makes of the state of its endpoints: doubts, pauses.
#include <algorithm>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "upstream/exchange.hpp"
#include "upstream/refusal.hpp"

namespace sluice::upstream {

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
    why = fmt::format("{} is down: {} gave no usable answer a moment ago; asked again in {} s", params.name, hosts,
                      again.count());
  } else {
    // The endpoints are well, and what was asked for alone has to wait; or they answer again in this very moment.
    why = fmt::format("{}: what was asked for did not come in time a moment ago; asked again in {} s", params.name,
                      again.count());
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
