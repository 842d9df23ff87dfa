#include <catch2/catch.hpp>

#include "api/via.hpp"

using namespace sluice::api;

TEST_CASE("Via: who has received a request before", "[api]") {
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

TEST_CASE("Via: what goes on upstream is plain", "[api]") {
  CHECK(plain_via("1.1 cache-a, HTTP/1.1 cache-b:80 (comment)") == "1.1 cache-a, HTTP/1.1 cache-b:80");
  CHECK(plain_via("1.1 ${jndi:ldap://x/a}, 1.1 ok") == "1.1 ok");
  CHECK(plain_via("1.1 <script>, , 1.1").empty());
  std::string many;
  for (int i = 0; i < 100; ++i) many += "1.1 c, ";
  CHECK(plain_via(many).size() == kMaxViaEntries * 7 - 2);
}

TEST_CASE("Via: no two random names are the same", "[api]") {
  CHECK(random_pseudonym() != random_pseudonym());
  CHECK(random_pseudonym().size() == 23);
}
