// Tags, referrers and the catalog: from upstream while it answers, from what is here while it does not.
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/captured_log.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const std::string kOciIndex(oci::media_type::kOciIndex);
const std::string kTags = "/v2/library/app/tags/list";

void add_tags(FakeRegistry& registry, const std::string& repository, const std::vector<std::string>& tags) {
  for (unsigned i = 0; i < tags.size(); ++i) {
    registry.add_manifest(repository, tags[i], image_manifest(i, kOciManifest), kOciManifest);
  }
}

std::vector<std::string> tags_of(const Response& response) {
  return json::parse(response.body).at("tags").get<std::vector<std::string>>();
}

std::vector<std::string> repositories_of(const Response& response) {
  return json::parse(response.body).at("repositories").get<std::vector<std::string>>();
}

// The target of `Link: <…>; rel="next"`.
std::string next_of(const Response& response) {
  const std::string link = response.field("link");
  if (link.empty()) return {};
  CHECK(link.ends_with(">; rel=\"next\""));
  return link.substr(1, link.find('>') - 1);
}

std::string referrer(const oci::Digest& digest, const std::string& type) {
  return json{{"mediaType", kOciManifest}, {"digest", digest.to_string()}, {"size", 10}, {"artifactType", type}}.dump();
}

std::string index_of(const std::vector<std::string>& descriptors) {
  std::string out = R"({"schemaVersion":2,"mediaType":")" + kOciIndex + R"(","manifests":[)";
  for (std::size_t i = 0; i < descriptors.size(); ++i) out += (i == 0 ? "" : ",") + descriptors[i];
  return out + "]}";
}

oci::Digest some_digest(const std::string& of) { return oci::digest_of(oci::Algorithm::sha256, of); }

std::string referrers_path(const oci::Digest& subject, const std::string& query = "") {
  return "/v2/library/app/referrers/" + subject.to_string() + query;
}

}  // namespace

TEST_CASE("Lists: tags from upstream, all its pages, sorted, one question for all within the ttl", "[proxy]") {
  Fixture cache;
  add_tags(cache.hub(), "library/app", {"v10", "V2", "latest", "v1", "edge"});
  cache.hub().set_page_size(2);
  const Response response = get(cache.port(), "/v2/app/tags/list");
  CHECK(response.status == 200);
  CHECK(response.field("content-type") == "application/json");
  CHECK(response.field("link").empty());
  CHECK(json::parse(response.body)["name"] == "app");
  CHECK(tags_of(response) == std::vector<std::string>{"edge", "latest", "v1", "v10", "V2"});
  CHECK(cache.hub().seen().lists.size() == 3);

  CHECK(tags_of(get(cache.port(), "/v2/docker.io/app/tags/list")).size() == 5);
  const Response to_head = head(cache.port(), kTags);
  CHECK(to_head.status == 200);
  CHECK(to_head.field("content-length") != "0");
  CHECK(cache.hub().seen().lists.size() == 3);
  cache.clock().advance(61s);
  CHECK(get(cache.port(), kTags).status == 200);
  CHECK(cache.hub().seen().lists.size() == 6);
  CHECK(cache.wait_for_metric("sluice_list_requests_total", 2, {{"result", "miss"}}));
  CHECK(cache.wait_for_metric("sluice_list_requests_total", 2, {{"result", "hit"}}));
}

TEST_CASE("Lists: tags in pages", "[proxy]") {
  Fixture cache;
  add_tags(cache.quay(), "team/app", {"a", "b", "c", "d", "e"});
  const std::string way = GENERATE("/v2/quay.io/team/app/tags/list?n=2", "/v2/team/app/tags/list?n=2&ns=quay.io");
  std::vector<std::string> seen;
  std::string target = way;
  std::size_t pages = 0;
  while (!target.empty() && ++pages < 10) {
    const Response response = get(cache.port(), target);
    REQUIRE(response.status == 200);
    for (std::string& tag : tags_of(response)) seen.push_back(std::move(tag));
    target = next_of(response);
  }
  CHECK(pages == 3);
  CHECK(seen == std::vector<std::string>{"a", "b", "c", "d", "e"});
  const std::string list = way.substr(0, way.find('?')) + (way.find("ns=") == std::string::npos ? "?" : "?ns=quay.io&");
  CHECK(tags_of(get(cache.port(), list + "last=c")) == std::vector<std::string>{"d", "e"});
  const Response none = get(cache.port(), list + "n=0");
  CHECK(tags_of(none).empty());
  CHECK(none.field("link").empty());
  for (const char* bad : {"n=x", "n=-1", "n="}) {
    const Response refused = get(cache.port(), list + bad);
    CHECK(refused.status == 400);
    CHECK(error_code(refused.body) == "PAGINATION_NUMBER_INVALID");
  }
}

TEST_CASE("Lists: fifty clients, one question", "[proxy]") {
  Fixture cache;
  add_tags(cache.hub(), "library/app", {"a", "b"});
  cache.hub().hold_questions();
  std::vector<Response> responses(20);
  std::vector<std::thread> clients;
  for (Response& response : responses) clients.emplace_back([&] { response = get(cache.port(), kTags); });
  const bool all_ask = cache.wait_for_metric("sluice_http_requests_total", 20);
  cache.hub().let_questions();
  for (std::thread& client : clients) client.join();
  CHECK(all_ask);
  for (const Response& response : responses) CHECK(tags_of(response).size() == 2);
  CHECK(cache.hub().seen().lists.size() == 1);
}

