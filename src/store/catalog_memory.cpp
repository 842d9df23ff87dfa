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

// What the parts take, with what the allocator and the maps need around them.
constexpr std::ptrdiff_t kMemberBytes = 130;
constexpr std::ptrdiff_t kAliasBytes = 250;
std::ptrdiff_t cost_of_space(const std::string& scope) { return static_cast<std::ptrdiff_t>(200 + scope.size()); }
std::ptrdiff_t cost_of_tag(const std::string& tag) { return static_cast<std::ptrdiff_t>(280 + tag.size()); }

}  // namespace

Catalog::Memory::Shard& Catalog::Memory::shard(const std::string& scope) const {
  // The upper bits: the map below uses the same hash.
  const std::size_t hash = std::hash<std::string>{}(scope) * 0x9e3779b97f4a7c15U;
  return shards_[(hash >> 40U) % kShards];
}

void Catalog::Memory::count(Shard& in, std::ptrdiff_t bytes) {
  in.bytes += static_cast<std::size_t>(bytes);
  bytes_.fetch_add(static_cast<std::size_t>(bytes), std::memory_order_relaxed);
}

std::int64_t Catalog::Memory::newest(const Forms& forms) {
  std::int64_t out = 0;
  for (const TagForm& form : forms) out = std::max(out, form.checked_at);
  return out;
}

void Catalog::Memory::place(Shard& in, const Change& change) {
  const auto [space, new_space] = in.spaces.try_emplace(change.scope);
  if (new_space) {
    count(in, cost_of_space(change.scope));
    repositories_version_.changed();
  }
  if (change.kind == Change::Kind::put_tag) {
    if (!space->second.tags) space->second.tags = std::make_unique<Tags>();
    const auto [tag, new_tag] = space->second.tags->try_emplace(change.tag);
    if (new_tag) {
      ++in.tags;
      tags_.fetch_add(1, std::memory_order_relaxed);
      count(in, cost_of_tag(change.tag));
    }
    Forms& forms = tag->second;
    const auto at =
        std::lower_bound(forms.begin(), forms.end(), change.accept_class,
                         [](const TagForm& form, oci::ManifestClass wanted) { return form.accept_class < wanted; });
    const TagForm form{change.digest, change.accept_class, change.time};
    if (at != forms.end() && at->accept_class == change.accept_class) {
      *at = form;
    } else {
      forms.insert(at, form);
    }
    tag_versions_.changed(hash_of(change.scope, change.tag));
    return;
  }
  const bool aliased = change.canonical != change.digest;
  const Member member{change.size, static_cast<std::uint32_t>(change.time), change.media_type, aliased};
  const auto [value, made] = space->second.members.try_emplace(change.digest, member);
  auto& canonical = space->second.canonical;
  if (made) {
    ++in.members;
    memberships_.fetch_add(1, std::memory_order_relaxed);
    count(in, kMemberBytes);
  } else {
    if (value->aliased && !aliased) forget_canonical(in, space->second, change.digest);
    *value = member;
  }
  if (!aliased) return;
  if (!canonical) canonical = std::make_unique<std::map<oci::Digest, oci::Digest>>();
  if (canonical->insert_or_assign(change.digest, change.canonical).second) count(in, kAliasBytes);
}

void Catalog::Memory::forget_canonical(Shard& in, Space& space, const oci::Digest& digest) {
  if (!space.canonical || space.canonical->erase(digest) == 0) return;
  count(in, -kAliasBytes);
  if (space.canonical->empty()) space.canonical.reset();
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
  out.descriptor.digest = member.aliased ? space.canonical->at(digest) : digest;
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
  make_room(in, Adds::membership);
  place(in, change);
  enqueue_(std::move(change));
  return true;
}

struct Catalog::Memory::Oldest {
  std::vector<std::pair<std::string, oci::Digest>> members;
  std::vector<std::pair<std::string, std::string>> tags;
};

