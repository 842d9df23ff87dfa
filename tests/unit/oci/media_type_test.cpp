#include "oci/media_type.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

using namespace sluice;
using namespace sluice::oci;
namespace mt = sluice::oci::media_type;

namespace {

const std::vector<std::string_view> kAll = {mt::kDockerSchema1, mt::kDockerSchema1Signed, mt::kDockerSchema2,
                                            mt::kDockerList,    mt::kOciManifest,         mt::kOciIndex};

}  // namespace

TEST_CASE("MediaType: how the type of a manifest is noted", "[oci]") {
  const std::string known(media_type::kOciIndex);
  CHECK(manifest_note(known + "; charset=utf-8") == known);
  CHECK(noted_manifest_type(known) == known);
  for (const std::string type : {"application/vnd.example+json", "application/json"}) {
    const std::string note = manifest_note(type + " ; charset=utf-8");
    CHECK(note.find(' ') == std::string::npos);  // Redis would not give it back
    CHECK(noted_manifest_type(note) == type);
    CHECK(noted_manifest_type(type).empty());
    CHECK_FALSE(is_manifest(note));
  }
}

TEST_CASE("Media type: parameters and white space are stripped", "[oci]") {
  CHECK(strip_parameters("a/b; charset=utf-8") == "a/b");
  CHECK(strip_parameters("a/b;charset=utf-8") == "a/b");
  CHECK(strip_parameters("a/b") == "a/b");
  CHECK(strip_parameters(" \ta/b\t ; x=y;z") == "a/b");
  CHECK(strip_parameters("") == "");
  CHECK(strip_parameters(";") == "");
  CHECK(strip_parameters("  ") == "");
}

TEST_CASE("Media type: the six manifest types are known, and which are indexes", "[oci]") {
  for (const std::string_view type : kAll) {
    INFO(type);
    CHECK(is_manifest(type));
    CHECK(is_manifest(std::string(type) + "; charset=utf-8"));
    CHECK(canonical_manifest_type(type) == type);
    std::string shouted(type);
    for (char& c : shouted) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    CHECK(canonical_manifest_type(shouted) == type);
    CHECK(is_index(type) == (type == mt::kOciIndex || type == mt::kDockerList));
    CHECK(is_schema1(type) == (type == mt::kDockerSchema1 || type == mt::kDockerSchema1Signed));
  }
  for (const std::string_view type : {std::string_view(), mt::kOciConfig, mt::kOciLayerGzip, mt::kOctetStream,
                                      mt::kJson, std::string_view("text/html"), std::string_view("*/*"),
                                      std::string_view("application/vnd.oci.image.manifest.v1+jso")}) {
    INFO(type);
    CHECK_FALSE(is_manifest(type));
    CHECK_FALSE(is_index(type));
    CHECK_FALSE(is_schema1(type));
    CHECK(manifest_bit(type) == 0);
    CHECK(canonical_manifest_type(type).empty());
  }
}

TEST_CASE("Media type: each manifest type has a bit of its own", "[oci]") {
  ManifestClass seen = 0;
  for (const std::string_view type : kAll) {
    CHECK((seen & manifest_bit(type)) == 0);
    seen = static_cast<ManifestClass>(seen | manifest_bit(type));
  }
  CHECK(seen == kAllManifests);
  CHECK(manifest_bit("application/vnd.oci.image.index.v1+json; x=y") == manifest_bit(mt::kOciIndex));
}

TEST_CASE("Accept: what is sent upstream names every manifest type", "[oci]") {
  for (const std::string_view type : kAll) CHECK(manifest_accept().find(type) != std::string_view::npos);
  CHECK(Accept::parse(manifest_accept()).manifest_class() == kAllManifests);
  CHECK(accept_value(0).empty());
  for (unsigned types = 1; types <= kAllManifests; ++types) {
    const auto some = static_cast<ManifestClass>(types);
    CHECK(Accept::parse(accept_value(some)).manifest_class() == some);
  }
  CHECK(Accept::parse(manifest_accept()).accepts("application/vnd.acme.thing.v1+json"));
}

