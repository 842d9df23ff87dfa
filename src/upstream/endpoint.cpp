#include "upstream/endpoint.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/address_kind.hpp"
#include "base/log.hpp"
#include "base/units.hpp"
#include "runtime/within.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

std::string prefix_of(const http::Url& base) {
  std::string path(base.path());
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

// A token, or that it did not come by then. Whoever else waits for the same one goes on.
Task<Result<std::string>> in_time(Task<Result<std::string>> token,
                                  std::optional<std::chrono::steady_clock::time_point> until) {
  std::optional<Result<std::string>> got =
      co_await runtime::within(std::move(token), until.value_or(std::chrono::steady_clock::time_point::max()));
  if (got) co_return std::move(*got);
  co_return Error(Errc::upstream_timeout, "token: none came in time");
}

}  // namespace

namespace {

// What distribution, and whoever follows it, says in the head of every answer, and how a registry asks for a token.
bool says_registry(const http::ReceivedHead& head) {
  if (head.find("Docker-Distribution-Api-Version") != nullptr) return true;
  const std::vector<http::Challenge> challenges = challenges_of(head);
  return std::any_of(challenges.begin(), challenges.end(),
                     [](const http::Challenge& challenge) { return challenge.scheme == "bearer"; });
}

// Nothing but what the registry API itself has in a query: a presigned address has its signature there.
bool is_plain_query(std::string_view target) noexcept {
  const std::size_t mark = target.find('?');
  if (mark == std::string_view::npos) return true;
  for (std::string_view query = target.substr(mark + 1); !query.empty();) {
    const std::string_view parameter = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(parameter.size() + 1, query.size()));
    const std::string_view name = parameter.substr(0, parameter.find('='));
    if (name != "ns" && name != "n" && name != "last" && name != "artifactType") return false;
  }
  return true;
}

// A registry, and not storage. Who redirects chooses the address: on the internet what is there tells nothing that
// anybody could not find out, but in a network behind the cache a "not found" would tell that a port is open. So there
// a registry has to say that it is one.
bool is_other_registry(const Transport::Answer& answer, std::string_view asked) {
  if (!is_end_point_of(answer.url.path(), asked)) return false;
  if (says_registry(answer.response->head())) return true;
  const std::optional<IpAddress>& peer = answer.response->peer();
  const bool is_public = peer && kind_of(*peer) == AddressKind::global;
  return is_plain_query(answer.url.target) && (is_public || answer.response->status() / 100 == 2);
}

}  // namespace

bool is_end_point_of(std::string_view path, std::string_view asked) noexcept {
  asked = asked.substr(0, asked.find('?'));
  if (path.find("/v2/") == std::string_view::npos) return false;
  if (asked == "/v2/") return path.ends_with(asked);
  // The repository may have another name there: what counts is "/blobs/sha256:…" and its like.
  const std::size_t last = asked.rfind('/');
  const std::size_t kind = last == std::string_view::npos || last == 0 ? last : asked.rfind('/', last - 1);
  return kind != std::string_view::npos && path.ends_with(asked.substr(kind));
}

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
      clock_(clock),
      metrics_(metrics),
      requests_(registry.counter("sluice_upstream_endpoint_requests_total",
                                 "Requests for which an endpoint of an upstream was chosen.",
                                 {{"upstream", name_}, {"endpoint", base.authority()}})),
      openings_(registry.counter("sluice_upstream_breaker_openings_total",
                                 "How often the breaker of an endpoint opened.",
                                 {{"upstream", name_}, {"endpoint", base.authority()}})),
      spared_(registry.counter("sluice_upstream_breaker_spared_total",
                               "How often requests in a row failed at an endpoint that answered at /v2/, so that its "
                               "breaker did not open.",
                               {{"upstream", name_}, {"endpoint", base.authority()}})),
      up_(registry.gauge("sluice_upstream_endpoint_up", "1, or 0 while an endpoint of an upstream counts as down.",
                         {{"upstream", name_}, {"endpoint", base.authority()}})),
      transport_(params, base, client, clock, metrics, admission),
      authenticator_(params, base, transport_, clock, metrics),
      breaker_(params.breaker, clock),
      silence_(params.breaker, clock),
      make_behind_([this, params](const http::Url& url, bool anonymous) {
        return std::make_shared<Authenticator>(params, url, transport_, clock_, metrics_,
                                               Authenticator::Behind{base_, anonymous});
      }),
      http_redirects_(params.http_redirects),
      log_(clock) {
  up_.set(1);
}

