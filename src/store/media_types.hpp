// MediaTypes: each media type once, by a number of two bytes.
//
// Thread-safe; text() takes no lock. Owned by the store, which it lives as long as. Upstreams choose media types, so
// the table is bounded: what does not fit any more is application/octet-stream.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

#include <boost/unordered/unordered_flat_map.hpp>

namespace sluice::store {

class MediaTypes {
 public:
  using Id = std::uint16_t;
  static constexpr Id kOctetStream = 0;
  // Of a membership that only a manifest of the repository vouches for: upstream was not asked about the blob.
  static constexpr std::string_view kNamedByManifest = "application/vnd.sluice.named-by-manifest";
  static constexpr std::size_t kMaxTypes = 2048;
  static constexpr std::size_t kMaxTypeBytes = 255;

  MediaTypes();
  MediaTypes(const MediaTypes&) = delete;
  MediaTypes& operator=(const MediaTypes&) = delete;

  // An empty or overlong text is application/octet-stream.
  Id intern(std::string_view text);
  // Lives as long as the table.
  [[nodiscard]] std::string_view text(Id id) const noexcept;

 private:
  std::mutex mutex_;  // guards texts_ and ids_
  std::deque<std::string> texts_;
  boost::unordered_flat_map<std::string_view, Id> ids_;
  std::array<std::atomic<const std::string*>, kMaxTypes> by_id_{};
};

}  // namespace sluice::store
