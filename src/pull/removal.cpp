#include "pull/removal.hpp"

#include <algorithm>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "oci/media_type.hpp"
#include "store/names.hpp"

namespace sluice::pull {
namespace {

Error not_here(Errc code, const descriptors::Scope& scope, std::string_view what) {
  return {code, fmt::format("nothing is known here of {} in {}", what, scope.str())};
}

}  // namespace

runtime::Task<Result<void>> Removal::remove_blob(descriptors::Scope scope, oci::Digest digest) {
  const Result<descriptors::Entry> known = co_await parts_.access.stat_known(scope, digest);
  if (!known || !oci::noted_manifest_type(known->media_type).empty()) {
    co_return not_here(Errc::blob_unknown, scope, digest.to_string());
  }
  // Before the pairs are forgotten.
  std::vector<oci::Digest> names = store::other_names(parts_.store.catalog(), scope, std::span(&digest, 1));
  names.push_back(digest);
  for (const oci::Digest& name : names) {
    const Result<Freed> freed = co_await forget(scope, name);
    if (!freed) co_return freed.error();
  }
  co_return co_await flush();
}

runtime::Task<Result<void>> Removal::remove_manifest(descriptors::Scope scope, oci::Reference reference) {
  if (!reference.is_digest()) {
    const std::string tag = reference.tag().str();
    if (!forget_tag(scope, tag)) co_return not_here(Errc::manifest_unknown, scope, tag);
    co_return co_await flush();
  }
  const oci::Digest digest = reference.digest();
  const Result<descriptors::Entry> known = co_await parts_.access.stat_known(scope, digest);
  if (!known || oci::noted_manifest_type(known->media_type).empty()) {
    co_return not_here(Errc::manifest_unknown, scope, digest.to_string());
  }
  const Result<Freed> freed = co_await forget(scope, digest);
  if (!freed) co_return freed.error();
  co_return co_await flush();
}

runtime::Task<Result<Removal::Freed>> Removal::forget(descriptors::Scope scope, oci::Digest digest) {
  // Its bytes lie under this name. Asked for before the pair is forgotten.
  const oci::Digest canonical = parts_.access.canonical(digest);
  Result<Freed> out = co_await forget_name(scope, digest);
  if (!out || canonical == digest) co_return out;
  const Result<Freed> other = co_await forget_name(scope, canonical);
  if (!other) co_return other.error();
  out->known = out->known || other->known;
  out->file = out->file || other->file;
  out->bytes += other->bytes;
  out->tags += other->tags;
  co_return out;
}

runtime::Task<Result<Removal::Freed>> Removal::forget_name(descriptors::Scope scope, oci::Digest digest) {
  Freed out;
  store::Catalog& catalog = parts_.store.catalog();
  const bool member = catalog.membership(scope, digest).has_value();
  const oci::Digest name = parts_.access.stored_name(scope, digest);
  const Result<void> forgotten = co_await parts_.access.forget(scope, digest);
  if (!forgotten) co_return forgotten.error().in(fmt::format("{} of {}", digest.to_string(), scope.str()));
  for (const store::NamedTag& tag : catalog.tag_records(scope)) {
    if (tag.record.digest == digest && forget_tag(scope, tag.name)) ++out.tags;
  }
  if (catalog.scopes_of(digest).empty()) {
    const Result<Freed> dropped = co_await drop(digest);
    if (!dropped) co_return dropped.error();
    out.file = dropped->file;
    out.bytes = dropped->bytes;
  }
  // A signed manifest lies under a name that is this repository's own.
  const bool has_own_name = name != digest && name.algorithm() == digest.algorithm();
  if (has_own_name && catalog.scopes_of(digest).empty() && catalog.scopes_of(name).empty()) {
    const Result<Freed> dropped = co_await drop(name);
    if (!dropped) co_return dropped.error();
    out.file = out.file || dropped->file;
    out.bytes += dropped->bytes;
  }
  out.known = member || out.file;
  co_return out;
}

runtime::Task<Result<Removal::Freed>> Removal::drop(oci::Digest digest) {
  Freed out;
  // What is asked for by another name lies under its canonical one, which may have repositories of its own.
  const oci::Digest canonical = parts_.access.canonical(digest);
  if (canonical != digest && parts_.store.catalog().scopes_of(canonical).empty()) {
    const Result<Freed> other = co_await drop(canonical);
    if (!other) co_return other.error();
    out = *other;
  }
  const std::optional<store::Stored> stored = parts_.store.find(digest);
  const Result<void> removed = co_await parts_.store.remove(digest);
  if (!removed && removed.error().code != Errc::not_found) co_return removed.error();
  // After the file: who looks from here on finds neither.
  parts_.blobs.forget(digest);
  parts_.manifests.forget(digest);
  co_await parts_.access.forget_globally(digest);
  const std::uint64_t part =
      co_await runtime::offload(parts_.pool, [this, digest] { return parts_.parts.drop(digest); });
  out.file = out.file || removed.has_value();
  out.known = out.file || part != 0;
  out.bytes += part + (removed && stored ? stored->size : 0);
  co_return out;
}

bool Removal::forget_tag(const descriptors::Scope& scope, std::string_view tag) {
  return parts_.manifests.forget_tag(scope, tag);
}

runtime::Task<Result<void>> Removal::flush() {
  const Result<void> flushed =
      co_await runtime::offload(parts_.pool, [this] { return parts_.store.catalog().flush(); });
  if (flushed) co_return flushed;
  // It stays in the queue, which is tried again and written before the process ends. But who is told that it is out may
  // rely on it.
  log::error("proxy", fmt::format("a removal was made, but a crash may undo it: {}", flushed.error().message));
  co_return flushed.error().in("removed, but a crash may undo it");
}

}  // namespace sluice::pull
