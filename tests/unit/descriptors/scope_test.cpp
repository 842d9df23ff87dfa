#include <string>

#include <catch2/catch.hpp>

#include "descriptors/scope.hpp"
#include "support/catch_result.hpp"

using sluice::descriptors::kMaxScopeBytes;
using sluice::descriptors::Scope;

TEST_CASE("Scope: the default is global, a repository's is not", "[descriptors]") {
  CHECK(Scope().is_global());
  const auto scope = Scope::repository("docker.io/library/busybox");
  REQUIRE(scope);
  CHECK_FALSE(scope->is_global());
  CHECK(scope->str() == "docker.io/library/busybox");
  CHECK(*scope != Scope());
}

TEST_CASE("Scope: what must not be part of a key is refused", "[descriptors]") {
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\nb"), std::string("a\0b", 3),
                                 std::string("\x7f"), std::string("\xc3\xa4"), std::string(kMaxScopeBytes + 1, 'a')}) {
    const auto scope = Scope::repository(bad);
    REQUIRE_FALSE(scope);
    CHECK(scope.error().code == sluice::Errc::name_invalid);
  }
  CHECK(Scope::repository(std::string(kMaxScopeBytes, 'a')));
}
