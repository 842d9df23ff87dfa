// The catalog's memory side: memberships and tags by scope. Internal to the catalog.
//
// Thread-safe: shards by scope, each under a lock that is held for one look-up or change, and while the change is
// handed to the writer, so that SQLite sees the changes of one key in the order in which memory saw them.
//
// What it takes: some 130 bytes for a membership, 300 for a tag, and 200 and its name for a repository that is known,
// whatever it has. Memberships and tags are bounded in number, and all of it in bytes: a shard that grows beyond its
// share while all of them have no more room gives up a batch of its oldest, which takes a walk through the shard, so
// not one for each. A repository of which nothing is left is forgotten.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "base/version.hpp"
#include "store/catalog.hpp"
#include "store/catalog_change.hpp"
#include "store/digest_map.hpp"

namespace sluice::store {

class Catalog::Memory {
 public:
  using Enqueue = std::function<void(Change)>;

  struct Bounds {  // 0: none
    std::size_t memberships = 0;
    std::size_t tags = 0;  // by name; one has a record for each of the few forms that clients take
    std::size_t bytes = 0;
  };

  // `enqueue` is called with every change; it must not call back.
  Memory(const Bounds& bounds, MediaTypes& media_types, Enqueue enqueue)
      : bounds_(bounds), media_types_(media_types), enqueue_(std::move(enqueue)) {}

  [[nodiscard]] std::optional<Membership> membership(const std::string& scope, const oci::Digest& digest) const;
  bool set_membership(const std::string& scope, const oci::Digest& digest, const oci::Descriptor& descriptor,
                      Clock::Wall now, bool only_if_absent);
  bool clear_membership(const std::string& scope, const oci::Digest& digest);
  [[nodiscard]] std::vector<std::string> scopes_of(const oci::Digest& digest) const;
  [[nodiscard]] std::vector<store::Member> members(const std::string& scope) const;

  [[nodiscard]] std::optional<TagRecord> tag(const std::string& scope, std::string_view tag,
                                             oci::ManifestClass accept_class) const;
  // Over when any record of the tag is set, renewed or cleared.
  [[nodiscard]] Version::Watch watch_tag(std::string_view scope, std::string_view tag) const noexcept {
    return tag_versions_.watch(hash_of(scope, tag));
  }
  void set_tag(const std::string& scope, std::string_view tag, oci::ManifestClass accept_class,
               const oci::Digest& digest, Clock::Wall now);
  bool clear_tag(const std::string& scope, std::string_view tag);
  // Those whose names begin with `prefix`; whether there were any. Nothing is enqueued.
  bool forget_scopes(std::string_view prefix);
  [[nodiscard]] std::vector<std::string> tags(const std::string& scope) const;
  [[nodiscard]] std::vector<NamedTag> tag_records(const std::string& scope) const;
  [[nodiscard]] std::vector<std::string> repositories() const;
  // Over when there is another one, or one fewer.
  [[nodiscard]] Version::Watch watch_repositories() const noexcept { return repositories_version_.watch(); }
  // Forgets the tags that are older by `age` than what their upstream has confirmed last, so that none goes while it is
  // out. How many. Walks all there is.
  std::size_t forget_tags(std::chrono::milliseconds age);
  // What it takes of memory, as it is counted against the bound.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

  // All memberships and tags, in pieces; ends with the first error of `take`, which is called without a lock.
  Result<void> give_everything(const std::function<Result<void>(std::span<const Change>)>& take) const;

  // While loading: a put_membership or put_tag that SQLite has already.
  void restore(const Change& row);
  void clear();
  // SQLite may have what is not here: what is cleared is cleared there too, known or not.
  void set_partial() noexcept { partial_.store(true, std::memory_order_relaxed); }

 private:
  struct Member {
    std::uint64_t size = 0;
    std::uint32_t checked_at = 0;  // seconds since 1970
    MediaTypes::Id media_type = MediaTypes::kOctetStream;
    bool aliased = false;  // its canonical digest is another one and stands in Space::canonical
  };
  struct TagForm {
    oci::Digest digest;
    oci::ManifestClass accept_class = 0;
    std::int64_t checked_at = 0;  // milliseconds since 1970
  };
  using Forms = std::vector<TagForm>;  // by accept class, ascending
  using Tags = std::map<std::string, Forms, std::less<>>;
  struct Space {
    SmallDigestMap<Member> members;
    std::unique_ptr<std::map<oci::Digest, oci::Digest>> canonical;  // null: empty
    std::unique_ptr<Tags> tags;                                     // null: empty
    [[nodiscard]] bool empty() const { return members.empty() && !tags; }
  };
  using Spaces = boost::unordered_flat_map<std::string, Space>;
  struct alignas(64) Shard {
    mutable std::mutex mutex;  // guards all below
    Spaces spaces;
    std::size_t members = 0;
    std::size_t tags = 0;
    std::size_t bytes = 0;
  };
  enum class Adds : std::uint8_t { membership, tag };
  // The oldest of a shard, to be given up.
  struct Oldest;
  static constexpr std::size_t kShards = 16;

  [[nodiscard]] Shard& shard(const std::string& scope) const;
  [[nodiscard]] static std::size_t hash_of(std::string_view scope, std::string_view tag) noexcept {
    const std::hash<std::string_view> hash;
    return hash(scope) * 31 + hash(tag);
  }
  [[nodiscard]] Membership describe(const Space& space, const oci::Digest& digest, const Member& member) const;
  void place(Shard& in, const Change& change);
  void tell_removed(Change::Kind kind, const std::string& scope, const oci::Digest& digest, std::string_view tag);
  void remove_member(Shard& in, Spaces::iterator space, const oci::Digest& digest);
  void remove_tag(Shard& in, Spaces::iterator space, Tags::iterator tag);
  void forget_canonical(Shard& in, Space& space, const oci::Digest& digest);
  void drop_if_empty(Shard& in, Spaces::iterator space);
  void make_room(Shard& in, Adds adds);
  void count(Shard& in, std::ptrdiff_t bytes);
  static std::int64_t newest(const Forms& forms);

  const Bounds bounds_;
  std::atomic<std::size_t> memberships_{0};  // in all shards
  std::atomic<std::size_t> tags_{0};
  std::atomic<std::size_t> bytes_{0};
  std::atomic<bool> partial_{false};
  MediaTypes& media_types_;
  Enqueue enqueue_;
  mutable std::array<Shard, kShards> shards_;
  Versions tag_versions_;  // by scope and tag
  Version repositories_version_;
};

}  // namespace sluice::store
