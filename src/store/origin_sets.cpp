#include "store/origin_sets.hpp"

#include <algorithm>

namespace sluice::store {
namespace {

constexpr std::string_view kPublicText = "*";

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::string_view name = text.substr(0, text.find(' '));
    if (!name.empty()) out.emplace_back(name);
    text.remove_prefix(std::min(text.size(), name.size() + 1));
  }
  return out;
}

}  // namespace

OriginSets::OriginSets() {
  keep({"", {}});
  keep({std::string(kPublicText), {}});
}

const OriginSets::Set* OriginSets::find(Id id) const noexcept {
  return id < kMaxSets ? by_id_[id].load(std::memory_order_acquire) : nullptr;
}

bool OriginSets::permits(Id id, std::string_view upstream) const noexcept {
  if (id == kPublic) return true;
  const Set* const set = find(id);
  return set != nullptr && std::find(set->upstreams.begin(), set->upstreams.end(), upstream) != set->upstreams.end();
}

std::string_view OriginSets::text(Id id) const noexcept {
  const Set* const set = find(id);
  return set == nullptr ? std::string_view() : std::string_view(set->text);
}

OriginSets::Id OriginSets::keep(Set set) {
  const std::scoped_lock lock(mutex_);
  if (const auto known = ids_.find(set.text); known != ids_.end()) return known->second;
  if (sets_.size() == kMaxSets) return kUnknown;
  const auto id = static_cast<Id>(sets_.size());
  const Set& kept = sets_.emplace_back(std::move(set));
  ids_.emplace(kept.text, id);
  by_id_[id].store(&kept, std::memory_order_release);
  return id;
}

OriginSets::Id OriginSets::add(std::vector<std::string> upstreams) {
  // A name that would be read as something else is nobody's.
  std::erase_if(upstreams, [](const std::string& name) {
    return name.empty() || name == kPublicText || name.find(' ') != std::string::npos;
  });
  std::sort(upstreams.begin(), upstreams.end());
  upstreams.erase(std::unique(upstreams.begin(), upstreams.end()), upstreams.end());
  Set set;
  for (const std::string& name : upstreams) {
    if (!set.text.empty()) set.text += ' ';
    set.text += name;
  }
  set.upstreams = std::move(upstreams);
  return keep(std::move(set));
}

OriginSets::Id OriginSets::intern(std::string_view text) { return text == kPublicText ? kPublic : add(split(text)); }

OriginSets::Id OriginSets::with(Id id, const Origin& origin) {
  if (origin.is_public()) return kPublic;
  if (permits(id, origin.upstream)) return id;
  return merge(id, add({origin.upstream}));
}

OriginSets::Id OriginSets::merge(Id a, Id b) {
  if (a == b) return a;
  if (a == kPublic || b == kPublic) return kPublic;
  const Set* const left = find(a);
  const Set* const right = find(b);
  std::vector<std::string> all = left != nullptr ? left->upstreams : std::vector<std::string>();
  if (right != nullptr) all.insert(all.end(), right->upstreams.begin(), right->upstreams.end());
  return add(std::move(all));
}

}  // namespace sluice::store
