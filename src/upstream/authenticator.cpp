#include "upstream/authenticator.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "upstream/coding.hpp"
#include "upstream/realm.hpp"
#include "upstream/refusal.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

// Clients choose which repositories they ask for, so the table must not grow with them.
constexpr std::size_t kMaxEntries = 4096;
constexpr std::string_view kBearer = "Bearer ";

// The parameters of an HTML form, or of a query.
std::string form(const std::vector<std::pair<std::string_view, std::string_view>>& parameters) {
  std::string out;
  for (const auto& [name, value] : parameters) {
    if (value.empty()) continue;
    if (!out.empty()) out += '&';
    out += fmt::format("{}={}", name, http::percent_encode(value));
  }
  return out;
}

// The names of the schemes, for a message.
std::string schemes_of(const std::vector<http::Challenge>& challenges) {
  std::string out;
  for (const http::Challenge& challenge : challenges) {
    if (out.size() < 100) out += (out.empty() ? "" : ", ") + challenge.scheme.substr(0, 40);
  }
  return out;
}

// Whether a token server's answer says that it is the credentials that are wrong.
bool refuses_credentials(const Result<Token>& answer) {
  return !answer && (answer.error().code == Errc::unauthorized || answer.error().code == Errc::denied);
}

}  // namespace

Authenticator::Authenticator(const HttpRegistry::Params& params, const http::Url& base, Transport& transport,
                             Clock& clock, Metrics& metrics, std::optional<Behind> behind)
    : name_(params.name),
      base_(base),
      front_(behind ? std::optional<http::Url>(behind->front) : std::nullopt),
      anonymous_(behind &&
                 (behind->anonymous || !may_see_credentials(behind->front, base, params.trusted_realm_hosts))),
      http_realm_(params.http_realm),
      source_(params.credential_source
                  ? params.credential_source
                  : std::make_shared<CredentialSource>(
                        CredentialSource::Params{params.name, configured(params.credentials), std::nullopt}, clock)),
      rules_(params.credential_rules),
      trusted_realm_hosts_(params.trusted_realm_hosts),
      token_timeout_(params.token_timeout),
      transport_(transport),
      clock_(clock),
      metrics_(metrics) {}

Authenticator::~Authenticator() = default;

// Null: anonymous.
CredentialSource* Authenticator::source_for(const std::string& repository) const {
  for (const CredentialRule& rule : rules_) {
    for (const std::string& pattern : rule.repositories) {
      if (matches_repository(pattern, repository)) return rule.source.get();
    }
  }
  return source_.get();
}

Task<Result<Credentials>> Authenticator::credentials(std::string repository, std::optional<Credentials> refused) {
  CredentialSource* const source = anonymous_ ? nullptr : source_for(repository);
  if (source == nullptr) co_return Credentials{};
  co_return co_await source->get(front_.value_or(base_).authority(), std::move(refused));
}

std::string Authenticator::at_hand(const std::string& repository, const std::string& refused) const {
  const std::scoped_lock lock(mutex_);
  const auto at = entries_.find(repository);
  if (at == entries_.end() || at->second.token.empty() || at->second.token == refused) return {};
  if (clock_.now() >= at->second.renew_at) return {};
  return std::string(kBearer) + at->second.token;
}

Task<Result<std::string>> Authenticator::authorization(std::string repository) {
  bool basic_wanted = false;
  {
    const std::scoped_lock lock(mutex_);
    basic_wanted = basic_wanted_;
    if (!basic_wanted && !entries_.contains(repository)) co_return std::string();
  }
  if (basic_wanted) {
    const Result<Credentials> ours = co_await credentials(std::move(repository), std::nullopt);
    if (!ours) co_return ours.error();
    co_return basic_authorization(*ours);
  }
  if (std::string ready = at_hand(repository, {}); !ready.empty()) co_return ready;
  co_return co_await token(std::move(repository), {}, std::nullopt);
}

// For a challenge that asks for Basic.
Task<Result<std::string>> Authenticator::basic(std::string repository, std::string refused) {
  if (front_)
    co_return Error(Errc::unauthorized, "the registry behind a redirect wants a password; none is sent there");
  Result<Credentials> ours = co_await credentials(repository, std::nullopt);
  if (ours && !ours->empty() && basic_authorization(*ours) == refused) {
    // They may have been changed since they were looked up.
    const Credentials before = *ours;
    ours = co_await credentials(repository, before);
  }
  if (!ours) co_return ours.error();
  std::string authorization = basic_authorization(*ours);
  if (authorization.empty()) co_return Error(Errc::unauthorized, "upstream wants credentials and sluice has none");
  if (authorization == refused) co_return Error(Errc::unauthorized, "upstream rejected the credentials");
  const std::scoped_lock lock(mutex_);
  basic_wanted_ = true;
  co_return authorization;
}

