#include "store/media_types.hpp"

#include "oci/media_type.hpp"

namespace sluice::store {

MediaTypes::MediaTypes() {
  intern(oci::media_type::kOctetStream);
  intern(kNamedByManifest);  // before the table can be full
}

MediaTypes::Id MediaTypes::intern(std::string_view text) {
  if (text.empty() || text.size() > kMaxTypeBytes) return kOctetStream;
  const std::scoped_lock lock(mutex_);
  if (const auto it = ids_.find(text); it != ids_.end()) return it->second;
  if (texts_.size() == kMaxTypes) return kOctetStream;
  const auto id = static_cast<Id>(texts_.size());
  const std::string& kept = texts_.emplace_back(text);
  ids_.emplace(kept, id);
  by_id_[id].store(&kept, std::memory_order_release);
  return id;
}

std::string_view MediaTypes::text(Id id) const noexcept {
  const std::string* found = id < kMaxTypes ? by_id_[id].load(std::memory_order_acquire) : nullptr;
  return found == nullptr ? oci::media_type::kOctetStream : std::string_view(*found);
}

}  // namespace sluice::store
