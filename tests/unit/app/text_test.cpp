#include <catch2/catch.hpp>

#include "app/commands/text.hpp"

using namespace sluice::app;
using namespace std::chrono_literals;

TEST_CASE("Table: columns are as wide as what is in them, numbers stand right", "[app]") {
  Table table({"NAME", ">SIZE", "WHEN"});
  CHECK(table.str().empty());
  table.add({"a", "1 B", "just now"});
  table.add({"longer", "100 MiB"});
  CHECK(table.str() ==
        "NAME       SIZE  WHEN\n"
        "a           1 B  just now\n"
        "longer  100 MiB\n");
}

TEST_CASE("Table: characters count, not bytes", "[app]") {
  Table table({"A", "B"});
  table.add({"é", "x"});
  table.add({"ab", "y"});
  CHECK(table.str() == "A   B\né   x\nab  y\n");
}

TEST_CASE("Text: times are told as people would", "[app]") {
  const auto now = std::chrono::system_clock::from_time_t(1'700'000'000);  // 2023-11-14T22:13:20Z
  CHECK(ago("2023-11-14T22:13:20Z", now) == "just now");
  CHECK(ago("2023-11-14T22:12:00Z", now) == "1 minute ago");
  CHECK(ago("2023-11-14T20:13:20Z", now) == "2 hours ago");
  CHECK(ago("2023-11-10T22:13:20Z", now) == "4 days ago");
  // A clock that was put back.
  CHECK(ago("2023-11-15T22:13:20Z", now) == "just now");
  CHECK(ago("", now) == "-");
  CHECK(ago("nonsense", now) == "-");
}

TEST_CASE("Text: digests, rates and counts", "[app]") {
  CHECK(short_digest("sha256:0123456789abcdef0123") == "sha256:0123456789ab");
  CHECK(short_digest("") == "");
  CHECK(rate(10 << 20, 2000ms) == "5 MiB/s");
  CHECK(rate(0, 0ms) == "0 B/s");
  CHECK(counted(1, "blob") == "1 blob");
  CHECK(counted(0, "blob") == "0 blobs");
}

TEST_CASE("Text: a bar has the width that it is given, whatever the share", "[app]") {
  CHECK(bar(0, 20) == "[            ]   0 %");
  CHECK(bar(0.5, 20) == "[=====>      ]  50 %");
  CHECK(bar(1, 20) == "[============] 100 %");
  CHECK(bar(7, 20) == bar(1, 20));
  CHECK(bar(0.5, 4) == " 50 %");
}