TEST_CASE("Lists: while upstream is out the tags that are known here", "[proxy]") {
  const Errc outage =
      GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed, Errc::throttled);
  Fixture cache;
  add_tags(cache.hub(), "library/app", {"v1", "v2", "v3"});
  REQUIRE(get(cache.port(), manifest_path("library/app", "v3")).status == 200);
  REQUIRE(get(cache.port(), manifest_path("library/app", "v1")).status == 200);
  cache.hub().fail_all(Error{outage, "out"});
  const Response response = get(cache.port(), kTags);
  CHECK(response.status == 200);
  CHECK(response.field("warning").starts_with("110 "));
  CHECK(tags_of(response) == std::vector<std::string>{"v1", "v3"});
  CHECK(cache.wait_for_metric("sluice_list_requests_total", 1, {{"result", "stale"}}));
  // Nothing is known of this one.
  CHECK(get(cache.port(), "/v2/library/other/tags/list").status >= 500);
}

TEST_CASE("Lists: tags that are not served any more are not listed", "[proxy]") {
  Fixture cache({.stale_for = 10min});
  add_tags(cache.hub(), "library/app", {"v1", "v2"});
  REQUIRE(get(cache.port(), manifest_path("library/app", "v1")).status == 200);
  cache.clock().advance(6min);
  REQUIRE(get(cache.port(), manifest_path("library/app", "v2")).status == 200);
  cache.hub().fail_all(Error{Errc::upstream_failed, "out"});
  cache.clock().advance(5min);
  CHECK(tags_of(get(cache.port(), kTags)) == std::vector<std::string>{"v1", "v2"});
  cache.clock().advance(1s);
  CHECK(tags_of(get(cache.port(), kTags)) == std::vector<std::string>{"v2"});
  cache.clock().advance(6min);
  CHECK(get(cache.port(), kTags).status >= 500);
}

TEST_CASE("Lists: upstream's refusals are answers", "[proxy]") {
  Fixture cache;
  add_tags(cache.hub(), "library/app", {"v1"});
  REQUIRE(get(cache.port(), manifest_path("library/app", "v1")).status == 200);
  SECTION("401 and 403") {
    cache.hub().refuse("library/app", Error{Errc::unauthorized, "no"});
    CHECK(get(cache.port(), kTags).status == 401);
    cache.hub().refuse("library/app", Error{Errc::denied, "no"});
    CHECK(get(cache.port(), kTags).status == 403);
  }
  SECTION("404, for a time") {
    for (int round = 0; round < 3; ++round) {
      const Response response = get(cache.port(), "/v2/library/nothing/tags/list");
      CHECK(response.status == 404);
      CHECK(error_code(response.body) == "NAME_UNKNOWN");
    }
    CHECK(cache.hub().seen().lists.size() == 1);
  }
}

namespace {

using Answered = std::optional<Result<upstream::ListAnswer>>;

upstream::ListAnswer page_of(const std::vector<std::string>& tags, std::string next = {}) {
  return {json{{"name", "x"}, {"tags", tags}}.dump(), "application/json", std::move(next)};
}

}  // namespace

TEST_CASE("Lists: a page that is no good is asked for without a number", "[proxy]") {
  const Errc refusal = GENERATE(Errc::upstream_protocol, Errc::upstream_failed, Errc::manifest_unknown);
  const bool at_once = GENERATE(true, false);
  Fixture cache;
  cache.hub().script_lists([&](const std::string& what) -> Answered {
    if (what == "tags/list") return page_of({"a", "b", "c"});
    if (what == "tags/list?n=1000" && !at_once) return page_of({"a"}, "/page/1");
    return Error{refusal, "n is not known here"};
  });
  const Response response = get(cache.port(), kTags);
  CHECK(response.status == 200);
  CHECK(response.field("warning").empty());
  CHECK(tags_of(response) == std::vector<std::string>{"a", "b", "c"});
  const std::size_t asked = cache.hub().seen().lists.size();
  CHECK(asked == (at_once ? 2 : 3));
  // It is kept as any other.
  CHECK(tags_of(get(cache.port(), kTags)).size() == 3);
  CHECK(cache.hub().seen().lists.size() == asked);
}

TEST_CASE("Lists: what came before a broken page is given, for a short time", "[proxy]") {
  const auto breaks = GENERATE(0, 1, 2, 3);
  Fixture cache;
  cache.hub().script_lists([&](const std::string& what) -> Answered {
    if (what == "tags/list?n=1000") return page_of({"b", "a"}, "/page/2");
    if (what == "tags/list") return Error{Errc::upstream_protocol, "400"};
    upstream::ListAnswer lost = page_of({"c"});
    lost.next_is_unusable = true;
    switch (breaks) {
      case 0: return Error{Errc::throttled, "429"};
      case 1: return Error{Errc::upstream_protocol, "nonsense"};
      case 2: return upstream::ListAnswer{"<html>", "application/json", ""};
      default: return lost;
    }
  });
  const std::vector<std::string> came =
      breaks == 3 ? std::vector<std::string>{"a", "b", "c"} : std::vector<std::string>{"a", "b"};
  const Response response = get(cache.port(), kTags);
  CHECK(response.status == 200);
  CHECK(response.field("warning").starts_with("110 "));
  CHECK(tags_of(response) == came);
  // Not asked for again at once, but soon.
  const std::size_t asked = cache.hub().seen().lists.size();
  const Response again = get(cache.port(), kTags);
  CHECK(again.field("warning").starts_with("110 "));
  CHECK(tags_of(again) == came);
  CHECK(cache.hub().seen().lists.size() == asked);
  cache.hub().script_lists([](const std::string&) -> Answered { return page_of({"a", "b", "c", "d"}); });
  cache.clock().advance(6s);
  const Response whole = get(cache.port(), kTags);
  CHECK(whole.field("warning").empty());
  CHECK(tags_of(whole).size() == 4);
}

