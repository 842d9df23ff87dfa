#include "base/base64.hpp"

#include <catch2/catch.hpp>

using namespace sluice;

TEST_CASE("Base64: decodes with and without padding", "[base]") {
  CHECK(decode_base64("", Base64::standard) == "");
  CHECK(decode_base64("Zg==", Base64::standard) == "f");
  CHECK(decode_base64("Zm8", Base64::standard) == "fo");
  CHECK(decode_base64("Zm9vYmFy", Base64::url) == "foobar");
}

TEST_CASE("Base64: encodes the test vectors of RFC 4648, section 10", "[base]") {
  CHECK(encode_base64("").empty());
  CHECK(encode_base64("f") == "Zg==");
  CHECK(encode_base64("fo") == "Zm8=");
  CHECK(encode_base64("foo") == "Zm9v");
  CHECK(encode_base64("foob") == "Zm9vYg==");
  CHECK(encode_base64("fooba") == "Zm9vYmE=");
  CHECK(encode_base64("foobar") == "Zm9vYmFy");
  CHECK(encode_base64("\xfb\xff\xbf") == "+/+/");
}

TEST_CASE("Base64: the two alphabets differ in two characters", "[base]") {
  CHECK(decode_base64("+/+/", Base64::standard) == "\xfb\xff\xbf");
  CHECK(decode_base64("-_-_", Base64::url) == "\xfb\xff\xbf");
  CHECK_FALSE(decode_base64("-_-_", Base64::standard));
  CHECK_FALSE(decode_base64("+/+/", Base64::url));
}

TEST_CASE("Base64: nothing else is it", "[base]") {
  for (const char* text : {"Zm 8", "Zm\n8", "Z=g=", "\xc3\xa4", "!!"}) {
    INFO(text);
    CHECK_FALSE(decode_base64(text, Base64::standard));
    CHECK_FALSE(decode_base64(text, Base64::url));
  }
}
