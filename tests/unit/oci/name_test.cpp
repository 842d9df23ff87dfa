#include "oci/name.hpp"

#include <boost/functional/hash.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <catch2/catch.hpp>
#include <random>
#include <regex>
#include <set>
#include <string>

#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::oci;

namespace {

constexpr std::string_view kDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

// A text of up to `longest` characters of `alphabet`.
std::string random_text(std::mt19937& random, std::string_view alphabet, std::size_t longest) {
  std::string text(random() % (longest + 1), '\0');
  for (char& c : text) c = alphabet[random() % alphabet.size()];
  return text;
}

}  // namespace

TEST_CASE("Repository: names of the grammar are taken as they are", "[oci]") {
  const auto text = GENERATE(as<std::string>{}, "a", "0", "library/alpine", "a/b/c/d/e/f", "a.b", "a_b", "a__b", "a-b",
                             "a--b", "a------b", "foo.com/bar", "xn--n3h.com/x", "1/2/3", "a.b_c__d---e/f", "aa/aa/aa");
  INFO(text);
  const Result<Repository> name = Repository::parse(text);
  REQUIRE(name);
  CHECK(name->str() == text);
}

TEST_CASE("Repository: everything else is refused", "[oci]") {
  const auto text =
      GENERATE(as<std::string>{}, "", "/", "a/", "/a", "a//b", "A", "a/B", "Library/alpine", ".", "..", "../a",
               "a/../b", "a/./b", ".a", "a.", "a..b", "a._b", "a_.b", "a-.b", "a.-b", "a_-b", "a-_b", "_a", "a_",
               "a___b", "a__", "__a", "-a", "a-", "a/-b", "a-/b", "a/.b", "a./b", "a_/b", "a b", " a", "a ", "a\n",
               "a:b", "a@b", "a%2fb", "a\\b", "a?b", "a*b", "a~b", "a+b", "\xc3\xa4", "a\x7f");
  INFO(text);
  const Result<Repository> name = Repository::parse(text);
  REQUIRE(!name);
  CHECK(name.error().code == Errc::name_invalid);
}

TEST_CASE("Repository: a zero byte does not end a name", "[oci]") {
  CHECK_FALSE(Repository::parse(std::string_view("a\0", 2)));
  CHECK_FALSE(Repository::parse(std::string_view("a\0b", 3)));
  CHECK_FALSE(Tag::parse(std::string_view("a\0", 2)));
}

TEST_CASE("Repository: at most 255 bytes", "[oci]") {
  CHECK(Repository::parse(std::string(255, 'a')));
  CHECK_FALSE(Repository::parse(std::string(256, 'a')));
  CHECK_FALSE(Repository::parse(std::string(100'000, 'a')));
  CHECK(Repository::parse("a" + std::string(253, '-') + "b"));
  CHECK_FALSE(Repository::parse("a" + std::string(254, '-')));
}

TEST_CASE("Repository: the matcher agrees with the expression of the distribution-spec", "[oci]") {
  const std::regex expression(R"([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)");
  std::mt19937 random(4);
  int taken = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::string text = random_text(random, "aaab01._-/__--A", 9);
    const bool expected = std::regex_match(text, expression);
    INFO(text);
    REQUIRE(Repository::parse(text).has_value() == expected);
    taken += expected ? 1 : 0;
  }
  CHECK(taken > 1000);
}

TEST_CASE("Tag: the grammar of the distribution-spec", "[oci]") {
  for (const std::string& good : {std::string("latest"), std::string("1"), std::string("_"), std::string("A.b-C_d"),
                                  std::string("v1..2--3__"), std::string("sha256-abc"), std::string(128, 'x')}) {
    INFO(good);
    const Result<Tag> tag = Tag::parse(good);
    REQUIRE(tag);
    CHECK(tag->str() == good);
  }
  for (const std::string& bad :
       {std::string(), std::string(".a"), std::string("-a"), std::string("a/b"), std::string("a:b"), std::string("a b"),
        std::string("a+b"), std::string("a@b"), std::string("\xc3\xa4"), std::string("a\n"), std::string(129, 'x')}) {
    INFO(bad);
    const Result<Tag> tag = Tag::parse(bad);
    REQUIRE(!tag);
    CHECK(tag.error().code == Errc::tag_invalid);
  }
}

TEST_CASE("Tag: the matcher agrees with the expression of the distribution-spec", "[oci]") {
  const std::regex expression("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}");
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = random_text(random, "aZ09._-_/:@ \x7f", 6);
    INFO(text);
    REQUIRE(Tag::parse(text).has_value() == std::regex_match(text, expression));
  }
}

TEST_CASE("Reference: a colon makes a digest", "[oci]") {
  const Result<Reference> digest = Reference::parse(kDigest);
  REQUIRE(digest);
  CHECK(digest->is_digest());
  CHECK(digest->digest() == Digest::parse(kDigest).value());
  CHECK(digest->to_string() == kDigest);
  CHECK_THROWS(digest->tag());

  const Result<Reference> tag = Reference::parse("3.19");
  REQUIRE(tag);
  CHECK_FALSE(tag->is_digest());
  CHECK(tag->tag().str() == "3.19");
  CHECK(tag->to_string() == "3.19");
  CHECK_THROWS(tag->digest());
}

TEST_CASE("Reference: errors tell which of the two was meant", "[oci]") {
  const auto error_of = [](std::string_view text) { return Reference::parse(text).error().code; };
  CHECK(error_of("sha256:abc") == Errc::digest_invalid);
  CHECK(error_of(":") == Errc::digest_invalid);
  CHECK(error_of("md5:abc") == Errc::digest_unsupported);
  CHECK(error_of("-latest") == Errc::tag_invalid);
  CHECK(error_of("") == Errc::tag_invalid);
}

TEST_CASE("Names: they compare and hash by their text", "[oci]") {
  const Repository a = Repository::parse("a").value();
  const Repository b = Repository::parse("b").value();
  CHECK(a == Repository::parse("a").value());
  CHECK(a < b);
  CHECK(Tag::parse("1").value() < Tag::parse("2").value());
  CHECK(std::hash<Repository>{}(a) == boost::hash<Repository>{}(Repository::parse("a").value()));

  const Reference by_tag = Reference::parse("x").value();
  const Reference by_digest = Reference::parse(kDigest).value();
  CHECK(by_tag != by_digest);
  CHECK(std::set<Reference>{by_digest, by_tag, by_tag}.begin()->to_string() == "x");

  boost::unordered_flat_map<Reference, int> map;
  map[by_tag] = 1;
  map[by_digest] = 2;
  map[Reference(Tag::parse("x").value())] += 10;
  map[Reference(Digest::parse(kDigest).value())] += 10;
  CHECK(map.size() == 2);
  CHECK(map.at(by_tag) == 11);
  CHECK(map.at(by_digest) == 12);
}
