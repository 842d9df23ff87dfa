#include "oci/manifest.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "oci/media_type.hpp"
#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::oci;
using nlohmann::json;
namespace mt = sluice::oci::media_type;

namespace {

Digest digest(std::string_view of) { return digest_of(Algorithm::sha256, of); }

json descriptor(std::string_view of, std::int64_t size, std::string_view type) {
  return {{"mediaType", type}, {"digest", digest(of).to_string()}, {"size", size}};
}

json oci_manifest() {
  return {{"schemaVersion", 2},
          {"mediaType", mt::kOciManifest},
          {"config", descriptor("config", 10, mt::kOciConfig)},
          {"layers", {descriptor("one", 100, mt::kOciLayerGzip), descriptor("two", 200, mt::kOciLayerZstd)}}};
}

json docker_manifest() {
  json m = oci_manifest();
  m["mediaType"] = mt::kDockerSchema2;
  m["config"]["mediaType"] = mt::kDockerConfig;
  return m;
}

json oci_index() {
  json entry = descriptor("amd64", 500, mt::kOciManifest);
  entry["platform"] = {{"architecture", "amd64"}, {"os", "linux"}, {"os.features", {"a", "b"}}};
  return {{"schemaVersion", 2},
          {"mediaType", mt::kOciIndex},
          {"manifests", {entry, descriptor("arm64", 501, mt::kOciManifest)}},
          {"annotations", {{"config", "not one"}, {"mediaType", "nor this"}}}};
}

json schema1() {
  return {{"schemaVersion", 1},
          {"name", "library/x"},
          {"tag", "latest"},
          {"architecture", "amd64"},
          {"fsLayers", {{{"blobSum", digest("one").to_string()}}}},
          {"history", {{{"v1Compatibility", "{}"}}}}};
}

ManifestInfo parsed(const json& body, std::string_view content_type) {
  const Result<ManifestInfo> info = parse_manifest(body.dump(), content_type);
  INFO((info ? std::string() : info.error().message));
  REQUIRE(info);
  return *info;
}

std::string type_of(const json& body, std::string_view content_type) { return parsed(body, content_type).media_type; }

bool refused(const json& body, std::string_view content_type) {
  const Result<ManifestInfo> info = parse_manifest(body.dump(), content_type);
  return !info && info.error().code == Errc::manifest_invalid;
}

json without(json body, const char* key) {
  body.erase(key);
  return body;
}

TEST_CASE("Manifest: what it is served as", "[oci]") {
  const std::string vendor = "application/vnd.acme.thing.v1+json";
  // Upstream's word, where it is one.
  CHECK(served_type("{}", vendor + "; charset=utf-8") == vendor);
  CHECK(served_type("not json", mt::kOciIndex) == mt::kOciIndex);
  CHECK(served_type(oci_manifest().dump(), mt::kDockerSchema2) == mt::kDockerSchema2);
  CHECK(served_type("{}", "Application/VND.OCI.image.index.v1+json") == mt::kOciIndex);
  for (const char* generic : {"", "application/json", "application/octet-stream", "text/html",
                              "text/plain; charset=utf-8", "application/gzip", "nonsense"}) {
    INFO(generic);
    CHECK_FALSE(names_manifest_type(generic));
    CHECK(served_type(oci_manifest().dump(), generic) == mt::kOciManifest);
    CHECK(served_type(without(oci_index(), "mediaType").dump(), generic) == mt::kOciIndex);
    CHECK(served_type(R"({"mediaType":")" + vendor + R"("})", generic) == vendor);
    // Also of what is no valid manifest.
    CHECK(served_type(R"({"mediaType":")" + vendor + R"(","config":7})", generic) == vendor);
    CHECK(served_type(R"({"mediaType":"no type","a":1})", generic) == mt::kJson);
    CHECK(served_type("\x7f"
                      "ELF",
                      generic) == mt::kOctetStream);
  }
}

TEST_CASE("Manifest: bytes that are not UTF-8 are read over", "[oci]") {
  std::string body = oci_manifest().dump();
  body.insert(body.rfind('}'), ",\"annotations\":{\"author\":\"Jos\xe9\"}");
  const auto info = parse_manifest(body, "");
  REQUIRE(info);
  CHECK(info->media_type == mt::kOciManifest);
  CHECK(info->references == parse_manifest(oci_manifest().dump(), "")->references);
}

}  // namespace

TEST_CASE("Manifest: an OCI image names its configuration, then its layers", "[oci]") {
  const ManifestInfo info = parsed(oci_manifest(), mt::kOciManifest);
  CHECK(info.media_type == mt::kOciManifest);
  CHECK_FALSE(info.is_index);
  CHECK(info.references == std::vector<Descriptor>{{digest("config"), 10, std::string(mt::kOciConfig)},
                                                   {digest("one"), 100, std::string(mt::kOciLayerGzip)},
                                                   {digest("two"), 200, std::string(mt::kOciLayerZstd)}});
  CHECK_FALSE(info.subject);
  CHECK(info.artifact_type.empty());
}

