#include "upstream/exchange.hpp"

#include <algorithm>
#include <exception>
#include <random>
#include <variant>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/timer.hpp"
#include "upstream/next_page.hpp"
#include "upstream/one_of_few.hpp"

namespace sluice::upstream {
namespace {

namespace asio = boost::asio;
using runtime::Task;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

// Uniform in [0, 1). Each thread has its own generator.
double random_jitter() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>(0.0, 1.0)(generator);
}

Task<bool> sleep_for(milliseconds duration) {
  runtime::Timer timer(co_await asio::this_coro::executor);
  timer.expires_after(duration);
  const auto [interrupted] = co_await timer.async_wait(runtime::kAwaitTuple);
  co_return !interrupted;
}

// `||` waits for a success, and Silence::found() may never be one: what is thrown goes past it.
Task<std::variant<Result<Transport::Answer>, std::exception_ptr>> carried(Task<Result<Transport::Answer>> answer) {
  try {
    co_return co_await std::move(answer);
  } catch (...) {
    co_return std::current_exception();
  }
}

// The answer, or nothing where the endpoint is found silent meanwhile. `silence` may be null.
Task<std::optional<Result<Transport::Answer>>> unless_found(Task<Result<Transport::Answer>> answer, Silence* silence) {
  if (silence == nullptr) co_return co_await std::move(answer);
  using namespace asio::experimental::awaitable_operators;
  auto ended = co_await (carried(std::move(answer)) || silence->found());
  if (auto* const answered = std::get_if<0>(&ended)) co_return std::move(*answered);
  if (const auto* const thrown = std::get_if<1>(&ended)) std::rethrow_exception(*thrown);
  const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) co_return Error(Errc::cancelled);
  co_return std::nullopt;
}

// As they stand in the head, for a client that answers them itself.
std::vector<std::string> raw_challenges_of(const http::ReceivedHead& head) {
  std::vector<std::string> out;
  for (const auto& [name, value] : head.fields) {
    if (http::same_field_name(name, "WWW-Authenticate") && !value.empty()) out.push_back(value);
  }
  return out;
}

// Whether an error tells that the endpoint is in trouble.
bool is_trouble(Errc code) {
  return code == Errc::upstream_unreachable || code == Errc::upstream_timeout || code == Errc::upstream_failed;
}

// Whether it tells nothing about the endpoint, because the trouble is here.
bool is_ours(Errc code) {
  return code == Errc::cancelled || code == Errc::overloaded || code == Errc::upstream_down || code == Errc::internal;
}

// Whether it tells that the endpoint is alive. An answer that is none says nothing: it may be about one blob alone.
bool is_answer(Errc code) { return !is_trouble(code) && !is_ours(code) && code != Errc::upstream_protocol; }

// What another registry behind a redirect says of what it has, and of who may have it.
bool is_refusal(int status) { return status == 401 || status == 403 || status == 404 || status == 410; }

// Different things whose HEADs were of no use: one may be a tag whose replicas lag, and GETs count against quotas.
constexpr std::size_t kThingsOfHabit = 2;

// What an endpoint answers that does not do what was asked for: another one may.
bool is_of_endpoint(int status) { return status == 400 || status == 405 || status == 410 || status == 501; }

void add_error(std::optional<Error>& all, Error next) {
  if (all) {
    all->message += "; " + next.message;
  } else {
    all = std::move(next);
  }
}

// What storage behind a redirect may answer. It speaks for nobody's access to the registry, and what else it says
// concerns nobody. A 416 only tells how long the blob is.
bool is_usable_behind(int status) { return status / 100 == 2 || status == 416; }

}  // namespace

