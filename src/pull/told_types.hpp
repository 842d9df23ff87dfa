// ToldTypes: the media types of manifests that are fetched as blobs, as upstream tells them in the answer that a fill
// reads, and the sizes. What else it calls its blobs is nothing to anybody. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/sieve_map.hpp"
#include "oci/media_type.hpp"

namespace sluice::pull {

class ToldTypes {
 public:
  void note(const std::string& fill_key, std::string_view media_type) {
    const std::string_view type = oci::canonical_manifest_type(media_type);
    const std::scoped_lock lock(mutex_);
    if (!type.empty()) types_.insert(fill_key, std::string(type));
  }
  // Empty: of no manifest.
  [[nodiscard]] std::string find(const std::string& fill_key) {
    const std::scoped_lock lock(mutex_);
    const std::string* type = types_.find(fill_key);
    return type == nullptr ? std::string() : *type;
  }

  void note_size(const std::string& fill_key, std::uint64_t size) {
    const std::scoped_lock lock(mutex_);
    sizes_.insert(fill_key, size);
  }
  [[nodiscard]] std::optional<std::uint64_t> find_size(const std::string& fill_key) {
    const std::scoped_lock lock(mutex_);
    const std::uint64_t* size = sizes_.find(fill_key);
    return size == nullptr ? std::nullopt : std::optional(*size);
  }
  void forget_size(const std::string& fill_key) {
    const std::scoped_lock lock(mutex_);
    sizes_.erase(fill_key);
  }

 private:
  std::mutex mutex_;  // guards types_ and sizes_
  SieveMap<std::string, std::string> types_{1'000};
  SieveMap<std::string, std::uint64_t> sizes_{1'000};
};

}  // namespace sluice::pull
