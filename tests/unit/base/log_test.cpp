#include <catch2/catch.hpp>

#include "base/log.hpp"
#include "base/log_recent.hpp"

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

TEST_CASE("JSON escaping: what is invisible or turns the line about is escaped", "[base]") {
  CHECK(escaped("a\xE2\x80\xAE"
                "b") == "a\\u202eb");                              // right-to-left override
  CHECK(escaped("\xE2\x81\xA6\xE2\x81\xA9") == "\\u2066\\u2069");  // isolates
  CHECK(escaped("\xD8\x9C\xE2\x80\x8F") == "\\u061c\\u200f");      // marks
  CHECK(escaped("\xC2\x85\xC2\x9B") == "\\u0085\\u009b");          // C1: next line, CSI
  CHECK(escaped("\xE2\x80\xA8\xE2\x80\xA9") == "\\u2028\\u2029");  // separators of lines and paragraphs
  CHECK(escaped("\xE2\x80\x8B\xEF\xBB\xBF\xC2\xAD") == "\\u200b\\ufeff\\u00ad");
  CHECK(escaped("\xF3\xA0\x81\xA1") == "\\udb40\\udc61");            // a tag character, beyond U+FFFF
  CHECK(escaped("\xC2\xA0\xE2\x80\xA6") == "\xC2\xA0\xE2\x80\xA6");  // a wide space and an ellipsis are seen
}

TEST_CASE("JSON escaping: every format character of Unicode 15 is escaped", "[base]") {
  const auto utf8 = [](char32_t c) {
    std::string out;
    const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x800) {
      put(0xC0U | c >> 6U);
    } else if (c < 0x10000) {
      put(0xE0U | c >> 12U);
      put(0x80U | (c >> 6U & 0x3FU));
    } else {
      put(0xF0U | c >> 18U);
      put(0x80U | (c >> 12U & 0x3FU));
      put(0x80U | (c >> 6U & 0x3FU));
    }
    put(0x80U | (c & 0x3FU));
    return out;
  };
  // Its category Cf, and the empty pattern of Braille.
  const std::vector<std::pair<char32_t, char32_t>> spans{
      {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},     {0x6DD, 0x6DD},     {0x70F, 0x70F},
      {0x890, 0x891},     {0x8E2, 0x8E2},     {0x180E, 0x180E},   {0x200B, 0x200F},   {0x202A, 0x202E},
      {0x2060, 0x2064},   {0x2066, 0x206F},   {0x2800, 0x2800},   {0xFEFF, 0xFEFF},   {0xFFF9, 0xFFFB},
      {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
      {0xE0001, 0xE0001}, {0xE0020, 0xE007F}};
  for (const auto& [first, last] : spans) {
    for (char32_t c = first; c <= last; ++c) {
      INFO(static_cast<unsigned>(c));
      CHECK(escaped(utf8(c)).starts_with("\\u"));
    }
  }
  // Their neighbours are letters, marks and signs that are seen.
  for (const char32_t c : {U'\u0606', U'\u08E1', U'\u08E3', U'\u2801', U'\U000110BC', U'\U000110BE', U'\U00013440'}) {
    CHECK(escaped(utf8(c)) == utf8(c));
  }
}

TEST_CASE("Text escaping: as JSON's, but quotes and backslashes stay", "[base]") {
  std::string out;
  log::append_text_escaped(out, "\"a\\b\" \x1B[31m\n\xE2\x80\xAE\xFF \xC3\xA4");
  CHECK(out == "\"a\\b\" \\u001b[31m\\u000a\\u202e\\u00ff \xC3\xA4");
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

TEST_CASE("Log: the last warnings and errors are kept, whatever is written", "[base]") {
  log::configure({log::Level::off, log::Format::text});
  log::info("test", "no warning");
  log::warn("test", "first https://user:secret@host/");
  log::error("test", "second\n");
  log::error("test", "second\n");
  const std::vector<log::RecentLine> lines = log::recent();
  REQUIRE(lines.size() >= 2);
  CHECK(lines[0].level == log::Level::error);
  CHECK(lines[0].message == "second\\u000a");
  CHECK(lines[0].times == 2);
  CHECK(lines[1].component == "test");
  CHECK(lines[1].level == log::Level::warn);
  CHECK(lines[1].message.find("secret") == std::string::npos);
  CHECK(lines[1].times == 1);
  for (std::size_t i = 0; i < 2 * log::kRecentLines; ++i) log::warn("test", std::to_string(i));
  CHECK(log::recent().size() == log::kRecentLines);
  CHECK(log::recent()[0].message == std::to_string(2 * log::kRecentLines - 1));
  log::configure({log::Level::warn, log::Format::text});
}