HttpRegistry::Exchange::Exchange(Params settings, http::Client& client, Clock& clock, metrics::Registry& registry)
    : blob_heads(clock, kThingsOfHabit),
      manifest_heads(clock, kThingsOfHabit),
      tag_digests(clock, 1),
      params(std::move(settings)),
      clock_(clock),
      metrics_(registry, params.name),
      admission_({{params.max_connections, params.requests_per_second}, params.headers_timeout}, clock,
                 &metrics_.wait_seconds, &metrics_.waiting),
      throttled_(clock) {
  if (!params.jitter) params.jitter = random_jitter;
  if (!params.sleep) params.sleep = sleep_for;
  endpoints_.push_back(std::make_unique<Endpoint>(params, params.base, client, clock, registry, metrics_, admission_));
  for (const http::Url& base : params.further) {
    endpoints_.push_back(std::make_unique<Endpoint>(params, base, client, clock, registry, metrics_, admission_));
  }
}

Task<Error> HttpRegistry::Exchange::refuse(Transport::Answer answer, Wanted wanted) {
  http::ClientResponse& response = *answer.response;
  const Result<std::string> body = co_await response.read_all(oci::kMaxErrorBodyBytes);
  const std::optional<oci::RegistryError> said = body ? oci::parse_error_body(*body) : std::nullopt;
  const std::string* retry_after = response.find("Retry-After");
  const auto wait = retry_after == nullptr ? std::chrono::seconds(0) : parse_retry_after(*retry_after, clock_.wall());
  Error error = refusal(response.status(), wanted, answer.where, said, wait);
  // Ours too where it was not sent now: the registry may know it from before.
  error.message = without_secrets(without_secrets(std::move(error.message), params.credentials), answer.authorization);
  co_return error;
}

// A 401 to a client's own Authorization, with what the client needs to come back with another one.
Task<Error> HttpRegistry::Exchange::refuse_client(std::size_t endpoint, const Request& request,
                                                  Transport::Answer answer) {
  std::vector<std::string> challenges = raw_challenges_of(answer.response->head());
  Error error = co_await refuse(std::move(answer), request.wanted);
  if (challenges.empty()) {
    Result<Transport::Answer> pinged = co_await endpoints_[endpoint]->ask_plain(request);
    if (pinged) {
      challenges = raw_challenges_of(pinged->response->head());
      co_await let_go(std::move(*pinged));
    }
  }
  error.challenges = std::move(challenges);
  co_return error;
}

Task<HttpRegistry::Exchange::Tried> HttpRegistry::Exchange::attempt(std::size_t endpoint, const Request& request,
                                                                    Breaker::Permit permit, bool moves_on) {
  Tried tried;
  Course course;
  Request asked = request;
  asked.failed_behind = &course.failed_behind;
  asked.timed_out_behind = &course.timed_out_behind;
  asked.not_asked = &course.not_asked;
  asked.connected = &course.connected;
  asked.waited = &course.waited;
  const bool is_probe = permit.is_alone();
  if (const auto failed_before = permit.probe()) {
    // Somebody waits for this one: not for as long as for an endpoint of which nothing bad is known.
    const auto doubled = params.probe_timeout * (std::int64_t{1} << std::min<std::size_t>(*failed_before, 10));
    asked.patience = std::min<milliseconds>(doubled, params.headers_timeout);
  }
  const bool is_trial = moves_on && endpoints_[endpoint]->silence().is_on_trial();
  if (request.is_hint || is_trial) {
    asked.patience = std::min(asked.patience.value_or(params.headers_timeout), params.probe_timeout);
  }
  Silence* const silence = moves_on ? &endpoints_[endpoint]->silence() : nullptr;
  std::optional<Result<Transport::Answer>> ended = co_await unless_found(endpoints_[endpoint]->ask(asked), silence);
  if (!ended) {
    tried.error = Error(Errc::upstream_timeout,
                        fmt::format("{} {}{}: gave up waiting: another request to this endpoint timed out",
                                    request.method, endpoints_[endpoint]->base().authority(), request.path));
    tried.again = !request.is_hint;
    tried.elsewhere = true;
    co_return tried;
  }
  Result<Transport::Answer>& answer = *ended;
  if (answer) {
    endpoints_[endpoint]->silence().heard();
    tried = co_await judge(endpoint, request, std::move(*answer), std::move(permit));
  } else {
    const Errc code = answer.error().code;
    tried.error = answer.error();
    tried.again = is_trouble(code) && !request.is_hint;
    tried.elsewhere =
        is_trouble(code) || code == Errc::upstream_protocol || code == Errc::throttled || code == Errc::overloaded;
    tell(endpoint, asked, answer.error(), course, std::move(permit), tried);
    if (tried.timed_out) co_await found_silent(endpoint);
  }
  const bool may_be_well = tried.told_against && request.path != "/v2/";
  if (is_probe && may_be_well) {
    const std::optional<Result<void>> well = co_await ask_about_endpoint(endpoint, std::move(asked));
    if (well && *well) endpoints_[endpoint]->answers_otherwise();
  } else if (tried.error) {
    co_await settle_doubt(endpoint, std::move(asked), *tried.error);
  }
  co_return tried;
}