TEST_CASE("Lists: pages that lead to one another end", "[proxy]") {
  Fixture cache;
  cache.hub().script_lists([](const std::string& what) -> Answered {
    if (what == "/page/1") return page_of({"b"}, "/page/2");
    return page_of({"a"}, "/page/1");
  });
  CHECK(tags_of(get(cache.port(), kTags)) == std::vector<std::string>{"a", "b"});
  CHECK(cache.hub().seen().lists.size() == 3);
}

TEST_CASE("Lists: a list of more pages than are asked for is refused, and not walked again soon", "[proxy]") {
  Fixture cache;
  cache.hub().script_lists([page = 0](const std::string&) mutable -> Answered {
    return page_of({"t" + std::to_string(page)}, "/page/" + std::to_string(++page));
  });
  for (int i = 0; i < 3; ++i) {
    const Response refused = get(cache.port(), kTags);
    CHECK(refused.status == 502);
    CHECK(refused.body.find("more tags than can be listed") != std::string::npos);
  }
  CHECK(cache.hub().seen().lists.size() == 1000);
}

TEST_CASE("Lists: a long list is cut into pages", "[proxy]") {
  Fixture cache;
  std::vector<std::string> tags;
  for (int i = 0; i < 25'000; ++i) tags.push_back("v" + std::to_string(100'000 + i));
  cache.hub().script_lists([&](const std::string&) -> Answered { return page_of(tags); });
  std::vector<std::string> seen;
  for (std::string target = kTags; !target.empty();) {
    const Response response = get(cache.port(), target);
    REQUIRE(response.status == 200);
    REQUIRE(response.complete);
    for (std::string& tag : tags_of(response)) seen.push_back(std::move(tag));
    target = next_of(response);
  }
  CHECK(seen == tags);
  CHECK(cache.hub().seen().lists.size() == 1);
  const Response told = head(cache.port(), kTags);
  CHECK(told.field("content-length") == std::to_string(get(cache.port(), kTags).body.size()));
}

TEST_CASE("Lists: what upstream sends is no list of tags", "[proxy]") {
  Fixture cache;
  cache.hub().set_tags_body(GENERATE("<html>log in</html>", "{}", R"({"tags":[1]})", ""));
  const Response response = get(cache.port(), kTags);
  CHECK(response.status >= 500);
  CHECK(error_code(response.body) == "UNAVAILABLE");
  CHECK(response.body.find("docker.io: its list of tags") != std::string::npos);
}

TEST_CASE("Lists: names of tags that are none are not passed on", "[proxy]") {
  Fixture cache;
  cache.hub().set_tags_body(R"({"tags":["ok","../../etc","a\r\nb","<script>"]})");
  CHECK(tags_of(get(cache.port(), kTags)) == std::vector<std::string>{"ok"});
}

TEST_CASE("Lists: the catalog has what a client can pull, by the name it pulls it by", "[proxy]") {
  Fixture cache({.host_pattern = "*.cache.example"});
  add_tags(cache.hub(), "library/app", {"v1"});
  add_tags(cache.hub(), "team/app", {"v1"});
  add_tags(cache.quay(), "team/app", {"v1"});
  CHECK(repositories_of(get(cache.port(), "/v2/_catalog")).empty());
  for (const char* path : {"/v2/app/manifests/v1", "/v2/team/app/manifests/v1", "/v2/quay.io/team/app/manifests/v1"}) {
    REQUIRE(get(cache.port(), path).status == 200);
  }
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "out"});
  cache.quay().fail_all(Error{Errc::upstream_unreachable, "out"});
  const Response response = get(cache.port(), "/v2/_catalog");
  CHECK(response.status == 200);
  CHECK(response.field("content-type") == "application/json");
  CHECK(repositories_of(response) == std::vector<std::string>{"library/app", "quay.io/team/app", "team/app"});
  for (const std::string& name : repositories_of(response)) {
    CHECK(get(cache.port(), manifest_path(name, "v1")).status == 200);
  }
  const Response first = get(cache.port(), "/v2/_catalog?n=1");
  CHECK(repositories_of(first) == std::vector<std::string>{"library/app"});
  CHECK(next_of(first) == "/v2/_catalog?n=1&last=library%2Fapp");
  CHECK(repositories_of(get(cache.port(), next_of(first))) == std::vector<std::string>{"quay.io/team/app"});
  CHECK(repositories_of(get(cache.port(), "/v2/_catalog?ns=quay.io")) == std::vector<std::string>{"team/app"});
  const Response named = get(cache.port(), "/v2/_catalog", {{"Host", "quay.io.cache.example"}});
  CHECK(repositories_of(named) == std::vector<std::string>{"team/app"});
  CHECK(get(cache.port(), "/v2/_catalog?ns=evil.test").status == 404);
  CHECK(get(cache.port(), "/v2/_catalog?n=x").status == 400);
  CHECK(cache.hub().seen().lists.empty());
  // One that is gone is gone at once, and another one is there at once.
  CHECK(cache.store().catalog().forget_upstream("quay.io"));
  CHECK(repositories_of(get(cache.port(), "/v2/_catalog?ns=quay.io")).empty());
  cache.hub().fail_all(std::nullopt);
  cache.hub().add_manifest("library/another", "v1", image_manifest(9, kOciManifest), kOciManifest);
  REQUIRE(get(cache.port(), manifest_path("library/another", "v1")).status == 200);
  const std::vector<std::string> now = repositories_of(get(cache.port(), "/v2/_catalog"));
  CHECK(std::count(now.begin(), now.end(), "library/another") == 1);
}

