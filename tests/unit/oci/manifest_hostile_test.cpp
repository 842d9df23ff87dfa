// Manifests that nobody well-meaning sends: malformed, oversized, nested, ambiguous.

#include <catch2/catch.hpp>
#include <string>

#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::oci;
namespace mt = sluice::oci::media_type;

namespace {

const std::string kDigest = "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";
const std::string kConfig = R"({"mediaType":"c/c","size":1,"digest":)" + kDigest + "}";

// An OCI image with these layers, as text.
std::string image(const std::string& layers) {
  return R"({"schemaVersion":2,"config":)" + kConfig + R"(,"layers":)" + layers + "}";
}

std::string layer(const std::string& size, const std::string& digest) {
  return image(R"([{"mediaType":"l/l","size":)" + size + R"(,"digest":)" + digest + "}]");
}

bool taken(std::string_view text, std::string_view type = mt::kOciManifest) {
  return parse_manifest(text, type).has_value();
}

bool refused(std::string_view text, std::string_view type = mt::kOciManifest) {
  const Result<ManifestInfo> info = parse_manifest(text, type);
  return !info && info.error().code == Errc::manifest_invalid && !info.error().message.empty();
}

std::string nested(std::size_t depth, char open, char close) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open == '{' ? std::string("{\"a\":") : std::string(1, open);
  return text + "1" + std::string(depth, close);
}

}  // namespace

TEST_CASE("Manifest: bytes that are not one JSON object are refused", "[oci]") {
  for (const std::string_view type : {std::string_view(), mt::kOciManifest, mt::kOciIndex, mt::kDockerSchema1Signed}) {
    for (const std::string& text : {std::string(),
                                    std::string(" "),
                                    std::string("null"),
                                    std::string("1"),
                                    std::string("-1"),
                                    std::string("1.5"),
                                    std::string("true"),
                                    std::string("\"x\""),
                                    std::string("[]"),
                                    std::string("[{}]"),
                                    std::string("{}"),
                                    std::string("{"),
                                    std::string("{]"),
                                    std::string("{\"a\"}"),
                                    std::string("{\"a\":1,}"),
                                    std::string("{}{}"),
                                    std::string("<!DOCTYPE html><html></html>"),
                                    std::string("\xff\xfe{\0}\0", 6),
                                    std::string("{\"a\":\"\xff\"}"),
                                    std::string("{\"a\":\"\n\"}"),
                                    std::string("{'a':1}"),
                                    std::string(1, '\0')}) {
      INFO(text);
      CHECK(refused(text, type));
    }
  }
  CHECK(refused(image("[]") + "x"));
  CHECK(refused(image("[]") + image("[]")));
  CHECK(refused(image("[]") + std::string(1, '\0')));
  CHECK(refused(image("[]") + std::string(1, '\0') + image("[]")));
  CHECK(taken(" \n" + image("[]") + "\n "));
}

TEST_CASE("Manifest: every truncation of a good one is refused", "[oci]") {
  const std::string text = layer("12", kDigest);
  REQUIRE(taken(text));
  for (std::size_t i = 0; i < text.size(); ++i) REQUIRE(refused(std::string_view(text).substr(0, i)));
}

TEST_CASE("Manifest: sizes are whole numbers from 0 to the largest int64", "[oci]") {
  for (const char* good : {"0", "1", "9223372036854775807"}) CHECK(taken(layer(good, kDigest)));
  for (const char* bad : {"-1", "-9223372036854775808", "9223372036854775808", "18446744073709551615",
                          "18446744073709551616", "1e3", "1.0", "1e999", "\"1\"", "null", "true", "[1]", "{}", "NaN"}) {
    INFO(bad);
    CHECK(refused(layer(bad, kDigest)));
  }
}

TEST_CASE("Manifest: digests are checked", "[oci]") {
  for (const char* bad : {"\"\"", "\"sha256:abc\"", "\"md5:d41d8cd98f00b204e9800998ecf8427e\"", "null", "1", "[]", "{}",
                          "\"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\""}) {
    INFO(bad);
    CHECK(refused(layer("1", bad)));
  }
}

TEST_CASE("Manifest: a descriptor needs a digest and a size", "[oci]") {
  CHECK(refused(image(R"([{"mediaType":"l/l","size":1}])")));
  CHECK(refused(image(R"([{"mediaType":"l/l","digest":)" + kDigest + "}]")));
  CHECK(refused(image("[{}]")));
  CHECK(refused(R"({"config":{}})"));
  CHECK(refused(R"({"manifests":[{}]})", mt::kOciIndex));
  CHECK(refused(R"({"subject":{},"config":)" + kConfig + "}"));
}

