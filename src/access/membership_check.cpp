#include "access/membership_check.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "access/refusals.hpp"
#include "base/errc_kind.hpp"
#include "oci/media_type.hpp"
#include "runtime/within.hpp"
#include "store/media_types.hpp"

namespace sluice::access {
namespace {

// How often whoever waits for upstream's word looks whether a fill has told it.
constexpr std::chrono::milliseconds kLookPause{200};

// An odd answer; the last step of the question may also have been cut short by the client's time.
Error odd_or_late(const Route& route, const Error& odd) {
  if (std::chrono::steady_clock::now() < route.answer_by) return odd;
  return unanswered(route.scope, not_in_time(route));
}

// A blob that is no longer than this is held against its digest, of a longer one the beginning is looked at: what is
// sent may be a page that says why the blob is not.
constexpr std::size_t kBeginning = std::size_t{128} << 10;

// `stored`: how what is at rest begins; null where nothing is.
runtime::Task<bool> begins_right(std::unique_ptr<upstream::BlobBody> body, oci::Digest digest,
                                 std::optional<std::uint64_t> size, const std::string* stored) {
  if (size && body->size() && *body->size() != *size) co_return false;
  std::string held(kBeginning + 1, '\0');
  std::size_t end = 0;
  while (end < held.size()) {
    const Result<std::size_t> n = co_await body->read(std::as_writable_bytes(std::span(held).subspan(end)));
    if (!n) co_return false;
    if (*n == 0) co_return oci::digest_of(digest.algorithm(), std::string_view(held).substr(0, end)) == digest;
    end += *n;
  }
  co_return (!size || *size > kBeginning) && (stored == nullptr || held.starts_with(*stored));
}

runtime::Task<Result<bool>> ask_for_beginning(Route route, oci::Digest digest, std::optional<std::uint64_t> size,
                                              const std::string* stored = nullptr) {
  Result<std::unique_ptr<upstream::BlobBody>> body = co_await route.registry->open_blob(route.repository, digest, 0);
  if (!body) co_return body.error();
  co_return co_await begins_right(std::move(*body), digest, size, stored);
}

}  // namespace

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

// What may be said without asking.
std::optional<Result<BlobAccess::Known>> MembershipCheck::look(const Route& route, const oci::Digest& digest) {
  if (std::optional<BlobAccess::Known> peeked = peek(route, digest)) return std::move(*peeked);
  if (!access_.is_given(route, digest)) return std::nullopt;
  return Error{Errc::unsupported, "upstream sends the blob, and tells no size of it"};
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::ask(Route route, oci::Digest digest) {
  if (std::optional<Result<BlobAccess::Known>> seen = look(route, digest)) co_return std::move(*seen);
  using namespace boost::asio::experimental::awaitable_operators;
  auto ended = co_await (ask_anew(route, digest) || learn(route, digest));
  if (ended.index() == 0) co_return std::get<0>(std::move(ended));
  co_return std::get<1>(std::move(ended));
}

// For as long as nobody says it.
runtime::Task<Result<BlobAccess::Known>> MembershipCheck::learn(Route route, oci::Digest digest) {
  for (;;) {
    co_await runtime::sleep_until(std::chrono::steady_clock::now() + kLookPause);
    if (std::optional<Result<BlobAccess::Known>> seen = look(route, digest)) co_return std::move(*seen);
  }
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::ask_anew(Route route, oci::Digest digest) {
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
  // That a download of it could be joined (is_given) is not enough: less was looked at.
  const bool goes_on = has_it && access_.was_allowed(route, digest);
  if (!goes_on && !co_await sends_stored(route, digest, size)) {
    co_return odd_or_late(route, has_it ? sends_other(route, digest) : known.error());
  }
  BlobAccess::Known out{{digest, size, std::string(oci::media_type::kOctetStream)}, true};
  co_await access_.remember(route.scope, out.descriptor, ticket);
  co_return out;
}

runtime::Task<Result<void>> MembershipCheck::of_joined(Route route, oci::Digest digest,
                                                       std::optional<std::uint64_t> size) {
  const Revocations::Ticket ticket = access_.begin(route);
  const Result<BlobAccess::Known> known = co_await of(route, digest);
  if (known) co_return Result<void>{};
  const Error error = known.error();
  const bool has_it = has_without_size(error.code);
  if (!has_it && !is_odd_answer(error.code)) co_return error;
  if (has_it && access_.is_given(route, digest)) co_return Result<void>{};
  if (!co_await gives_out(route, digest, size)) {
    co_return odd_or_late(route, has_it ? sends_other(route, digest) : error);
  }
  // Who has to ask for the blob again need not put the question again.
  access_.remember_given(route.scope, digest, ticket);
  co_return Result<void>{};
}

runtime::Task<Result<BlobAccess::Known>> MembershipCheck::with_size(Route route, oci::Digest digest,
                                                                    BlobAccess::Known known) {
  if (known.descriptor.media_type != store::MediaTypes::kNamedByManifest) co_return known;
  Result<BlobAccess::Known> asked = co_await access_.ask_first(route, digest);
  if (!asked && is_outage(asked.error().code)) co_return unanswered(route.scope, asked.error());
  co_return asked;
}

// The connection is closed at once.
runtime::Task<bool> MembershipCheck::gives_out(Route route, oci::Digest digest, std::optional<std::uint64_t> size) {
  const Result<bool> begins = co_await in_time(route, ask_for_beginning(route, digest, size));
  co_return begins && *begins;
}

// One look for all who ask: each costs upstream a connection.
runtime::Task<bool> MembershipCheck::sends_stored(Route route, oci::Digest digest, std::uint64_t size) {
  std::string key = fmt::format("{}@{} {} {}", route.scope.str(), digest.to_string(), size, term_number(route));
  if (route.on_behalf) key.append(" ").append(route.client);
  const runtime::SingleFlight<std::string, bool>::Work work = [this, all = for_all(route), digest, size] {
    return compare_beginnings(all, digest, size);
  };
  const auto outcome = co_await wait_for(route, flights_.run(std::move(key), work));
  co_return outcome.result && *outcome.result;
}

runtime::Task<Result<bool>> MembershipCheck::compare_beginnings(Route route, oci::Digest digest, std::uint64_t size) {
  const Result<std::string> stored = co_await read_stored_(access_.canonical(digest), kBeginning);
  if (!stored) co_return stored.error();
  co_return co_await in_time(route, ask_for_beginning(route, digest, size, &*stored));
}

runtime::Task<void> MembershipCheck::note_unknown(Route route, oci::Digest digest) {
  const Result<void> forgotten = co_await access_.forget(route.scope, digest);
  static_cast<void>(forgotten);  // else it is believed until it is asked about again
  access_.remember_unknown(route, digest);
}

}  // namespace sluice::access