TEST_CASE("Referrers: upstream's answer, filtered, kept, and stale while it is out", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  const std::string signature = referrer(some_digest("a"), "a/signature");
  const std::string sbom = referrer(some_digest("b"), "a/sbom");
  cache.hub().set_referrers("library/app", subject, index_of({signature, sbom}));
  const Response all = get(cache.port(), referrers_path(subject));
  CHECK(all.status == 200);
  CHECK(all.field("content-type") == kOciIndex);
  CHECK(all.field("oci-filters-applied").empty());
  CHECK(json::parse(all.body)["manifests"].size() == 2);
  const Response some = get(cache.port(), referrers_path(subject, "?artifactType=a%2Fsbom"));
  CHECK(some.field("oci-filters-applied") == "artifactType");
  CHECK(json::parse(some.body)["manifests"] == json::parse("[" + sbom + "]"));
  CHECK(cache.hub().seen().lists.size() == 1);

  // Something new is seen when the ttl is over.
  cache.hub().set_referrers("library/app", subject, index_of({signature}));
  cache.clock().advance(61s);
  CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].size() == 1);
  cache.clock().advance(61s);
  cache.hub().fail_all(Error{Errc::upstream_failed, "out"});
  const Response stale = get(cache.port(), referrers_path(subject));
  CHECK(stale.status == 200);
  CHECK(stale.field("warning").starts_with("110 "));
  CHECK(json::parse(stale.body)["manifests"] == json::parse("[" + signature + "]"));
  CHECK(get(cache.port(), referrers_path(some_digest("never asked"))).status >= 500);
  // The record is no tag, and what it points at is no manifest of the repository.
  cache.hub().fail_all(std::nullopt);
  const std::string tag = "referrers%2F" + subject.to_string();
  CHECK(get(cache.port(), manifest_path("library/app", tag)).status >= 400);
}

TEST_CASE("Referrers: the stale answer is not served longer than wanted", "[proxy]") {
  Fixture cache({.stale_for = 10min});
  const oci::Digest subject = some_digest("subject");
  cache.hub().set_referrers("library/app", subject, index_of({referrer(some_digest("a"), "x/y")}));
  REQUIRE(get(cache.port(), referrers_path(subject)).status == 200);
  cache.hub().fail_all(Error{Errc::upstream_failed, "out"});
  cache.clock().advance(11min);
  CHECK(get(cache.port(), referrers_path(subject)).status == 200);
  cache.clock().advance(1s);
  CHECK(get(cache.port(), referrers_path(subject)).status >= 500);
}

TEST_CASE("Referrers: nothing refers to it", "[proxy]") {
  Fixture cache;
  const bool has_api = GENERATE(true, false);
  if (has_api) cache.hub().set_referrers("library/app", some_digest("other"), index_of({}));
  const Response response = get(cache.port(), referrers_path(some_digest("subject")));
  CHECK(response.status == 200);
  CHECK(response.field("content-type") == kOciIndex);
  CHECK(json::parse(response.body)["manifests"].empty());
}

TEST_CASE("Referrers: what nothing refers to leaves nothing behind", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  cache.hub().set_referrers("library/app", subject, index_of({}));
  for (int round = 0; round < 3; ++round) {
    const Response response = get(cache.port(), referrers_path(subject));
    CHECK(response.status == 200);
    CHECK(json::parse(response.body)["manifests"].empty());
  }
  CHECK(cache.hub().seen().lists.size() == 1);
  CHECK(cache.store().catalog().tags(*descriptors::Scope::repository("docker.io/library/app")).empty());
  // A signature that comes later is seen when the time is over, and so is its end.
  const std::string signature = referrer(some_digest("a"), "a/signature");
  for (const bool is_signed : {true, false}) {
    cache.hub().set_referrers("library/app", subject, is_signed ? index_of({signature}) : index_of({}));
    cache.clock().advance(61s);
    CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].size() == (is_signed ? 1 : 0));
  }
  cache.clock().advance(61s);
  cache.hub().fail_all(Error{Errc::upstream_failed, "out"});
  CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].empty());
}

namespace {

// A manifest that refers to `subject`, in the repository; its descriptor.
std::string add_referrer(FakeRegistry& registry, const oci::Digest& subject, const std::string& type) {
  const json manifest{{"schemaVersion", 2},      {"mediaType", kOciManifest},
                      {"artifactType", type},    {"config", json::parse(referrer(some_digest("config"), ""))},
                      {"layers", json::array()}, {"subject", json::parse(referrer(subject, ""))}};
  return referrer(registry.add_manifest("library/app", "", manifest.dump(), kOciManifest), type);
}

std::string tag_of(const oci::Digest& subject) { return "sha256-" + subject.to_string().substr(7); }

}  // namespace

TEST_CASE("Referrers: an upstream without the API has the tag", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  const std::string signature = add_referrer(cache.hub(), subject, "a/signature");
  cache.hub().add_manifest("library/app", tag_of(subject), index_of({signature}), kOciIndex);
  for (int round = 0; round < 3; ++round) {
    const Response response = get(cache.port(), referrers_path(subject, "?artifactType=a/signature"));
    CHECK(response.status == 200);
    CHECK(response.field("oci-filters-applied") == "artifactType");
    CHECK(json::parse(response.body)["manifests"] == json::parse("[" + signature + "]"));
  }
  // The API was asked for once, the tag once, and what it names once.
  CHECK(cache.hub().seen().lists.size() == 1);
  CHECK(cache.hub().seen().manifests() == 2);
  cache.clock().advance(11min);
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "out"});
  const Response stale = get(cache.port(), referrers_path(subject));
  CHECK(stale.status == 200);
  CHECK(stale.field("warning").starts_with("110 "));
  CHECK(json::parse(stale.body)["manifests"].size() == 1);
}

