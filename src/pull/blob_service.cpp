#include "pull/blob_service.hpp"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "access/refusals.hpp"
#include "base/errc_kind.hpp"
#include "oci/media_type.hpp"
#include "store/media_types.hpp"
#include "upstream/urgency.hpp"

namespace sluice::pull {
namespace {

// How often a look-up starts again because what it found was gone a moment later.
constexpr int kMaxRounds = 4;

// The type of a manifest, which the store or upstream's word tells; empty for what is none. Lives as long as `known`
// and the store.
std::string_view manifest_type(const store::Stored* stored, const oci::Descriptor& known) {
  const std::string_view type = stored != nullptr ? oci::noted_manifest_type(stored->media_type) : std::string_view();
  return type.empty() ? oci::noted_manifest_type(known.media_type) : type;
}

std::string_view or_octets(std::string_view type) { return type.empty() ? oci::media_type::kOctetStream : type; }

access::CacheResult result_of(const access::BlobAccess::Known& known) {
  return known.stale ? access::CacheResult::stale : access::CacheResult::hit;
}

}  // namespace

BlobService::BlobService(const Params& params, access::BlobAccess& access, store::BlobStore& store, store::Parts& parts,
                         streamcache::Cache& fills, runtime::DiskPool& pool, runtime::Filesystem& filesystem,
                         const Clock& clock, runtime::TaskGroup& group, const Metrics& metrics)
    : in_memory_bytes_(params.in_memory_bytes),
      access_(access),
      store_(store),
      pool_(pool),
      filesystem_(filesystem),
      objects_(params.memory_bytes),
      names_(access, store, pool, filesystem, clock, group, metrics),
      membership_(
          access, [this](oci::Digest canonical, std::size_t bytes) { return read_beginning(canonical, bytes); }, group),
      fill_storage_(params.on_store_trouble, store, parts, pool, filesystem, metrics),
      fills_(
          params.transfer, [this](const oci::Digest& digest) { forget(digest); }, fill_storage_, access, store, fills,
          pool, filesystem, clock, group, metrics),
      pass_through_(params.ranges, params.transfer, access, membership_, fills_, clock, group, metrics) {
  access.expect([this](const access::Route& route, const oci::Digest& digest) -> std::optional<std::uint64_t> {
    if (const auto stored = store_.find(access_.canonical(digest), access::origin_name(route))) return stored->size;
    return fills_.told_size(route, digest);
  });
}

runtime::Task<bool> BlobService::ask_ahead(access::Route route, oci::Digest digest) {
  if (access::is_over(route)) co_return false;
  if (!store_.find(access_.canonical(digest), access::origin_name(route))) co_return true;
  route.urgency = std::make_shared<upstream::Urgency>();
  route.behind = route.registry->behind_others(route.urgency);
  if (!route.behind) co_return false;  // not to be asked without need
  route.registry = route.behind.get();
  route.answer_by = std::chrono::steady_clock::time_point::max();
  const Result<access::BlobAccess::Known> known = co_await membership_.ask(std::move(route), digest);
  // Remembered, or asked for again by whoever wants it.
  co_return known || (known.error().code != Errc::overloaded && known.error().code != Errc::cancelled);
}

runtime::Task<Result<BlobService::Stat>> BlobService::stat(access::Route route, oci::Digest digest) {
  // A manifest may be wrong about the size of what it names; a file at rest is not.
  const oci::Digest canonical = access_.canonical(digest);
  std::optional<store::Stored> stored = store_.find(canonical, access::origin_name(route));
  if (!stored && store_.incomplete()) stored = co_await look_for_stored(store_, canonical, access::origin_name(route));
  Result<access::BlobAccess::Known> known{Errc::internal};
  if (stored) {
    known = co_await membership_.of_stored(route, digest, stored->size);
  } else {
    known = co_await membership_.of(route, digest);
    if (known) known = co_await membership_.with_size(route, digest, *known);
    const bool untold = !known && has_without_size(known.error().code);
    const bool odd = !known && is_odd_answer(known.error().code);
    if (untold || (odd && co_await membership_.gives_out(route, digest, fills_.told_size(route, digest)))) {
      co_return Stat{std::nullopt, access::CacheResult::miss, canonical, fills_.told_type(route, digest)};
    }
  }
  if (!known) co_return known.error();
  std::string type(manifest_type(stored ? &*stored : nullptr, known->descriptor));
  // As a GET has it, which joins the fill.
  if (!stored && type.empty()) type = fills_.told_type(route, digest);
  co_return Stat{stored ? stored->size : known->descriptor.size,
                 known->asked_upstream ? access::CacheResult::miss : result_of(*known), canonical, std::move(type),
                 stored && known->asked_upstream};
}

runtime::Task<Result<std::shared_ptr<const ReadyObject>>> BlobService::at_rest(oci::Digest digest, std::uint64_t size,
                                                                               std::string_view media_type) {
  if (std::shared_ptr<const ReadyObject> ready = objects_.find(digest); ready && ready->media_type == media_type) {
    store_.touch(digest);
    co_return ready;
  }
  std::shared_ptr<const ReadyObject> made;
  if (size <= in_memory_bytes_) {
    Result<std::string> body = co_await store_.read_small(digest, in_memory_bytes_);
    if (!body) co_return body.error();
    made = ready_blob(digest, std::move(*body), media_type);
    objects_.insert(digest, made);
  } else {
    std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest);
    if (!file) {
      Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(digest);
      if (!opened) co_return opened.error();
      file = std::move(*opened);
    }
    made = ready_blob(digest, std::move(file), media_type);
  }
  co_return made;
}

