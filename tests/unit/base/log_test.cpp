#include <catch2/catch.hpp>

#include "base/log.hpp"

using namespace sluice;

namespace {

std::string escaped(std::string_view text) {
  std::string out;
  log::append_json_escaped(out, text);
  return out;
}

}  // namespace

TEST_CASE("JSON escaping: plain text and UTF-8 pass", "[base]") {
  CHECK(escaped("library/alpine:3.20") == "library/alpine:3.20");
  CHECK(escaped("\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\xB3") == "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\xB3");
  CHECK(escaped("").empty());
}

TEST_CASE("JSON escaping: quotes, backslashes and control characters cannot end a string or a line", "[base]") {
  CHECK(escaped("a\"b\\c") == "a\\\"b\\\\c");
  CHECK(escaped("a\nb\rc\td") == "a\\u000ab\\u000dc\\u0009d");
  CHECK(escaped(std::string_view("\0\x1F\x7F", 3)) == "\\u0000\\u001f\\u007f");
}

TEST_CASE("JSON escaping: bytes that are not UTF-8 are escaped one by one", "[base]") {
  CHECK(escaped("\xFF") == "\\u00ff");
  CHECK(escaped("\xC3") == "\\u00c3");                                   // cut short
  CHECK(escaped("\xC0\xAF") == "\\u00c0\\u00af");                        // overlong
  CHECK(escaped("\xED\xA0\x80") == "\\u00ed\\u00a0\\u0080");             // a surrogate
  CHECK(escaped("\xF4\x90\x80\x80") == "\\u00f4\\u0090\\u0080\\u0080");  // past U+10FFFF
  CHECK(escaped("\xE2\x82x") == "\\u00e2\\u0082x");
}

TEST_CASE("Log: levels have names", "[base]") {
  CHECK(log::parse_level("debug").value() == log::Level::debug);
  CHECK(log::parse_level("warn").value() == log::Level::warn);
  CHECK(log::parse_level("warning").value() == log::Level::warn);
  CHECK(log::parse_level("off").value() == log::Level::off);
  CHECK(log::parse_level("loud").error().code == Errc::config_invalid);
}

TEST_CASE("Log: what is below the level is not written", "[base]") {
  log::configure({log::Level::error, log::Format::text});
  CHECK_FALSE(log::enabled(log::Level::warn));
  CHECK(log::enabled(log::Level::error));
  log::configure({log::Level::off, log::Format::text});
  CHECK_FALSE(log::enabled(log::Level::error));
  log::error("test", "nobody sees this");
  log::configure({log::Level::warn, log::Format::text});
}
