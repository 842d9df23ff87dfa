// What is in the store, for people: repositories, their tags and blobs, what one image or digest is made of, and what
// removing an image would take.
//
// It reads the catalog, the index and the manifests at rest, and changes nothing, not even a last use. Used by the
// admin API while the cache serves, and by the commands on a store that nobody serves from.
//
// Threads: all functions block on the disk and belong on the disk pool; any number at a time. Owned by whoever owns the
// store, which outlives it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "admin/image_name.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"

namespace sluice::admin {

template <class Row>
struct Page {
  std::vector<Row> rows;
  std::string next;  // what to give as `after` to get the next page; empty: there is none
};

struct PageAsked {
  std::string after;  // the last name or digest of the page before
  std::size_t limit = 100;
};

struct RepositoryRow {
  std::string name;  // "docker.io/library/busybox"
  std::size_t tags = 0;
  std::size_t blobs = 0;        // at rest, manifests among them
  std::uint64_t bytes = 0;      // of those; a blob of two repositories counts for both
  std::uint32_t last_used = 0;  // seconds since 1970; 0: nothing of it is at rest
};

struct BlobRow {
  enum class State : std::uint8_t {
    at_rest,
    in_flight,  // being fetched
    part,       // fetched in part
    absent,     // known, but not here
  };
  oci::Digest digest;
  std::uint64_t size = 0;
  std::string media_type;
  State state = State::absent;
  std::uint64_t part_bytes = 0;
  std::uint32_t last_used = 0;
};

struct TagRow {
  std::string name;
  oci::Digest digest;
  std::string media_type;
  std::size_t blobs = 0;    // that the image is made of, as far as its manifests are here
  std::size_t at_rest = 0;  // of those
  std::uint64_t bytes = 0;  // of those at rest
  std::uint32_t last_used = 0;
  Clock::Wall checked_at;  // when upstream last said what the tag is
};

struct DigestStat {
  BlobRow blob;
  std::vector<std::string> repositories;
  std::vector<std::string> tags;  // "docker.io/library/busybox:latest"
  std::string file;               // empty: there is none
};

struct ImageStat {
  std::string repository;
  std::string tag;  // empty: asked by digest
  std::optional<Clock::Wall> checked_at;
  DigestStat manifest;
  std::vector<BlobRow> blobs;  // besides the manifest itself
  std::uint64_t bytes = 0;     // at rest, the manifest too
};

// What goes when an image goes.
struct RemovalPlan {
  std::string repository;
  std::vector<std::string> tags;
  std::vector<oci::Digest> digests;
};

class Inventory {
 public:
  struct Params {
    std::string default_upstream = "docker.io";  // of names without a registry
    // Whether the blob is being fetched; empty: nothing is.
    std::function<bool(const oci::Digest&)> in_flight = {};
  };

  Inventory(Params params, store::BlobStore& store, const store::Parts& parts, runtime::Filesystem& filesystem)
      : params_(std::move(params)), store_(store), parts_(parts), filesystem_(filesystem) {}

  [[nodiscard]] Page<RepositoryRow> repositories(const PageAsked& asked) const;
  // Errors: not_found, nothing is known of the repository.
  [[nodiscard]] Result<Page<TagRow>> tags(const ImageName& repository, const PageAsked& asked) const;
  // Of one repository: all that it is known to have. Errors: not_found; digest_invalid, in `after`.
  [[nodiscard]] Result<Page<BlobRow>> blobs(const ImageName& repository, const PageAsked& asked) const;
  // All that is at rest.
  [[nodiscard]] Result<Page<BlobRow>> blobs(const PageAsked& asked) const;

  // Errors: not_found.
  [[nodiscard]] Result<DigestStat> stat(const oci::Digest& digest) const;
  [[nodiscard]] Result<ImageStat> stat(const ImageName& image) const;

  // The image: the tag; where no other tag is the same, the manifest and what no other manifest of the repository
  // names. Errors: not_found.
  [[nodiscard]] Result<RemovalPlan> plan_removal(const ImageName& image) const;
  // All of a repository.
  [[nodiscard]] Result<RemovalPlan> plan_removal_of_all(const ImageName& repository) const;

  // The repository in the words of the catalog. Errors: not_found.
  [[nodiscard]] Result<store::Scope> find(const ImageName& name) const;

 private:
  using Digests = std::set<oci::Digest>;

  [[nodiscard]] std::optional<store::Stored> stored(const store::Scope& scope, const oci::Digest& digest) const;
  [[nodiscard]] oci::Digest stored_name(const store::Scope& scope, const oci::Digest& digest) const;
  [[nodiscard]] Result<DigestStat> stat(const store::Scope& scope, const oci::Digest& digest) const;
  [[nodiscard]] BlobRow row(const store::Scope& scope, const oci::Digest& digest) const;
  [[nodiscard]] std::optional<oci::Digest> resolve(const store::Scope& scope, const ImageName& image) const;
  [[nodiscard]] std::vector<oci::Descriptor> references(const store::Scope& scope, const oci::Digest& manifest) const;
  void close_over(const store::Scope& scope, const oci::Digest& manifest, Digests& into) const;
  [[nodiscard]] std::vector<std::string> tags_of(const oci::Digest& digest) const;

  const Params params_;
  store::BlobStore& store_;
  const store::Parts& parts_;
  runtime::Filesystem& filesystem_;
};

}  // namespace sluice::admin
