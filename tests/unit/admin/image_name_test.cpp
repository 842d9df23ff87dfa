#include <catch2/catch.hpp>

#include "admin/image_name.hpp"

using namespace sluice;
using namespace sluice::admin;

namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

ImageName image(const std::string& text) {
  const Result<ImageName> parsed = ImageName::parse(text);
  INFO(text);
  REQUIRE(parsed.has_value());
  return *parsed;
}

}  // namespace

TEST_CASE("Image name: as docker reads it", "[admin]") {
  struct Case {
    std::string text;
    std::string registry;
    std::string repository;
    std::string reference;
  };
  const Case given = GENERATE(
      Case{"busybox", "", "library/busybox", "latest"}, Case{"busybox:1.36", "", "library/busybox", "1.36"},
      Case{"owner/app", "", "owner/app", "latest"}, Case{"ghcr.io/owner/app:1", "ghcr.io", "owner/app", "1"},
      Case{"ghcr.io/app", "ghcr.io", "app", "latest"},
      Case{"docker.io/busybox", "docker.io", "library/busybox", "latest"},
      Case{"index.docker.io/library/busybox:2", "docker.io", "library/busybox", "2"},
      Case{"localhost/app", "localhost", "app", "latest"}, Case{"localhost:5000/a/b:c", "localhost:5000", "a/b", "c"},
      Case{"GHCR.io/a/b", "ghcr.io", "a/b", "latest"}, Case{"a.b/c", "a.b", "c", "latest"},
      Case{"busybox@" + kDigest, "", "library/busybox", kDigest},
      Case{"ghcr.io/a/b:1@" + kDigest, "ghcr.io", "a/b", kDigest});
  const ImageName parsed = image(given.text);
  CHECK(parsed.registry == given.registry);
  CHECK(parsed.repository == given.repository);
  CHECK(parsed.reference().to_string() == given.reference);
}

TEST_CASE("Image name: written as it was meant", "[admin]") {
  CHECK(image("busybox").to_string() == "library/busybox");
  CHECK(image("ghcr.io/a/b:1@" + kDigest).to_string() == "ghcr.io/a/b:1@" + kDigest);
}

TEST_CASE("Image name: what is none is refused, and says how one is written", "[admin]") {
  for (const char* text : {"", "/", "UPPER/case", "a//b", "a/b/", "ghcr.io/", "docker://busybox", "https://ghcr.io/a/b",
                           "a b", "../etc", "-a", "a@sha256:abc", "a@md5:00", "a:tag with space", "a:", ":1"}) {
    INFO(text);
    CHECK(ImageName::parse(text).has_error());
  }
  CHECK(ImageName::parse("UPPER/case").error().message.find("ghcr.io/owner/app") != std::string::npos);
}
