// LoginGate: who may use the cache, by a htpasswd file with bcrypt hashes.
//
//   checked lately ──▶ in, or refused
//   else bcrypt, on threads of their own: the right password ──▶ in, and remembered
//                                         any other, or no such user ──▶ 401, and remembered a moment
//
// Every refusal costs as much as the costliest hash of the file, whoever is asked for, so that its time tells nobody
// who is in it. The checks of one client wait for each other, and hardly for those of others (FairPool). What is
// remembered is kept under a KeyedHash with the file's generation in it: a file that has changed makes all of it void.
//
// Threads: admit on any loop; set and refresh on any thread that may block, one at a time. The task group must be empty
// before this is destroyed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/fair_pool.hpp"
#include "access/keyed_hash.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/sieve_map.hpp"
#include "runtime/single_flight.hpp"

namespace sluice::access {

// The accounts of a file. A value; nobody changes it.
class Htpasswd {
 public:
  // Lines that are no account are left out, and named in `remarks` by their number and never by what they hold.
  static Htpasswd parse(std::string_view text, std::vector<std::string>& remarks);

  // Blocks for as long as a bcrypt takes; for a refusal, for as long as the costliest of the file, whoever is asked
  // for. `rounds`: how many of bcrypt's rounds were computed, 2 to the power of the cost; may be null.
  bool verify(const std::string& user, const std::string& password, std::uint64_t* rounds = nullptr) const;
  [[nodiscard]] std::size_t size() const noexcept { return hashes_.size(); }

 private:
  std::map<std::string, std::string, std::less<>> hashes_;
  unsigned most_cost_ = 0;
};

// The user and the password of a Basic Authorization (RFC 7617); nothing for any other.
struct Login {
  std::string user;
  std::string password;
};
std::optional<Login> parse_basic(std::string_view authorization);

class LoginGate {
 public:
  struct Params {
    std::filesystem::path file;  // empty: nobody needs a login
    std::string realm = "sluice";
    std::chrono::milliseconds remember{60'000};
  };
  struct Bounds {
    FairPool::Params pool;
    std::size_t max_remembered = 10'000;  // accepted ones
    std::size_t max_refusals = 1'000;
    std::chrono::milliseconds remember_refusal{5'000};
  };

  LoginGate(Bounds bounds, const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry);
  // Waits for the hashes that are being computed.
  ~LoginGate();

  // Reads the file, and puts nothing in force. What is wrong with lines goes into the log. One at a time, and not with
  // refresh.
  class Prepared;
  Result<Prepared> prepare(Params params);
  // From now on. `prepared` of this gate. Where refresh() has read the same file since, its logins stay.
  void apply(Prepared prepared);
  // Both; on an error everything stays as it was.
  Result<void> set(Params params);
  // Reads the file again where it has changed. One that cannot be read leaves what was there, with a line in the log.
  void refresh();

  [[nodiscard]] bool required() const noexcept { return required_.load(std::memory_order_acquire); }
  // Nothing for who may come in. Errors: unauthorized, with a challenge; overloaded, when too many of this client's
  // logins, or of all, wait to be checked.
  runtime::Task<Result<void>> admit(std::string authorization, IpAddress client);
  // Ends the threads; nobody is admitted any more.
  void stop() { pool_.stop(); }

 private:
  struct Counters {
    explicit Counters(metrics::Registry& registry);
    metrics::Counter& accepted;
    metrics::Counter& remembered;
    metrics::Counter& refused;
    metrics::Counter& missing;
    metrics::Counter& overloaded;
  };
  // What is in force. Immutable.
  struct State {
    Params params;
    Htpasswd accounts;
    std::string stamp;  // of the file
    std::string generation;
    std::uint64_t order = 0;  // of reading: what was read later has a higher one
  };
  using Remembered = SieveMap<std::string, Clock::Monotonic>;  // until when

  [[nodiscard]] std::shared_ptr<const State> state() const;
  Result<std::shared_ptr<const State>> read(Params params);
  void put(std::shared_ptr<const State> state);
  [[nodiscard]] std::optional<bool> recall(const std::string& key);
  void remember(const std::string& key, bool accepted, std::chrono::milliseconds ttl);
  runtime::Task<Result<bool>> check(std::shared_ptr<const State> state, std::string authorization, std::string key,
                                    IpAddress client);
  static Error refusal(const State& state, std::string why);

  const Bounds bounds_;
  const Clock& clock_;
  const Counters counters_;
  const KeyedHash hash_;
  FairPool pool_;
  std::atomic<bool> required_{false};
  std::uint64_t reads_ = 0;       // set and refresh alone
  std::string complained_about_;  // a stamp; refresh alone
  mutable std::mutex mutex_;      // guards what follows
  std::shared_ptr<const State> state_;
  Remembered accepted_;
  Remembered refused_;  // apart, so that a flood of wrong ones drives out no right one
  runtime::SingleFlight<std::string, bool> flights_;
};

class LoginGate::Prepared {
 private:
  friend class LoginGate;
  explicit Prepared(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace sluice::access
