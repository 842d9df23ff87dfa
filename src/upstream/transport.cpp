#include "upstream/transport.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

constexpr std::array<std::string_view, 9> kStatusLabels = {"2xx", "3xx", "401", "403",  "404",
                                                           "429", "4xx", "5xx", "error"};

std::size_t status_index(int status) {
  switch (status) {
    case 401: return 2;
    case 403: return 3;
    case 404: return 4;
    case 429: return 5;
    default: break;
  }
  if (status >= 200 && status < 300) return 0;
  if (status >= 300 && status < 400) return 1;
  if (status >= 400 && status < 500) return 6;
  return status >= 500 ? 7 : 8;
}

std::array<metrics::Counter*, 9> request_counters(metrics::Registry& registry, const std::string& upstream) {
  std::array<metrics::Counter*, 9> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    out.at(i) =
        &registry.counter("sluice_upstream_requests_total", "Requests sent upstream, by the status of the answer.",
                          {{"upstream", upstream}, {"status", std::string(kStatusLabels.at(i))}});
  }
  return out;
}

std::shared_ptr<const http::TlsContext> load_tls(const std::string& ca, const std::string& cert,
                                                 const std::string& key) {
  auto tls = http::TlsContext::load(ca, cert, key);
  if (!tls) throw std::runtime_error(tls.error().message);
  return std::move(*tls);
}

// How often what fails behind redirects is told above the level of debugging: servers choose how often it does.
constexpr std::chrono::minutes kWarningInterval{1};

// One line for each request that failed, for whoever looks for the reason (docs/operating.md).
void log_failure(const std::string& upstream, const std::string& where, std::string_view how,
                 std::chrono::steady_clock::time_point sent) {
  if (!log::enabled(log::Level::debug)) return;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - sent);
  log::debug("upstream", fmt::format("{}: {}: {} after {}", upstream, where, how, format_duration(took)));
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

Metrics::Metrics(metrics::Registry& registry, const std::string& upstream)
    : requests(request_counters(registry, upstream)),
      request_seconds(registry.histogram("sluice_upstream_request_seconds",
                                         "Time from a request upstream to the head of its answer.",
                                         metrics::latency_bounds(), {{"upstream", upstream}})),
      received_bytes(registry.counter("sluice_upstream_received_bytes_total", "Bytes of bodies received from upstream.",
                                      {{"upstream", upstream}})),
      connections(registry.gauge("sluice_upstream_connections", "Open connections to upstream, idle ones included.",
                                 {{"upstream", upstream}})),
      retries(registry.counter("sluice_upstream_retries_total", "Requests sent upstream again after a failure.",
                               {{"upstream", upstream}})),
      odd_answers(registry.counter("sluice_upstream_odd_answers_total",
                                   "Answers of upstream whose header fields do not fit content of a registry (an HTML "
                                   "type, a Content-Encoding, another digest), and which were used nevertheless.",
                                   {{"upstream", upstream}})),
      token_requests(
          registry.counter("sluice_upstream_token_requests_total", "Requests for a token.", {{"upstream", upstream}})),
      token_failures(registry.counter("sluice_upstream_token_failures_total", "Requests for a token that gave none.",
                                      {{"upstream", upstream}})),
      wait_seconds(registry.histogram("sluice_upstream_wait_seconds",
                                      "How long requests waited for their turn before they were sent upstream.",
                                      metrics::latency_bounds(), {{"upstream", upstream}})),
      waiting(registry.gauge("sluice_upstream_waiting", "Requests that wait for their turn to be sent upstream.",
                             {{"upstream", upstream}})),
      rate_limit(registry, upstream) {}

void Metrics::count_status(int status) noexcept { requests[status_index(status)]->add(); }