Result<std::string> BlobService::read_whole(const store::OpenBlob& blob) const {
  std::string bytes(blob.size, '\0');
  const Result<std::size_t> size =
      filesystem_.read_at(blob.file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  if (!size) return size.error();
  if (*size != bytes.size()) return Error(Errc::corrupt, "its file is shorter than it was");
  return bytes;
}

runtime::Task<Result<std::string>> BlobService::read_beginning(oci::Digest canonical, std::size_t bytes) {
  const Result<std::shared_ptr<const store::OpenBlob>> blob = co_await store_.open(canonical);
  if (!blob) co_return blob.error();
  co_return co_await runtime::offload(
      pool_,
      [this, blob = *blob, bytes]() -> Result<std::string> {
        std::string begins(std::min<std::uint64_t>(bytes, blob->size), '\0');
        const Result<std::size_t> size =
            filesystem_.read_at(blob->file, 0, std::as_writable_bytes(std::span(begins.data(), begins.size())));
        if (!size) return size.error();
        begins.resize(*size);
        return begins;
      },
      runtime::Lane::fast);
}

std::optional<ReadyHit> BlobService::peek(const access::Route& route, const oci::Digest& digest, bool head_only) {
  // Others may lie under another name.
  if (digest.algorithm() != oci::Algorithm::sha256) return std::nullopt;
  const std::optional<access::BlobAccess::Lasting> known = access_.peek_lasting(route.scope, digest);
  if (!known || !access::BlobAccess::believes(route, known->entry)) return std::nullopt;
  ReadyHit hit;
  hit.digest = digest;
  hit.until = known->until;
  hit.watches[0] = known->watch;
  hit.watches[1] = store_.watch(digest);
  const std::optional<store::Stored> stored = store_.find(digest, access::origin_name(route));
  // Of a manifest that is asked for as a blob there is more to look at.
  if (!stored || !manifest_type(&*stored, known->entry).empty()) return std::nullopt;
  if (head_only) {
    hit.object = ready_blob_head(digest, stored->size);
  } else if (stored->size <= in_memory_bytes_) {
    hit.object = objects_.find(digest);
  } else if (std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest)) {
    hit.object = ready_blob(digest, std::move(file));
  }
  const bool fits = hit.object && hit.object->size == stored->size && hit.object->media_type == or_octets({});
  return fits ? std::optional(hit) : std::nullopt;
}