TEST_CASE("Manifest: the configuration comes first wherever it stands", "[oci]") {
  const std::string text = R"({"layers":[{"digest":")" + digest("one").to_string() +
                           R"(","size":1,"mediaType":"l/l"}],"config":{"size":2,"mediaType":"c/c","digest":")" +
                           digest("config").to_string() + R"("}})";
  const Result<ManifestInfo> info = parse_manifest(text, mt::kOciManifest);
  REQUIRE(info);
  REQUIRE(info->references.size() == 2);
  CHECK(info->references[0].digest == digest("config"));
  CHECK(info->references[1] == Descriptor{digest("one"), 1, "l/l"});
}

TEST_CASE("Manifest: an index names its manifests", "[oci]") {
  const ManifestInfo info = parsed(oci_index(), mt::kOciIndex);
  CHECK(info.media_type == mt::kOciIndex);
  CHECK(info.is_index);
  CHECK(info.references == std::vector<Descriptor>{{digest("amd64"), 500, std::string(mt::kOciManifest)},
                                                   {digest("arm64"), 501, std::string(mt::kOciManifest)}});

  json list = oci_index();
  list["mediaType"] = mt::kDockerList;
  CHECK(parsed(list, mt::kDockerList).is_index);
  CHECK(type_of(list, "") == mt::kDockerList);
}

TEST_CASE("Manifest: subject and artifact type", "[oci]") {
  json body = oci_manifest();
  body["subject"] = descriptor("subject", 7, mt::kOciManifest);
  body["artifactType"] = "application/vnd.example.sbom";
  ManifestInfo info = parsed(body, mt::kOciManifest);
  CHECK(info.subject == Descriptor{digest("subject"), 7, std::string(mt::kOciManifest)});
  CHECK(info.artifact_type == "application/vnd.example.sbom");
  CHECK(info.references.size() == 3);

  body = oci_index();
  body["subject"] = descriptor("subject", 7, mt::kOciManifest);
  body["artifactType"] = "x/y";
  info = parsed(body, mt::kOciIndex);
  CHECK(info.subject.has_value());
  CHECK(info.artifact_type == "x/y");
}

TEST_CASE("Manifest: foreign layers are listed as the others", "[oci]") {
  json body = docker_manifest();
  body["layers"][0]["mediaType"] = mt::kDockerForeignLayer;
  body["layers"][0]["urls"] = {"https://example.test/layer"};
  const ManifestInfo info = parsed(body, mt::kDockerSchema2);
  REQUIRE(info.references.size() == 3);
  CHECK(info.references[1].media_type == mt::kDockerForeignLayer);
}

TEST_CASE("Manifest: annotations, embedded data and platforms do not disturb it", "[oci]") {
  json body = oci_manifest();
  body["annotations"] = {{"digest", "x"}, {"layers", "y"}};
  body["config"]["annotations"] = {{"size", "-1"}, {"digest", "no"}};
  body["config"]["data"] = "e30=";
  body["config"]["platform"] = {{"digest", {1, {2, {{"size", -3}}}}}};
  body["x-unknown"] = {{"manifests", {1, 2}}, {"config", nullptr}};
  body["x-list"] = json::array({json::array(), json::object(), 1.5, true, nullptr, "s"});
  CHECK(parsed(body, mt::kOciManifest).references == parsed(oci_manifest(), mt::kOciManifest).references);
}

TEST_CASE("Manifest: all three algorithms, and the largest size", "[oci]") {
  json body = oci_manifest();
  body["layers"][0]["digest"] = digest_of(Algorithm::sha512, "x").to_string();
  body["layers"][1]["digest"] = digest_of(Algorithm::sha384, "x").to_string();
  body["layers"][0]["size"] = std::numeric_limits<std::int64_t>::max();
  body["layers"][1]["size"] = 0;
  const ManifestInfo info = parsed(body, mt::kOciManifest);
  CHECK(info.references[1].digest == digest_of(Algorithm::sha512, "x"));
  CHECK(info.references[1].size == std::uint64_t{0x7fffffffffffffff});
  CHECK(info.references[2].size == 0);
}

TEST_CASE("Manifest: what real producers leave out is taken", "[oci]") {
  json body = oci_manifest();
  body["layers"] = nullptr;  // an empty slice of Go
  body["subject"] = nullptr;
  body["artifactType"] = nullptr;
  CHECK(parsed(body, mt::kOciManifest).references.size() == 1);
  CHECK(parsed(without(body, "layers"), mt::kOciManifest).references.size() == 1);
  CHECK(parsed(without(oci_manifest(), "schemaVersion"), mt::kOciManifest).references.size() == 3);

  body = oci_manifest();
  body["layers"][0].erase("mediaType");
  CHECK(parsed(body, mt::kOciManifest).references[1].media_type == mt::kOctetStream);

  body = oci_index();
  body["manifests"] = json::array();
  CHECK(parsed(body, mt::kOciIndex).references.empty());
  body["manifests"] = nullptr;
  CHECK(parsed(body, mt::kOciIndex).references.empty());
  body["mediaType"] = "";
  CHECK(type_of(body, mt::kOciIndex) == mt::kOciIndex);
  body["mediaType"] = nullptr;
  CHECK(type_of(body, mt::kOciIndex) == mt::kOciIndex);
}

