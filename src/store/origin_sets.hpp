// OriginSets: through which upstreams a blob at rest came, as a number of two bytes for each combination.
//
//   kUnknown   nobody has noted it: a file that was found, or a catalog that was lost
//   kPublic    it was fetched without a login
//   another    it was fetched with one, through the upstreams that are named
//
// An upstream that is named, or any at all where the blob is public, may give out the file. All others have to deliver
// the bytes themselves first.
//
// Thread-safe; permits() and text() take no lock. Owned by the store. The table is bounded: a combination that does not
// fit any more is kUnknown, which costs downloads.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "store/origin.hpp"

namespace sluice::store {

class OriginSets {
 public:
  using Id = std::uint16_t;
  static constexpr Id kUnknown = 0;
  static constexpr Id kPublic = 1;
  static constexpr std::size_t kMaxSets = 4096;

  OriginSets();
  OriginSets(const OriginSets&) = delete;
  OriginSets& operator=(const OriginSets&) = delete;

  [[nodiscard]] bool permits(Id id, std::string_view upstream) const noexcept;
  // `id` with another origin; itself where that adds nothing.
  [[nodiscard]] Id with(Id id, const Origin& origin);
  // Those of both.
  [[nodiscard]] Id merge(Id a, Id b);

  // For the catalog: empty, `*`, or names in their order with a space between. Lives as long as the table.
  [[nodiscard]] std::string_view text(Id id) const noexcept;
  [[nodiscard]] Id intern(std::string_view text);

 private:
  struct Set {
    std::string text;
    std::vector<std::string> upstreams;
  };
  [[nodiscard]] const Set* find(Id id) const noexcept;
  Id add(std::vector<std::string> upstreams);
  Id keep(Set set);

  std::mutex mutex_;  // guards sets_ and ids_
  std::deque<Set> sets_;
  boost::unordered_flat_map<std::string_view, Id> ids_;
  std::array<std::atomic<const Set*>, kMaxSets> by_id_{};
};

}  // namespace sluice::store
