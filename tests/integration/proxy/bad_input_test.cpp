// What bad input gets: a clear error of the registry API, and nothing lost.
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

struct Bad {
  std::string target;
  unsigned status;
  std::string code;
};

const std::string kZeroes(64, '0');
const std::string kDigest = "sha256:" + kZeroes;

std::vector<Bad> bad_targets() {
  const std::string long_name(300, 'a');
  return {
      // Digests.
      {"/v2/library/app/blobs/sha256:abc", 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/latest", 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/sha256:" + std::string(64, 'G'), 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/sha256:" + std::string(64, 'A'), 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/sha256:" + std::string(63, '0'), 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/md5:" + std::string(32, '0'), 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/sha256:%00" + std::string(61, '0'), 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/sha256:..%2f..%2fetc%2fpasswd", 400, "DIGEST_INVALID"},
      {"/v2/library/app/blobs/", 400, "DIGEST_INVALID"},
      {"/v2/library/app/manifests/sha256:abc", 400, "DIGEST_INVALID"},
      {"/v2/library/app/manifests/md5:" + std::string(32, '0'), 400, "DIGEST_INVALID"},
      // Names.
      {"/v2/LIBRARY/app/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/library//app/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/../../etc/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/library/../app/manifests/latest", 400, "NAME_INVALID"},
      {"/v2/%2e%2e/%2e%2e/etc/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/library%2fapp/manifests/latest", 400, "NAME_INVALID"},
      {"/v2/library/app%00/manifests/latest", 400, "NAME_INVALID"},
      {"/v2/" + long_name + "/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/blobs/" + kDigest, 400, "NAME_INVALID"},
      {"/v2/manifests/latest", 400, "NAME_INVALID"},
      {"/v2/quay.io//manifests/latest", 400, "NAME_INVALID"},
      {"/v2/quay.io/manifests/latest", 404, "MANIFEST_UNKNOWN"},  // a repository of that name, of the default upstream
      // Tags.
      {"/v2/library/app/manifests/.latest", 404, "MANIFEST_UNKNOWN"},
      {"/v2/library/app/manifests/", 404, "MANIFEST_UNKNOWN"},
      {"/v2/library/app/manifests/" + std::string(129, 'a'), 404, "MANIFEST_UNKNOWN"},
      {"/v2/library/app/manifests/%2e%2e", 404, "MANIFEST_UNKNOWN"},
      {"/v2/library/app/manifests/la%00test", 404, "MANIFEST_UNKNOWN"},
      // Upstreams.
      {"/v2/library/app/manifests/latest?ns=evil.example", 404, "NAME_UNKNOWN"},
      {"/v2/library/app/manifests/latest?ns=..%2f..%2f", 404, "NAME_UNKNOWN"},
      {"/v2/library/app/manifests/latest?ns=a%0d%0aX-Evil:%201", 404, "NAME_UNKNOWN"},
      // Paths.
      {"/", 404, "NAME_UNKNOWN"},
      {"/v1/", 404, "NAME_UNKNOWN"},
      {"/v2/library/app", 404, "NAME_UNKNOWN"},
      {"/v2/library/app/other/latest", 404, "NAME_UNKNOWN"},
      {"/v3/library/app/manifests/latest", 404, "NAME_UNKNOWN"},
      {"/metrics", 404, "NAME_UNKNOWN"},
  };
}

std::set<std::string> files_below(const std::filesystem::path& directory) {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) out.insert(entry.path().string());
  }
  return out;
}

}  // namespace