void HttpRegistry::Exchange::tell(std::size_t endpoint, const Request& request, const Error& error,
                                  const Course& course, Breaker::Permit permit, Tried& tried) {
  // Without a token nothing has been learnt about the registry: the permit says nothing.
  if (course.not_asked) return;
  // Storage behind a redirect, or a token server, that is down is no outage of the registry.
  const auto fair = std::min({params.headers_timeout, params.endpoint_timeout, request.patience.value_or(1h)}) / 2;
  if (course.failed_behind || is_answer(error.code)) {
    if (course.failed_behind && is_ours(error.code)) return;
    // Slow storage is waited for as a slow registry is.
    const bool was_slow = course.timed_out_behind && course.waited >= fair && !request.is_hint;
    if (was_slow && endpoint < 64) tried.silent |= std::uint64_t{1} << endpoint;
    endpoints_[endpoint]->succeeded(std::move(permit));
    return;
  }
  if (!is_trouble(error.code)) return;
  tried.timed_out = error.code == Errc::upstream_timeout && course.waited >= fair;
  if (request.is_hint) return;  // where it was a probe, the GET that follows is the next one
  auto how = course.connected ? Breaker::Failure::answer : Breaker::Failure::no_connection;
  if (error.code == Errc::upstream_timeout) {
    // What was left of the time after a wait for a token may have been too little to be held against it.
    if (!tried.timed_out) return;
    how = course.connected ? Breaker::Failure::silence : Breaker::Failure::connect_timeout;
    if (course.connected && endpoint < 64) tried.silent |= std::uint64_t{1} << endpoint;
  }
  tried.told_against = how == Breaker::Failure::answer;
  endpoints_[endpoint]->failed(std::move(permit), how, error);
}