Task<Result<std::string>> Authenticator::answer(std::string repository, std::vector<http::Challenge> challenges,
                                                std::string refused) {
  std::optional<Error> unusable;
  for (const http::Challenge& challenge : challenges) {
    if (challenge.scheme != "bearer") continue;
    Result<Origin> origin = origin_of(challenge, repository);
    if (!origin) {
      unusable = origin.error();
      continue;
    }
    {
      const std::scoped_lock lock(mutex_);
      basic_wanted_ = false;  // it may have changed its mind
      if (!entries_.contains(repository)) make_room();
      entries_[repository].origin = *origin;
    }
    if (refused.starts_with(kBearer)) refused.erase(0, kBearer.size());
    co_return co_await token(std::move(repository), std::move(refused), std::move(*origin));
  }
  const bool wants_basic = std::any_of(challenges.begin(), challenges.end(),
                                       [](const http::Challenge& challenge) { return challenge.scheme == "basic"; });
  if (wants_basic) co_return co_await basic(std::move(repository), std::move(refused));
  if (unusable) co_return *unusable;
  if (challenges.empty()) co_return Error(Errc::unauthorized, "upstream wants credentials and does not say which");
  co_return Error(Errc::unauthorized,
                  fmt::format("upstream wants a login that is not known here ({})", schemes_of(challenges)));
}

// Makes room for one more entry: the one whose token ends first goes.
void Authenticator::make_room() {
  if (entries_.size() < kMaxEntries) return;
  auto victim = entries_.begin();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    if (at->second.renew_at < victim->second.renew_at) victim = at;
  }
  if (victim != entries_.end()) entries_.erase(victim);
}

Result<Authenticator::Origin> Authenticator::origin_of(const http::Challenge& challenge,
                                                       const std::string& repository) const {
  const auto realm = challenge.parameter("realm");
  if (!realm) return Error(Errc::upstream_protocol, "a Bearer challenge without a realm");
  Result<http::Url> url = base_.resolve(*realm);
  if (!url) return url.error().in("realm of a Bearer challenge");
  if (base_.is_tls() && !url->is_tls() && !http_realm_) {
    return Error(Errc::unauthorized, "a https registry with a realm over http, on " + url->host +
                                         "; http_realm: true of the upstream allows an anonymous token from it");
  }
  Origin origin;
  origin.realm = std::move(*url);
  // Google Artifact Registry leaves it out.
  origin.service = std::string(challenge.parameter("service").value_or(origin.realm.host));
  if (const auto scope = challenge.parameter("scope")) {
    origin.scope = std::string(*scope);
  } else if (!repository.empty()) {
    origin.scope = "repository:" + repository + ":pull";
  }
  return origin;
}

Task<Result<std::string>> Authenticator::token(std::string repository, std::string refused,
                                               std::optional<Origin> named) {
  if (std::string ready = at_hand(repository, refused); !ready.empty()) co_return ready;
  // Who was refused another token than the one that works here could be given just that one.
  std::string key = repository + " " + refused;
  Flights<std::string>::Work work = [this, repository, refused, named] { return renew(repository, refused, named); };
  co_return co_await flights_.run(std::move(key), std::move(work));
}

Task<Result<std::string>> Authenticator::renew(std::string repository, std::string refused,
                                               std::optional<Origin> named) {
  // Whoever fetched before may have ended between the look and the flight.
  if (std::string ready = at_hand(repository, refused); !ready.empty()) co_return ready;
  if (!named) {
    const std::scoped_lock lock(mutex_);
    const auto at = entries_.find(repository);
    // Forgotten in the meantime: as if it had never been asked for.
    if (at == entries_.end()) co_return std::string();
    named = at->second.origin;
  }
  const Clock::Monotonic asked = clock_.now();
  const Result<Token> fetched = co_await fetch(repository, *named);
  const std::scoped_lock lock(mutex_);
  const auto at = entries_.find(repository);
  if (!fetched) {
    // The registry may have moved to another token server: it is asked without a token next, and says so. Not when
    // another challenge has named another one since.
    const bool ours = fetched.error().code == Errc::cancelled || fetched.error().code == Errc::overloaded;
    if (!ours && at != entries_.end() && at->second.origin == *named) entries_.erase(at);
    co_return fetched.error();
  }
  if (at != entries_.end() && at->second.origin == *named) {
    at->second.token = fetched->text;
    at->second.renew_at = asked + fetched->lifetime - renewal_margin(fetched->lifetime);
  }
  co_return std::string(kBearer) + fetched->text;
}