// Shards are by repository, so they may be of very different sizes: one that has little gives up nothing.
void Catalog::Memory::make_room(Shard& in, Adds adds) {
  constexpr std::size_t kBatchShare = 64;  // of a shard, at once
  const auto exceeds = [](std::size_t here, const std::atomic<std::size_t>& all, std::size_t bound) {
    return bound != 0 && all.load(std::memory_order_relaxed) >= bound && here * kShards * 4 >= bound;
  };
  const bool bytes = exceeds(in.bytes, bytes_, bounds_.bytes);
  const bool members = adds == Adds::membership && exceeds(in.members, memberships_, bounds_.memberships);
  const bool tags = adds == Adds::tag && exceeds(in.tags, tags_, bounds_.tags);
  if (!bytes && !members && !tags) return;
  const bool give_members = bytes || members;
  const bool give_tags = bytes || tags;

  const auto walk = [&](const auto& on_member, const auto& on_tag) {
    for (const auto& [scope, space] : in.spaces) {
      const auto& of = scope;
      if (give_members) {
        space.members.for_each(
            [&](const oci::Digest& digest, const Member& member) { on_member(of, digest, member.checked_at); });
      }
      if (!give_tags || !space.tags) continue;
      for (const auto& [name, forms] : *space.tags) {
        on_tag(of, name, static_cast<std::uint32_t>(newest(forms) / 1000));
      }
    }
  };
  std::vector<std::uint32_t> ages;
  walk([&](const std::string&, const oci::Digest&, std::uint32_t at) { ages.push_back(at); },
       [&](const std::string&, const std::string&, std::uint32_t at) { ages.push_back(at); });
  if (ages.empty()) return;
  const std::size_t batch = std::max<std::size_t>(1, ages.size() / kBatchShare);
  const auto last = ages.begin() + static_cast<std::ptrdiff_t>(batch - 1);
  std::nth_element(ages.begin(), last, ages.end());

  Oldest oldest;
  const auto has_room = [&] { return oldest.members.size() + oldest.tags.size() < batch; };
  walk(
      [&](const std::string& scope, const oci::Digest& digest, std::uint32_t at) {
        if (at <= *last && has_room()) oldest.members.emplace_back(scope, digest);
      },
      [&](const std::string& scope, const std::string& name, std::uint32_t at) {
        if (at <= *last && has_room()) oldest.tags.emplace_back(scope, name);
      });
  for (const auto& [scope, digest] : oldest.members) remove_member(in, in.spaces.find(scope), digest);
  for (const auto& [scope, name] : oldest.tags) {
    const auto space = in.spaces.find(scope);
    remove_tag(in, space, space->second.tags->find(name));
  }
}

// The space may be gone afterwards.
void Catalog::Memory::remove_member(Shard& in, Spaces::iterator space, const oci::Digest& digest) {
  space->second.members.erase(digest);
  forget_canonical(in, space->second, digest);
  --in.members;
  memberships_.fetch_sub(1, std::memory_order_relaxed);
  count(in, -kMemberBytes);
  tell_removed(Change::Kind::remove_membership, space->first, digest, {});
  drop_if_empty(in, space);
}

// All forms of it. The space may be gone afterwards.
void Catalog::Memory::remove_tag(Shard& in, Spaces::iterator space, Tags::iterator tag) {
  --in.tags;
  tags_.fetch_sub(1, std::memory_order_relaxed);
  count(in, -cost_of_tag(tag->first));
  tell_removed(Change::Kind::remove_tag, space->first, {}, tag->first);
  const std::size_t hash = hash_of(space->first, tag->first);
  space->second.tags->erase(tag);
  tag_versions_.changed(hash);
  if (space->second.tags->empty()) space->second.tags.reset();
  drop_if_empty(in, space);
}

void Catalog::Memory::drop_if_empty(Shard& in, Spaces::iterator space) {
  if (!space->second.empty()) return;
  count(in, -cost_of_space(space->first));
  in.spaces.erase(space);
  repositories_version_.changed();
}

