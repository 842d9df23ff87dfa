// Authenticator: what goes into Authorization for one endpoint of an upstream. Answers Bearer and Basic challenges,
// keeps the tokens.
//
// A token is kept for each repository, until shortly before it ends. However many tasks need the same one, on whatever
// loop, one fetches it and the others wait; when that one is cancelled, another takes over. When a token server gives
// none it is forgotten, so that the next request hears from the registry where to ask now.
//
// Threads: all functions from tasks on any loop. Owned by an Endpoint.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "http/challenge.hpp"
#include "http/url.hpp"
#include "upstream/credential_source.hpp"
#include "upstream/flights.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/token.hpp"
#include "upstream/transport.hpp"

namespace sluice::upstream {

class Authenticator {
 public:
  // How a registry is asked that is not the configured one, but where that one has redirected us to.
  struct Behind {
    http::Url front;         // the configured one
    bool anonymous = false;  // whatever credentials there are
  };

  // `base` is the registry that is asked. Where it stands `behind` another one, our credentials are used for a token
  // only when both it and its realm may see those for the front one, and never for Basic.
  Authenticator(const HttpRegistry::Params& params, const http::Url& base, Transport& transport, Clock& clock,
                Metrics& metrics, std::optional<Behind> behind = std::nullopt);
  ~Authenticator();
  Authenticator(const Authenticator&) = delete;
  Authenticator& operator=(const Authenticator&) = delete;

  // What to send with a request for `repository` (as upstream names it), going by what it asked for before: a value for
  // Authorization, or empty. Fetches a token when the one at hand is about to end.
  runtime::Task<Result<std::string>> authorization(std::string repository);

  // What to send after a 401 to `refused` (empty when none was sent): never `refused` again.
  // Errors: unauthorized, when nothing in the challenges can be answered; those of a token request: unauthorized,
  // denied, throttled, upstream_….
  runtime::Task<Result<std::string>> answer(std::string repository, std::vector<http::Challenge> challenges,
                                            std::string refused);

 private:
  // Where a repository's token comes from.
  struct Origin {
    http::Url realm;
    std::string service;
    std::string scope;
    bool operator==(const Origin&) const = default;
  };
  struct Entry {
    Origin origin;
    std::string token;  // empty: none
    Clock::Monotonic renew_at;
  };

  [[nodiscard]] CredentialSource* source_for(const std::string& repository) const;
  runtime::Task<Result<Credentials>> credentials(std::string repository, std::optional<Credentials> refused);
  runtime::Task<Result<std::string>> basic(std::string repository, std::string refused);
  // An Authorization with a token that is at hand; empty when there is none.
  [[nodiscard]] std::string at_hand(const std::string& repository, const std::string& refused) const;
  // `named`: what a challenge has just said; else what one said before.
  runtime::Task<Result<std::string>> token(std::string repository, std::string refused, std::optional<Origin> named);
  runtime::Task<Result<std::string>> renew(std::string repository, std::string refused, std::optional<Origin> named);
  runtime::Task<Result<Token>> fetch(std::string repository, Origin origin);
  runtime::Task<Result<Token>> request_token(Origin origin, Credentials credentials);
  Result<Origin> origin_of(const http::Challenge& challenge, const std::string& repository) const;
  void warn_about(const http::Url& realm);
  void make_room();

  const std::string name_;
  const http::Url base_;
  const std::optional<http::Url> front_;  // where `base_` is reached by a redirect from there
  const bool anonymous_;
  const bool http_realm_;
  const std::shared_ptr<CredentialSource> source_;  // never null
  const std::vector<CredentialRule> rules_;
  const std::vector<std::string> trusted_realm_hosts_;
  const std::chrono::milliseconds token_timeout_;
  Transport& transport_;
  Clock& clock_;
  Metrics& metrics_;
  Flights<std::string> flights_;  // by repository and the token that was refused

  mutable std::mutex mutex_;  // guards everything below
  bool basic_wanted_ = false;
  bool warned_ = false;
  std::unordered_map<std::string, Entry> entries_;  // by repository
};

}  // namespace sluice::upstream