TEST_CASE("Proxy: bad targets get an error of the API and reach no file", "[proxy]") {
  TempDirectory directory;
  {
    Fixture cache({.data = directory.path() / "data"});
    for (const Bad& bad : bad_targets()) {
      INFO(bad.target);
      const Response response = get(cache.port(), bad.target);
      CHECK(response.status == bad.status);
      CHECK(response.complete);
      CHECK(response.field("content-type") == "application/json");
      CHECK(error_code(response.body) == bad.code);
      CHECK(response.field("x-evil").empty());
      const Response told = head(cache.port(), bad.target);
      CHECK(told.status == bad.status);
    }
    CHECK(cache.hub().seen().downloads == 0);
    CHECK(cache.hub().seen().blob_heads == 0);
    CHECK(cache.quay().seen().all() == 0);
    CHECK(cache.store().entries() == 0);
    CHECK(cache.incoming_files() == 0);
  }
  for (const std::string& file : files_below(directory.path())) {
    INFO(file);
    CHECK(file.starts_with((directory.path() / "data").string() + "/"));
  }
  CHECK_FALSE(std::filesystem::exists(directory.path() / "etc"));
}

TEST_CASE("Proxy: what was refused before the cache was asked is not counted as its error", "[proxy]") {
  Fixture cache;
  CHECK(get(cache.port(), "/v2/library/app/blobs/sha256:abc").status == 400);
  CHECK(get(cache.port(), "/v2/LIBRARY/app/manifests/latest").status == 400);
  CHECK(fetch(cache.port(), "DELETE", "/v2/library/app/blobs/" + kDigest).status == 405);
  CHECK(cache.wait_for_metric("sluice_blob_requests_total", 2, {{"result", "none"}}));
  CHECK(cache.wait_for_metric("sluice_manifest_requests_total", 1, {{"result", "none"}}));
  CHECK(cache.counted_blobs("error", 0));
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "down"});
  CHECK(get(cache.port(), "/v2/library/app/blobs/" + kDigest).status == 502);
  CHECK(cache.wait_for_metric("sluice_blob_requests_total", 1, {{"result", "error"}}));
}

TEST_CASE("Proxy: writes are refused", "[proxy]") {
  Fixture cache;
  for (const std::string method : {"PUT", "POST", "PATCH", "DELETE"}) {
    for (const std::string& target : {std::string("/v2/library/app/manifests/latest"),
                                      "/v2/library/app/blobs/" + kDigest, std::string("/v2/library/app/blobs/uploads/"),
                                      std::string("/v2/library/app/blobs/uploads/1234-abcd"), std::string("/v2/")}) {
      INFO(method << ' ' << target);
      const Response response = fetch(cache.port(), method, target, {{"Content-Length", "0"}});
      CHECK(response.status == 405);
      CHECK(response.field("allow") == "GET, HEAD");
      CHECK(error_code(response.body) == "UNSUPPORTED");
    }
  }
  CHECK(get(cache.port(), "/v2/library/app/blobs/uploads/").status == 405);
  CHECK(cache.hub().seen().all() == 0);
}

TEST_CASE("Proxy: what upstream cannot give is told by status and code", "[proxy]") {
  struct Case {
    Error error;
    unsigned status;
    std::string code;
    std::string retry_after;
  };
  const Case expected =
      GENERATE(Case{{Errc::upstream_unreachable, "refused"}, 502, "UNAVAILABLE", "5"},
               Case{{Errc::upstream_failed, "500"}, 502, "UNAVAILABLE", "5"},
               Case{{Errc::upstream_protocol, "nonsense"}, 502, "UNAVAILABLE", ""},
               Case{{Errc::upstream_timeout, "slow"}, 504, "UNAVAILABLE", "5"},
               Case{{Errc::throttled, "429", 17s}, 503, "TOOMANYREQUESTS", "17"},
               Case{{Errc::throttled, "429"}, 503, "TOOMANYREQUESTS", "5"},
               Case{{Errc::overloaded, "busy"}, 503, "UNAVAILABLE", "5"},
               Case{{Errc::unauthorized, "401"}, 401, "UNAUTHORIZED", ""},
               Case{{Errc::denied, "403"}, 403, "DENIED", ""}, Case{{Errc::internal, "secret"}, 500, "UNKNOWN", ""});
  Fixture cache;
  cache.hub().fail_all(expected.error);
  for (const std::string& target :
       {"/v2/library/app/blobs/" + kDigest, std::string("/v2/library/app/manifests/latest")}) {
    INFO(target);
    const Response response = get(cache.port(), target);
    CHECK(response.status == expected.status);
    CHECK(error_code(response.body) == expected.code);
    CHECK(response.field("retry-after") == expected.retry_after);
    CHECK(response.body.find("secret") == std::string::npos);
    CHECK(head(cache.port(), target).status == expected.status);
  }
  const Response ping = get(cache.port(), "/v2/");
  CHECK(ping.status == 200);
  CHECK(ping.body == "{}");
  CHECK(ping.field("docker-distribution-api-version") == "registry/2.0");
}

