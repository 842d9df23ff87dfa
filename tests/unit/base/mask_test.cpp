#include <catch2/catch.hpp>

#include "base/mask.hpp"

using sluice::mask_userinfo;

TEST_CASE("mask_userinfo: passwords in URLs, wherever they stand", "[base]") {
  CHECK(mask_userinfo("proxy: \"http://alice:s3cret@proxy:3128/\", expected off") ==
        "proxy: \"http://alice:***@proxy:3128/\", expected off");
  CHECK(mask_userinfo("http://a:b@one http://c:d@two") == "http://a:***@one http://c:***@two");
  CHECK(mask_userinfo("https://ghp_token@host/x") == "https://***@host/x");
  CHECK(mask_userinfo("alice:s3cret@proxy:3128") == "alice:***@proxy:3128");
  // What should have been encoded.
  CHECK(mask_userinfo("http://alice:p@ss/w:rd@proxy") == "http://alice:***@proxy");
  CHECK(mask_userinfo("sluice.yml:3: upstreams.http://u:pw@h: found") ==
        "sluice.yml:3: upstreams.http://u:***@h: found");
  CHECK(mask_userinfo("http://:pw@h") == "http://:***@h");
}

TEST_CASE("mask_userinfo_of: a value that is one URL, whatever its password holds", "[base]") {
  CHECK(sluice::mask_userinfo_of("http://alice:a, 'b' (c)@proxy") == "http://alice:***@proxy");
  CHECK(sluice::mask_userinfo_of("/srv/blobs") == "/srv/blobs");
  CHECK(sluice::mask_userinfo_of("").empty());
}

TEST_CASE("mask_userinfo: the rest stays", "[base]") {
  for (const char* plain :
       {"", "@", "a@b", "no at all", "https://host/path?x=1", "docker.io/library/app@sha256:0123", "app:1@sha512:ab",
        "http://host:5000/v2/app@sha256:00", "mail to a@b.example", "12:30 @ noon"}) {
    CHECK(mask_userinfo(plain) == plain);
  }
}