TEST_CASE("Referrers: under the tag only those count whose subject it is", "[proxy]") {
  Fixture cache;
  const std::string platform = image_manifest(1, kOciManifest);
  const oci::Digest image = cache.hub().add_manifest("library/app", "", platform, kOciManifest);
  const std::string index = index_manifest(image, platform.size());
  const oci::Digest subject = some_digest("subject");
  SECTION("the image itself stands there") {
    const oci::Digest digest = cache.hub().add_manifest("library/app", "v1", index, kOciIndex);
    cache.hub().add_manifest("library/app", tag_of(digest), index, kOciIndex);
    const Response response = get(cache.port(), referrers_path(digest));
    CHECK(response.status == 200);
    CHECK(json::parse(response.body)["manifests"].empty());
  }
  SECTION("others stand beside it") {
    const std::string mine = add_referrer(cache.hub(), subject, "a/b");
    const std::string others = add_referrer(cache.hub(), some_digest("another"), "a/c");
    const std::string gone = referrer(some_digest("gone"), "a/d");
    const std::string child = json{{"mediaType", kOciManifest}, {"digest", image.to_string()}, {"size", 1}}.dump();
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({others, mine, gone, child}), kOciIndex);
    CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"] == json::parse("[" + mine + "]"));
  }
  SECTION("of types that nobody parses") {
    std::vector<std::string> listed;
    for (const std::string type :
         {"application/vnd.oci.artifact.manifest.v1+json", "application/vnd.cncf.oras.artifact.manifest.v1+json",
          "application/vnd.example.thing.v3+json"}) {
      const json manifest{
          {"mediaType", type}, {"blobs", json::array()}, {"subject", json::parse(referrer(subject, ""))}};
      listed.push_back(referrer(cache.hub().add_manifest("library/app", "", manifest.dump(), type), "a/b"));
    }
    cache.hub().add_manifest("library/app", tag_of(subject), index_of(listed), kOciIndex);
    CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].size() == 3);
  }
}

TEST_CASE("Referrers: an outage is never an empty list", "[proxy]") {
  const Errc outage =
      GENERATE(Errc::throttled, Errc::upstream_failed, Errc::upstream_timeout, Errc::upstream_unreachable);
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  SECTION("nothing is known of it") {
    cache.hub().fail_all(Error{outage, "out"});
    CHECK(get(cache.port(), referrers_path(subject)).status == 503);
    for (const char* suffix : {"", ".sig", ".att", ".sbom"}) {
      INFO(suffix);
      CHECK(get(cache.port(), manifest_path("library/app", tag_of(subject) + suffix)).status == 503);
    }
  }
  SECTION("there is no API, and the tag cannot be asked for") {
    cache.hub().script_lists([](const std::string&) -> Answered { return Error{Errc::manifest_unknown, "404"}; });
    // Whether there is no API is asked again; only then is the tag out.
    cache.hub().add_manifest("library/app", "v1", image_manifest(1, kOciManifest), kOciManifest);
    CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].empty());
    cache.hub().fail_all(Error{outage, "out"});
    CHECK(get(cache.port(), referrers_path(some_digest("another"))).status == 503);
  }
  SECTION("what the tag names cannot be asked for") {
    const std::string mine = add_referrer(cache.hub(), subject, "a/b");
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({mine}), kOciIndex);
    REQUIRE(get(cache.port(), manifest_path("library/app", tag_of(subject))).status == 200);
    cache.hub().fail_all(Error{outage, "out"});
    CHECK(get(cache.port(), referrers_path(subject)).status == 503);
  }
  SECTION("the tag is known, and names none") {
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({}), kOciIndex);
    REQUIRE(get(cache.port(), manifest_path("library/app", tag_of(subject))).status == 200);
    cache.hub().script_lists([outage](const std::string&) -> Answered { return Error{outage, "out"}; });
    CHECK(get(cache.port(), referrers_path(subject)).status == 503);
  }
  SECTION("a page of the list") {
    cache.hub().script_lists([&](const std::string& what) -> Answered {
      if (what.starts_with("/page")) return Error{outage, "out"};
      return upstream::ListAnswer{index_of({referrer(some_digest("a"), "x/y")}), kOciIndex, "/page/2"};
    });
    CHECK(get(cache.port(), referrers_path(subject)).status == 503);
  }
  SECTION("it was known") {
    cache.hub().set_referrers("library/app", subject, index_of({referrer(some_digest("a"), "x/y")}));
    REQUIRE(get(cache.port(), referrers_path(subject)).status == 200);
    cache.clock().advance(61s);
    cache.hub().fail_all(Error{outage, "out"});
    const Response stale = get(cache.port(), referrers_path(subject));
    CHECK(stale.status == 200);
    CHECK(json::parse(stale.body)["manifests"].size() == 1);
  }
}

TEST_CASE("Referrers: nonsense is never an empty list", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  const std::string nonsense = GENERATE(as<std::string>(), R"({"errors":[]})", "{}", "[]", R"({"manifests":{}})", "x");
  INFO(nonsense);
  bool is_page = GENERATE(false, true);  // an error of the client, as for a web page
  const auto say = [&] {
    cache.hub().script_lists([nonsense, is_page](const std::string&) -> Answered {
      if (is_page) return Error{Errc::upstream_protocol, "a web page"};
      return upstream::ListAnswer{nonsense, "application/json", {}};
    });
  };
  SECTION("nothing is known of it") {
    say();
    for (int i = 0; i < 2; ++i) {
      const Response response = get(cache.port(), referrers_path(subject));
      CHECK(response.status == 503);
      CHECK(response.body.find("docker.io") != std::string::npos);
    }
  }
  SECTION("the tag is something else") {
    say();
    cache.hub().add_manifest("library/app", tag_of(subject), image_manifest(1, kOciManifest), kOciManifest);
    CHECK(get(cache.port(), referrers_path(subject)).status == 503);
  }
  SECTION("the tag has some") {
    say();
    const std::string mine = add_referrer(cache.hub(), subject, "a/b");
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({mine}), kOciIndex);
    const Response response = get(cache.port(), referrers_path(subject));
    CHECK(response.status == 200);
    CHECK(json::parse(response.body)["manifests"].size() == 1);
  }
  SECTION("it was known") {
    cache.hub().set_referrers("library/app", subject, index_of({referrer(some_digest("a"), "x/y")}));
    REQUIRE(get(cache.port(), referrers_path(subject)).status == 200);
    say();
    cache.clock().advance(61s);
    const Response stale = get(cache.port(), referrers_path(subject));
    CHECK(stale.status == 200);
    CHECK(json::parse(stale.body)["manifests"].size() == 1);
  }
}

