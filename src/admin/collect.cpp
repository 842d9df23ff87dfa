#include "admin/collect.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace sluice::admin {
namespace {

using store::Scope;

// Drops what the index has and the disk has not. The names alone are looked at; content is the verifier's.
std::size_t drop_missing(store::BlobStore& store, runtime::Filesystem& filesystem) {
  std::vector<oci::Digest> suspects;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto first = static_cast<std::uint8_t>(byte);
    for (const store::BlobIndex::Blob& blob : store.blobs_between(first, first)) {
      const Result<runtime::FileStatus> status = filesystem.status(store.layout().blob(blob.digest));
      const bool missing = !status && status.error().code == Errc::not_found;
      if (missing || (status && status->size_bytes != blob.entry.size)) suspects.push_back(blob.digest);
    }
  }
  std::size_t dropped = 0;
  for (const oci::Digest& digest : suspects) {
    // It looks again, under the store's lock.
    if (store.check(digest, [](std::uint64_t) { return true; }).dropped) ++dropped;
  }
  return dropped;
}

void drop_orphans(store::BlobStore& store, const Scope& scope, Clock::Wall before, Collected& out) {
  store::Catalog& catalog = store.catalog();
  for (const store::Member& member : catalog.members(scope)) {
    if (member.membership.checked_at > before) continue;
    if (store.find(member.digest) || store.find(member.membership.descriptor.digest)) continue;
    // Another name of what lies under its canonical one.
    const auto global = catalog.membership(Scope(), member.digest);
    if (global && store.find(global->descriptor.digest)) continue;
    if (catalog.clear_membership(scope, member.digest)) ++out.memberships;
  }
  for (const store::NamedTag& tag : catalog.tag_records(scope)) {
    if (tag.record.checked_at > before || store.find(tag.record.digest)) continue;
    // A signed manifest lies under another name.
    const auto named = catalog.membership(scope, tag.record.digest);
    if (named && store.find(named->descriptor.digest)) continue;
    if (catalog.clear_tag(scope, tag.name)) ++out.tags;
  }
}

}  // namespace

Collected collect(store::BlobStore& store, store::Parts& parts, runtime::Filesystem& filesystem, const Clock& clock,
                  const CollectOptions& options) {
  Collected out;
  out.missing_files = drop_missing(store, filesystem);

  const std::size_t blobs = store.entries();
  const std::uint64_t bytes = store.bytes();
  store.maintain();
  // What is stored meanwhile hides some of it.
  out.evicted = blobs - std::min(blobs, store.entries());
  out.evicted_bytes = bytes - std::min(bytes, store.bytes());

  const Clock::Wall before = clock.wall() - options.min_age;
  for (const std::string& name : store.catalog().repositories()) {
    if (const Result<Scope> scope = Scope::repository(name)) drop_orphans(store, *scope, before, out);
  }
  drop_orphans(store, Scope(), before, out);

  const std::uint64_t waiting = parts.bytes();
  out.parts = parts.expire();
  out.parts_bytes = waiting - std::min(waiting, parts.bytes());
  // What cannot be written now is written later.
  (void)store.catalog().flush();
  out.store_bytes = store.bytes();
  out.store_blobs = store.entries();
  return out;
}

}  // namespace sluice::admin
