#include "oci/signed_manifest.hpp"

#include <catch2/catch.hpp>
#include <string>

using namespace sluice::oci;

TEST_CASE("Manifest: the payload of a signed docker schema 1 manifest", "[oci]") {
  const std::string payload = "{\n   \"schemaVersion\": 1,\n   \"fsLayers\": []\n}";
  const std::string kept = payload.substr(0, payload.size() - 2);
  // The protected header: {"formatLength":42,"formatTail":"Cn0"}
  const std::string protected_header = "eyJmb3JtYXRMZW5ndGgiOjQyLCJmb3JtYXRUYWlsIjoiQ24wIn0";
  const auto with = [&](const std::string& header) {
    return kept + ",\n   \"signatures\": [{\"signature\": \"xyz\", \"protected\" : \"" + header + "\"}]\n}";
  };
  REQUIRE(kept.size() == 42);
  CHECK(signed_payload(with(protected_header)) == payload);
  CHECK_FALSE(signed_payload(payload));
  CHECK_FALSE(signed_payload(""));
  CHECK_FALSE(signed_payload("{\"signatures\":[{\"protected\":\""));
  // The bytes that are signed are all that there is to read.
  const std::string good = with(protected_header);
  const std::size_t last = good.rfind('}');
  CHECK_FALSE(signed_payload(good.substr(0, last) + ", \"fsLayers\": [1]}"));
  CHECK_FALSE(signed_payload(good.substr(0, last) + ", \"more\": 1}"));
  CHECK_FALSE(signed_payload(good + "{}"));
  CHECK_FALSE(signed_payload(kept + ", \"x\": 1" + good.substr(kept.size())));
  // Only schema 1 is signed so.
  std::string second = good;
  second.replace(second.find(": 1") + 2, 1, "2");
  CHECK_FALSE(signed_payload(second));
  // {"formatLength":0,"formatTail":"e30"}, of which "{}" would be the payload of anything
  const std::string nothing = R"("protected":"eyJmb3JtYXRMZW5ndGgiOjAsImZvcm1hdFRhaWwiOiJlMzAifQ")";
  CHECK_FALSE(signed_payload("garbage \"signatures\" " + nothing));
  CHECK_FALSE(signed_payload("{\"signatures\":[{" + nothing + "}]}"));
  // {"formatLength":4200000000,"formatTail":"Cn0"}, {"formatLength":-1}, no JSON, no base64
  for (const char* header : {"eyJmb3JtYXRMZW5ndGgiOjQyMDAwMDAwMDAsImZvcm1hdFRhaWwiOiJDbjAifQ",
                             "eyJmb3JtYXRMZW5ndGgiOi0xfQ", "AAAA", "!!", ""}) {
    INFO(header);
    CHECK_FALSE(signed_payload(with(header)));
  }
}
