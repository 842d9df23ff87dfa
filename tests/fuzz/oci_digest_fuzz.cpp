// Digests, repository names, tags and references: whatever is taken converts back into the same text.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzz/expect.hpp"
#include "oci/name.hpp"

using namespace sluice;
using namespace sluice::oci;

namespace {

void check_digest(std::string_view text) {
  const Result<Digest> digest = Digest::parse(text);
  if (!digest) {
    SLUICE_EXPECT(digest.error().code == Errc::digest_invalid || digest.error().code == Errc::digest_unsupported);
    return;
  }
  SLUICE_EXPECT(digest->to_string() == text);
  SLUICE_EXPECT(Digest::from_raw(digest->algorithm(), digest->raw()) == *digest);
}

void check_repository(std::string_view text) {
  const Result<Repository> name = Repository::parse(text);
  if (!name) return;
  SLUICE_EXPECT(name->str() == text);
  SLUICE_EXPECT(!text.empty() && text.size() <= kMaxRepositoryBytes);
  // A name is joined into paths and URLs: nothing in it may mean anything there.
  SLUICE_EXPECT(text.find("..") == std::string_view::npos && text.find("//") == std::string_view::npos);
  SLUICE_EXPECT(text.front() != '/' && text.back() != '/');
  SLUICE_EXPECT(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-/") == std::string_view::npos);
}

void check_reference(std::string_view text) {
  const Result<Reference> reference = Reference::parse(text);
  if (!reference) {
    SLUICE_EXPECT(!Tag::parse(text) && !Digest::parse(text));
    return;
  }
  SLUICE_EXPECT(reference->to_string() == text);
  SLUICE_EXPECT(reference->is_digest() == Digest::parse(text).has_value());
  SLUICE_EXPECT(reference->is_digest() != Tag::parse(text).has_value());
  SLUICE_EXPECT(text.find('/') == std::string_view::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_digest(text);
  check_repository(text);
  check_reference(text);
  return 0;
}
