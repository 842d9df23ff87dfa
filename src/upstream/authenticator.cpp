#include "upstream/authenticator.hpp"

#include <algorithm>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/log.hpp"
#include "upstream/realm.hpp"
#include "upstream/refusal.hpp"

namespace sluice::upstream {
namespace {

namespace asio = boost::asio;
using runtime::Task;
using std::chrono::steady_clock;

// Clients choose which repositories they ask for, so the table must not grow with them.
constexpr std::size_t kMaxEntries = 4096;
constexpr std::string_view kBearer = "Bearer ";

std::string basic_authorization(const Credentials& credentials) {
  if (credentials.empty()) return {};
  const std::string text = credentials.username + ":" + credentials.password;
  std::string encoded(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(n));
  return "Basic " + encoded;
}

// A task that waits for a token somebody else fetches. Its timer is touched on its own loop alone.
struct Waiter {
  explicit Waiter(runtime::Executor on) : executor(on), timer(on) { timer.expires_at(steady_clock::time_point::max()); }
  runtime::Executor executor;
  asio::basic_waitable_timer<steady_clock, asio::wait_traits<steady_clock>, runtime::Executor> timer;
  bool woken = false;
};

void wake(const std::shared_ptr<Waiter>& waiter) {
  asio::post(waiter->executor, [waiter] {
    waiter->woken = true;
    waiter->timer.cancel();
  });
}

}  // namespace

// A token being fetched, and who waits for it.
struct Authenticator::Flight {
  bool done = false;
  bool abandoned = false;  // the leader was cancelled: somebody else must fetch
  Result<std::string> result{Error(Errc::cancelled)};
  std::vector<std::shared_ptr<Waiter>> waiters;
};

// Whoever fetches; ends the flight in any case.
class Authenticator::Leader {
 public:
  Leader(Authenticator& owner, std::string repository, std::shared_ptr<Flight> flight)
      : owner_(owner), repository_(std::move(repository)), flight_(std::move(flight)) {}
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;
  ~Leader() {
    if (flight_) end(Error(Errc::cancelled), nullptr, {});
  }

  void end(Result<std::string> result, const Token* token, Clock::Monotonic renew_at) {
    const std::shared_ptr<Flight> flight = std::move(flight_);
    std::vector<std::shared_ptr<Waiter>> waiters;
    {
      const std::scoped_lock lock(owner_.mutex_);
      flight->done = true;
      flight->abandoned = !result && result.error().code == Errc::cancelled;
      flight->result = std::move(result);
      waiters.swap(flight->waiters);
      const auto at = owner_.entries_.find(repository_);
      if (at != owner_.entries_.end() && at->second.flight == flight) {
        at->second.flight.reset();
        at->second.token = token == nullptr ? std::string() : token->text;
        at->second.renew_at = renew_at;
      }
    }
    for (const auto& waiter : waiters) wake(waiter);
  }

 private:
  Authenticator& owner_;
  const std::string repository_;
  std::shared_ptr<Flight> flight_;
};

Authenticator::Authenticator(const HttpRegistry::Params& params, const http::Url& base, Transport& transport,
                             Clock& clock, Metrics& metrics)
    : name_(params.name),
      base_(base),
      credentials_(params.credentials),
      trusted_realm_hosts_(params.trusted_realm_hosts),
      token_timeout_(params.token_timeout),
      basic_authorization_(basic_authorization(params.credentials)),
      transport_(transport),
      clock_(clock),
      metrics_(metrics) {}

Authenticator::~Authenticator() = default;

Task<Result<std::string>> Authenticator::authorization(std::string repository) {
  {
    const std::scoped_lock lock(mutex_);
    if (basic_wanted_) co_return basic_authorization_;
    const auto at = entries_.find(repository);
    if (at == entries_.end()) co_return std::string();
    if (!at->second.token.empty() && clock_.now() < at->second.renew_at) {
      co_return std::string(kBearer) + at->second.token;
    }
  }
  co_return co_await token(std::move(repository), {});
}

Task<Result<std::string>> Authenticator::answer(std::string repository, std::vector<http::Challenge> challenges,
                                                std::string refused) {
  std::optional<Error> unusable;
  for (const http::Challenge& challenge : challenges) {
    if (challenge.scheme != "bearer") continue;
    Result<Source> source = source_of(challenge, repository);
    if (!source) {
      unusable = source.error();
      continue;
    }
    {
      const std::scoped_lock lock(mutex_);
      basic_wanted_ = false;  // it may have changed its mind
      if (!entries_.contains(repository)) make_room();
      entries_[repository].source = std::move(*source);
    }
    if (refused.starts_with(kBearer)) refused.erase(0, kBearer.size());
    co_return co_await token(std::move(repository), std::move(refused));
  }
  const bool basic = std::any_of(challenges.begin(), challenges.end(),
                                 [](const http::Challenge& challenge) { return challenge.scheme == "basic"; });
  if (basic && !basic_authorization_.empty() && refused != basic_authorization_) {
    const std::scoped_lock lock(mutex_);
    basic_wanted_ = true;
    co_return basic_authorization_;
  }
  if (unusable) co_return *unusable;
  co_return Error(Errc::unauthorized, basic_authorization_.empty() ? "upstream wants credentials and there are none"
                                                                   : "upstream does not take the credentials");
}

// Makes room for one more entry: the one whose token ends first goes.
void Authenticator::make_room() {
  if (entries_.size() < kMaxEntries) return;
  auto victim = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    if (at->second.flight) continue;
    if (victim == entries_.end() || at->second.renew_at < victim->second.renew_at) victim = at;
  }
  if (victim != entries_.end()) entries_.erase(victim);
}

