#include "pull/canonical_names.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/log.hpp"

namespace sluice::pull {
namespace {

// What one job hashes before others in the pool have their turn.
constexpr std::uint64_t kTurnBytes = 4 << 20;
constexpr std::size_t kPieceBytes = 256 << 10;
// An upstream whose claims have failed so often in that time is not believed for as long.
constexpr std::size_t kMostFailures = 3;
constexpr std::chrono::minutes kFailuresCountFor{10};
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

std::string key_of(const oci::Digest& digest, const oci::Digest& claimed) {
  return digest.to_string() + ' ' + claimed.to_string();
}

}  // namespace

CanonicalNames::CanonicalNames(access::BlobAccess& access, store::BlobStore& store, runtime::DiskPool& pool,
                               runtime::Filesystem& filesystem, const Clock& clock, runtime::TaskGroup& group,
                               const Metrics& metrics)
    : access_(access),
      store_(store),
      pool_(pool),
      filesystem_(filesystem),
      clock_(clock),
      verified_(metrics.names_verified),
      refuted_(metrics.names_refuted),
      wrong_(kWrong, clock),
      log_(clock),
      flights_(group) {}

class CanonicalNames::Waiting {
 public:
  Waiting(CanonicalNames& owner, const std::string& upstream) : owner_(owner), upstream_(upstream) {
    const std::scoped_lock lock(owner_.mutex_);
    ++owner_.claims_[upstream_].waiting;
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() {
    const std::scoped_lock lock(owner_.mutex_);
    const auto at = owner_.claims_.find(upstream_);
    if (--at->second.waiting == 0 && at->second.failed == 0) owner_.claims_.erase(at);
  }

 private:
  CanonicalNames& owner_;
  const std::string upstream_;
};

runtime::Task<bool> CanonicalNames::verify(access::Route route, oci::Digest digest, oci::Digest claimed) {
  const std::string upstream(access::origin_name(route));
  if (claimed.algorithm() != oci::Algorithm::sha256 || !store_.find(claimed, upstream)) co_return false;
  const std::string key = key_of(digest, claimed);
  const Waiting waiting(*this, upstream);
  while (!wrong_.contains(key) && believes(upstream) && std::chrono::steady_clock::now() < route.answer_by) {
    runtime::SingleFlight<std::string, Checked>::Work work = [this, upstream, digest, claimed] {
      return check(upstream, digest, claimed);
    };
    const auto outcome = co_await access::wait_for(route, flights_.run(upstream, std::move(work)));
    const bool ours = outcome.result && outcome.result->digest == digest && outcome.result->claimed == claimed;
    if (ours) co_return outcome.result->same;
    if (!outcome.joined) co_return false;
    // It was about another claim of that upstream.
  }
  co_return false;
}

runtime::Task<Result<CanonicalNames::Checked>> CanonicalNames::check(std::string upstream, oci::Digest digest,
                                                                     oci::Digest claimed) {
  // Who starts this has looked before the check that ended just now.
  if (wrong_.contains(key_of(digest, claimed)) || !believes(upstream)) co_return Checked{digest, claimed, false};
  const Result<bool> same = co_await hash(upstream, digest, claimed);
  if (same && *same) {
    verified_.add();
    co_return Checked{digest, claimed, true};
  }
  if (same) refuted_.add();
  wrong_.add(key_of(digest, claimed));
  // One that nobody has waited for to its end has cost as much.
  note_failed(upstream, same ? fmt::format("stored {} does not hash to {}", claimed.to_string(), digest.to_string())
                             : fmt::format("stored {} was not compared with {}: {}", claimed.to_string(),
                                           digest.to_string(), same.error().message));
  if (!same) co_return same.error();
  co_return Checked{digest, claimed, false};
}

runtime::Task<Result<bool>> CanonicalNames::hash(std::string upstream, oci::Digest digest, oci::Digest claimed) {
  const Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(claimed);
  if (!opened) co_return opened.error();
  const std::shared_ptr<const store::OpenBlob>& blob = *opened;
  // A false claim is found out by the first. Its own digest comes second: a file that was damaged at rest proves
  // nothing.
  for (const oci::Digest& wanted : {digest, claimed}) {
    const auto hasher = std::make_shared<oci::Hasher>(wanted.algorithm());
    for (std::uint64_t at = 0; at < blob->size;) {
      if (!is_awaited(upstream)) co_return Error{Errc::cancelled, "nobody waits for it any more"};
      const Result<std::uint64_t> next = co_await runtime::offload(
          pool_, [this, blob, hasher, at] { return hash_turn(filesystem_, *blob, *hasher, at); });
      if (!next) co_return next.error();
      at = *next;
    }
    if (hasher->finish() != wanted) co_return false;
  }
  access_.set_canonical(digest, claimed, blob->size);
  co_return true;
}

bool CanonicalNames::believes(const std::string& upstream) {
  const std::scoped_lock lock(mutex_);
  const auto at = claims_.find(upstream);
  if (at == claims_.end()) return true;
  if (clock_.now() - at->second.since >= kFailuresCountFor) at->second.failed = 0;
  return at->second.failed < kMostFailures;
}

bool CanonicalNames::is_awaited(const std::string& upstream) {
  const std::scoped_lock lock(mutex_);
  const auto at = claims_.find(upstream);
  return at != claims_.end() && at->second.waiting > 0;
}

void CanonicalNames::note_failed(const std::string& upstream, const std::string& why) {
  std::size_t failed = 0;
  {
    const std::scoped_lock lock(mutex_);
    Claims& claims = claims_[upstream];
    if (claims.failed == 0 || claims.failed + 1 == kMostFailures) claims.since = clock_.now();
    failed = ++claims.failed;
  }
  log_.write(log::Level::warn, "names", upstream, fmt::format("{}: digest alias rejected: {}", upstream, why));
  if (failed == kMostFailures) {
    log::info("names",
              fmt::format("{}: ignoring its digest aliases for ten minutes: {} were rejected", upstream, failed));
  }
}

}  // namespace sluice::pull
