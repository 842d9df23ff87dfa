#include "store/catalog_memory.hpp"

#include <algorithm>

namespace sluice::store {
namespace {

std::int64_t to_seconds(Clock::Wall time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}
std::int64_t to_milliseconds(Clock::Wall time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

Catalog::Memory::Shard& Catalog::Memory::shard(const std::string& scope) const {
  // The upper bits: the map below uses the same hash.
  const std::size_t hash = std::hash<std::string>{}(scope) * 0x9e3779b97f4a7c15U;
  return shards_[(hash >> 40U) % kShards];
}

void Catalog::Memory::place(Shard& in, const Change& change) {
  Space& space = in.spaces[change.scope];
  if (change.kind == Change::Kind::put_tag) {
    space.tags.insert_or_assign(TagKey(change.tag, change.accept_class), TagValue{change.digest, change.time});
    return;
  }
  const bool aliased = change.canonical != change.digest;
  const Member member{change.size, static_cast<std::uint32_t>(change.time), change.media_type, aliased};
  const auto [value, made] = space.members.try_emplace(change.digest, member);
  if (made) {
    ++in.members;
    memberships_.fetch_add(1, std::memory_order_relaxed);
  } else {
    if (value->aliased && !aliased) space.canonical.erase(change.digest);
    *value = member;
  }
  if (aliased) space.canonical.insert_or_assign(change.digest, change.canonical);
}

std::optional<Membership> Catalog::Memory::membership(const std::string& scope, const oci::Digest& digest) const {
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end()) return std::nullopt;
  const Member* member = space->second.members.find(digest);
  if (member == nullptr) return std::nullopt;
  return describe(space->second, digest, *member);
}

Membership Catalog::Memory::describe(const Space& space, const oci::Digest& digest, const Member& member) const {
  Membership out;
  out.descriptor.digest = member.aliased ? space.canonical.at(digest) : digest;
  out.descriptor.size = member.size;
  out.descriptor.media_type = media_types_.text(member.media_type);
  out.checked_at = Clock::Wall(std::chrono::seconds(member.checked_at));
  return out;
}

std::vector<store::Member> Catalog::Memory::members(const std::string& scope) const {
  std::vector<store::Member> out;
  {
    Shard& in = shard(scope);
    const std::scoped_lock lock(in.mutex);
    const auto space = in.spaces.find(scope);
    if (space == in.spaces.end()) return out;
    space->second.members.for_each([&](const oci::Digest& digest, const Member& member) {
      out.push_back({digest, describe(space->second, digest, member)});
    });
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.digest < b.digest; });
  return out;
}

bool Catalog::Memory::set_membership(const std::string& scope, const oci::Digest& digest,
                                     const oci::Descriptor& descriptor, Clock::Wall now, bool only_if_absent) {
  Change change;
  change.kind = Change::Kind::put_membership;
  change.scope = scope;
  change.digest = digest;
  change.canonical = descriptor.digest;
  change.size = descriptor.size;
  change.media_type = media_types_.intern(descriptor.media_type);
  change.time = to_seconds(now);

  Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  if (only_if_absent) {
    const auto space = in.spaces.find(scope);
    if (space != in.spaces.end() && space->second.members.find(digest) != nullptr) return false;
  }
  make_room(in);
  place(in, change);
  enqueue_(std::move(change));
  return true;
}

// Shards are by repository, so they may be of very different sizes: one that has little gives up nothing.
void Catalog::Memory::make_room(Shard& in) {
  constexpr std::size_t kBatchShare = 64;  // of a shard, at once
  if (max_memberships_ == 0 || memberships_.load(std::memory_order_relaxed) < max_memberships_) return;
  if (in.members * kShards * 4 < max_memberships_) return;
  std::vector<std::uint32_t> ages;
  ages.reserve(in.members);
  for (auto& [scope, space] : in.spaces) {
    space.members.for_each([&](const oci::Digest&, const Member& member) { ages.push_back(member.checked_at); });
  }
  const std::size_t batch = std::max<std::size_t>(1, ages.size() / kBatchShare);
  const auto last = ages.begin() + static_cast<std::ptrdiff_t>(batch - 1);
  std::nth_element(ages.begin(), last, ages.end());
  std::vector<std::pair<std::string, oci::Digest>> oldest;
  for (auto& [scope, space] : in.spaces) {
    space.members.for_each([&, &of = scope](const oci::Digest& digest, const Member& member) {
      if (member.checked_at <= *last && oldest.size() < batch) oldest.emplace_back(of, digest);
    });
  }
  for (const auto& [scope, digest] : oldest) remove_member(in, scope, in.spaces.find(scope)->second, digest);
}

// Of the space that is there, which may be gone afterwards.
void Catalog::Memory::remove_member(Shard& in, const std::string& scope, Space& space, const oci::Digest& digest) {
  space.members.erase(digest);
  space.canonical.erase(digest);
  --in.members;
  memberships_.fetch_sub(1, std::memory_order_relaxed);
  tell_removed(Change::Kind::remove_membership, scope, digest, {});
  if (space.empty()) in.spaces.erase(std::string(scope));  // which may be the key itself
}

void Catalog::Memory::tell_removed(Change::Kind kind, const std::string& scope, const oci::Digest& digest,
                                   std::string_view tag) {
  Change change;
  change.kind = kind;
  change.scope = scope;
  change.digest = digest;
  change.tag = tag;
  enqueue_(std::move(change));
}

bool Catalog::Memory::clear_membership(const std::string& scope, const oci::Digest& digest) {
  Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end() || space->second.members.find(digest) == nullptr) {
    if (partial_.load(std::memory_order_relaxed)) tell_removed(Change::Kind::remove_membership, scope, digest, {});
    return false;
  }
  remove_member(in, scope, space->second, digest);
  return true;
}

