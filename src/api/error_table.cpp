#include "api/error_table.hpp"

#include <string_view>

#include <fmt/format.h>

#include "http/response_head.hpp"

namespace sluice::api {

HttpError http_error(Errc code) noexcept {
  using enum oci::ErrorCode;
  switch (code) {
    case Errc::digest_invalid:
    case Errc::digest_unsupported: return {400, digest_invalid};
    case Errc::name_invalid: return {400, name_invalid};
    // A tag outside the grammar cannot exist; the conformance suite of the distribution-spec wants it unknown.
    case Errc::tag_invalid:
    case Errc::manifest_unknown: return {404, manifest_unknown};
    case Errc::blob_unknown: return {404, blob_unknown};
    case Errc::name_unknown: return {404, name_unknown};
    case Errc::pagination_invalid: return {400, pagination_number_invalid};
    case Errc::range_invalid: return {416, range_invalid};
    case Errc::unsupported: return {405, unsupported};

    // Upstream's word, handed on.
    case Errc::unauthorized: return {401, unauthorized};
    case Errc::denied: return {403, denied};
    // Not 429: containerd repeats that at once, five times, while a 503 sends clients to their next mirror.
    case Errc::throttled: return {503, too_many_requests};

    // Upstream has answered, and with what nobody can use (RFC 9110 section 15.6.3): other bytes, broken HTTP, a
    // certificate that nobody vouches for. Asking again soon would not help, so there is no Retry-After.
    case Errc::upstream_protocol:
    case Errc::digest_mismatch:
    case Errc::size_mismatch: return {502, unavailable};
    // Handed on: a 502 would be asked for again by each cache on the way.
    case Errc::upstream_loop: return {508, unavailable};
    case Errc::manifest_invalid: return {502, manifest_invalid};

    // Upstream is out: nobody answers, too late (RFC 9110 section 15.6.5), or with a 5xx. With any of 502, 503 and 504
    // containerd and docker go on to their next mirror.
    case Errc::upstream_unreachable:
    case Errc::upstream_failed: return {502, unavailable};
    case Errc::upstream_timeout: return {504, unavailable};

    // It is this cache that cannot answer now: it is ending, has too much to do, knows that upstream is out and does
    // not ask (its breaker is open), or has the blob but cannot ask whether this repository may have it.
    case Errc::timeout:
    case Errc::cancelled:
    case Errc::shutting_down:
    case Errc::abandoned:
    case Errc::superseded:
    // A disk in trouble is no reason to stop a pull: the client's next mirror may have it.
    case Errc::no_space:
    case Errc::io:
    case Errc::upstream_down:
    case Errc::overloaded: return {503, unavailable};

    case Errc::closed:
    case Errc::exists:
    case Errc::not_found:
    case Errc::corrupt:
    case Errc::config_invalid:
    case Errc::internal: break;
  }
  return {500, unknown};
}

namespace {

// A 401 needs a challenge (RFC 9110 section 11.6.1). Where the cache is open, its own login at upstream was refused,
// and there is nothing that a client could answer: so it is one that no client knows. To Basic or Bearer docker would
// send the user's login for Docker Hub.
constexpr std::string_view kNobodysChallenge = "Upstream realm=\"the registry behind this cache\"";

// What passes by itself, so that the same may be asked again.
bool passes(Errc code) {
  return code == Errc::upstream_unreachable || code == Errc::upstream_failed || code == Errc::upstream_timeout ||
         http_error(code).status == 503;
}

// Whether the message is about our own insides, which may name files.
bool is_ours(Errc code) { return http_error(code).status == 500 || code == Errc::no_space || code == Errc::io; }

}  // namespace

ErrorAnswer loop_answer() {
  ErrorAnswer out{
      508,
      false,
      {},
      oci::error_body(oci::ErrorCode::unavailable,
                      "loop: this cache has asked itself, by way of an upstream (Via); an upstream's url, or a "
                      "mirror's, leads back here")};
  http::ResponseHead head(508);
  head.add("Content-Type", "application/json").content_length(out.body.size());
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  out.head = head.str();
  return out;
}

ErrorAnswer error_answer(const Error& error, const std::string& request_id, std::string_view allow) {
  const auto [status, code] = http_error(error.code);
  // What went wrong inside is for the log: a client can do nothing with it, and it may name files.
  const bool in_log_only = is_ours(error.code);
  const std::string message =
      in_log_only ? fmt::format("internal error; the log has more under request {}", request_id) : error.message;
  ErrorAnswer out{status, in_log_only, {}, oci::error_body(code, message)};
  http::ResponseHead head(status);
  head.add("Content-Type", "application/json").content_length(out.body.size());
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  if (status == 405) head.add("Allow", allow);
  for (const std::string& challenge : error.challenges) head.add("WWW-Authenticate", challenge);
  if (status == 401 && error.challenges.empty()) head.add("WWW-Authenticate", kNobodysChallenge);
  if (error.retry_after.count() > 0) {
    head.add("Retry-After", fmt::to_string(error.retry_after.count()));
  } else if (passes(error.code)) {
    // RFC 9110 section 10.2.3 names 503 as an example; the field may stand in any answer.
    head.add("Retry-After", "5");
  }
  out.head = head.str();
  return out;
}

}  // namespace sluice::api