void Endpoint::succeeded(Breaker::Permit permit) {
  if (!permit.succeeded()) return;
  up_.set(1);
  log::info("upstream", fmt::format("{}: {} answers again", name_, base_.authority()));
}

void Endpoint::failed(Breaker::Permit permit, Breaker::Failure how, const Error& why) {
  note_cause(why);
  if (permit.failed(how)) opened(why);
}

// Messages begin with "GET host/path: ".
void Endpoint::note_cause(const Error& why) {
  constexpr std::string_view kColon = ": ";
  const std::size_t colon = why.message.find(kColon);
  std::string cause = colon == std::string::npos ? std::string() : why.message.substr(colon + kColon.size());
  if (!cause.empty() && cause.front() >= '0' && cause.front() <= '9') cause.insert(0, "status ");
  const std::scoped_lock lock(cause_mutex_);
  cause_ = std::move(cause);
}

std::string Endpoint::cause() const {
  const std::scoped_lock lock(cause_mutex_);
  return cause_;
}

void Endpoint::answers_otherwise() {
  if (!breaker_.absolve()) return;
  up_.set(1);
  log::info("upstream", fmt::format("{}: {} answers at /v2/: it is asked again", name_, base_.authority()));
}

void Endpoint::check_passed(Breaker::Check check, const Error& last) {
  check.answers();
  spared_.add();
  // Clients choose how often it happens.
  log_.write(log::Level::warn, "upstream", "spared",
             fmt::format("{}: several requests in a row failed at {}, which answers at /v2/; requests go on; the last "
                         "failure: {}",
                         name_, base_.authority(), last.message));
}

void Endpoint::check_failed(Breaker::Check check, const Error& why) {
  note_cause(why);
  if (check.fails()) opened(why);
}

void Endpoint::opened(const Error& why) {
  up_.set(0);
  openings_.add();
  log::warn("upstream", fmt::format("{}: {} is down; only probes are sent until it answers: {}", name_,
                                    base_.authority(), why.message));
}

// Null where there is none and none is to be made.
std::shared_ptr<Authenticator> Endpoint::behind(const http::Url& url, bool anonymous, bool make) {
  const std::string key = fmt::format("{}://{}{}", url.scheme, url.authority(), anonymous ? " anonymous" : "");
  const std::scoped_lock lock(behind_mutex_);
  if (const auto at = behind_.find(key); at != behind_.end()) return at->second;
  if (!make) return nullptr;
  // Whoever uses it keeps it; it is made again when it is needed again.
  if (behind_.size() >= kMaxBehind) behind_.erase(behind_.begin());
  return behind_[key] = make_behind_(url, anonymous);
}

Task<std::string> Endpoint::authorize_behind(http::Url url, std::string repository, bool anonymous,
                                             std::optional<std::chrono::steady_clock::time_point> until) {
  const std::shared_ptr<Authenticator> authenticator = behind(url, anonymous, false);
  if (!authenticator) co_return std::string();
  Result<std::string> authorization = co_await in_time(authenticator->authorization(std::move(repository)), until);
  // Without one that registry is asked all the same, and says what it wants.
  co_return authorization ? std::move(*authorization) : std::string();
}

Transport::Ask Endpoint::ask_for(const Request& request, std::string authorization) {
  Transport::Ask ask{request.method, base_, request.fields, std::move(authorization)};
  ask.url.target = prefix_ + request.path;
  ask.headers_timeout = request.headers_timeout;
  ask.patience = request.patience;
  ask.failed_behind = request.failed_behind;
  ask.lane = request.wanted == Wanted::blob && request.method == "GET" ? Lane::heavy : Lane::light;
  ask.is_download = ask.lane == Lane::heavy && !request.is_short;
  ask.urgency = request.urgency;
  ask.turn_until = request.turn_until;
  ask.until = request.until;
  ask.timed_out_behind = request.timed_out_behind;
  ask.fresh_connection = request.fresh_connection;
  ask.connected = request.connected;
  ask.waited = request.waited;
  ask.via = request.asker.via;
  ask.client = request.asker.address;
  ask.follows_to_http = http_redirects_ && request.verified;
  if (!request.authenticate) return ask;
  ask.authorize_behind = [this, repository = request.repository, anonymous = request.client_authorization.has_value(),
                          until = request.until](http::Url url) {
    return authorize_behind(std::move(url), repository, anonymous, until);
  };
  return ask;
}