std::vector<std::string> Catalog::Memory::scopes_of(const oci::Digest& digest) const {
  std::vector<std::string> out;
  for (const Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    for (const auto& [scope, space] : in.spaces) {
      if (!scope.empty() && space.members.find(digest) != nullptr) out.push_back(scope);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::optional<TagRecord> Catalog::Memory::tag(const std::string& scope, std::string_view tag,
                                              oci::ManifestClass accept_class) const {
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end()) return std::nullopt;
  const auto found = space->second.tags.find(TagView(tag, accept_class));
  if (found == space->second.tags.end()) return std::nullopt;
  return TagRecord{found->second.digest, accept_class,
                   Clock::Wall(std::chrono::milliseconds(found->second.checked_at))};
}

void Catalog::Memory::set_tag(const std::string& scope, std::string_view tag, oci::ManifestClass accept_class,
                              const oci::Digest& digest, Clock::Wall now) {
  Change change;
  change.kind = Change::Kind::put_tag;
  change.scope = scope;
  change.tag = tag;
  change.accept_class = accept_class;
  change.digest = digest;
  change.time = to_milliseconds(now);

  Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  place(in, change);
  enqueue_(std::move(change));
}

bool Catalog::Memory::clear_tag(const std::string& scope, std::string_view tag) {
  Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end()) {
    if (partial_.load(std::memory_order_relaxed)) tell_removed(Change::Kind::remove_tag, scope, {}, tag);
    return false;
  }
  auto& tags = space->second.tags;
  const auto first = tags.lower_bound(TagView(tag, oci::ManifestClass{0}));
  auto last = first;
  while (last != tags.end() && last->first.first == tag) ++last;
  const bool known = first != last;
  if (!known && !partial_.load(std::memory_order_relaxed)) return false;
  tags.erase(first, last);
  if (space->second.empty()) in.spaces.erase(space);
  tell_removed(Change::Kind::remove_tag, scope, {}, tag);
  return known;
}

std::vector<std::string> Catalog::Memory::tags(const std::string& scope) const {
  std::vector<std::string> out;
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end()) return out;
  for (const auto& [key, value] : space->second.tags) {
    if (out.empty() || out.back() != key.first) out.push_back(key.first);
  }
  return out;
}

std::vector<NamedTag> Catalog::Memory::tag_records(const std::string& scope) const {
  std::vector<NamedTag> out;
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end()) return out;
  for (const auto& [key, value] : space->second.tags) {
    const Clock::Wall checked_at{std::chrono::milliseconds(value.checked_at)};
    out.push_back({key.first, TagRecord{value.digest, key.second, checked_at}});
  }
  return out;
}

std::vector<std::string> Catalog::Memory::repositories() const {
  std::vector<std::string> out;
  for (const Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    for (const auto& [scope, space] : in.spaces) {
      if (!scope.empty()) out.push_back(scope);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<void> Catalog::Memory::give_everything(const std::function<Result<void>(std::span<const Change>)>& take) const {
  for (const Shard& in : shards_) {
    std::vector<Change> changes;
    {
      const std::scoped_lock lock(in.mutex);
      for (const auto& [scope, space] : in.spaces) {
        Change change;
        change.scope = scope;
        change.kind = Change::Kind::put_membership;
        space.members.for_each([&](const oci::Digest& digest, const Member& member) {
          change.digest = digest;
          change.canonical = member.aliased ? space.canonical.at(digest) : digest;
          change.size = member.size;
          change.media_type = member.media_type;
          change.time = member.checked_at;
          changes.push_back(change);
        });
        change.kind = Change::Kind::put_tag;
        for (const auto& [key, value] : space.tags) {
          change.tag = key.first;
          change.accept_class = key.second;
          change.digest = value.digest;
          change.time = value.checked_at;
          changes.push_back(change);
        }
      }
    }
    if (changes.empty()) continue;
    if (Result<void> taken = take(changes); !taken) return taken;
  }
  return {};
}

void Catalog::Memory::restore(const Change& row) {
  Shard& in = shard(row.scope);
  const std::scoped_lock lock(in.mutex);
  place(in, row);
}

void Catalog::Memory::clear() {
  for (Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    in.spaces.clear();
    memberships_.fetch_sub(in.members, std::memory_order_relaxed);
    in.members = 0;
  }
}

}  // namespace sluice::store