Task<HttpRegistry::Exchange::Tried> HttpRegistry::Exchange::judge(std::size_t endpoint, const Request& request,
                                                                  Transport::Answer answer, Breaker::Permit permit) {
  Tried tried;
  const int status = answer.response->status();
  Endpoint& asked = *endpoints_[endpoint];
  if (status / 100 == 2 && request.check) {
    if (const Result<void> fits = request.check(*answer.response); !fits) {
      tried.error = answer.redirected ? asked.failed_behind(answer, fits.error()) : fits.error().in(answer.where);
      if (fits.error().code == Errc::unsupported) tried.error->code = Errc::unsupported;
      tried.elsewhere = true;
      // Another presigned address does not make a server know ranges.
      tried.again = answer.redirected && fits.error().code != Errc::unsupported;
      co_return tried;
    }
  }
  if (status / 100 == 2 && request.oddity) {
    const std::string odd = request.oddity(answer.response->head());
    tried.is_odd = !odd.empty();
    if (tried.is_odd) log::debug("upstream", fmt::format("{}: {}: {}", params.name, answer.where, odd));
  }
  // 501 is about the method, 508 about a loop: neither is about the state upstream is in.
  const bool down = status == 408 || (status >= 500 && status != 501 && status != 508);
  // At once: what it has to say about it may be long in coming, and nobody else probes meanwhile.
  if (down && request.is_hint) {
    // The GET that follows says whether it is down; where this was a probe, it is the next one.
  } else if (down && !answer.redirected) {
    tried.told_against = true;
    asked.failed(std::move(permit), Breaker::Failure::answer,
                 refusal(status, request.wanted, answer.where, std::nullopt, std::chrono::seconds(0)));
  } else {
    asked.succeeded(std::move(permit));
  }
  if (status == 401 && request.client_authorization && !answer.redirected && !request.is_hint) {
    tried.error = co_await refuse_client(endpoint, request, std::move(answer));
    co_return tried;
  }
  const bool settled_by_get = request.is_hint && !down && status != 429;
  const bool speaks = answer.by_registry && is_refusal(status);
  if (speaks && !settled_by_get && request.wanted != Wanted::registry) {
    // That registry's word, but none of its bytes.
    tried.error = refusal(status, request.wanted, answer.asked, std::nullopt, std::chrono::seconds(0));
    tried.elsewhere = status == 404 || status == 410;
    co_return tried;
  }
  if (answer.redirected && !speaks && !is_usable_behind(status) && !settled_by_get) {
    // Tried again whatever it was, so that the time tells nothing either.
    tried.error = asked.failed_behind(answer, Error(Errc::upstream_failed, fmt::format("status {}", status)));
    tried.again = !request.is_hint;
    tried.elsewhere = true;
    co_return tried;
  }
  if (!down && status != 429 && (status != 401 || !request.authenticate || answer.redirected)) {
    tried.answer.emplace(Answer{std::move(answer), endpoint});
    co_return tried;
  }
  tried.error = co_await refuse(std::move(answer), request.wanted);
  tried.elsewhere = down || status == 429;
  tried.wait = tried.error->retry_after;
  // Of manifests, which are looked up there. What upstream says to one client's login is about that one.
  if (status == 429 && request.wanted == Wanted::manifest && !request.client_authorization)
    throttled_.note(request.path, tried.wait);
  if (request.is_hint) {
    tried.again = false;
  } else if (status == 429) {
    // Without a time it is a quota that is spent for hours.
    tried.again = tried.wait.count() > 0 && tried.wait <= params.throttle_wait;
  } else {
    tried.again = is_transient(status) && tried.wait <= params.backoff_limit;
  }
  co_return tried;
}

std::vector<std::size_t> HttpRegistry::Exchange::order(const Request& request) const {
  // A client's own word is for the registry that it means, not for others that stand in for it.
  if (request.client_authorization) return {0};
  std::vector<std::size_t> out;
  for (const bool avoided : {false, true}) {
    for (std::size_t i = 0; i < endpoints_.size(); ++i) {
      if ((i < 64 && ((request.avoid >> i) & 1) != 0) == avoided) out.push_back(i);
    }
  }
  return out;
}

// No endpoint has done better than this one, whose answer was odd and has been let go.
Task<HttpRegistry::Exchange::Tried> HttpRegistry::Exchange::ask_odd_again(std::size_t endpoint,
                                                                          const Request& request) {
  std::optional<Breaker::Permit> permit = endpoints_[endpoint]->enter(request.thing(), true);
  if (!permit) co_return all_down(request);
  metrics_.retries.add();
  co_return co_await attempt(endpoint, request, std::move(*permit));
}

