#include "http/conditional.hpp"

#include <catch2/catch.hpp>

using namespace sluice::http;

TEST_CASE("If-None-Match: weak comparison, quoted or bare", "[http]") {
  const char* const etag = "\"sha256:ab\"";
  CHECK(if_none_match("\"sha256:ab\"", etag));
  CHECK(if_none_match("sha256:ab", etag));
  CHECK(if_none_match("W/\"sha256:ab\"", etag));
  CHECK(if_none_match("*", etag));
  CHECK(if_none_match("\"x\", \"sha256:ab\"", etag));
  CHECK(if_none_match("\"x,y\" ,, sha256:ab", etag));
  CHECK(if_none_match("x,sha256:ab,z", etag));
  CHECK_FALSE(if_none_match("", etag));
  CHECK_FALSE(if_none_match("\"x\"", etag));
  CHECK_FALSE(if_none_match("\"sha256:a\"", etag));
  CHECK_FALSE(if_none_match("\"x, sha256:ab\"", etag));
  CHECK_FALSE(if_none_match("w/\"sha256:ab\"", etag));
  CHECK_FALSE(if_none_match(", ,", etag));
  CHECK_FALSE(if_none_match("\"", etag));
}

TEST_CASE("If-Match: strong comparison, and absence lets pass", "[http]") {
  const char* const etag = "\"a\"";
  CHECK(if_match("", etag));
  CHECK(if_match("*", etag));
  CHECK(if_match("\"b\", \"a\"", etag));
  CHECK_FALSE(if_match("\"b\"", etag));
  CHECK_FALSE(if_match("W/\"a\"", etag));
}
