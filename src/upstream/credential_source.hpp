// CredentialSource: where credentials come from, and when they are looked up again.
//
//   configured ones      never
//   a password file      when what it said is ten seconds old
//   a docker config.json likewise; helpers that it names are asked again after ten minutes
//   a credential helper  once; each time; or after a lifetime, as distribution's proxy.exec has it
//
// and after credentials have been refused, all of them, at most once a second. Looking up happens on a thread of its
// own, once for all who wait. When a look-up fails, the last ones that were found stand in and it is tried again two
// seconds later; where there are none, or they were refused, it counts as no credentials. A warning in the log says so.
//
// Threads: get() from tasks on any loop. Outlives them.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "runtime/task.hpp"
#include "upstream/credentials.hpp"
#include "upstream/flights.hpp"

namespace sluice::upstream {

class CredentialSource {
 public:
  // How it is looked up; blocks, owns what it touches, throws nothing. `server` is "host" or "host:port"; `refused`:
  // what it said last was not taken. `not_found` is an answer: no credentials for that server.
  using LookUp = std::function<Result<Credentials>(const std::string& server, bool refused)>;

  struct Params {
    std::string name;  // of the upstream, for the log
    LookUp look_up;
    // How long an answer is good for; nothing: for ever.
    std::optional<std::chrono::nanoseconds> lifetime;
    // Lookups that failed; may be null.
    metrics::Counter* failures = nullptr;
  };

  CredentialSource(Params params, const Clock& clock) : params_(std::move(params)), clock_(clock) {}
  CredentialSource(const CredentialSource&) = delete;
  CredentialSource& operator=(const CredentialSource&) = delete;

  // `refused`: the ones that a server did not take. The same are given again where there are no others.
  // Errors: cancelled.
  runtime::Task<Result<Credentials>> get(std::string server, std::optional<Credentials> refused = std::nullopt);

 private:
  struct Entry {
    Credentials credentials;
    Clock::Monotonic looked_up_at;
    bool found = false;
    std::optional<std::string> trouble;  // what was logged about it
  };
  [[nodiscard]] std::optional<Credentials> at_hand(const std::string& server,
                                                   const std::optional<Credentials>& refused) const;
  runtime::Task<Result<Credentials>> look_up(std::string server, std::optional<Credentials> refused);

  const Params params_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards entries_
  std::unordered_map<std::string, Entry> entries_;
  Flights<Credentials> flights_;
};

// The ways of looking up.
CredentialSource::LookUp configured(Credentials credentials);
CredentialSource::LookUp from_password_file(std::string username, std::filesystem::path file);
CredentialSource::LookUp from_helper(std::string name, std::chrono::milliseconds timeout);
// With the answers of helpers kept for `helper_lifetime`.
CredentialSource::LookUp from_docker_config(std::filesystem::path file, std::chrono::milliseconds timeout,
                                            std::chrono::nanoseconds helper_lifetime);

}  // namespace sluice::upstream