TEST_CASE("Manifest: a specific content type wins where the body has none", "[oci]") {
  CHECK(type_of(without(oci_manifest(), "mediaType"), mt::kOciManifest) == mt::kOciManifest);
  CHECK(type_of(without(oci_manifest(), "mediaType"), mt::kDockerSchema2) == mt::kDockerSchema2);
  CHECK(type_of(without(oci_index(), "mediaType"), mt::kDockerList) == mt::kDockerList);
  CHECK(type_of(oci_manifest(), "Application/VND.OCI.image.manifest.v1+JSON; charset=utf-8") == mt::kOciManifest);
}

TEST_CASE("Manifest: a generic content type leaves it to the body", "[oci]") {
  const auto generic = GENERATE(as<std::string>{}, "", "application/json", "application/json; charset=utf-8",
                                "application/octet-stream", "Text/Plain; charset=utf-8", "binary/octet-stream", " ");
  INFO(generic);
  CHECK(type_of(oci_manifest(), generic) == mt::kOciManifest);
  CHECK(type_of(docker_manifest(), generic) == mt::kDockerSchema2);
  CHECK(type_of(oci_index(), generic) == mt::kOciIndex);
  CHECK(type_of(without(oci_manifest(), "mediaType"), generic) == mt::kOciManifest);
  CHECK(type_of(without(docker_manifest(), "mediaType"), generic) == mt::kDockerSchema2);
  CHECK(type_of(without(oci_index(), "mediaType"), generic) == mt::kOciIndex);
  CHECK(type_of(schema1(), generic) == mt::kDockerSchema1);
  json with_signature = schema1();
  with_signature["signatures"] = {{{"header", {{"alg", "ES256"}}}}};
  CHECK(type_of(with_signature, generic) == mt::kDockerSchema1Signed);
}

TEST_CASE("Manifest: schema 1 passes through without references", "[oci]") {
  for (const std::string_view type : {mt::kDockerSchema1, mt::kDockerSchema1Signed}) {
    const ManifestInfo info = parsed(schema1(), type);
    CHECK(info.media_type == type);
    CHECK(info.references.empty());
    CHECK_FALSE(info.is_index);
  }
  json body = schema1();
  body["mediaType"] = mt::kDockerSchema1;
  CHECK(type_of(body, mt::kDockerSchema1Signed) == mt::kDockerSchema1Signed);
}

TEST_CASE("Manifest: a body that contradicts the content type is refused", "[oci]") {
  CHECK(refused(oci_manifest(), mt::kDockerSchema2));
  CHECK(refused(docker_manifest(), mt::kOciManifest));
  CHECK(refused(oci_index(), mt::kOciManifest));
  CHECK(refused(oci_index(), mt::kDockerList));
  CHECK(refused(oci_manifest(), mt::kOciIndex));
  CHECK(refused(schema1(), mt::kDockerSchema2));
  CHECK(refused(oci_manifest(), mt::kDockerSchema1));

  CHECK(refused(without(oci_index(), "mediaType"), mt::kOciManifest));
  CHECK(refused(without(oci_manifest(), "mediaType"), mt::kOciIndex));
  CHECK(refused(without(oci_manifest(), "mediaType"), mt::kDockerSchema1Signed));
}

TEST_CASE("Manifest: a content type of something else is refused", "[oci]") {
  for (const std::string_view type : {std::string_view("text/html"), std::string_view("text/html; charset=utf-8"),
                                      mt::kOciConfig, mt::kOciLayerGzip, std::string_view("image/png")}) {
    CHECK(refused(oci_manifest(), type));
  }
  json body = oci_manifest();
  body["mediaType"] = "application/vnd.example";
  CHECK(refused(body, ""));
  CHECK(refused(body, mt::kOciManifest));
}

TEST_CASE("Manifest: what is an index and an image at once is refused (CVE-2021-41190)", "[oci]") {
  for (const std::string_view type : {mt::kOciManifest, mt::kOciIndex, std::string_view()}) {
    for (const char* key : {"config", "layers"}) {
      json both = without(oci_index(), "mediaType");
      both[key] = oci_manifest()[key];
      CHECK(refused(both, type));
      both[key] = nullptr;
      CHECK(refused(both, type));
    }
    json both = without(oci_manifest(), "mediaType");
    both["manifests"] = json::array();
    CHECK(refused(both, type));
  }
  json both = without(oci_manifest(), "mediaType");
  both["fsLayers"] = schema1()["fsLayers"];
  CHECK(refused(both, mt::kOciManifest));
  both["schemaVersion"] = 1;
  CHECK(refused(both, mt::kDockerSchema1Signed));
}
