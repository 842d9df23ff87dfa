#include "admin/inventory.hpp"

#include <algorithm>
#include <queue>
#include <span>

#include <fmt/format.h>

#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "store/media_types.hpp"

namespace sluice::admin {
namespace {

using store::Scope;

// Indexes name images; nothing that is met names indexes of indexes of indexes.
constexpr int kMaxDepth = 4;

Error nothing(const ImageName& name) {
  return {Errc::not_found, fmt::format("nothing is known here of {}", name.to_string())};
}

// The part of a sorted list that the page asks for.
template <class Row, class Key>
Page<Row> cut(std::vector<Row> rows, const PageAsked& asked, Key key) {
  Page<Row> out;
  const std::size_t limit = std::max<std::size_t>(1, asked.limit);
  const bool more = rows.size() > limit;
  if (more) rows.resize(limit);
  out.rows = std::move(rows);
  if (more) out.next = key(out.rows.back());
  return out;
}

Result<std::optional<oci::Digest>> after_digest(const PageAsked& asked) {
  if (asked.after.empty()) return std::optional<oci::Digest>();
  const Result<oci::Digest> digest = oci::Digest::parse(asked.after);
  if (!digest) return digest.error();
  return std::optional(*digest);
}

// The type that a repository's membership notes, if it is one: what a manifest alone says has a mark in its place.
void note_type(BlobRow& out, const std::string& noted) {
  if (noted != store::MediaTypes::kNamedByManifest) out.media_type = noted;
}

}  // namespace

// The name under which it lies, if it does: a signed manifest's is its repository's own, a sha512 has one for all.
oci::Digest Inventory::stored_name(const Scope& scope, const oci::Digest& digest) const {
  const auto named_in = [&](const Scope& where) -> std::optional<oci::Digest> {
    const std::optional<store::Membership> known = store_.catalog().membership(where, digest);
    const bool is_other = known && known->descriptor.digest != digest && store_.find(known->descriptor.digest);
    return is_other ? std::optional(known->descriptor.digest) : std::nullopt;
  };
  if (const auto own = named_in(scope)) return *own;
  if (store_.find(digest)) return digest;
  return named_in(Scope()).value_or(digest);
}

std::optional<store::Stored> Inventory::stored(const Scope& scope, const oci::Digest& digest) const {
  return store_.find(stored_name(scope, digest));
}

BlobRow Inventory::row(const Scope& scope, const oci::Digest& digest) const {
  BlobRow out;
  out.digest = digest;
  if (const std::optional<store::Stored> found = stored(scope, digest)) {
    out.state = BlobRow::State::at_rest;
    out.size = found->size;
    out.media_type = found->media_type;
    out.last_used = found->last_used;
    return out;
  }
  if (params_.in_flight && params_.in_flight(digest)) {
    out.state = BlobRow::State::in_flight;
  } else if (const std::optional<std::uint64_t> part = parts_.find(digest)) {
    out.state = BlobRow::State::part;
    out.part_bytes = *part;
  }
  return out;
}

Result<Scope> Inventory::find(const ImageName& name) const {
  std::vector<std::string> candidates;
  const std::string& registry = name.registry.empty() ? params_.default_upstream : name.registry;
  candidates.push_back(registry + "/" + name.repository);
  // Where the default upstream is not Docker Hub, a name of one part is not in library/.
  constexpr std::string_view kLibrary = "library/";
  if (name.registry.empty() && name.repository.starts_with(kLibrary)) {
    candidates.push_back(registry + "/" + name.repository.substr(kLibrary.size()));
  }
  for (const std::string& candidate : candidates) {
    Result<Scope> scope = Scope::repository(candidate);
    if (!scope) continue;
    if (!store_.catalog().tag_records(*scope).empty() || !store_.catalog().members(*scope).empty()) return scope;
  }
  return nothing(name);
}

Page<RepositoryRow> Inventory::repositories(const PageAsked& asked) const {
  std::vector<RepositoryRow> rows;
  for (const std::string& name : store_.catalog().repositories()) {
    if (!asked.after.empty() && name <= asked.after) continue;
    if (rows.size() > asked.limit) break;
    const Result<Scope> scope = Scope::repository(name);
    if (!scope) continue;
    RepositoryRow& out = rows.emplace_back();
    out.name = name;
    out.tags = store_.catalog().tags(*scope).size();
    for (const store::Member& member : store_.catalog().members(*scope)) {
      const std::optional<store::Stored> found = stored(*scope, member.digest);
      if (!found) continue;
      ++out.blobs;
      out.bytes += found->size;
      out.last_used = std::max(out.last_used, found->last_used);
    }
  }
  return cut(std::move(rows), asked, [](const RepositoryRow& last) { return last.name; });
}

// What a manifest at rest names; nothing where it is not here or makes no sense.
std::vector<oci::Descriptor> Inventory::references(const Scope& scope, const oci::Digest& manifest) const {
  const oci::Digest name = stored_name(scope, manifest);
  const std::optional<store::Stored> found = store_.find(name);
  if (!found || found->size > oci::kMaxManifestBytes) return {};
  const Result<runtime::File> file = filesystem_.open_read(store_.layout().blob(name));
  if (!file) return {};
  std::string bytes(found->size, '\0');
  const Result<std::size_t> read =
      filesystem_.read_at(*file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  if (!read || *read != bytes.size()) return {};
  // After a rebuild its type is not known.
  const std::string_view type = oci::noted_manifest_type(found->media_type);
  Result<oci::ManifestInfo> info = oci::parse_manifest(bytes, type);
  if (!info) return {};
  return std::move(info->references);
}

// The manifest and everything that it and the manifests in it name.
void Inventory::close_over(const Scope& scope, const oci::Digest& manifest, Digests& into) const {
  std::queue<std::pair<oci::Digest, int>> open;
  open.emplace(manifest, 0);
  into.insert(manifest);
  while (!open.empty()) {
    const auto [digest, depth] = open.front();
    open.pop();
    if (depth == kMaxDepth) continue;
    for (const oci::Descriptor& referred : references(scope, digest)) {
      const bool fresh = into.insert(referred.digest).second;
      if (fresh && oci::is_manifest(referred.media_type)) open.emplace(referred.digest, depth + 1);
    }
  }
}

Result<Page<TagRow>> Inventory::tags(const ImageName& repository, const PageAsked& asked) const {
  const Result<Scope> scope = find(repository);
  if (!scope) return scope.error();
  std::vector<TagRow> rows;
  for (const store::NamedTag& tag : store_.catalog().tag_records(*scope)) {
    if (!asked.after.empty() && tag.name <= asked.after) continue;
    // Another digest for clients that accept less is not shown.
    if (!rows.empty() && rows.back().name == tag.name && tag.record.accept_class != oci::kAllManifests) continue;
    const bool again = !rows.empty() && rows.back().name == tag.name;
    if (!again && rows.size() > asked.limit) break;
    TagRow& out = again ? rows.back() : rows.emplace_back();
    out = TagRow{};
    out.name = tag.name;
    out.digest = tag.record.digest;
    out.checked_at = tag.record.checked_at;
    const auto member = store_.catalog().membership(*scope, tag.record.digest);
    if (member) out.media_type = member->descriptor.media_type;
    Digests all;
    close_over(*scope, tag.record.digest, all);
    out.blobs = all.size();
    for (const oci::Digest& digest : all) {
      const std::optional<store::Stored> found = stored(*scope, digest);
      if (!found) continue;
      ++out.at_rest;
      out.bytes += found->size;
      out.last_used = std::max(out.last_used, found->last_used);
    }
  }
  return cut(std::move(rows), asked, [](const TagRow& last) { return last.name; });
}

Result<Page<BlobRow>> Inventory::blobs(const ImageName& repository, const PageAsked& asked) const {
  const Result<Scope> scope = find(repository);
  if (!scope) return scope.error();
  const Result<std::optional<oci::Digest>> after = after_digest(asked);
  if (!after) return after.error();
  std::vector<BlobRow> rows;
  for (const store::Member& member : store_.catalog().members(*scope)) {
    if (*after && member.digest <= **after) continue;
    if (rows.size() > asked.limit) break;
    BlobRow& out = rows.emplace_back(row(*scope, member.digest));
    if (out.state != BlobRow::State::at_rest) out.size = member.membership.descriptor.size;
    note_type(out, member.membership.descriptor.media_type);
  }
  return cut(std::move(rows), asked, [](const BlobRow& last) { return last.digest.to_string(); });
}

Result<Page<BlobRow>> Inventory::blobs(const PageAsked& asked) const {
  const Result<std::optional<oci::Digest>> after = after_digest(asked);
  if (!after) return after.error();
  // The smallest ones, in one pass over an index that has no order of its own.
  std::set<oci::Digest> smallest;
  const std::size_t wanted = std::max<std::size_t>(1, asked.limit) + 1;
  store_.for_each_blob([&](const store::BlobIndex::Blob& blob) {
    if (*after && blob.digest <= **after) return;
    if (smallest.size() == wanted && blob.digest > *smallest.rbegin()) return;
    smallest.insert(blob.digest);
    if (smallest.size() > wanted) smallest.erase(std::prev(smallest.end()));
  });
  std::vector<BlobRow> rows;
  rows.reserve(smallest.size());
  for (const oci::Digest& digest : smallest) rows.push_back(row(Scope(), digest));
  return cut(std::move(rows), asked, [](const BlobRow& last) { return last.digest.to_string(); });
}

std::vector<std::string> Inventory::tags_of(const oci::Digest& digest) const {
  std::vector<std::string> out;
  for (const std::string& name : store_.catalog().repositories()) {
    const Result<Scope> scope = Scope::repository(name);
    if (!scope) continue;
    for (const store::NamedTag& tag : store_.catalog().tag_records(*scope)) {
      std::string full = fmt::format("{}:{}", name, tag.name);
      if (tag.record.digest == digest && (out.empty() || out.back() != full)) out.push_back(std::move(full));
    }
  }
  return out;
}

Result<DigestStat> Inventory::stat(const oci::Digest& digest) const {
  const std::vector<std::string> repositories = store_.catalog().scopes_of(digest);
  const Result<Scope> first = repositories.empty() ? Result<Scope>(Scope()) : Scope::repository(repositories.front());
  return stat(first ? *first : Scope(), digest);
}

// As that repository has it.
Result<DigestStat> Inventory::stat(const Scope& scope, const oci::Digest& digest) const {
  DigestStat out;
  out.blob = row(scope, digest);
  out.repositories = store_.catalog().scopes_of(digest);
  out.tags = tags_of(digest);
  if (out.blob.state == BlobRow::State::at_rest) {
    out.file = store_.layout().blob(stored_name(scope, digest)).native();
  }
  if (out.blob.state == BlobRow::State::absent && out.repositories.empty() && out.tags.empty()) {
    return Error{Errc::not_found, fmt::format("nothing is known here of {}", digest.to_string())};
  }
  if (!out.repositories.empty()) {
    if (const auto member = store_.catalog().membership(scope, digest)) {
      if (out.blob.state != BlobRow::State::at_rest) out.blob.size = member->descriptor.size;
      note_type(out.blob, member->descriptor.media_type);
    }
  }
  return out;
}

std::optional<oci::Digest> Inventory::resolve(const Scope& scope, const ImageName& image) const {
  const oci::Reference reference = image.reference();
  if (reference.is_digest()) {
    if (!store_.catalog().membership(scope, reference.digest())) return std::nullopt;
    return reference.digest();
  }
  std::optional<oci::Digest> out;
  for (const store::NamedTag& tag : store_.catalog().tag_records(scope)) {
    if (tag.name != reference.tag().str()) continue;
    if (!out || tag.record.accept_class == oci::kAllManifests) out = tag.record.digest;
  }
  return out;
}

Result<ImageStat> Inventory::stat(const ImageName& image) const {
  const Result<Scope> scope = find(image);
  if (!scope) return scope.error();
  const std::optional<oci::Digest> digest = resolve(*scope, image);
  if (!digest) return nothing(image);
  ImageStat out;
  out.repository = scope->str();
  if (!image.digest) {
    out.tag = image.reference().tag().str();
    for (const store::NamedTag& tag : store_.catalog().tag_records(*scope)) {
      if (tag.name == out.tag && tag.record.digest == *digest) out.checked_at = tag.record.checked_at;
    }
  }
  Result<DigestStat> manifest = stat(*scope, *digest);
  if (!manifest) return manifest.error();
  out.manifest = std::move(*manifest);
  if (out.manifest.blob.state == BlobRow::State::at_rest) out.bytes += out.manifest.blob.size;
  Digests all;
  close_over(*scope, *digest, all);
  for (const oci::Digest& part : all) {
    if (part == *digest) continue;
    BlobRow& blob = out.blobs.emplace_back(row(*scope, part));
    if (blob.state == BlobRow::State::at_rest) out.bytes += blob.size;
    if (const auto member = store_.catalog().membership(*scope, part)) {
      if (blob.state != BlobRow::State::at_rest) blob.size = member->descriptor.size;
      note_type(blob, member->descriptor.media_type);
    }
  }
  return out;
}

Result<RemovalPlan> Inventory::plan_removal(const ImageName& image) const {
  const Result<Scope> scope = find(image);
  if (!scope) return scope.error();
  const std::optional<oci::Digest> root = resolve(*scope, image);
  if (!root) return nothing(image);
  RemovalPlan out{scope->str(), {}, {}};
  const std::string tag = image.digest ? std::string() : image.reference().tag().str();
  if (!tag.empty()) out.tags.push_back(tag);

  Digests going;
  close_over(*scope, *root, going);
  Digests staying;
  for (const store::NamedTag& other : store_.catalog().tag_records(*scope)) {
    if (other.name == tag) {
      // What the tag is to clients that accept less goes along.
      close_over(*scope, other.record.digest, going);
    } else if (other.record.digest != *root) {
      close_over(*scope, other.record.digest, staying);
    } else if (!tag.empty()) {
      return out;  // the image has another tag
    }
    // By its digest an image goes with all its tags.
  }
  for (const store::Member& member : store_.catalog().members(*scope)) {
    const bool is_manifest = !oci::noted_manifest_type(member.membership.descriptor.media_type).empty();
    const bool other = is_manifest && !going.contains(member.digest);
    if (other) close_over(*scope, member.digest, staying);
  }
  std::set_difference(going.begin(), going.end(), staying.begin(), staying.end(), std::back_inserter(out.digests));
  return out;
}

Result<RemovalPlan> Inventory::plan_removal_of_all(const ImageName& repository) const {
  const Result<Scope> scope = find(repository);
  if (!scope) return scope.error();
  RemovalPlan out{scope->str(), store_.catalog().tags(*scope), {}};
  for (const store::Member& member : store_.catalog().members(*scope)) out.digests.push_back(member.digest);
  return out;
}

}  // namespace sluice::admin
