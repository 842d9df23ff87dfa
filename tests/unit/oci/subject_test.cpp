#include <string>

#include <catch2/catch.hpp>

#include "oci/manifest.hpp"

using namespace sluice::oci;

namespace {

const Digest kSubject = digest_of(Algorithm::sha256, "subject");
const std::string kText = kSubject.to_string();

std::string with(const std::string& fields) { return "{" + fields + "}"; }

}  // namespace

TEST_CASE("Subject: it is read whatever the manifest is", "[oci]") {
  const std::string subject = R"("subject":{"mediaType":"a/b","size":3,"digest":")" + kText + R"("})";
  CHECK(subject_of(with(subject)) == kSubject);
  // An artifact manifest, a list that is no list of descriptors, a mediaType that nobody knows.
  CHECK(subject_of(with(R"("mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[],)" + subject)) ==
        kSubject);
  CHECK(subject_of(with(R"("layers":[1,[2,{"digest":"x"}]],"config":7,"mediaType":[],)" + subject)) == kSubject);
  // The keys of a subject in any order, more of them, and what is behind it.
  CHECK(subject_of(with(R"("subject":{"annotations":{"digest":"x","a":[{}]},"digest":")" + kText +
                        R"(","platform":{"digest":[]}},"x":{"digest":"y"})")) == kSubject);
  CHECK(subject_of(with("\"label\":\"f\xfcr\"," + subject)) == kSubject);
  CHECK(subject_of("\xef\xbb\xbf" + with(subject)) == kSubject);
}

TEST_CASE("Subject: what is none is none", "[oci]") {
  const std::string subject = R"("subject":{"digest":")" + kText + R"("})";
  const std::string descriptor = R"({"digest":")" + kText + R"("})";
  for (const std::string& text :
       {std::string(), std::string("x"), std::string("[]"), std::string("\"subject\""), with(""), with(subject) + "x",
        with(subject).substr(0, 40), with(R"("subject":null)"), with(R"("subject":{"digest":"sha256:1"})"),
        with(R"("subject":[)" + descriptor + "]"), with(R"("config":)" + descriptor),
        with(R"("a":{"subject":)" + descriptor + "}"), with(R"("subject":{"a":)" + descriptor + "}"),
        "[" + with(subject) + "]", with(subject) + std::string(1, '\0') + "x",
        with(R"("a":)" + std::string(kMaxManifestDepth + 1, '[') + std::string(kMaxManifestDepth + 1, ']') + "," +
             subject)}) {
    INFO(text);
    CHECK_FALSE(subject_of(text));
  }
}