TEST_CASE("Accept: a missing or useless header accepts everything", "[oci]") {
  CHECK(Accept().manifest_class() == kAllManifests);
  CHECK(Accept().accepts("text/html"));
  for (const char* useless : {"", " ", ",", ",,;,", "nonsense", "/", "a/", "/b", "*/b", "a b/c", ";q=0", "\"a/b\""}) {
    INFO(useless);
    CHECK(Accept::parse(useless).manifest_class() == kAllManifests);
    CHECK(Accept::parse(useless).accepts("x/y"));
  }
}

TEST_CASE("Accept: only what is listed", "[oci]") {
  const Accept accept = Accept::parse(std::string(mt::kDockerSchema2) + ", " + std::string(mt::kOciManifest));
  CHECK(accept.accepts(mt::kDockerSchema2));
  CHECK(accept.accepts(mt::kOciManifest));
  CHECK(accept.accepts("Application/VND.oci.image.manifest.V1+json; charset=utf-8"));
  CHECK_FALSE(accept.accepts(mt::kOciIndex));
  CHECK_FALSE(accept.accepts(mt::kOctetStream));
  CHECK(accept.manifest_class() == (manifest_bit(mt::kDockerSchema2) | manifest_bit(mt::kOciManifest)));
}

TEST_CASE("Accept: wildcards", "[oci]") {
  CHECK(Accept::parse("*/*").manifest_class() == kAllManifests);
  CHECK(Accept::parse("*").manifest_class() == kAllManifests);
  CHECK(Accept::parse("text/html, */*;q=0.1").manifest_class() == kAllManifests);
  CHECK(Accept::parse("application/*").manifest_class() == kAllManifests);
  CHECK(Accept::parse("APPLICATION/*").accepts(mt::kOctetStream));
  CHECK_FALSE(Accept::parse("application/*").accepts("text/html"));
  CHECK(Accept::parse("text/*").manifest_class() == 0);
  CHECK(Accept::parse("text/*").accepts("text/html; charset=utf-8"));
  CHECK_FALSE(Accept::parse("text/*").accepts("textual/html"));
  CHECK_FALSE(Accept::parse("text/*").accepts("text"));
}

TEST_CASE("Accept: weight 0 refuses", "[oci]") {
  const std::string oci(mt::kOciIndex);
  for (const char* weight : {";q=0", "; q=0", " ; Q=0.0", ";q=0.000", ";q=0.", "; level=1;q=0", ";x=\"a;b,c\";q=0"}) {
    INFO(weight);
    const Accept accept = Accept::parse(oci + weight + ", */*");
    CHECK_FALSE(accept.accepts(mt::kOciIndex));
    CHECK(accept.manifest_class() == (kAllManifests & ~manifest_bit(mt::kOciIndex)));
  }
  for (const char* weight :
       {";q=0.001", ";q=.5", ";q=1", ";q=0.8;q=0", ";q", ";q=", ";q=x", ";qq=0", ";q=0x", ";", ";;;"}) {
    INFO(weight);
    CHECK(Accept::parse(oci + weight).accepts(mt::kOciIndex));
  }
  CHECK(Accept::parse("*/*;q=0").manifest_class() == 0);
}

TEST_CASE("Accept: the most specific range decides, in any order", "[oci]") {
  const std::string oci(mt::kOciIndex);
  for (const std::string& text :
       {oci + ", application/*;q=0, */*", "*/*, application/*;q=0, " + oci, "application/*;q=0," + oci + ",*/*"}) {
    INFO(text);
    const Accept accept = Accept::parse(text);
    CHECK(accept.manifest_class() == manifest_bit(mt::kOciIndex));
    CHECK_FALSE(accept.accepts(mt::kOctetStream));
    CHECK(accept.accepts("text/html"));
  }
  const Accept refined = Accept::parse("text/*, text/html;q=0");
  CHECK(refined.accepts("text/plain"));
  CHECK_FALSE(refined.accepts("text/html"));
}