TEST_CASE("Referrers: one bad entry does not hide the others", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  const std::string mine = add_referrer(cache.hub(), subject, "a/b");
  const std::string other = some_digest("other").to_string();
  // And whether a client that may ask the API sees it: what it refers to cannot be told by the tag.
  const auto [entry, is_kept] = GENERATE_COPY(table<std::string, bool>(
      {{"null", false},
       {"[5]", false},
       {R"({"mediaType":"a/b","size":1})", false},
       {R"({"mediaType":"a/b","digest":"sha256:zz","size":1})", false},
       {R"({"digest":"md5:00112233445566778899aabbccddeeff","mediaType":"a/b","size":1})", true},
       {R"({"digest":")" + other + R"(","mediaType":"a/b"})", true},
       {R"({"digest":")" + other + R"(","mediaType":"a/b","size":-1})", true},
       {R"({"digest":")" + other + R"(","mediaType":"a/b","size":1.0})", true},
       {R"({"digest":")" + other + R"(","mediaType":null,"size":1})", true},
       {R"({"annotations":{"by":"Ren)"
        "\xe9"
        R"("},"digest":")" +
            other + R"("})",
        true}}));
  INFO(entry);
  const std::string listed = index_of({entry, mine});
  const auto count = [](const std::string& body) {
    std::string ascii = body;
    std::replace(ascii.begin(), ascii.end(), '\xe9', '?');
    return json::parse(ascii)["manifests"].size();
  };
  SECTION("the API has it") {
    cache.hub().set_referrers("library/app", subject, listed);
    for (int i = 0; i < 2; ++i) {
      const Response response = get(cache.port(), referrers_path(subject));
      CHECK(response.status == 200);
      CHECK(response.body.find(mine) != std::string::npos);
      CHECK((response.body.find(entry) != std::string::npos) == is_kept);
      CHECK(count(response.body) == (is_kept ? 2 : 1));
      cache.clock().advance(i == 0 ? 0s : 61s);
    }
  }
  SECTION("the tag has it") {
    cache.hub().add_manifest("library/app", tag_of(subject), listed, kOciIndex);
    for (int i = 0; i < 2; ++i) {
      const Response response = get(cache.port(), referrers_path(subject));
      CHECK(response.status == 200);
      CHECK(json::parse(response.body)["manifests"] == json::parse("[" + mine + "]"));
    }
  }
}

TEST_CASE("Referrers: a bad entry is told once", "[proxy]") {
  CapturedLog log;
  Fixture cache;
  cache.hub().set_referrers("library/app", some_digest("a"), index_of({"null", referrer(some_digest("x"), "a/b")}));
  cache.hub().set_referrers("library/app", some_digest("b"), index_of({"5", referrer(some_digest("x"), "a/b")}));
  for (const char* subject : {"a", "b"}) CHECK(get(cache.port(), referrers_path(some_digest(subject))).status == 200);
  CHECK(log.lines_with("without a valid digest") == 1);
}

TEST_CASE("Referrers: half an index under the tag is no empty list", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  const std::string mine = add_referrer(cache.hub(), subject, "a/b");
  const std::string whole = index_of({mine});
  const std::string half = whole.substr(0, whole.size() - 5);
  SECTION("nothing is known of it") {
    cache.hub().add_manifest("library/app", tag_of(subject), half, kOciIndex);
    for (int i = 0; i < 2; ++i) {
      const Response response = get(cache.port(), referrers_path(subject));
      CHECK(response.status == 503);
      CHECK(response.body.find("docker.io") != std::string::npos);
    }
  }
  SECTION("it was known") {
    cache.hub().add_manifest("library/app", tag_of(subject), whole, kOciIndex);
    REQUIRE(get(cache.port(), referrers_path(subject)).status == 200);
    cache.hub().add_manifest("library/app", tag_of(subject), half, kOciIndex);
    cache.clock().advance(61s);
    const Response stale = get(cache.port(), referrers_path(subject));
    CHECK(stale.status == 200);
    CHECK(stale.field("warning").starts_with("110 "));
    CHECK(json::parse(stale.body)["manifests"].size() == 1);
  }
}