runtime::Task<Result<BlobService::Opened>> BlobService::open(access::Route route, oci::Digest digest,
                                                             http::RequestedRanges asked) {
  Error last{Errc::internal};
  for (int round = 0; round < kMaxRounds; ++round) {
    const oci::Digest canonical = access_.canonical(digest);
    std::optional<store::Stored> stored = store_.find(canonical, access::origin_name(route));
    if (!stored && store_.incomplete())
      stored = co_await look_for_stored(store_, canonical, access::origin_name(route));
    if (stored) {
      const Result<access::BlobAccess::Known> known = co_await membership_.of_stored(route, digest, stored->size);
      if (!known) co_return known.error();
      Result<std::shared_ptr<const ReadyObject>> ready =
          co_await at_rest(canonical, stored->size, or_octets(manifest_type(&*stored, known->descriptor)));
      if (ready) co_return Opened{result_of(*known), std::move(*ready), nullptr, std::nullopt, canonical, nullptr};
      // Gone or broken on the disk: the store has dropped it, so the next round fetches it.
      last = ready.error();
      if (last.code != Errc::not_found) co_return last;
      continue;
    }
    if (canonical == digest && digest.algorithm() != oci::Algorithm::sha256) {
      // It may be here under another name. Asking which costs one HEAD, not asking perhaps a download.
      const Result<access::BlobAccess::Known> known = co_await membership_.of(route, digest);
      // An upstream that tells no size may give the blob all the same, which a download finds out.
      if (!known && !is_odd_answer(known.error().code) && !has_without_size(known.error().code)) {
        co_return known.error();
      }
      const std::optional<oci::Digest> claimed =
          known && known->claimed ? known->claimed : access_.claimed(route, digest);
      if (claimed && co_await names_.verify(route, digest, *claimed)) continue;
    }
    Result<std::optional<PassThrough::Opened>> passed = co_await pass_through_.open(route, digest, asked);
    if (!passed) co_return passed.error();
    if (*passed) {
      const std::uint64_t size = (*passed)->ranges->size();
      std::string type = std::move((*passed)->manifest_type);
      if (type.empty()) type = fills_.told_type(route, digest);
      co_return Opened{access::CacheResult::range,   nullptr,        nullptr, size, access_.canonical(digest),
                       std::move((*passed)->ranges), std::move(type)};
    }
    Result<Opened> opened = co_await in_flight(route, digest);
    if (opened) co_return opened;
    last = opened.error();
    if (last.code != Errc::superseded) co_return last;
  }
  co_return last;
}

runtime::Task<Result<BlobService::Opened>> BlobService::in_flight(access::Route route, oci::Digest digest) {
  if (access_.known_unknown(route.scope, digest)) {
    co_return access::said_unknown(Errc::blob_unknown, route.scope, digest.to_string());
  }
  Result<streamcache::Lookup> lookup = co_await fills_.join_or_start(route, digest);
  if (!lookup) co_return lookup.error();
  const auto waited = co_await runtime::within(lookup->stream->wait_size(), route.answer_by);
  if (!waited) {
    // The fill goes on: who comes again joins it.
    fills_.hold_until_begun(co_await runtime::asio::this_coro::executor, fills_.key(route, digest),
                            std::move(lookup->stream));
    co_return access::unanswered(route.scope, access::not_in_time(route));
  }
  const Result<std::optional<std::uint64_t>>& size = *waited;
  if (!size) {
    const Error error = size.error();
    if (!lookup->created && is_verdict(error.code)) {
      // Upstream refused the repository that started the fill. Ours may be another.
      const Result<access::BlobAccess::Known> known = co_await membership_.of(route, digest);
      if (!known && !has_without_size(known.error().code)) co_return known.error();
      co_return Error{Errc::superseded, error.message};
    }
    if (error.code == Errc::blob_unknown) co_await membership_.note_unknown(route, digest);
    if (is_outage(error.code)) co_return access::unanswered(route.scope, error);
    co_return error;
  }
  if (*size) pass_through_.has_told_size(route);
  if (!lookup->created) {
    const Result<void> let_in = co_await membership_.of_joined(route, digest, *size);
    if (!let_in) co_return let_in.error();
    // While that was asked the fill did not wait: what is not stored has gone by.
    if (lookup->stream->cut_off()) co_return Error{Errc::superseded, "the fill was over before its reader was let in"};
  }
  co_return Opened{lookup->created ? access::CacheResult::miss : access::CacheResult::join,
                   nullptr,
                   std::move(lookup->stream),
                   *size,
                   access_.canonical(digest),
                   nullptr,
                   fills_.told_type(route, digest)};
}

}  // namespace sluice::pull