Result<Authenticator::Source> Authenticator::source_of(const http::Challenge& challenge,
                                                       const std::string& repository) const {
  const auto realm = challenge.parameter("realm");
  if (!realm) return Error(Errc::upstream_protocol, "a Bearer challenge without a realm");
  Result<http::Url> url = base_.resolve(*realm);
  if (!url) return url.error().in("realm of a Bearer challenge");
  if (base_.is_tls() && !url->is_tls()) {
    return Error(Errc::unauthorized, "a https registry with a realm over http, on " + url->host);
  }
  Source source;
  source.realm = std::move(*url);
  // Google Artifact Registry leaves it out.
  source.service = std::string(challenge.parameter("service").value_or(source.realm.host));
  if (const auto scope = challenge.parameter("scope")) {
    source.scope = std::string(*scope);
  } else if (!repository.empty()) {
    source.scope = "repository:" + repository + ":pull";
  }
  return source;
}

Task<Result<std::string>> Authenticator::token(std::string repository, std::string refused) {
  const runtime::Executor executor = co_await asio::this_coro::executor;
  while (true) {
    std::shared_ptr<Flight> flight;
    std::shared_ptr<Waiter> waiter;
    Source source;
    {
      const std::scoped_lock lock(mutex_);
      const auto at = entries_.find(repository);
      // Made room for another in the meantime: as if it had never been asked for.
      if (at == entries_.end()) co_return std::string();
      Entry& entry = at->second;
      if (!entry.token.empty() && entry.token != refused && clock_.now() < entry.renew_at) {
        co_return std::string(kBearer) + entry.token;
      }
      if (entry.flight) {
        flight = entry.flight;
        waiter = std::make_shared<Waiter>(executor);
        flight->waiters.push_back(waiter);
      } else {
        flight = entry.flight = std::make_shared<Flight>();
        source = entry.source;
      }
    }
    if (waiter) {
      if (!waiter->woken) co_await waiter->timer.async_wait(runtime::kAwaitTuple);
      // Interrupted by something else than the end of the flight: this task has been cancelled.
      if (!waiter->woken) co_return Error(Errc::cancelled, "cancelled while waiting for a token");
      const std::scoped_lock lock(mutex_);
      if (flight->abandoned) continue;
      co_return flight->result;
    }
    Leader leader(*this, repository, flight);
    const Clock::Monotonic asked = clock_.now();
    const Result<Token> fetched = co_await fetch(std::move(source));
    if (!fetched) {
      leader.end(fetched.error(), nullptr, {});
      co_return fetched.error();
    }
    std::string value = std::string(kBearer) + fetched->text;
    leader.end(value, &*fetched, asked + fetched->lifetime - renewal_margin(fetched->lifetime));
    co_return value;
  }
}

void Authenticator::warn_about(const http::Url& realm) {
  {
    const std::scoped_lock lock(mutex_);
    if (warned_) return;
    warned_ = true;
  }
  log::warn("upstream", fmt::format("{}: the registry sends us to {} for a token, which is not related to {}: asked "
                                    "without credentials; name it as a trusted realm if it is right",
                                    name_, realm.authority(), base_.authority()));
}

Task<Result<Token>> Authenticator::fetch(Source source) {
  const bool trusted = may_see_credentials(base_, source.realm, trusted_realm_hosts_);
  const bool with_credentials = trusted && !credentials_.empty();
  if (!trusted && !credentials_.empty()) warn_about(source.realm);

  http::Url url = source.realm;
  std::string query = "service=" + http::percent_encode(source.service);
  if (!source.scope.empty()) query += "&scope=" + http::percent_encode(source.scope);
  if (with_credentials) query += "&account=" + http::percent_encode(credentials_.username);
  url.target += url.target.find('?') == std::string::npos ? "?" : "&";
  url.target += query;

  metrics_.token_requests.add();
  Transport::Ask ask{
      "GET", std::move(url), {}, with_credentials ? basic_authorization_ : std::string(), token_timeout_};
  ask.fields.emplace_back("Accept", "application/json");
  Result<Transport::Answer> answer = co_await transport_.send(std::move(ask));
  if (!answer) {
    metrics_.token_failures.add();
    co_return answer.error().in("token");
  }
  http::ClientResponse& response = *answer->response;
  const bool good = response.status() == 200;
  const Result<std::string> body = co_await response.read_all(good ? kMaxTokenBodyBytes : oci::kMaxErrorBodyBytes);
  if (good && body) {
    Result<Token> token = parse_token(*body);
    if (!token) metrics_.token_failures.add();
    if (!token) co_return token.error().in(answer->where);
    co_return token;
  }
  metrics_.token_failures.add();
  if (good) co_return body.error().in(answer->where);
  const std::string* retry_after = response.find("Retry-After");
  Error error =
      refusal(response.status(), Wanted::registry, "token: " + answer->where,
              body ? oci::parse_error_body(*body) : std::nullopt,
              retry_after == nullptr ? std::chrono::seconds(0) : parse_retry_after(*retry_after, clock_.wall()));
  // Some token servers refuse an unknown user or scope with 400 or 404.
  if (error.code == Errc::upstream_protocol) error.code = Errc::unauthorized;
  co_return error;
}

}  // namespace sluice::upstream