std::size_t Catalog::Memory::forget_tags(std::chrono::milliseconds age) {
  const auto upstream_of = [](const std::string& scope) { return scope.substr(0, scope.find('/')); };
  std::map<std::string, std::int64_t, std::less<>> last;  // when each upstream has confirmed anything, in milliseconds
  for (const Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    for (const auto& [scope, space] : in.spaces) {
      std::int64_t& at = last[upstream_of(scope)];
      space.members.for_each([&](const oci::Digest&, const Member& member) {
        at = std::max<std::int64_t>(at, std::int64_t{member.checked_at} * 1000);
      });
      if (!space.tags) continue;
      for (const auto& [name, forms] : *space.tags) at = std::max(at, newest(forms));
    }
  }
  std::size_t forgotten = 0;
  for (Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    std::vector<std::pair<std::string, std::string>> old;
    for (const auto& [scope, space] : in.spaces) {
      if (!space.tags) continue;
      const std::int64_t oldest = last[upstream_of(scope)] - age.count();
      for (const auto& [name, forms] : *space.tags) {
        if (newest(forms) < oldest) old.emplace_back(scope, name);
      }
    }
    for (const auto& [scope, name] : old) {
      const auto space = in.spaces.find(scope);
      remove_tag(in, space, space->second.tags->find(name));
    }
    forgotten += old.size();
  }
  return forgotten;
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
  remove_member(in, space, digest);
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
  if (space == in.spaces.end() || !space->second.tags) return std::nullopt;
  const auto found = space->second.tags->find(tag);
  if (found == space->second.tags->end()) return std::nullopt;
  for (const TagForm& form : found->second) {
    if (form.accept_class != accept_class) continue;
    return TagRecord{form.digest, accept_class, Clock::Wall(std::chrono::milliseconds(form.checked_at))};
  }
  return std::nullopt;
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
  make_room(in, Adds::tag);
  place(in, change);
  enqueue_(std::move(change));
}

bool Catalog::Memory::clear_tag(const std::string& scope, std::string_view tag) {
  Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  const bool has_tags = space != in.spaces.end() && space->second.tags;
  const auto found = has_tags ? space->second.tags->find(tag) : Tags::iterator{};
  if (!has_tags || found == space->second.tags->end()) {
    if (partial_.load(std::memory_order_relaxed)) tell_removed(Change::Kind::remove_tag, scope, {}, tag);
    return false;
  }
  remove_tag(in, space, found);
  return true;
}

bool Catalog::Memory::forget_scopes(std::string_view prefix) {
  bool any = false;
  for (Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    boost::unordered::erase_if(in.spaces, [&](const auto& entry) {
      const auto& [scope, space] = entry;
      if (!std::string_view(scope).starts_with(prefix)) return false;
      std::ptrdiff_t bytes = cost_of_space(scope) + static_cast<std::ptrdiff_t>(space.members.size()) * kMemberBytes;
      if (space.canonical) bytes += static_cast<std::ptrdiff_t>(space.canonical->size()) * kAliasBytes;
      in.members -= space.members.size();
      memberships_.fetch_sub(space.members.size(), std::memory_order_relaxed);
      if (space.tags) {
        for (const auto& [name, forms] : *space.tags) bytes += cost_of_tag(name);
        in.tags -= space.tags->size();
        tags_.fetch_sub(space.tags->size(), std::memory_order_relaxed);
      }
      count(in, -bytes);
      any = true;
      return true;
    });
  }
  if (any) {
    tag_versions_.all_changed();
    repositories_version_.changed();
  }
  return any;
}

std::vector<std::string> Catalog::Memory::tags(const std::string& scope) const {
  std::vector<std::string> out;
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end() || !space->second.tags) return out;
  for (const auto& [name, forms] : *space->second.tags) out.push_back(name);
  return out;
}

std::vector<NamedTag> Catalog::Memory::tag_records(const std::string& scope) const {
  std::vector<NamedTag> out;
  const Shard& in = shard(scope);
  const std::scoped_lock lock(in.mutex);
  const auto space = in.spaces.find(scope);
  if (space == in.spaces.end() || !space->second.tags) return out;
  for (const auto& [name, forms] : *space->second.tags) {
    for (const TagForm& form : forms) {
      const Clock::Wall checked_at{std::chrono::milliseconds(form.checked_at)};
      out.push_back({name, TagRecord{form.digest, form.accept_class, checked_at}});
    }
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
          change.canonical = member.aliased ? space.canonical->at(digest) : digest;
          change.size = member.size;
          change.media_type = member.media_type;
          change.time = member.checked_at;
          changes.push_back(change);
        });
        change.kind = Change::Kind::put_tag;
        if (!space.tags) continue;
        for (const auto& [name, forms] : *space.tags) {
          for (const TagForm& form : forms) {
            change.tag = name;
            change.accept_class = form.accept_class;
            change.digest = form.digest;
            change.time = form.checked_at;
            changes.push_back(change);
          }
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
    tags_.fetch_sub(in.tags, std::memory_order_relaxed);
    bytes_.fetch_sub(in.bytes, std::memory_order_relaxed);
    in.members = in.tags = in.bytes = 0;
  }
  repositories_version_.changed();
  tag_versions_.all_changed();
}

}  // namespace sluice::store
