#include "access/membership_check.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/errc_kind.hpp"
#include "oci/media_type.hpp"
#include "store/media_types.hpp"

namespace sluice::access {

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::of(Route route, oci::Digest digest) {
  Result<BlobAccess::Known> known = co_await ask(route, digest);
  if (!known && is_outage(known.error().code)) co_return unanswered(route.scope, known.error());
  co_return known;
}

// What is known without suspending.
std::optional<BlobAccess::Known> MembershipCheck::peek(const Route& route, const oci::Digest& digest) {
  std::optional<descriptors::Entry> peeked = access_.peek(route, digest);
  if (!peeked || !oci::noted_manifest_type(peeked->media_type).empty() || !BlobAccess::believes(route, *peeked)) {
    return std::nullopt;
  }
  return BlobAccess::Known{std::move(*peeked)};
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::ask(Route route, oci::Digest digest) {
  if (std::optional<BlobAccess::Known> peeked = peek(route, digest)) co_return std::move(*peeked);
  Result<BlobAccess::Known> known = co_await access_.stat(route, digest);
  if (!known || oci::noted_manifest_type(known->descriptor.media_type).empty()) co_return known;
  // That the repository has a manifest does not say that upstream gives it out as a blob.
  Result<oci::Descriptor> asked = co_await access_.ask_upstream(std::move(route), digest);
  if (!asked && has_without_size(asked.error().code)) co_return BlobAccess::Known{known->descriptor, true};
  if (!asked) co_return asked.error();
  if (oci::noted_manifest_type(asked->media_type).empty()) asked->media_type = known->descriptor.media_type;
  co_return BlobAccess::Known{std::move(*asked), true};
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::of_stored(Route route, oci::Digest digest,
                                                                    std::uint64_t size) {
  if (std::optional<BlobAccess::Known> peeked = peek(route, digest)) co_return std::move(*peeked);
  const Revocations::Ticket ticket = access_.begin(route);
  Result<BlobAccess::Known> known = co_await of(route, digest);
  if (known) co_return known;
  const bool has_it = has_without_size(known.error().code);
  if (!has_it && !is_odd_answer(known.error().code)) co_return known;
  if (!has_it && !co_await gives_out(route, digest)) co_return known;
  BlobAccess::Known out{{digest, size, std::string(oci::media_type::kOctetStream)}, true};
  co_await access_.remember(route.scope, out.descriptor, ticket);
  co_return out;
}

runtime::Task<Result<void>> MembershipCheck::of_joined(Route route, oci::Digest digest) {
  const Result<BlobAccess::Known> known = co_await of(route, digest);
  if (known || has_without_size(known.error().code)) co_return Result<void>{};
  if (is_odd_answer(known.error().code) && co_await gives_out(route, digest)) co_return Result<void>{};
  co_return known.error();
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::with_size(Route route, oci::Digest digest,
                                                                    BlobAccess::Known known) {
  if (known.descriptor.media_type != store::MediaTypes::kNamedByManifest) co_return known;
  Result<BlobAccess::Known> asked = co_await access_.ask_first(route, digest);
  if (!asked && is_outage(asked.error().code)) co_return unanswered(route.scope, asked.error());
  co_return asked;
}

// Whether upstream begins to send the blob to who asks with that route. The connection is closed at once.
runtime::Task<bool> MembershipCheck::gives_out(Route route, oci::Digest digest) {
  const Result<std::unique_ptr<upstream::BlobBody>> body =
      co_await route.registry->open_blob(route.repository, digest, 0);
  co_return body.has_value();
}

}  // namespace sluice::access