TEST_CASE("Accept: one accepting element of several alike is enough", "[oci]") {
  const std::string oci(mt::kOciIndex);
  CHECK(Accept::parse(oci + ";v=1;q=0, " + oci).accepts(mt::kOciIndex));
  CHECK(Accept::parse(oci + ", " + oci + ";q=0").accepts(mt::kOciIndex));
  CHECK(Accept::parse("text/html;q=0, TEXT/html").accepts("text/html"));
}

TEST_CASE("Accept: quoted commas and semicolons separate nothing", "[oci]") {
  const Accept accept = Accept::parse(R"(a/b;x="y, c/d;q=0", e/f;z="\", g/h")");
  CHECK(accept.accepts("a/b"));
  CHECK(accept.accepts("e/f"));
  CHECK_FALSE(accept.accepts("c/d"));
  CHECK_FALSE(accept.accepts("g/h"));
}

TEST_CASE("Accept: what real clients send", "[oci]") {
  // containerd: one line
  CHECK(Accept::parse("application/vnd.docker.distribution.manifest.v2+json, "
                      "application/vnd.docker.distribution.manifest.list.v2+json, "
                      "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*")
            .manifest_class() == kAllManifests);
  // docker: six lines in random order, joined
  const Accept docker = Accept::parse(
      "application/json,application/vnd.docker.distribution.manifest.v2+json,"
      "application/vnd.docker.distribution.manifest.list.v2+json,application/vnd.oci.image.index.v1+json,"
      "application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v1+prettyjws");
  CHECK(docker.manifest_class() == (kAllManifests & ~manifest_bit(mt::kDockerSchema1)));
  CHECK(docker.accepts("application/json"));
  // A client from before OCI
  const Accept old = Accept::parse("application/vnd.docker.distribution.manifest.v1+prettyjws, application/json");
  CHECK(old.manifest_class() == manifest_bit(mt::kDockerSchema1Signed));
}

TEST_CASE("Accept: the order of the elements does not matter to the class", "[oci]") {
  std::vector<std::string> elements;
  for (std::size_t i = 0; i < 3; ++i) elements.emplace_back(kAll[i]);
  elements.emplace_back("text/html;q=0");
  elements.emplace_back("application/json");
  const auto join = [&] {
    std::string text;
    for (const std::string& element : elements) text += (text.empty() ? "" : ",") + element;
    return text;
  };
  const ManifestClass expected = Accept::parse(join()).manifest_class();
  std::mt19937 random(6);
  for (int i = 0; i < 50; ++i) {
    std::shuffle(elements.begin(), elements.end(), random);
    REQUIRE(Accept::parse(join()).manifest_class() == expected);
  }
}

TEST_CASE("Accept: a long header costs a bounded amount and keeps its known types", "[oci]") {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "x/y" + std::to_string(i) + ",";
  text += mt::kOciIndex;
  const Accept accept = Accept::parse(text);
  CHECK(accept.manifest_class() == manifest_bit(mt::kOciIndex));
  CHECK(accept.accepts("x/y0"));
}

TEST_CASE("Accept: the class is what accepts() says of each manifest type", "[oci]") {
  const std::vector<std::string> pieces = {"*/*",
                                           "*/*;q=0",
                                           "application/*",
                                           "application/*;q=0",
                                           "text/*",
                                           "a/b",
                                           std::string(mt::kOciIndex),
                                           std::string(mt::kDockerSchema2) + ";q=0"};
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (unsigned n = random() % 5; n > 0; --n) text += pieces[random() % pieces.size()] + ",";
    const Accept accept = Accept::parse(text);
    for (const std::string_view type : kAll) {
      INFO(text);
      REQUIRE(accept.accepts(type) == ((accept.manifest_class() & manifest_bit(type)) != 0));
    }
  }
}