// A 401 of a registry that this one redirects to: its challenge is answered, and all is asked for once more.
Task<Result<Endpoint::Answer>> Endpoint::answer_behind(const Request& request, Transport::Ask ask, Answer refused) {
  std::vector<http::Challenge> asked = challenges_of(refused.response->head());
  const std::string where = refused.where;
  const std::string sent = refused.authorization;
  const std::shared_ptr<Authenticator> authenticator =
      behind(refused.url, request.client_authorization.has_value(), true);
  co_await let_go(std::move(refused));
  const Result<std::string> renewed =
      co_await in_time(authenticator->answer(request.repository, std::move(asked), sent), request.until);
  if (!renewed) {
    if (request.failed_behind != nullptr) *request.failed_behind = true;
    co_return renewed.error().in(where);
  }
  metrics_.retries.add();
  Result<Answer> answer = co_await transport_.send(std::move(ask));
  if (answer) answer->by_registry = answer->redirected && is_other_registry(*answer, request.path);
  co_return answer;
}

Task<Result<Endpoint::Answer>> Endpoint::send(const Request& request, std::string authorization) {
  Transport::Ask ask = ask_for(request, std::move(authorization));
  Result<Answer> answer = co_await transport_.send(ask);
  if (!answer || !answer->redirected) co_return answer;
  // Who may say so at /v2/ may say it anywhere on the same host.
  const bool is_own_404 = answer->response->status() == 404 && answer->url.same_origin(base_);
  answer->by_registry = is_own_404 || is_other_registry(*answer, request.path);
  if (answer->by_registry) {
    const bool may_answer = request.authenticate && (answer->url.is_tls() || !base_.is_tls());
    if (answer->response->status() != 401 || !may_answer) co_return answer;
    if (challenges_of(answer->response->head()).empty()) co_return answer;
    co_return co_await answer_behind(request, std::move(ask), std::move(*answer));
  }
  // A presigned address has run out, or a copy behind a redirect is gone: the registry gives a new one.
  const int status = answer->response->status();
  if (request.is_hint || (status != 401 && status != 403 && status != 410)) co_return answer;
  co_await let_go(std::move(*answer));
  metrics_.retries.add();
  co_return co_await transport_.send(std::move(ask));
}

Task<Result<Endpoint::Answer>> Endpoint::ask_plain(const Request& of) {
  Request request{"GET", "/v2/", {}, {}, Wanted::registry, false};
  request.asker = of.asker;
  request.patience = of.patience;
  request.turn_until = of.turn_until;
  request.until = of.until;
  co_return co_await send(request, {});
}

// gcr.io may answer 401 without a challenge; the one of /v2/ counts then.
Task<std::vector<http::Challenge>> Endpoint::challenges_of_registry(const Request& of) {
  std::vector<http::Challenge> out;
  Result<Answer> pinged = co_await ask_plain(of);
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
  Result<std::string> authorization = co_await in_time(authenticator_.authorization(request.repository), request.until);
  if (!authorization) {
    if (request.not_asked != nullptr) *request.not_asked = true;
    if (request.without_token != nullptr) *request.without_token = true;
    co_return authorization.error();
  }
  Result<Answer> answer = co_await send(request, *authorization);
  // A 401 from behind a redirect says nothing about our standing with the registry.
  if (!answer || answer->response->status() != 401 || answer->redirected) co_return answer;

  std::vector<http::Challenge> asked = challenges_of(answer->response->head());
  const std::string where = answer->where;
  co_await let_go(std::move(*answer));
  if (asked.empty()) asked = co_await challenges_of_registry(request);
  Result<std::string> renewed = co_await in_time(
      authenticator_.answer(request.repository, std::move(asked), std::move(*authorization)), request.until);
  if (!renewed) {
    // The registry has answered; it is its token server that is in trouble.
    if (request.failed_behind != nullptr) *request.failed_behind = true;
    // A 401 that cannot be answered may be one to HEAD alone.
    if (request.without_token != nullptr && renewed.error().code != Errc::unauthorized) *request.without_token = true;
    co_return renewed.error().in(where);
  }
  co_return co_await send(request, std::move(*renewed));
}

}  // namespace sluice::upstream
