// ListMemory: how much the lists take that are being sent. A list stays in memory as long as a client reads it, however
// slowly, also when nobody keeps it otherwise; so clients that read nothing of ever new lists could fill the memory.
//
// What several clients read counts once in all, and for each of them.
//
// Threads: all functions are thread-safe. Outlives what it gives out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/network.hpp"
#include "base/result.hpp"

namespace sluice::api {

class ListMemory {
 public:
  struct Params {
    std::uint64_t of_all = std::uint64_t{256} << 20;
    // A client that reads no other list may read one that is longer.
    std::uint64_t of_one_client = std::uint64_t{64} << 20;
    std::uint64_t too_short_to_count = std::uint64_t{16} << 10;
  };

  class [[nodiscard]] Held {
   public:
    Held() = default;
    Held(Held&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), list_(other.list_), client_(other.client_) {}
    Held& operator=(Held&&) = delete;
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() {
      if (owner_ != nullptr) owner_->let_go(list_, client_);
    }

   private:
    friend class ListMemory;
    Held(ListMemory& owner, const void* list, const IpAddress& client) : owner_(&owner), list_(list), client_(client) {}
    ListMemory* owner_ = nullptr;
    const void* list_ = nullptr;
    IpAddress client_ = {};
  };

  ListMemory() = default;
  explicit ListMemory(const Params& params) : params_(params) {}

  // While a client (IpAddress::client_key) is sent that list, which takes `bytes`. Errors: overloaded, when the lists
  // that are being sent take too much.
  Result<Held> hold(const void* list, std::uint64_t bytes, const IpAddress& client);

 private:
  struct Sent {
    std::uint64_t bytes = 0;
    std::unordered_map<IpAddress, std::size_t, IpAddressHash> readers;  // how many of each client
  };

  void let_go(const void* list, const IpAddress& client);

  const Params params_ = {};
  std::mutex mutex_;  // guards what is below
  std::uint64_t bytes_ = 0;
  std::unordered_map<const void*, Sent> sent_;
  std::unordered_map<IpAddress, std::uint64_t, IpAddressHash> by_client_;
};

}  // namespace sluice::api
