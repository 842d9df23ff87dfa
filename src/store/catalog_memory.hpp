// The catalog's memory side: memberships and tags by scope. Internal to the catalog.
//
// Thread-safe: shards by scope, each under a lock that is held for one look-up or change, and while the change is
// handed to the writer, so that SQLite sees the changes of one key in the order in which memory saw them. Below 130
// bytes for a membership. The memberships are bounded: a shard that grows beyond its share while all of them have no
// more room gives up a batch of its oldest, which takes a walk through the shard, so not one for each.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include <boost/unordered/unordered_flat_map.hpp>

#include "store/catalog.hpp"
#include "store/catalog_change.hpp"
#include "store/digest_map.hpp"

namespace sluice::store {

class Catalog::Memory {
 public:
  using Enqueue = std::function<void(Change)>;

  // `enqueue` is called with every change; it must not call back.
  Memory(std::size_t max_memberships, MediaTypes& media_types, Enqueue enqueue)
      : max_memberships_(max_memberships), media_types_(media_types), enqueue_(std::move(enqueue)) {}

  [[nodiscard]] std::optional<Membership> membership(const std::string& scope, const oci::Digest& digest) const;
  bool set_membership(const std::string& scope, const oci::Digest& digest, const oci::Descriptor& descriptor,
                      Clock::Wall now, bool only_if_absent);
  bool clear_membership(const std::string& scope, const oci::Digest& digest);
  [[nodiscard]] std::vector<std::string> scopes_of(const oci::Digest& digest) const;
  [[nodiscard]] std::vector<store::Member> members(const std::string& scope) const;

  [[nodiscard]] std::optional<TagRecord> tag(const std::string& scope, std::string_view tag,
                                             oci::ManifestClass accept_class) const;
  void set_tag(const std::string& scope, std::string_view tag, oci::ManifestClass accept_class,
               const oci::Digest& digest, Clock::Wall now);
  bool clear_tag(const std::string& scope, std::string_view tag);
  [[nodiscard]] std::vector<std::string> tags(const std::string& scope) const;
  [[nodiscard]] std::vector<NamedTag> tag_records(const std::string& scope) const;
  [[nodiscard]] std::vector<std::string> repositories() const;

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
  // The tag, then the accept class; so that all classes of a tag stand together.
  using TagKey = std::pair<std::string, oci::ManifestClass>;
  using TagView = std::pair<std::string_view, oci::ManifestClass>;
  struct TagLess {
    using is_transparent = void;
    bool operator()(TagView a, TagView b) const noexcept { return a < b; }
  };
  struct TagValue {
    oci::Digest digest;
    std::int64_t checked_at = 0;  // milliseconds since 1970
  };
  struct Space {
    DigestMap<Member> members;
    boost::unordered_flat_map<oci::Digest, oci::Digest> canonical;
    std::map<TagKey, TagValue, TagLess> tags;
    [[nodiscard]] bool empty() const { return members.empty() && tags.empty(); }
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;  // guards spaces
    boost::unordered_flat_map<std::string, Space> spaces;
    std::size_t members = 0;
  };
  static constexpr std::size_t kShards = 16;

  [[nodiscard]] Shard& shard(const std::string& scope) const;
  [[nodiscard]] Membership describe(const Space& space, const oci::Digest& digest, const Member& member) const;
  void place(Shard& in, const Change& change);
  void tell_removed(Change::Kind kind, const std::string& scope, const oci::Digest& digest, std::string_view tag);
  void remove_member(Shard& in, const std::string& scope, Space& space, const oci::Digest& digest);
  void make_room(Shard& in);

  const std::size_t max_memberships_;
  std::atomic<std::size_t> memberships_{0};  // in all shards
  std::atomic<bool> partial_{false};
  MediaTypes& media_types_;
  Enqueue enqueue_;
  mutable std::array<Shard, kShards> shards_;
};

}  // namespace sluice::store
