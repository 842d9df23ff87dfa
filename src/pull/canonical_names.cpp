#include "pull/canonical_names.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::pull {
namespace {

// What one job hashes before others in the pool have their turn.
constexpr std::uint64_t kTurnBytes = 4 << 20;
constexpr std::size_t kPieceBytes = 256 << 10;
constexpr access::NegativeCache::Params kWrong{.ttl = std::chrono::minutes(1), .max_entries = 1000};

// One turn, from `at` on. How far it came.
Result<std::uint64_t> hash_turn(runtime::Filesystem& filesystem, const store::OpenBlob& blob, oci::Hasher& hasher,
                                std::uint64_t at) {
  std::vector<std::byte> buffer(kPieceBytes);
  const std::uint64_t end = std::min(blob.size, at + kTurnBytes);
  while (at < end) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(end - at, buffer.size()));
    const Result<std::size_t> n = filesystem.read_at(blob.file, at, std::span(buffer).first(want));
    if (!n) return n.error();
    if (*n == 0) return Error(Errc::corrupt, "the file is shorter than it was");
    hasher.update(std::span<const std::byte>(buffer).first(*n));
    at += *n;
  }
  return at;
}

}  // namespace

CanonicalNames::CanonicalNames(access::BlobAccess& access, store::BlobStore& store, runtime::DiskPool& pool,
                               runtime::Filesystem& filesystem, const Clock& clock, runtime::TaskGroup& group,
                               const Metrics& metrics)
    : access_(access),
      store_(store),
      pool_(pool),
      filesystem_(filesystem),
      verified_(metrics.names_verified),
      refuted_(metrics.names_refuted),
      wrong_(kWrong, clock),
      log_(clock),
      flights_(group) {}

runtime::Task<bool> CanonicalNames::verify(oci::Digest digest, oci::Digest claimed) {
  if (claimed.algorithm() != oci::Algorithm::sha256 || !store_.find(claimed)) co_return false;
  std::string key = digest.to_string();
  key.append(" ").append(claimed.to_string());
  if (wrong_.contains(key)) co_return false;
  runtime::SingleFlight<std::string, bool>::Work work = [this, digest, claimed] { return hash(digest, claimed); };
  const auto outcome = co_await flights_.run(key, std::move(work));
  if (!outcome.result || !*outcome.result) wrong_.add(key);
  co_return outcome.result && *outcome.result;
}

runtime::Task<Result<bool>> CanonicalNames::hash(oci::Digest digest, oci::Digest claimed) {
  const Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(claimed);
  if (!opened) co_return opened.error();
  const std::shared_ptr<const store::OpenBlob>& blob = *opened;
  // Both: a file that has been damaged at rest proves nothing.
  const auto asked = std::make_shared<oci::Hasher>(digest.algorithm());
  const auto canonical = std::make_shared<oci::Hasher>(claimed.algorithm());
  for (const auto& hasher : {asked, canonical}) {
    for (std::uint64_t at = 0; at < blob->size;) {
      const Result<std::uint64_t> next = co_await runtime::offload(
          pool_, [this, blob, hasher, at] { return hash_turn(filesystem_, *blob, *hasher, at); });
      if (!next) co_return next.error();
      at = *next;
    }
  }
  const bool same = asked->finish() == digest && canonical->finish() == claimed;
  if (same) {
    access_.set_canonical(digest, claimed, blob->size);
    verified_.add();
  } else {
    refuted_.add();
    log_.write(log::Level::warn, "names", claimed.to_string(),
               fmt::format("{} was said to be another name of the stored {}; it is not", digest.to_string(),
                           claimed.to_string()));
  }
  co_return same;
}

}  // namespace sluice::pull