TEST_CASE("Manifest: values of the wrong type are refused", "[oci]") {
  for (const char* bad :
       {"{}", "1", "\"x\"", "true", "1.5", "[1]", "[null]", "[\"x\"]", "[[]]", "[true]", "[1.5]", "[[{}]]"}) {
    INFO(bad);
    CHECK(refused(image(bad)));
    CHECK(refused(std::string(R"({"manifests":)") + bad + "}", mt::kOciIndex));
  }
  for (const char* bad : {"[]", "1", "\"x\"", "true", "-2", "0.5"}) {
    INFO(bad);
    CHECK(refused(std::string(R"({"config":)") + bad + "}"));
    CHECK(refused(R"({"config":)" + kConfig + R"(,"subject":)" + bad + "}"));
  }
  for (const char* bad : {"[]", "{}", "1", "true", "-2", "0.5"}) {
    INFO(bad);
    CHECK(refused(R"({"config":)" + kConfig + R"(,"mediaType":)" + bad + "}"));
    CHECK(refused(R"({"config":)" + kConfig + R"(,"artifactType":)" + bad + "}"));
  }
  CHECK(refused(R"({"config":null})"));
}

TEST_CASE("Manifest: a schema version that does not fit its type is refused", "[oci]") {
  for (const char* bad : {"0", "1", "3", "-2", "2.0", "\"2\"", "null", "99999999999999999999"}) {
    INFO(bad);
    CHECK(refused(std::string(R"({"schemaVersion":)") + bad + R"(,"config":)" + kConfig + "}"));
  }
  CHECK(refused(R"({"schemaVersion":2,"fsLayers":[]})", mt::kDockerSchema1));
  CHECK(refused(R"({"fsLayers":[]})", mt::kDockerSchema1));
  CHECK(refused(R"({"schemaVersion":1})", mt::kDockerSchema1Signed));
  CHECK(taken(R"({"schemaVersion":1,"fsLayers":[]})", mt::kDockerSchema1Signed));
}

TEST_CASE("Manifest: a key that matters may not stand in it twice", "[oci]") {
  const std::string config = R"("config":)" + kConfig;
  CHECK(refused("{" + config + "," + config + "}"));
  CHECK(refused("{" + config + R"(,"layers":[],"layers":[]})"));
  CHECK(refused("{" + config + R"(,"mediaType":"","mediaType":""})"));
  CHECK(refused("{" + config + R"(,"schemaVersion":2,"schemaVersion":2})"));
  CHECK(refused(R"({"manifests":[],"manifests":[]})", mt::kOciIndex));
  CHECK(refused(image(R"([{"size":1,"size":2,"digest":)" + kDigest + "}]")));
  CHECK(refused(image(R"([{"size":1,"digest":)" + kDigest + R"(,"digest":)" + kDigest + "}]")));
  // Written with an escape it is the same key.
  CHECK(refused("{" + config + R"(,"\u0063onfig":)" + kConfig + "}"));
  // Others may: they are not read.
  CHECK(taken("{" + config + R"(,"x":1,"x":2,"annotations":{"a":"1","a":"2"}})"));
}

TEST_CASE("Manifest: deep nesting is refused without using the stack", "[oci]") {
  const std::size_t many = kMaxManifestBytes / 8;
  for (const std::string_view type : {std::string_view(), mt::kOciManifest}) {
    CHECK(refused(std::string(kMaxManifestBytes, '['), type));
    CHECK(refused(nested(many, '{', '}'), type));
    CHECK(refused(R"({"x":)" + nested(many, '[', ']') + "}", type));
  }
  const auto with = [](const std::string& value) { return R"({"config":)" + kConfig + R"(,"x":)" + value + "}"; };
  CHECK(taken(with(nested(kMaxManifestDepth - 1, '[', ']'))));
  CHECK(refused(with(nested(kMaxManifestDepth, '[', ']'))));
  CHECK(taken(with(nested(kMaxManifestDepth - 1, '{', '}'))));
  CHECK(refused(with(nested(kMaxManifestDepth, '{', '}'))));
}

TEST_CASE("Manifest: four mebibytes are the limit", "[oci]") {
  const std::string text = image("[]");
  const std::string full = text + std::string(kMaxManifestBytes - text.size(), ' ');
  CHECK(taken(full));
  CHECK(refused(full + " "));
}

TEST_CASE("Manifest: as many layers as fit are all listed", "[oci]") {
  const std::string one = R"({"size":7,"digest":)" + kDigest + "}";
  std::string layers = "[" + one;
  std::size_t count = 1;
  while (layers.size() + one.size() + 300 < kMaxManifestBytes) {
    layers += "," + one;
    ++count;
  }
  const Result<ManifestInfo> info = parse_manifest(image(layers + "]"), mt::kOciManifest);
  REQUIRE(info);
  CHECK(info->references.size() == count + 1);
}
