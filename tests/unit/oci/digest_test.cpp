#include "oci/digest.hpp"

#include <algorithm>
#include <boost/functional/hash.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <catch2/catch.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::oci;

namespace {

// FIPS 180-4, and RFC 6234 for the empty message.
constexpr std::string_view kEmpty256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr std::string_view kAbc256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::string_view kAbc384 =
    "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
constexpr std::string_view kAbc512 =
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643"
    "ce80e2a9ac94fa54ca49f";

Errc error_of(std::string_view text) {
  const Result<Digest> result = Digest::parse(text);
  REQUIRE(!result);
  CHECK_FALSE(result.error().message.empty());
  return result.error().code;
}

std::string hex(std::size_t count, char digit = 'a') { return std::string(count, digit); }

}  // namespace

TEST_CASE("Digest: text and value convert into each other", "[oci]") {
  for (const std::string_view text : {kEmpty256, kAbc256, kAbc384, kAbc512}) {
    INFO(text);
    const Result<Digest> digest = Digest::parse(text);
    REQUIRE(digest);
    CHECK(digest->to_string() == text);
    CHECK(std::string(digest->algorithm_name()) + ":" + digest->encoded() == text);
    CHECK(digest->raw().size() == digest_bytes(digest->algorithm()));
    CHECK(Digest::from_raw(digest->algorithm(), digest->raw()) == *digest);
  }
}

TEST_CASE("Digest: random bytes survive the round trip", "[oci]") {
  std::mt19937 random(1);
  for (const Algorithm algorithm : {Algorithm::sha256, Algorithm::sha384, Algorithm::sha512}) {
    for (int i = 0; i < 200; ++i) {
      std::vector<std::byte> raw(digest_bytes(algorithm));
      std::generate(raw.begin(), raw.end(), [&] { return static_cast<std::byte>(random()); });
      const Digest digest = Digest::from_raw(algorithm, raw);
      const Result<Digest> again = Digest::parse(digest.to_string());
      REQUIRE(again);
      REQUIRE(*again == digest);
      REQUIRE(std::ranges::equal(again->raw(), raw));
    }
  }
}

TEST_CASE("Digest: what is not algorithm:encoded is invalid", "[oci]") {
  const auto text = GENERATE_COPY(values<std::string>({
      "",
      ":",
      "sha256",
      "sha256:",
      ":" + hex(64),
      "sha256" + hex(64),
      "sha256:" + hex(63),
      "sha256:" + hex(65),
      "sha256:" + hex(128),
      "sha384:" + hex(64),
      "sha384:" + hex(95),
      "sha512:" + hex(127),
      "sha512:" + hex(64),
      "sha256:" + hex(64, 'A'),
      "sha256:" + hex(64, 'g'),
      "sha256:" + hex(63) + "G",
      "sha256:" + hex(63) + " ",
      " sha256:" + hex(64),
      "sha256:" + hex(64) + "\n",
      "sha256: " + hex(63),
      "SHA256:" + hex(64),
      "Sha256:" + hex(64),
      "sha256::" + hex(63),
      "sha256:" + hex(32) + ":" + hex(31),
      "sha256:" + hex(63) + "/",
      "sha256:../../../../etc/passwd",
      "sha256:" + std::string(64, '\0'),
      "sha256:" + hex(63) + "\xc3",
      "sha256+:" + hex(64),
      "+sha256:" + hex(64),
      "sha256..b64:" + hex(64),
      "sha256+-b64:" + hex(64),
      "sha 256:" + hex(64),
      "md5:",
      "md5:a/b",
      "md5:a:b",
      "md5:a.b",
      "md5/x:abc",
  }));
  INFO(text);
  CHECK(error_of(text) == Errc::digest_invalid);
}

TEST_CASE("Digest: a well-formed digest of another algorithm is unsupported", "[oci]") {
  const auto text =
      GENERATE(as<std::string>{}, "md5:d41d8cd98f00b204e9800998ecf8427e", "blake3:abc", "sha1:0",
               "sha256+b64:LCa0a2jxo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=", "sha256+b64u:LCa0a2j_xo-5m0==",
               "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", "a.b_c-d+e:Zz=_-", "x:y");
  INFO(text);
  CHECK(error_of(text) == Errc::digest_unsupported);
}

TEST_CASE("Digest: a prefix or a neighbour of a valid digest is not one", "[oci]") {
  const std::string valid(kAbc256);
  for (std::size_t i = 0; i < valid.size(); ++i) REQUIRE_FALSE(Digest::parse(valid.substr(0, i)));
  for (std::size_t i = valid.find(':') + 1; i < valid.size(); ++i) {
    for (const char c : {'A', 'F', 'g', '/', ':', '`', ' ', '\0', '\x7f', '\xff'}) {
      std::string changed = valid;
      changed[i] = c;
      REQUIRE_FALSE(Digest::parse(changed));
    }
  }
}

TEST_CASE("Digest: algorithms have names and lengths", "[oci]") {
  CHECK(digest_bytes(Algorithm::sha256) == 32);
  CHECK(digest_bytes(Algorithm::sha384) == 48);
  CHECK(digest_bytes(Algorithm::sha512) == 64);
  for (const Algorithm algorithm : {Algorithm::sha256, Algorithm::sha384, Algorithm::sha512}) {
    CHECK(parse_algorithm(name(algorithm)) == algorithm);
  }
  for (const char* other : {"", "sha", "sha25", "sha2566", "SHA256", "md5"}) CHECK_FALSE(parse_algorithm(other));
}

