#include "upstream/endpoint.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

std::string prefix_of(const http::Url& base) {
  std::string path(base.path());
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

std::vector<http::Challenge> challenges_of(const http::ReceivedHead& head) {
  std::vector<http::Challenge> out;
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "WWW-Authenticate")) continue;
    for (http::Challenge& challenge : http::parse_challenges(value)) out.push_back(std::move(challenge));
  }
  return out;
}

Task<void> let_go(Transport::Answer answer) { co_await answer.response->drain(); }

Endpoint::Endpoint(const HttpRegistry::Params& params, const http::Url& base, http::Client& client, Clock& clock,
                   metrics::Registry& registry, Metrics& metrics, Admission& admission)
    : name_(params.name),
      base_(base),
      prefix_(prefix_of(base)),
      metrics_(metrics),
      requests_(registry.counter("sluice_upstream_endpoint_requests_total",
                                 "Requests for which an endpoint of an upstream was chosen.",
                                 {{"upstream", name_}, {"endpoint", base.authority()}})),
      openings_(registry.counter("sluice_upstream_breaker_openings_total",
                                 "How often an endpoint of an upstream was found to be down.",
                                 {{"upstream", name_}, {"endpoint", base.authority()}})),
      up_(registry.gauge("sluice_upstream_endpoint_up", "1, or 0 while an endpoint of an upstream counts as down.",
                         {{"upstream", name_}, {"endpoint", base.authority()}})),
      transport_(params, base, client, clock, metrics, admission),
      authenticator_(params, base, transport_, clock, metrics),
      breaker_(params.breaker, clock) {
  up_.set(1);
}

void Endpoint::succeeded(Breaker::Permit permit) {
  if (!permit.succeeded()) return;
  up_.set(1);
  log::info("upstream", fmt::format("{}: {} answers again", name_, base_.authority()));
}

void Endpoint::failed(Breaker::Permit permit, Breaker::Failure how, const Error& why) {
  if (permit.failed(how)) opened(why);
}

void Endpoint::body_broke(const Error& why) {
  if (breaker_.note_failure()) opened(why);
}

void Endpoint::opened(const Error& why) {
  up_.set(0);
  openings_.add();
  log::warn("upstream", fmt::format("{}: {} counts as down and is only probed until it answers: {}", name_,
                                    base_.authority(), why.message));
}

Task<Result<Endpoint::Answer>> Endpoint::send(const Request& request, std::string authorization) {
  Transport::Ask ask{request.method, base_, request.fields, std::move(authorization)};
  ask.url.target = prefix_ + request.path;
  ask.patience = request.patience;
  ask.failed_behind = request.failed_behind;
  ask.lane = request.wanted == Wanted::blob && request.method == "GET" ? Lane::heavy : Lane::light;
  ask.urgency = request.urgency;
  Result<Answer> answer = co_await transport_.send(ask);
  if (!answer || !answer->redirected) co_return answer;
  // A presigned address has run out, or a copy behind a redirect is gone: the registry gives a new one.
  const int status = answer->response->status();
  if (status != 401 && status != 403 && status != 410) co_return answer;
  co_await let_go(std::move(*answer));
  metrics_.retries.add();
  co_return co_await transport_.send(std::move(ask));
}

Task<Result<Endpoint::Answer>> Endpoint::ask_plain(std::string method, std::string path) {
  const Request request{std::move(method), std::move(path), {}, {}, Wanted::registry, false};
  co_return co_await send(request, {});
}

// gcr.io may answer 401 without a challenge; the one of /v2/ counts then.
Task<std::vector<http::Challenge>> Endpoint::challenges_of_registry() {
  std::vector<http::Challenge> out;
  Result<Answer> pinged = co_await ask_plain("GET", "/v2/");
  if (pinged && pinged->response->status() == 401) {
    out = challenges_of(pinged->response->head());
    // What it asks for is access to nothing in particular.
    for (http::Challenge& challenge : out) {
      std::erase_if(challenge.parameters, [](const auto& parameter) { return parameter.first == "scope"; });
    }
    co_await let_go(std::move(*pinged));
  }
  co_return out;
}

Task<Result<Endpoint::Answer>> Endpoint::ask(const Request& request) {
  requests_.add();
  if (request.client_authorization) co_return co_await send(request, *request.client_authorization);
  if (!request.authenticate) co_return co_await send(request, {});
  Result<std::string> authorization = co_await authenticator_.authorization(request.repository);
  if (!authorization) {
    if (request.not_asked != nullptr) *request.not_asked = true;
    co_return authorization.error();
  }
  Result<Answer> answer = co_await send(request, *authorization);
  // A 401 from behind a redirect says nothing about our standing with the registry.
  if (!answer || answer->response->status() != 401 || answer->redirected) co_return answer;

  std::vector<http::Challenge> asked = challenges_of(answer->response->head());
  const std::string where = answer->where;
  co_await let_go(std::move(*answer));
  if (asked.empty()) asked = co_await challenges_of_registry();
  Result<std::string> renewed =
      co_await authenticator_.answer(request.repository, std::move(asked), std::move(*authorization));
  if (!renewed) {
    // The registry has answered; it is its token server that is in trouble.
    if (request.failed_behind != nullptr) *request.failed_behind = true;
    co_return renewed.error().in(where);
  }
  co_return co_await send(request, std::move(*renewed));
}

}  // namespace sluice::upstream
