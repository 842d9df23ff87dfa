// RightsTerm: a time in which an upstream lets this cache do the same: its address, access and logins do not change.
// What was asked in a term that is over may still be answered to who has asked, and is not remembered.
//
// Shared by the upstream and by routes to it; `over` is set while no loop runs (rights_ledger.hpp), so what a handler
// sees holds until its end.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace sluice::access {

struct RightsTerm {
  RightsTerm(std::uint64_t number_, std::string origin_) : number(number_), origin(std::move(origin_)) {}

  const std::uint64_t number;        // another one for each term of this process; never 0
  const std::string origin;          // what store::Origin calls the upstream
  std::atomic<bool> is_over{false};  // another one has begun
};

// By the names of the upstreams.
using RightsTerms = std::map<std::string, std::shared_ptr<RightsTerm>, std::less<>>;

}  // namespace sluice::access