TEST_CASE("Digest: raw bytes of the wrong length are a bug", "[oci]") {
  const std::vector<std::byte> raw(64);
  CHECK_THROWS_AS(Digest::from_raw(Algorithm::sha256, raw), std::invalid_argument);
  CHECK_THROWS_AS(Digest::from_raw(Algorithm::sha512, std::span(raw).first(63)), std::invalid_argument);
  CHECK_THROWS_AS(Digest::from_raw(Algorithm::sha384, {}), std::invalid_argument);
}

TEST_CASE("Digest: the order is that of the text", "[oci]") {
  std::mt19937 random(2);
  std::vector<Digest> digests;
  for (const Algorithm algorithm : {Algorithm::sha512, Algorithm::sha256, Algorithm::sha384}) {
    for (int i = 0; i < 50; ++i) digests.push_back(digest_of(algorithm, std::to_string(random())));
  }
  std::vector<std::string> texts;
  for (const Digest& digest : digests) texts.push_back(digest.to_string());
  std::sort(digests.begin(), digests.end());
  std::sort(texts.begin(), texts.end());
  for (std::size_t i = 0; i < digests.size(); ++i) REQUIRE(digests[i].to_string() == texts[i]);
}

TEST_CASE("Digest: the same bytes under another algorithm are another digest", "[oci]") {
  const std::vector<std::byte> zero(64);
  const Digest shorter = Digest::from_raw(Algorithm::sha256, std::span(zero).first(32));
  const Digest longer = Digest::from_raw(Algorithm::sha512, zero);
  CHECK(shorter != longer);
  CHECK(shorter < longer);
  CHECK(hash_value(shorter) != hash_value(longer));
  CHECK(shorter == Digest());
}

TEST_CASE("Digest: equal digests hash alike, and every byte counts", "[oci]") {
  const Digest digest = digest_of(Algorithm::sha512, "x");
  const Digest copy = Digest::parse(digest.to_string()).value();
  CHECK(std::hash<Digest>{}(digest) == std::hash<Digest>{}(copy));
  CHECK(boost::hash<Digest>{}(digest) == boost::hash<Digest>{}(copy));

  std::unordered_set<std::size_t> hashes{hash_value(digest)};
  for (std::size_t i = 0; i < 64; ++i) {
    std::vector<std::byte> raw(digest.raw().begin(), digest.raw().end());
    raw[i] ^= std::byte{1};
    hashes.insert(hash_value(Digest::from_raw(Algorithm::sha512, raw)));
  }
  CHECK(hashes.size() == 65);
}

TEST_CASE("Digest: it is a key of hash tables", "[oci]") {
  boost::unordered_flat_map<Digest, int> by_boost;
  boost::unordered_flat_map<Digest, int, std::hash<Digest>> by_std;
  std::unordered_set<Digest> set;
  for (int i = 0; i < 1000; ++i) {
    const Digest digest = digest_of(Algorithm::sha256, std::to_string(i));
    by_boost[digest] = i;
    by_std[digest] = i;
    set.insert(digest);
  }
  CHECK(by_boost.size() == 1000);
  CHECK(set.size() == 1000);
  CHECK(by_boost.at(digest_of(Algorithm::sha256, "517")) == 517);
  CHECK(by_std.at(digest_of(Algorithm::sha256, "517")) == 517);
  CHECK_FALSE(set.contains(digest_of(Algorithm::sha256, "1000")));
}

TEST_CASE("Hasher: known digests", "[oci]") {
  CHECK(digest_of(Algorithm::sha256, "").to_string() == kEmpty256);
  CHECK(digest_of(Algorithm::sha256, std::span<const std::byte>()).to_string() == kEmpty256);
  CHECK(digest_of(Algorithm::sha256, "abc").to_string() == kAbc256);
  CHECK(digest_of(Algorithm::sha384, "abc").to_string() == kAbc384);
  CHECK(digest_of(Algorithm::sha512, "abc").to_string() == kAbc512);
}

TEST_CASE("Hasher: pieces make the digest of the whole", "[oci]") {
  std::string content(100'000, '\0');
  std::mt19937 random(3);
  std::generate(content.begin(), content.end(), [&] { return static_cast<char>(random()); });
  for (const Algorithm algorithm : {Algorithm::sha256, Algorithm::sha384, Algorithm::sha512}) {
    Hasher hasher(algorithm);
    CHECK(hasher.algorithm() == algorithm);
    std::string_view rest = content;
    while (!rest.empty()) {
      const std::size_t n = std::min<std::size_t>(rest.size(), random() % 5000);
      hasher.update(rest.substr(0, n));
      rest.remove_prefix(n);
    }
    CHECK(hasher.finish() == digest_of(algorithm, content));
  }
}

TEST_CASE("Hasher: it moves with what it has hashed so far", "[oci]") {
  Hasher first(Algorithm::sha256);
  first.update("a");
  Hasher second(std::move(first));
  second.update("b");
  Hasher third(Algorithm::sha512);
  third.update("something else");
  third = std::move(second);
  third.update("c");
  CHECK(third.algorithm() == Algorithm::sha256);
  CHECK(third.finish().to_string() == kAbc256);
}

TEST_CASE("Hasher: a finished one refuses", "[oci]") {
  Hasher hasher(Algorithm::sha256);
  hasher.finish();
  CHECK_THROWS_AS(hasher.update("x"), std::logic_error);
  CHECK_THROWS_AS(hasher.finish(), std::logic_error);
}