Transport::Transport(const HttpRegistry::Params& params, const http::Url& base, http::Client& client, Clock& clock,
                     Metrics& metrics, Admission& admission)
    : name_(params.name),
      base_(base),
      policy_(std::make_shared<const http::AddressPolicy>(NetworkList(params.redirect_networks), params.own_listeners)),
      client_(client),
      clock_(clock),
      metrics_(metrics),
      admission_(admission),
      max_redirects_(params.max_redirects),
      via_(params.pseudonym.empty() ? std::string() : "1.1 " + params.pseudonym),
      // The only one that is known where a proxy is in between.
      own_address_(IpAddress::parse(base.host)) {
  auto channel = std::make_shared<http::Channel>();
  channel->tls = load_tls(params.ca_file, {}, {});
  // Who we are is for the registry, not for whoever it sends us to.
  if (!params.cert_file.empty()) channel->own_tls = load_tls(params.ca_file, params.cert_file, params.key_file);
  channel->proxies = params.proxies;
  channel->connect_timeout = params.connect_timeout;
  channel->headers_timeout = params.headers_timeout;
  channel->stall_timeout = params.stall_timeout;
  channel->max_connections_per_host = params.max_connections;
  channel->receive_buffer_bytes = params.receive_buffer_bytes;
  channel->user_agent = params.user_agent;
  channel->own_host = base.host;
  channel->connections = &metrics.connections;
  channel->received_bytes = &metrics.received_bytes;
  channel_ = std::move(channel);
}

std::optional<IpAddress> Transport::own_address() const {
  const std::scoped_lock lock(mutex_);
  return own_address_;
}

void Transport::note_own_address(const http::ClientResponse& response) {
  if (!response.peer()) return;
  const std::scoped_lock lock(mutex_);
  own_address_ = response.peer();
}

// A server that sends us back to its own name may have changed what that name stands for since. Over TLS its
// certificate says who it is; without, the address decides as for any other place.
std::optional<http::Referral> Transport::referral(const http::Url& url, const std::optional<IpAddress>& sender,
                                                  std::size_t hop) const {
  if (url.same_origin(base_) && (hop == 0 || url.is_tls())) return std::nullopt;
  return http::Referral{policy_, sender};
}

std::chrono::steady_clock::time_point Transport::body_ends_by(const Ask& ask) const {
  const auto end = std::chrono::steady_clock::now() + ask.headers_timeout.value_or(channel_->headers_timeout);
  const auto all = ask.turn_until ? ask.turn_until : ask.until;
  return all ? std::min(end, *all) : end;
}

Error Transport::failed_behind(const std::string& asked, const std::string& where, const Error& why) {
  if (why.code == Errc::cancelled || why.code == Errc::overloaded || why.code == Errc::internal) return why.in(where);
  bool warn = false;
  {
    const std::scoped_lock lock(mutex_);
    const Clock::Monotonic now = clock_.now();
    warn = !warned_at_ || now - *warned_at_ >= kWarningInterval;
    if (warn) warned_at_ = now;
  }
  log::write(warn ? log::Level::warn : log::Level::debug, "upstream",
             fmt::format("{}: {} leads to another server, which failed: {}: {}", name_, asked, where, why.message));
  return {Errc::upstream_failed,
          fmt::format("{}: the server that it leads to gave no valid answer (the log has the reason)", asked)};
}

