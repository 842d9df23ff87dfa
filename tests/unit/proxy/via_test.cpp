#include <catch2/catch.hpp>

#include "proxy/via.hpp"

using namespace sluice::proxy;

TEST_CASE("Via: who has received a request before", "[proxy]") {
  CHECK(has_come_through("1.1 cache-1", "cache-1"));
  CHECK(has_come_through("1.1 CACHE-1", "cache-1"));
  CHECK(has_come_through("HTTP/1.1 cache-1", "cache-1"));
  CHECK(has_come_through("1.0 fred, 1.1 p.example.net:8080 (Apache/1.1), 1.1\tcache-1(sluice)", "cache-1"));
  CHECK(has_come_through("1.1 a ,,  1.1 cache-1 , 1.1 b", "cache-1"));
  CHECK(has_come_through("1.1 a (an (inner) \\) one), 1.1 cache-1", "cache-1"));

  CHECK_FALSE(has_come_through("", "cache-1"));
  CHECK_FALSE(has_come_through("1.1 cache-10, 1.1 my-cache-1, 1.1 cache-1:80", "cache-1"));
  CHECK_FALSE(has_come_through("cache-1", "cache-1"));
  CHECK_FALSE(has_come_through("1.1 a (1.1 cache-1, 1.1 cache-1)", "cache-1"));
  CHECK_FALSE(has_come_through("1.1 a (, 1.1 cache-1", "cache-1"));
  CHECK_FALSE(has_come_through("1.1 ", ""));
  CHECK_FALSE(has_come_through("1.1 a (\\", "a (\\"));
}

TEST_CASE("Via: no two random names are the same", "[proxy]") {
  CHECK(random_pseudonym() != random_pseudonym());
  CHECK(random_pseudonym().size() == 23);
}
