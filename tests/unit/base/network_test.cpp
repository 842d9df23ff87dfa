#include "base/network.hpp"

#include <catch2/catch.hpp>

using namespace sluice;

TEST_CASE("Network: the address of a peer, with and without a port", "[base]") {
  CHECK(without_port("10.0.0.7:41234") == "10.0.0.7");
  CHECK(without_port("10.0.0.7") == "10.0.0.7");
  CHECK(without_port("[fd00::7]:41234") == "fd00::7");
  CHECK(without_port("fd00::7") == "fd00::7");
  CHECK(without_port("[fd00") == "fd00");
  CHECK(without_port("").empty());
}
