// Authenticator: what goes into Authorization for one endpoint of an upstream. Answers Bearer and Basic challenges,
// keeps the tokens.
//
// A token is kept for each repository, until shortly before it ends. However many tasks need the same one, on whatever
// loop, one fetches it and the others wait; when that one is cancelled, another takes over.
//
// Threads: all functions from tasks on any loop. Owned by an Endpoint.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "http/challenge.hpp"
#include "http/url.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/token.hpp"
#include "upstream/transport.hpp"

namespace sluice::upstream {

class Authenticator {
 public:
  Authenticator(const HttpRegistry::Params& params, const http::Url& base, Transport& transport, Clock& clock,
                Metrics& metrics);
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
  struct Source {
    http::Url realm;
    std::string service;
    std::string scope;
  };
  struct Flight;
  class Leader;
  struct Entry {
    Source source;
    std::string token;  // empty: none
    Clock::Monotonic renew_at;
    std::shared_ptr<Flight> flight;  // null: nobody is fetching
  };

  runtime::Task<Result<std::string>> token(std::string repository, std::string refused);
  runtime::Task<Result<Token>> fetch(Source source);
  Result<Source> source_of(const http::Challenge& challenge, const std::string& repository) const;
  void warn_about(const http::Url& realm);
  void make_room();

  const std::string name_;
  const http::Url base_;
  const Credentials credentials_;
  const std::vector<std::string> trusted_realm_hosts_;
  const std::chrono::milliseconds token_timeout_;
  const std::string basic_authorization_;  // empty when anonymous
  Transport& transport_;
  Clock& clock_;
  Metrics& metrics_;

  std::mutex mutex_;  // guards everything below, and the Flights
  bool basic_wanted_ = false;
  bool warned_ = false;
  std::unordered_map<std::string, Entry> entries_;  // by repository
};

}  // namespace sluice::upstream
