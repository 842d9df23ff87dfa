#include <catch2/catch.hpp>

#include "upstream/refusal.hpp"

namespace sluice::upstream {
namespace {

using std::chrono::seconds;

Errc code(int status, Wanted wanted, const std::optional<oci::RegistryError>& said = std::nullopt) {
  return refusal(status, wanted, "GET host/path", said, seconds(0)).code;
}

TEST_CASE("Refusal: what a status means", "[upstream]") {
  CHECK(code(401, Wanted::blob) == Errc::unauthorized);
  CHECK(code(403, Wanted::blob) == Errc::denied);
  CHECK(code(404, Wanted::blob) == Errc::blob_unknown);
  CHECK(code(410, Wanted::blob) == Errc::blob_unknown);
  CHECK(code(404, Wanted::manifest) == Errc::manifest_unknown);
  CHECK(code(404, Wanted::registry) == Errc::upstream_protocol);
  CHECK(code(404, Wanted::blob, oci::RegistryError{"NAME_UNKNOWN", ""}) == Errc::name_unknown);
  CHECK(code(404, Wanted::manifest, oci::RegistryError{"MANIFEST_UNKNOWN", ""}) == Errc::manifest_unknown);
  CHECK(code(416, Wanted::blob) == Errc::range_invalid);
  CHECK(code(429, Wanted::blob) == Errc::throttled);
  CHECK(code(408, Wanted::blob) == Errc::upstream_timeout);
  for (const int status : {500, 501, 502, 503, 504, 599}) CHECK(code(status, Wanted::blob) == Errc::upstream_failed);
  for (const int status : {204, 300, 304, 400, 405, 418}) CHECK(code(status, Wanted::blob) == Errc::upstream_protocol);
}

TEST_CASE("Refusal: says where, what, and for how long", "[upstream]") {
  const Error error = refusal(429, Wanted::manifest, "GET host/v2/a/manifests/b",
                              oci::RegistryError{"TOOMANYREQUESTS", "slow down"}, seconds(7));
  CHECK(error.message == "GET host/v2/a/manifests/b: 429 TOOMANYREQUESTS: slow down");
  CHECK(error.retry_after == seconds(7));
}

TEST_CASE("Refusal: which are worth another try", "[upstream]") {
  for (const int status : {408, 500, 502, 503, 504}) CHECK(is_transient(status));
  for (const int status : {200, 400, 401, 403, 404, 429, 501, 505}) CHECK_FALSE(is_transient(status));
}

TEST_CASE("Retry-After: seconds and dates", "[upstream]") {
  const auto now = std::chrono::system_clock::from_time_t(784111777);  // Sun, 06 Nov 1994 08:49:37 GMT
  CHECK(parse_retry_after("120", now) == seconds(120));
  CHECK(parse_retry_after("0", now) == seconds(0));
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now) == seconds(60));
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now) == seconds(0));
  // Years that nanoseconds since 1970 do not reach.
  CHECK(parse_retry_after("Sun, 29 Nov 202 10:00:00 GMT", now) == seconds(0));
  CHECK(parse_retry_after("Sun, 29 Nov 9999 10:00:00 GMT", now) == seconds(86400));
  CHECK(parse_retry_after("999999999", now) == seconds(86400));
  CHECK(parse_retry_after("99999999999999999999999", now) == seconds(86400));
  for (const char* text : {"", "soon", "-5", "1.5", "Sun, 06 Nov 1994"})
    CHECK(parse_retry_after(text, now) == seconds(0));
}

}  // namespace
}  // namespace sluice::upstream