// One try at each endpoint that is not down, until one has an answer.
Task<HttpRegistry::Exchange::Tried> HttpRegistry::Exchange::go_round(const Request& asked, std::size_t number) {
  Request request = asked;
  Tried round;
  std::optional<Error> refused;    // by endpoints that do not do what was asked for
  std::optional<std::size_t> odd;  // the first one whose answer was
  bool all_asked = true;
  const std::vector<std::size_t> endpoints = order_of_round(request);
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    // What nobody waits for is no probe: it would wait for its turn with the probe in its hands.
    const bool unasked = request.urgency && !request.urgency->raised();
    if (unasked && !endpoints_[endpoints[i]]->is_well()) {
      all_asked = false;
      continue;
    }
    std::optional<Breaker::Permit> permit = endpoints_[endpoints[i]]->enter(request.thing(), number > 0);
    if (!permit) {
      all_asked = false;
      continue;
    }
    const bool is_last = i + 1 == endpoints.size();
    if (asked.until) {
      // Whoever comes next needs time too: another endpoint, or the same one over another connection.
      const bool is_final = is_last && (number > 0 || params.retries == 0);
      request.turn_until = asked.until;
      request.until = is_final ? asked.until : std::min(*asked.until, steady_clock::now() + params.endpoint_timeout);
    }
    Tried tried = co_await attempt(endpoints[i], request, std::move(*permit), !is_last);
    if (tried.answer && tried.is_odd && !is_last) {
      if (!odd) odd = endpoints[i];
      co_await let_go(std::move(*tried.answer));
      metrics_.retries.add();
      continue;
    }
    if (tried.answer) {
      if (odd && tried.answer->response->status() / 100 != 2) {
        co_await let_go(std::move(*tried.answer));
        break;
      }
      const int status = tried.answer->response->status();
      // What only some have said is no answer: the others may be just out of reach.
      const bool is_final = status == 404 ? is_last && all_asked && !round.error : is_last || !is_of_endpoint(status);
      if (is_final) co_return tried;
      Error error = co_await refuse(std::move(*tried.answer), request.wanted);
      if (status != 404) add_error(refused, std::move(error));
      if (!is_last) metrics_.retries.add();
      continue;
    }
    if (!tried.elsewhere && !odd) co_return tried;
    if (i + 1 < endpoints.size()) {
      metrics_.retries.add();
      log::debug("upstream", fmt::format("{}: {}; the next endpoint is asked", params.name, tried.error->message));
    }
    round.silent |= tried.silent;
    round.again = round.again || tried.again;
    if (tried.again) round.wait = std::max(round.wait, tried.wait);
    add_error(round.error, std::move(*tried.error));
  }
  if (odd) co_return co_await ask_odd_again(*odd, asked);
  if (!round.error) round.error = std::move(refused);
  if (round.error) co_return round;
  co_return all_down(request);
}

milliseconds HttpRegistry::Exchange::backoff(std::size_t retry) const {
  const auto doubled = params.backoff_base * (std::int64_t{1} << std::min<std::size_t>(retry, 20));
  const double factor = 0.5 + std::clamp(params.jitter(), 0.0, 1.0) / 2;
  return milliseconds(
      static_cast<std::int64_t>(static_cast<double>(std::min(doubled, params.backoff_limit).count()) * factor));
}

Task<std::optional<HttpRegistry::Exchange::Tried>> HttpRegistry::Exchange::ask_slowly(Request request,
                                                                                      std::uint64_t silent) {
  // Each holds a slot: others need some too.
  OneOfFew place(slow_, static_cast<int>(std::max<std::size_t>(params.max_connections / 4, 1)));
  if (!place.take()) co_return std::nullopt;
  for (const std::size_t endpoint : order(request)) {
    if (endpoint >= 64 || ((silent >> endpoint) & 1) == 0) continue;
    // A probe that was silent, too, is an outage and not a slow blob.
    if (endpoints_[endpoint]->is_down()) continue;
    request.until = steady_clock::now() + params.first_byte_timeout;
    request.headers_timeout = params.first_byte_timeout;
    request.fresh_connection = true;
    metrics_.retries.add();
    log::debug("upstream", fmt::format("{}: {} is slow with {}; waiting for it up to {} s", params.name,
                                       endpoints_[endpoint]->base().authority(), request.path,
                                       std::chrono::ceil<std::chrono::seconds>(params.first_byte_timeout).count()));
    co_return co_await attempt(endpoint, request, endpoints_[endpoint]->watch(request.thing()));
  }
  co_return std::nullopt;
}

