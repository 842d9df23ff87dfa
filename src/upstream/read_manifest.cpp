#include "upstream/read_manifest.hpp"

#include <string>
#include <utility>

#include "oci/manifest.hpp"
#include "oci/signed_manifest.hpp"
#include "upstream/coding.hpp"
#include "upstream/content.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

bool has_digest(std::string_view body, const std::optional<oci::Digest>& digest) {
  return digest && oci::digest_of(digest->algorithm(), body) == *digest;
}

// Signatures are no part of what a signed docker schema 1 manifest has its digest of.
bool is_signed_as(std::string_view body, const oci::Digest& digest) {
  const auto payload = oci::signed_payload(body);
  return payload && has_digest(*payload, digest);
}

ReadManifest read_by_digest(ManifestAnswer answer, const oci::Digest& asked) {
  answer.digest = asked;
  answer.has_named_digest = true;
  if (has_digest(answer.body, asked) || is_signed_as(answer.body, asked)) return {std::move(answer)};
  return {Error(Errc::digest_mismatch, "the body does not have that digest")};
}

// What was cut off does not, but by chance.
bool ends_as_object(std::string_view body) {
  const std::size_t last = body.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && body[last] == '}';
}

// Nothing but the head says what the body has to be; without a word from it the body is what it is.
ReadManifest read_by_tag(ManifestAnswer answer, const std::optional<oci::Digest>& named) {
  answer.digest = oci::digest_of(oci::Algorithm::sha256, answer.body);
  if (has_digest(answer.body, named) || (named && is_signed_as(answer.body, *named))) {
    answer.digest = *named;
    answer.has_named_digest = true;
    return {std::move(answer)};
  }
  if (!oci::looks_like_json(answer.body)) return {Error(Errc::upstream_protocol, "not a manifest: it is not JSON")};
  if (!named) return {std::move(answer)};
  if (!ends_as_object(answer.body)) return {Error(Errc::upstream_protocol, "the manifest is cut off")};
  Error error(Errc::upstream_protocol, "the body does not have the digest that its head says");
  return {std::move(error), std::move(answer)};
}

}  // namespace

Task<ReadManifest> read_manifest(http::ClientResponse& response, oci::Reference reference) {
  if (const auto whole = check_whole(response.head(), response.content_length()); !whole) {
    co_return ReadManifest{whole.error()};
  }
  Result<std::string> body = co_await response.read_all(oci::kMaxManifestBytes);
  if (!body) co_return ReadManifest{body.error()};
  if (body->empty()) co_return ReadManifest{Error(Errc::upstream_protocol, "an empty manifest")};
  ManifestAnswer read{{}, media_type_of(response.head()), std::move(*body)};
  const auto named = digest_of(response.head());
  if (const auto coding = coding_of(response.head())) {
    // Where it is not in that coding, the name is wrong and the bytes are what they are.
    const bool right = has_digest(read.body, reference.is_digest() ? reference.digest() : named);
    Result<std::string> decoded = decode(*coding, read.body, oci::kMaxManifestBytes);
    if (!right && decoded) read.body = std::move(*decoded);
  }
  if (reference.is_digest()) co_return read_by_digest(std::move(read), reference.digest());
  co_return read_by_tag(std::move(read), named);
}

}  // namespace sluice::upstream
