// What clients have asked lately: the last requests, who has asked within the hour, and what for.
//
// Each thread writes to memory of its own, of a fixed size. Its lock is contended only while somebody looks, for as
// long as a copy takes. A request allocates nothing, but for the first of a thread.
//
//   last requests   a ring of kRing for each thread
//   clients, pulls  a table of kSeen pairs of client and repository for each thread, each with the minutes of the last
//                   hour in which the pair was seen; tables of several threads add up without counting twice
//   repositories    a table of kRepositories for each thread
//
// Where a table is full, what was seen longest ago makes room, and Use says that its counts are lower bounds.
//
// Threads: all functions are thread-safe. Outlives those who note.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"

namespace sluice::admin {

// A request whose answer is over. The views need only live through note().
struct Noted {
  std::string_view client;  // address, with or without a port
  std::string_view method;
  std::string_view upstream;
  std::string_view repository;
  std::string_view reference;  // a digest or a tag
  std::string_view cache;      // lives for ever: a name of access::CacheResult
  unsigned status = 0;
  std::uint64_t bytes = 0;
  bool complete = true;
  std::chrono::nanoseconds first_byte{0};     // until the first byte of the answer
  std::chrono::nanoseconds upstream_wait{0};  // after it: waiting for more bytes from upstream
  std::chrono::nanoseconds total{0};
};

// The same as a value.
struct RequestRecord {
  Clock::Wall ended;
  std::string client;  // the address alone
  std::string method;
  std::string upstream;
  std::string repository;
  std::string reference;
  std::string_view cache;
  unsigned status = 0;
  std::uint64_t bytes = 0;
  bool complete = true;
  std::chrono::nanoseconds first_byte{0};
  std::chrono::nanoseconds upstream_wait{0};
  std::chrono::nanoseconds total{0};
};

// Within the last hour.
struct Use {
  std::size_t clients = 0;  // different addresses
  // Requests of one client for one repository in consecutive minutes of the clock are one pull.
  std::size_t pulls = 0;
  bool at_least = false;  // there were more than the tables hold
};

// What a repository's clients have got within the last hour.
struct HotRepository {
  std::string name;  // "docker.io/library/busybox"
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;
};

class RecentRequests {
 public:
  static constexpr std::size_t kRing = 256;
  static constexpr std::size_t kSeen = 2048;
  static constexpr std::size_t kRepositories = 256;

  explicit RecentRequests(const Clock& clock);
  RecentRequests(const RecentRequests&) = delete;
  RecentRequests& operator=(const RecentRequests&) = delete;
  ~RecentRequests();

  // Requests that name no repository are left out; those that were refused or failed count as no pull.
  void note(const Noted& request);

  // The newest first. Of each thread at most kRing.
  [[nodiscard]] std::vector<RequestRecord> last() const;
  [[nodiscard]] Use use() const;
  // The most asked first, at most `most`.
  [[nodiscard]] std::vector<HotRepository> hottest(std::size_t most) const;

 private:
  struct Thread;
  struct State;
  Thread& here();
  std::unique_ptr<State> state_;
};

}  // namespace sluice::admin