TEST_CASE("Proxy: an upstream is chosen by ns, by the path, or by default", "[proxy]") {
  Fixture cache;
  const std::string hub = image_manifest(1, oci::media_type::kOciManifest);
  const std::string quay = image_manifest(2, oci::media_type::kOciManifest);
  const std::string type(oci::media_type::kOciManifest);
  cache.hub().add_manifest("library/app", "latest", hub, type);
  cache.quay().add_manifest("library/app", "latest", quay, type);
  const auto body = [&](const std::string& target) { return get(cache.port(), target).body; };
  CHECK(body("/v2/library/app/manifests/latest") == hub);
  CHECK(body("/v2/app/manifests/latest") == hub);
  CHECK(body("/v2/docker.io/app/manifests/latest") == hub);
  CHECK(body("/v2/quay.io/library/app/manifests/latest") == quay);
  CHECK(body("/v2/library/app/manifests/latest?ns=quay.io") == quay);
  CHECK(body("/v2/library/app/manifests/latest?ns=docker.io") == hub);
  const Response response = get(cache.port(), "/v2/library/app/manifests/latest?ns=quay.io");
  CHECK(response.field("oci-namespace") == "quay.io");
  CHECK(get(cache.port(), "/v2/library/app/manifests/latest").field("oci-namespace").empty());
}

TEST_CASE("Proxy: the access log has a line for each request", "[proxy]") {
  Fixture cache;
  const std::string blob = content(2000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  REQUIRE(get(cache.port(), blob_path("app", digest), {{"X-Request-Id", "my-id.1"}, {"User-Agent", "test/1"}}).status ==
          200);
  REQUIRE(cache.wait_idle());
  REQUIRE(get(cache.port(), blob_path("app", digest), {{"X-Request-Id", "two words"}}).status == 200);
  REQUIRE(get(cache.port(), "/v2/").status == 200);
  REQUIRE(get(cache.port(), "/v2/BAD/manifests/latest").status == 400);
  REQUIRE(cache.stop());
  const std::vector<std::string> lines = cache.access_log();
  REQUIRE(lines.size() == 4);
  std::set<std::string> all(lines.begin(), lines.end());
  const auto line_with = [&](const std::string& text) {
    for (const std::string& line : all) {
      if (line.find(text) != std::string::npos) return line;
    }
    return std::string();
  };
  const std::string miss = line_with("cache=miss");
  for (const std::string text : {"id=my-id.1 ", "method=GET", "upstream=docker.io", "repository=library/app",
                                 "status=200", "bytes=2000", "user_agent=test/1"}) {
    INFO(miss);
    CHECK(miss.find(text) != std::string::npos);
  }
  CHECK(miss.find("reference=" + digest.to_string()) != std::string::npos);
  const std::string hit = line_with("cache=hit");
  CHECK(hit.find("bytes=2000") != std::string::npos);
  CHECK(hit.find("two") == std::string::npos);
  CHECK(line_with("target=/v2/ ").find("status=200") != std::string::npos);
  const std::string refused = line_with("status=400");
  CHECK(refused.find("target=/v2/BAD/manifests/latest") != std::string::npos);
  CHECK(refused.find("cache=none") != std::string::npos);
}