TEST_CASE("Referrers: of what upstream does not have a bounded number is asked for, and not again soon", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  std::vector<std::string> listed;
  for (int i = 0; i < 120; ++i) listed.push_back(referrer(some_digest("gone" + std::to_string(i)), "a/b"));
  listed.push_back(add_referrer(cache.hub(), subject, "a/b"));
  cache.hub().add_manifest("library/app", tag_of(subject), index_of(listed), kOciIndex);
  const Response part = get(cache.port(), referrers_path(subject));
  CHECK(part.status == 503);
  CHECK_FALSE(part.field("retry-after").empty());
  CHECK(part.body.find("docker.io") != std::string::npos);
  CHECK(cache.hub().seen().manifests() == 1 + 100);
  for (int i = 0; i < 3; ++i) {
    const Response rest = get(cache.port(), referrers_path(subject));
    CHECK(rest.status == 200);
    CHECK(json::parse(rest.body)["manifests"].size() == 1);
    CHECK(cache.hub().seen().manifests() == 1 + 121);
  }
  // Again after descriptors.negative_ttl, then after twice as long.
  const auto asked_after = [&](std::chrono::milliseconds pause) {
    cache.clock().advance(pause);
    const std::size_t before = cache.hub().seen().manifests();
    static_cast<void>(get(cache.port(), referrers_path(subject)));
    static_cast<void>(get(cache.port(), referrers_path(subject)));
    return cache.hub().seen().manifests() - before;
  };
  CHECK(asked_after(4s) == 0);
  CHECK(asked_after(2s) == 120);
  CHECK(asked_after(6s) == 0);
  CHECK(asked_after(5s) == 120);
  // What is there is not lost in an outage for what is not.
  cache.clock().advance(61s);
  cache.hub().fail_all(Error{GENERATE(Errc::throttled, Errc::upstream_failed), "out"});
  const Response stale = get(cache.port(), referrers_path(subject));
  CHECK(stale.status == 200);
  CHECK(stale.field("warning").starts_with("110 "));
  CHECK(json::parse(stale.body)["manifests"].size() == 1);
}

TEST_CASE("Referrers: an API that is not there in any way leaves the tag", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  cache.hub().script_lists([](const std::string&) -> Answered { return Error{Errc::unsupported, "501"}; });
  CHECK(json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].empty());
  const oci::Digest other = some_digest("other");
  const std::string mine = add_referrer(cache.hub(), other, "a/b");
  cache.hub().add_manifest("library/app", tag_of(other), index_of({mine}), kOciIndex);
  CHECK(json::parse(get(cache.port(), referrers_path(other)).body)["manifests"].size() == 1);
  // That is remembered.
  CHECK(cache.hub().seen().lists.size() == 1);
}

TEST_CASE("Referrers: an empty list lives for seconds, and is kept for outages", "[proxy]") {
  const bool has_api = GENERATE(true, false);
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest subject = cache.hub().add_manifest("library/app", "v1", manifest, kOciManifest);
  if (has_api) cache.hub().set_referrers("library/app", subject, index_of({}));
  REQUIRE(get(cache.port(), manifest_path("library/app", "v1")).status == 200);
  const auto listed = [&] { return get(cache.port(), referrers_path(subject)); };
  CHECK(json::parse(listed().body)["manifests"].empty());
  const std::size_t asked = cache.hub().seen().all();
  CHECK(json::parse(listed().body)["manifests"].empty());
  CHECK(cache.hub().seen().all() == asked);
  // Kept for outages, as long as others are.
  cache.clock().advance(6s);
  cache.hub().fail_all(Error{Errc::throttled, "429"});
  const Response stale = listed();
  CHECK(stale.status == 200);
  CHECK(stale.field("warning").starts_with("110 "));
  CHECK(json::parse(stale.body)["manifests"].empty());
  // The repository is known to have it, so that it is kept beyond a restart.
  const auto scope = *descriptors::Scope::repository("docker.io/library/app");
  CHECK(cache.store().catalog().tag(scope, "referrers/" + subject.to_string(), oci::kAllManifests));
  cache.hub().fail_all(std::nullopt);
  // Signed meanwhile: seen after seconds, not after a tag's minute.
  const std::string signature = add_referrer(cache.hub(), subject, "a/signature");
  if (has_api) {
    cache.hub().set_referrers("library/app", subject, index_of({signature}));
  } else {
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({signature}), kOciIndex);
  }
  cache.clock().advance(6s);
  CHECK(json::parse(listed().body)["manifests"].size() == 1);
  // And the empty one does not come back.
  cache.clock().advance(61s);
  cache.hub().fail_all(Error{Errc::upstream_failed, "out"});
  CHECK(json::parse(listed().body)["manifests"].size() == 1);
}

TEST_CASE("Referrers: that a tag names none is believed for seconds, as an empty list is", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest subject = cache.hub().add_manifest("library/app", "v1", manifest, kOciManifest);
  const std::string others = add_referrer(cache.hub(), some_digest("another"), "a/c");
  SECTION("the image itself stands there") {
    cache.hub().add_manifest("library/app", tag_of(subject), manifest, kOciManifest);
  }
  SECTION("those of others stand there") {
    cache.hub().add_manifest("library/app", tag_of(subject), index_of({others}), kOciIndex);
  }
  const auto listed = [&] { return get(cache.port(), referrers_path(subject)); };
  CHECK(json::parse(listed().body)["manifests"].empty());
  const std::size_t asked = cache.hub().seen().all();
  cache.clock().advance(4s);
  CHECK(json::parse(listed().body)["manifests"].empty());
  CHECK(cache.hub().seen().all() == asked);
  // Signed meanwhile.
  const std::string signature = add_referrer(cache.hub(), subject, "a/signature");
  cache.hub().add_manifest("library/app", tag_of(subject), index_of({others, signature}), kOciIndex);
  cache.clock().advance(2s);
  CHECK(json::parse(listed().body)["manifests"].size() == 1);
  // That there are some is believed as long as the tag is.
  const std::size_t later = cache.hub().seen().all();
  cache.clock().advance(50s);
  CHECK(json::parse(listed().body)["manifests"].size() == 1);
  CHECK(cache.hub().seen().all() == later);
}

