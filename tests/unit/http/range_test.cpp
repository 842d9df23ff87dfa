#include "http/range.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace sluice::http;
using Kind = RangeSelection::Kind;

TEST_CASE("Range: what is sent of 1000 bytes", "[http]") {
  struct Row {
    std::string header;
    Kind kind;
    std::vector<ByteRange> ranges;
  };
  const std::vector<Row> rows = {
      {"", Kind::whole, {}},
      {"bytes=0-99", Kind::partial, {{0, 99}}},
      {"Bytes = 0-99", Kind::partial, {{0, 99}}},
      {"bytes=500-", Kind::partial, {{500, 999}}},
      {"bytes=0-", Kind::partial, {{0, 999}}},
      {"bytes=-1", Kind::partial, {{999, 999}}},
      {"bytes=-5000", Kind::partial, {{0, 999}}},
      {"bytes=990-5000", Kind::partial, {{990, 999}}},
      {"bytes=999-999", Kind::partial, {{999, 999}}},
      {"bytes=0-99999999999999999999999", Kind::partial, {{0, 999}}},

      {"bytes=1000-", Kind::unsatisfiable, {}},
      {"bytes=1000-2000", Kind::unsatisfiable, {}},
      {"bytes=99999999999999999999999-", Kind::unsatisfiable, {}},
      {"bytes=-0", Kind::unsatisfiable, {}},
      {"bytes=500-0", Kind::unsatisfiable, {}},
      {"bytes=1000-,2000-", Kind::unsatisfiable, {}},

      {"bytes", Kind::whole, {}},
      {"bytes=", Kind::whole, {}},
      {"bytes=,", Kind::whole, {}},
      {"bytes=-", Kind::whole, {}},
      {"bytes=a-b", Kind::whole, {}},
      {"bytes=1", Kind::whole, {}},
      {"bytes=1-2-3", Kind::whole, {}},
      {"bytes=+1-2", Kind::whole, {}},
      {"bytes=1 -2", Kind::whole, {}},
      {"bytes=0x1-2", Kind::whole, {}},
      {"items=0-1", Kind::whole, {}},
      {"bytes=0-1,x", Kind::whole, {}},
      {"bytes=0-1,9-5", Kind::whole, {}},

      {"bytes=0-1,5-6", Kind::partial, {{0, 1}, {5, 6}}},
      {"bytes= 0-1 , ,5-6", Kind::partial, {{0, 1}, {5, 6}}},
      {"bytes=500-600,0-1", Kind::partial, {{500, 600}, {0, 1}}},
      {"bytes=0-1,2000-", Kind::partial, {{0, 1}}},
      // None are merged: clients count the parts.
      {"bytes=0-10,5-20", Kind::partial, {{0, 10}, {5, 20}}},
      {"bytes=0-1,2-3", Kind::partial, {{0, 1}, {2, 3}}},
      {"bytes=900-,0-10,5-20,-5", Kind::partial, {{900, 999}, {0, 10}, {5, 20}, {995, 999}}},
      {"bytes=0-,0-,0-", Kind::partial, {{0, 999}, {0, 999}, {0, 999}}},
  };
  for (const Row& row : rows) {
    INFO(row.header);
    const RangeSelection selection = parse_range(row.header, 1000);
    CHECK(selection.kind == row.kind);
    CHECK(selection.ranges == row.ranges);
  }
}

TEST_CASE("Range: 1,024 ranges are served, and one more is refused", "[http]") {
  std::string header = "bytes=0-0";
  for (int i = 1; i < 1024; ++i) header += "," + std::to_string(10 * i) + "-" + std::to_string(10 * i);
  const RangeSelection selection = parse_range(header, 20'000);
  REQUIRE(selection.ranges.size() == 1024);
  CHECK(selection.ranges[1023] == ByteRange{10'230, 10'230});
  CHECK(parse_range(header + ",", 20'000).kind == Kind::partial);
  CHECK(parse_range(header + ",11000-", 20'000).kind == Kind::too_many);
  CHECK(parse_range(header + ",11000-").kind == RequestedRanges::Kind::too_many);
}

TEST_CASE("Range: an empty representation", "[http]") {
  CHECK(parse_range("bytes=0-", 0).kind == Kind::whole);
  CHECK(parse_range("bytes=-5", 0).kind == Kind::whole);
  CHECK(parse_range("bytes=500-0", 0).kind == Kind::unsatisfiable);
}

TEST_CASE("Range: asked before the size is known", "[http]") {
  const RequestedRanges asked = parse_range("bytes=8388608-,-5");
  REQUIRE(asked.kind == RequestedRanges::Kind::ranges);
  REQUIRE(asked.ranges.size() == 2);
  CHECK(asked.ranges[0] == RequestedRange{8388608, {}, {}});
  CHECK(asked.ranges[1] == RequestedRange{{}, {}, 5});
  CHECK_FALSE(asked.ranges[0].resolve(8388608));
  CHECK(asked.ranges[0].resolve(8388610) == ByteRange{8388608, 8388609});
  CHECK(parse_range("bytes=500-0").kind == RequestedRanges::Kind::refused);
  CHECK(parse_range("x=1-2").kind == RequestedRanges::Kind::whole);
}

TEST_CASE("Range: Content-Range and If-Range", "[http]") {
  CHECK(content_range({0, 99}, 1000) == "bytes 0-99/1000");
  CHECK(unsatisfied_range(1000) == "bytes */1000");
  CHECK(ByteRange{5, 9}.size() == 5);
  CHECK(if_range_matches("", "\"a\""));
  CHECK(if_range_matches(" \"a\"", "\"a\""));
  CHECK(if_range_matches("a", "\"a\""));
  CHECK_FALSE(if_range_matches("aa", "\"a\""));
  CHECK_FALSE(if_range_matches("W/a", "\"W/a\""));
  CHECK_FALSE(if_range_matches("\"b\"", "\"a\""));
  CHECK_FALSE(if_range_matches("W/\"a\"", "\"a\""));
  CHECK_FALSE(if_range_matches("W/\"a\"", "W/\"a\""));
  CHECK_FALSE(if_range_matches("Sun, 06 Nov 1994 08:49:37 GMT", "\"a\""));
}
