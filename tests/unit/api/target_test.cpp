#include <string>
#include <string_view>

#include <catch2/catch.hpp>

#include "api/target.hpp"

using namespace sluice::api;
using namespace std::string_view_literals;
using Kind = Target::Kind;

TEST_CASE("Target: what a path asks for", "[api]") {
  struct Row {
    std::string_view path;
    Kind kind;
    std::string_view name;
    std::string_view reference;
  };
  const Row row = GENERATE(values<Row>({
      {"/v2/", Kind::ping, "", ""},
      {"/v2", Kind::ping, "", ""},
      {"/v2/_catalog", Kind::catalog, "", ""},
      {"/v2/app/blobs/sha256:ab", Kind::blob, "app", "sha256:ab"},
      {"/v2/library/app/blobs/sha256:ab", Kind::blob, "library/app", "sha256:ab"},
      {"/v2/a/b/c/d/manifests/latest", Kind::manifest, "a/b/c/d", "latest"},
      {"/v2/app/manifests/sha256:ab", Kind::manifest, "app", "sha256:ab"},
      {"/v2/app/tags/list", Kind::tags, "app", ""},
      {"/v2/app/referrers/sha256:ab", Kind::referrers, "app", "sha256:ab"},
      {"/v2/app/blobs/uploads/", Kind::upload, "app", ""},
      {"/v2/app/blobs/uploads", Kind::upload, "app", ""},
      {"/v2/app/blobs/uploads/b5e0-77", Kind::upload, "app", ""},

      // A component of the name may be called like a part of the API.
      {"/v2/blobs/app/blobs/sha256:ab", Kind::blob, "blobs/app", "sha256:ab"},
      {"/v2/app/blobs/manifests/latest", Kind::manifest, "app/blobs", "latest"},
      {"/v2/manifests/manifests/manifests", Kind::manifest, "manifests", "manifests"},
      {"/v2/app/manifests/blobs/sha256:ab", Kind::blob, "app/manifests", "sha256:ab"},
      {"/v2/a/blobs/uploads/b/blobs/sha256:ab", Kind::blob, "a/blobs/uploads/b", "sha256:ab"},
      {"/v2/a/blobs/uploads/manifests/latest", Kind::manifest, "a/blobs/uploads", "latest"},
      {"/v2/tags/list/tags/list", Kind::tags, "tags/list", ""},
      {"/v2/app/manifests/list", Kind::manifest, "app", "list"},
      {"/v2/blobs/uploads/manifests/v1", Kind::manifest, "blobs/uploads", "v1"},
      {"/v2/_catalog/manifests/v1", Kind::manifest, "_catalog", "v1"},

      // Some clients escape the colon; nothing else is unescaped.
      {"/v2/app/blobs/sha256%3Aab", Kind::blob, "app", "sha256:ab"},
      {"/v2/app/manifests/sha256%3aab", Kind::manifest, "app", "sha256:ab"},
      {"/v2/app/manifests/%2e%2e", Kind::manifest, "app", "%2e%2e"},
      {"/v2/app/blobs/sha256:%00", Kind::blob, "app", "sha256:%00"},
      {"/v2/app/blobs/%", Kind::blob, "app", "%"},
      {"/v2/app/blobs/%3", Kind::blob, "app", "%3"},
      {"/v2/%2e%2e/blobs/sha256:ab", Kind::blob, "%2e%2e", "sha256:ab"},
      {"/v2/lib%2Fapp/manifests/latest", Kind::manifest, "lib%2Fapp", "latest"},

      // Nothing is normalised: the grammars refuse these.
      {"/v2/../app/blobs/sha256:ab", Kind::blob, "../app", "sha256:ab"},
      {"/v2/app/../blobs/sha256:ab", Kind::blob, "app/..", "sha256:ab"},
      {"/v2//blobs/sha256:ab", Kind::blob, "", "sha256:ab"},
      {"/v2/blobs/sha256:ab", Kind::blob, "", "sha256:ab"},
      {"/v2/manifests/latest", Kind::manifest, "", "latest"},
      {"/v2/app//blobs/sha256:ab", Kind::blob, "app/", "sha256:ab"},
      {"/v2/app/blobs/", Kind::blob, "app", ""},
      {"/v2/app/manifests/", Kind::manifest, "app", ""},
      {"/v2/tags/list", Kind::tags, "", ""},

      {"", Kind::unknown, "", ""},
      {"/", Kind::unknown, "", ""},
      {"*", Kind::unknown, "", ""},
      {"/v1/", Kind::unknown, "", ""},
      {"/v2x", Kind::unknown, "", ""},
      {"/v22/app/blobs/sha256:ab", Kind::unknown, "", ""},
      {"//v2/app/blobs/sha256:ab", Kind::unknown, "", ""},
      {"/v2/app", Kind::unknown, "", ""},
      {"/v2/app/blobs", Kind::unknown, "", ""},
      {"/v2/app/blobs/sha256:ab/", Kind::unknown, "", ""},
      {"/v2/app/tags/", Kind::unknown, "", ""},
      {"/v2/app/tags/list/", Kind::unknown, "", ""},
      {"/v2/app/Blobs/sha256:ab", Kind::unknown, "", ""},
      {"/v2/_catalog/", Kind::unknown, "", ""},
  }));
  INFO(row.path);
  const Target target = parse_target(row.path);
  CHECK(static_cast<int>(target.kind) == static_cast<int>(row.kind));
  CHECK(target.name == row.name);
  CHECK(target.reference == row.reference);
}

TEST_CASE("Target: a zero byte in a path stays where it is", "[api]") {
  const Target target = parse_target("/v2/a\0b/blobs/sha256:\0"sv);
  CHECK(target.kind == Kind::blob);
  CHECK(target.name == "a\0b"sv);
  CHECK(target.reference == "sha256:\0"sv);
}