void Authenticator::warn_about(const http::Url& realm) {
  {
    const std::scoped_lock lock(mutex_);
    if (warned_) return;
    warned_ = true;
  }
  log::warn("upstream", fmt::format("{}: the registry sends us to {} for a token, which is not related to {}: asked "
                                    "without credentials; name it in realm_hosts if it is right (never used over http)",
                                    name_, realm.authority(), base_.authority()));
}

Task<Result<Token>> Authenticator::fetch(std::string repository, Origin origin) {
  Result<Credentials> ours = co_await credentials(repository, std::nullopt);
  if (!ours) co_return ours.error();
  const bool trusted = may_see_credentials(front_.value_or(base_), origin.realm, trusted_realm_hosts_);
  if (!trusted && !ours->empty()) {
    warn_about(origin.realm);
    co_return co_await request_token(std::move(origin), Credentials{});
  }
  // That one is meant for the registry itself.
  if (!ours->registry_token.empty() && front_) co_return co_await request_token(std::move(origin), Credentials{});
  if (!ours->registry_token.empty()) co_return Token{ours->registry_token};
  Result<Token> token = co_await request_token(origin, *ours);
  if (ours->empty() || !refuses_credentials(token)) co_return token;
  // They may have been changed, or have expired, since they were looked up.
  const Credentials before = *ours;
  const Result<Credentials> others = co_await credentials(std::move(repository), before);
  if (!others || *others == before) co_return token;
  co_return co_await request_token(std::move(origin), *others);
}

// With a password by GET (distribution's token specification), with an identity token by POST (its OAuth2 one).
Task<Result<Token>> Authenticator::request_token(Origin origin, Credentials credentials) {
  Transport::Ask ask{"GET", std::move(origin.realm), {}, {}, token_timeout_};
  ask.fields.emplace_back("Accept", "application/json");
  if (credentials.identity_token.empty()) {
    ask.url.target += ask.url.target.find('?') == std::string::npos ? "?" : "&";
    ask.url.target += form({{"service", origin.service}, {"scope", origin.scope}, {"account", credentials.username}});
    ask.authorization = basic_authorization(credentials);
  } else {
    ask.method = "POST";
    ask.fields.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    ask.body = form({{"grant_type", "refresh_token"},
                     {"service", origin.service},
                     {"client_id", "sluice"},
                     {"scope", origin.scope},
                     {"refresh_token", credentials.identity_token}});
  }
  metrics_.token_requests.add();
  // What a place that has nothing to do with the registry says or is stays in the log.
  const bool related = may_see_credentials(base_, ask.url, trusted_realm_hosts_);
  const std::string asked = "token for " + base_.authority();
  const std::string realm = fmt::format("{} {}{}", ask.method, ask.url.authority(), ask.url.path());
  Result<Transport::Answer> answer = co_await transport_.send(std::move(ask));
  if (!answer) {
    metrics_.token_failures.add();
    co_return related ? answer.error().in("token") : transport_.failed_behind(asked, realm, answer.error());
  }
  http::ClientResponse& response = *answer->response;
  const bool good = response.status() / 100 == 2;
  Result<std::string> body = co_await response.read_all(good ? kMaxTokenBodyBytes : oci::kMaxErrorBodyBytes);
  if (const std::optional<Coding> coding = coding_of(response.head()); good && body && coding) {
    body = decode(*coding, *body, kMaxTokenBodyBytes);
  }
  if (good && body) {
    Result<Token> token = parse_token(*body);
    if (!token) metrics_.token_failures.add();
    if (!token && !related) co_return transport_.failed_behind(asked, realm, token.error());
    if (!token) co_return token.error().in(answer->where);
    co_return token;
  }
  metrics_.token_failures.add();
  if (good && related) co_return body.error().in(answer->where);
  if (!related || answer->redirected) {
    const int status = response.status();
    const Error why = good ? body.error() : Error(Errc::upstream_failed, fmt::format("status {}", status));
    // A no is a no, whoever says it: what was let in by an earlier answer must not outlive it.
    const bool refused = !answer->redirected && (status == 400 || status == 401 || status == 403 || status == 404);
    if (refused) co_return Error(Errc::unauthorized, fmt::format("{}: {} gives none", asked, realm));
    co_return transport_.failed_behind(asked, realm, why);
  }
  const std::string* retry_after = response.find("Retry-After");
  Error error =
      refusal(response.status(), Wanted::registry, "token: " + answer->where,
              body ? oci::parse_error_body(*body) : std::nullopt,
              retry_after == nullptr ? std::chrono::seconds(0) : parse_retry_after(*retry_after, clock_.wall()));
  // Some token servers refuse an unknown user or scope with 400 or 404.
  if (error.code == Errc::upstream_protocol) error.code = Errc::unauthorized;
  error.message = without_secrets(std::move(error.message), credentials);
  co_return error;
}

}  // namespace sluice::upstream