Task<Result<HttpRegistry::Exchange::Answer>> HttpRegistry::Exchange::ask(Request request) {
  if (!request.patient) request.until = steady_clock::now() + params.request_timeout;
  if (request.latest) request.until = std::min(request.until.value_or(*request.latest), *request.latest);
  const Clock::Monotonic last_start =
      clock_.now() + (request.patient ? params.total_timeout : std::min(params.total_timeout, params.request_timeout));
  std::optional<Error> before;
  std::size_t retry = std::min(request.tries_before, params.retries);
  const milliseconds told = std::min(request.wait_before, params.backoff_limit);
  if (retry > 0 && !co_await params.sleep(std::max(backoff(retry - 1), told))) {
    co_return Error(Errc::cancelled, "cancelled between two tries");
  }
  for (;; ++retry) {
    Tried tried = co_await go_round(request, retry);
    if (tried.answer && tried.is_odd) metrics_.odd_answers.add();
    if (tried.answer) co_return std::move(*tried.answer);
    if (tried.silent != 0 && request.may_be_slow) {
      std::optional<Tried> slow = co_await ask_slowly(request, tried.silent);
      if (slow && slow->answer && slow->is_odd) metrics_.odd_answers.add();
      if (slow && slow->answer) co_return std::move(*slow->answer);
      if (slow) rest(request, slow->silent);
      if (slow) co_return *slow->error;
    }
    // What upstream said tells more than that it is not asked any more.
    const bool asked = !is_ours(tried.error->code) || !before;
    const Error error = asked ? *tried.error : *before;
    const milliseconds wait = std::max(backoff(retry), tried.wait);
    const bool in_time =
        clock_.now() + wait <= last_start && (!request.until || steady_clock::now() + wait < *request.until);
    if (!tried.again || retry == params.retries || !in_time) {
      rest(request, tried.silent);
      co_return error;
    }
    // A kept connection may have died in silence.
    request.fresh_connection = request.fresh_connection || tried.silent != 0;
    log::debug("upstream", fmt::format("{}: {}; again in {} ms", params.name, error.message, wait.count()));
    if (!co_await params.sleep(wait)) co_return Error(Errc::cancelled, "cancelled between two tries");
    metrics_.retries.add();
    before = error;
  }
}

Task<Result<HttpRegistry::Exchange::Hint>> HttpRegistry::Exchange::hint(
    Request request, std::function<bool(const http::ClientResponse&)> is_usable) {
  bool without_token = false;
  request.is_hint = true;
  request.without_token = &without_token;
  Result<Answer> answer = co_await ask(std::move(request));
  Hint out;
  if (!answer) {
    const Error& error = answer.error();
    if (is_ours(error.code) || (without_token && !is_trouble(error.code))) co_return error;
    log::debug("upstream", fmt::format("{}: {}; a GET decides", params.name, error.message));
    out.passes = is_trouble(error.code) || error.code == Errc::throttled;
    out.wait = error.retry_after;
    co_return out;
  }
  if (is_usable(*answer->response)) {
    out.answer = std::move(*answer);
    co_return out;
  }
  log::debug("upstream", fmt::format("{}: {}: {} is of no use; a GET decides", params.name, answer->where,
                                     answer->response->status()));
  co_await let_go(std::move(*answer));
  co_return out;
}

Result<std::string> HttpRegistry::Exchange::next_path(const Answer& answer, const std::string& path,
                                                      const std::string& link) const {
  const Endpoint& endpoint = *endpoints_[answer.endpoint];
  return next_page(endpoint.base(), endpoint.prefix(), path, link);
}

Error HttpRegistry::Exchange::useless(const Answer& answer, const Error& why) const {
  return answer.redirected ? endpoints_[answer.endpoint]->failed_behind(answer, why) : why.in(answer.where);
}

void HttpRegistry::Exchange::download_broke(const std::string& digest, std::size_t endpoint, const Error& why) {
  if (is_ours(why.code)) return;
  broken_.add(digest, endpoint, endpoints_.size());
  endpoints_[endpoint]->body_broke(Breaker::thing(digest));
}

}  // namespace sluice::upstream
