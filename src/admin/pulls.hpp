// The last pulls: requests of one client for one repository, put together. Pure.
//
// Where a request's time went is known in three parts: until the first byte of the answer (the access check, the queue
// for the upstream, its token and its first byte, which are not told apart), then waiting for more bytes from upstream,
// and the rest: sending to the client.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "admin/recent_requests.hpp"

namespace sluice::admin {

struct Pull {
  std::string client;
  std::string upstream;
  std::string repository;
  std::string reference;  // the tag; without one the digest of the first manifest or blob
  Clock::Wall started;
  Clock::Wall ended;
  std::uint64_t bytes = 0;
  std::size_t cached = 0;   // requests answered from the store, or by joining a download
  std::size_t fetched = 0;  // requests for which upstream was asked
  std::size_t failed = 0;   // refused, failed or broken off
  // Sums over the requests, which may have run side by side.
  std::chrono::nanoseconds first_byte{0};
  std::chrono::nanoseconds upstream_wait{0};
  std::chrono::nanoseconds client_time{0};
  std::vector<RequestRecord> requests;  // in the order in which they began
};

// What a request took to send to the client.
std::chrono::nanoseconds client_time(const RequestRecord& request) noexcept;

// A pull ends when its client has asked nothing of that repository for a minute. `records` in any order. The newest
// first, at most `most`.
std::vector<Pull> group_pulls(std::vector<RequestRecord> records, std::size_t most);

}  // namespace sluice::admin