TEST_CASE("Referrers: a 404 of an upstream that has the API says nothing of other subjects", "[proxy]") {
  const oci::Digest subject = some_digest("subject");
  const std::string one = index_of({referrer(some_digest("a"), "x/y")});
  std::atomic<bool> all_lost{false};
  Fixture cache;
  cache.hub().script_lists([&](const std::string& what) -> Answered {
    if (what.find(subject.to_string()) == std::string::npos || all_lost) return Error{Errc::unsupported, "404"};
    return upstream::ListAnswer{one, kOciIndex, {}};
  });
  const auto listed = [&] { return json::parse(get(cache.port(), referrers_path(subject)).body)["manifests"].size(); };
  CHECK(listed() == 1);
  CHECK(json::parse(get(cache.port(), referrers_path(some_digest("another"))).body)["manifests"].empty());
  cache.clock().advance(61s);
  CHECK(listed() == 1);
  // Nor that those are gone that it has listed.
  all_lost = true;
  cache.clock().advance(61s);
  CHECK(listed() == 1);
}

TEST_CASE("Referrers: a long list is parsed once, shared, and cut into pages", "[proxy]") {
  Fixture cache;
  const oci::Digest subject = some_digest("subject");
  std::vector<std::string> descriptors;
  for (int i = 0; i < 16'000; ++i) {
    descriptors.push_back(referrer(some_digest(std::to_string(i)), i % 2 == 0 ? "a/even" : "a/odd"));
  }
  cache.hub().set_referrers("library/app", subject, index_of(descriptors));
  for (const std::string type : {"", "a/even"}) {
    std::size_t count = 0;
    std::size_t pages = 0;
    for (std::string target = referrers_path(subject, type.empty() ? "" : "?artifactType=a%2Feven"); !target.empty();) {
      const Response response = get(cache.port(), target);
      REQUIRE(response.status == 200);
      REQUIRE(response.complete);
      CHECK(response.body.size() <= (1U << 20U) + 200);
      const json page = json::parse(response.body)["manifests"];
      for (const json& one : page) CHECK((type.empty() || one["artifactType"] == type));
      count += page.size();
      ++pages;
      target = next_of(response);
    }
    CHECK(count == (type.empty() ? 16'000 : 8'000));
    CHECK(pages > 1);
  }
  CHECK(cache.hub().seen().lists.size() == 1);
}

TEST_CASE("Referrers: bad input", "[proxy]") {
  Fixture cache;
  const Response response = get(cache.port(), "/v2/library/app/referrers/latest");
  CHECK(response.status == 400);
  CHECK(error_code(response.body) == "DIGEST_INVALID");
  cache.hub().refuse("library/app", Error{Errc::denied, "no"});
  CHECK(get(cache.port(), referrers_path(some_digest("x"))).status == 403);
  cache.hub().refuse("library/app", std::nullopt);
  // What cannot be read does not say that there are none.
  const oci::Digest subject = some_digest("subject");
  cache.hub().set_referrers("library/app", subject, GENERATE("<html>", "{}", R"({"manifests":[{"digest":"x"}]})"));
  const Response nonsense = get(cache.port(), referrers_path(subject));
  CHECK(nonsense.status == 503);
}

TEST_CASE("Routes: a host that fits the pattern names the upstream", "[proxy]") {
  Fixture cache({.host_pattern = "*.cache.example"});
  add_tags(cache.hub(), "team/app", {"v1"});
  const std::string other = image_manifest(77, kOciManifest);
  cache.quay().add_manifest("team/app", "v1", other, kOciManifest);
  const std::string path = manifest_path("team/app", "v1");
  CHECK(get(cache.port(), path, {{"Host", "quay.io.cache.example"}}).body == other);
  CHECK(get(cache.port(), path, {{"Host", "quay.io.cache.example:5000"}}).body == other);
  CHECK(get(cache.port(), path).body != other);
  CHECK(get(cache.port(), path, {{"Host", "docker.io.cache.example"}}).body != other);
  const Response unknown = get(cache.port(), path, {{"Host", "evil.test.cache.example"}});
  CHECK(unknown.status == 404);
  CHECK(error_code(unknown.body) == "NAME_UNKNOWN");
  CHECK(get(cache.port(), "/v2/", {{"Host", "evil.test.cache.example"}}).status == 200);
  CHECK(cache.quay().seen().manifests() == 1);
}

TEST_CASE("Lists: a client that reads nothing of many long lists leaves room for others", "[proxy][doors]") {
  // Lists of tags that take 18 MB each, of which one client may have three.
  std::string tags;
  for (int i = 0; i < 140'000; ++i) tags += (i == 0 ? "\"" : ",\"") + std::string(115, 'a') + std::to_string(i) + "\"";
  Fixture cache;
  cache.hub().script_lists([&tags](const std::string&) -> Answered {
    return upstream::ListAnswer{R"({"name":"x","tags":[)" + tags + "]}", "application/json", {}};
  });
  const auto list = [](int i) { return "/v2/library/app" + std::to_string(i) + "/tags/list"; };
  std::vector<Client> stalled;
  for (int i = 0; i < 3; ++i) {
    stalled.emplace_back(cache.port(), 4096);
    stalled.back().send("GET", list(i));
    REQUIRE(stalled.back().read_head().status == 200);
  }
  const Response refused = get(cache.port(), list(3));
  CHECK(refused.status == 503);
  CHECK_FALSE(refused.field("retry-after").empty());
  Client other(cache.port(), 0, 2);
  other.send("GET", list(3));
  CHECK(other.read_response().status == 200);
  // When it reads, or leaves, it is served.
  stalled.pop_back();
  unsigned status = 503;
  for (int tries = 0; status == 503 && tries < 2000; ++tries) {
    status = get(cache.port(), list(4)).status;
    std::this_thread::sleep_for(10ms);
  }
  CHECK(status == 200);
}
