#include <catch2/catch.hpp>

#include "base/units.hpp"

using namespace sluice;
using namespace std::chrono_literals;

TEST_CASE("Sizes: units of 1024 and of 1000", "[base]") {
  CHECK(parse_bytes("0").value() == 0);
  CHECK(parse_bytes("512").value() == 512);
  CHECK(parse_bytes("512B").value() == 512);
  CHECK(parse_bytes("8MiB").value() == 8 << 20);
  CHECK(parse_bytes("1.5 GiB").value() == 1536ULL << 20);
  CHECK(parse_bytes("2k").value() == 2048);
  CHECK(parse_bytes("2K").value() == 2048);
  CHECK(parse_bytes("3t").value() == 3ULL << 40);
  CHECK(parse_bytes("2kB").value() == 2000);
  CHECK(parse_bytes("2GB").value() == 2'000'000'000);
  CHECK(parse_bytes("1TiB").value() == 1ULL << 40);
}

TEST_CASE("Sizes: what is none", "[base]") {
  for (const char* bad :
       {"", " ", "x", "-1", "1XB", "1 2", "1MiB2", "MiB", "1e3", "inf", "nan", "99999999TiB", "0x10"}) {
    INFO(bad);
    const Result<std::uint64_t> parsed = parse_bytes(bad);
    REQUIRE(parsed.has_error());
    CHECK(parsed.error().code == Errc::config_invalid);
  }
  CHECK(parse_bytes("1XB").error().message == "\"1XB\" is not a size; expected for example 512MiB or 20GiB");
}

TEST_CASE("Durations: as Go prints them", "[base]") {
  CHECK(parse_duration("0").value() == 0ns);
  CHECK(parse_duration("90s").value() == 90s);
  CHECK(parse_duration("1h30m").value() == 90min);
  CHECK(parse_duration("1m0.5s").value() == 60500ms);
  CHECK(parse_duration("250ms").value() == 250ms);
  CHECK(parse_duration("7us").value() == 7us);
  CHECK(parse_duration("7d").value() == 168h);
}

TEST_CASE("Durations: what is none", "[base]") {
  for (const char* bad : {"", "5", "s", "-1s", "1x", "1h 30", "1h30", "999999999h", "1e3s"}) {
    INFO(bad);
    CHECK(parse_duration(bad).has_error());
  }
}

TEST_CASE("Sizes: printed short", "[base]") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(8 << 20) == "8 MiB");
  CHECK(format_bytes(1'300'000'000) == "1.21 GiB");
  CHECK(format_bytes(1000 * 1024) == "1000 KiB");
  CHECK(format_bytes((1 << 20) - 1) == "1 MiB");
  CHECK(format_bytes(1023 * 1024 + 512) == "1 MiB");
  CHECK(format_bytes(1010 * 1024 + 200) == "1010 KiB");
  CHECK(format_bytes(10 * 1024 - 1) == "10 KiB");
  CHECK(format_bytes(102'400 + 1) == "100 KiB");
  CHECK(format_bytes(5000ULL << 40) == "5000 TiB");
}

TEST_CASE("Durations: printed short", "[base]") {
  CHECK(format_duration(0ns) == "0s");
  CHECK(format_duration(15ns) == "15ns");
  CHECK(format_duration(1500ns) == "1.5us");
  CHECK(format_duration(250ms) == "250ms");
  CHECK(format_duration(999'900us) == "1s");
  CHECK(format_duration(90s) == "1m30s");
  CHECK(format_duration(2h) == "2h");
  CHECK(format_duration(3723s) == "1h2m3s");
  CHECK(format_duration(59'999'900us) == "1m");
  CHECK(format_duration(1500ms) == "1.5s");
  CHECK(format_duration(12'345ms) == "12.345s");
  CHECK(format_duration(999'600ns) == "1ms");
}