Task<Result<Transport::Answer>> Transport::send(Ask ask) {
  const http::Url origin = ask.url;
  http::Url url = origin;
  Admission::Turn turn;
  const std::string asked = fmt::format("{} {}{}", ask.method, url.authority(), url.path());
  if (ask.lane) {
    const auto began = std::chrono::steady_clock::now();
    Result<Admission::Turn> entered = co_await admission_.enter(*ask.lane, ask.urgency, ask.turn_until, ask.client);
    if (!entered) co_return entered.error().in(asked);
    turn = std::move(*entered);
    // The endpoint's time begins with the turn.
    if (ask.until && ask.turn_until) {
      ask.until = std::min(*ask.turn_until, *ask.until + (std::chrono::steady_clock::now() - began));
    }
  }
  std::optional<IpAddress> sender = own_address();
  for (std::size_t hop = 0;; ++hop) {
    const std::string where = fmt::format("{} {}{}", ask.method, url.authority(), url.path());
    http::ClientRequest request{ask.method, url, ask.fields, ask.headers_timeout};
    if (ask.patience) {
      request.headers_timeout = std::min(ask.headers_timeout.value_or(channel_->headers_timeout), *ask.patience);
      request.connect_timeout = std::min(channel_->connect_timeout, *ask.patience);
    }
    request.body = ask.body;
    request.referral = referral(url, sender, hop);
    request.until = ask.until;
    request.fresh_connection = ask.fresh_connection;
    request.connected = ask.connected;
    // RFC 9110 section 7.6.3: those before us, in their order, then us.
    // Where clients come from is not for servers that a redirect leads to.
    if (!via_.empty()) {
      const bool passes_on = !ask.via.empty() && url.same_origin(base_);
      request.fields.emplace_back("Via", passes_on ? ask.via + ", " + via_ : via_);
    }
    std::string authorization;
    // Same scheme, host and port: a redirect to another port of the same host is another server.
    if (url.same_origin(origin)) {
      authorization = ask.authorization;
    } else if (ask.authorize_behind && (url.is_tls() || !origin.is_tls())) {
      authorization = co_await ask.authorize_behind(url);
    }
    if (!authorization.empty()) request.fields.emplace_back("Authorization", authorization);
    const Clock::Monotonic begin = clock_.now();
    const auto sent = std::chrono::steady_clock::now();
    auto response = co_await client_.send(std::move(request), channel_);
    if (ask.waited != nullptr) *ask.waited = std::chrono::steady_clock::now() - sent;
    if (!response) {
      metrics_.count_status(0);
      log_failure(name_, where, response.error().message, sent);
      if (ask.failed_behind != nullptr) *ask.failed_behind = hop > 0;
      if (ask.timed_out_behind != nullptr) {
        *ask.timed_out_behind = hop > 0 && response.error().code == Errc::upstream_timeout;
      }
      if (hop > 0) co_return failed_behind(asked, where, response.error());
      co_return response.error().in(where);
    }
    metrics_.count_status((*response)->status());
    if (const int status = (*response)->status(); status >= 400 && log::enabled(log::Level::debug)) {
      log_failure(name_, where, fmt::format("status {}", status), sent);
    }
    if (!ask.is_download || (*response)->status() / 100 != 2) (*response)->end_by(body_ends_by(ask));
    metrics_.request_seconds.observe(std::chrono::duration<double>(clock_.now() - begin).count());
    if (hop == 0 && url.same_origin(base_)) {
      note_own_address(**response);
      if ((*response)->peer()) sender = (*response)->peer();
    }

    const std::string* location = (*response)->find("Location");
    // A POST holds a secret, and is for the one that it was meant for.
    if (!is_redirect((*response)->status()) || location == nullptr || ask.method == "POST") {
      if (hop == 0) metrics_.rate_limit.observe((*response)->head());
      co_return Answer{std::move(*response), hop > 0, where, asked, std::move(authorization), std::move(turn), url};
    }
    if (hop == max_redirects_) {
      const Error too_many(Errc::upstream_protocol, fmt::format("more than {} redirects", max_redirects_));
      if (url.same_origin(base_)) co_return too_many.in(asked);
      if (ask.failed_behind != nullptr) *ask.failed_behind = true;
      co_return failed_behind(asked, where, too_many);
    }
    Result<http::Url> next = url.resolve(*location);
    if (next && url.is_tls() && !next->is_tls() && !ask.follows_to_http) {
      next = Error(Errc::upstream_protocol, "redirect from https to http on " + next->host);
    }
    if (!next && hop > 0) {
      if (ask.failed_behind != nullptr) *ask.failed_behind = true;
      co_return failed_behind(asked, where, next.error());
    }
    if (!next) co_return next.error().in(where + ": redirect");
    co_await (*response)->drain();
    url = std::move(*next);
    response->reset();  // before another connection is needed: there may be only this one
  }
}

}  // namespace sluice::upstream
