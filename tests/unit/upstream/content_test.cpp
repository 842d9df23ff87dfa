#include <catch2/catch.hpp>

#include "support/catch_result.hpp"
#include "upstream/content.hpp"

namespace sluice::upstream {
namespace {

using Fields = std::vector<http::HeaderField>;

const oci::Digest kDigest = oci::digest_of(oci::Algorithm::sha256, "content");
const oci::Digest kEmpty = oci::digest_of(oci::Algorithm::sha256, "");

Result<Extent> check(int status, Fields fields, std::optional<std::uint64_t> length, std::uint64_t offset,
                     const oci::Digest& digest = kDigest) {
  http::ReceivedHead head;
  head.status = status;
  head.fields = std::move(fields);
  return check_blob(head, length, digest, offset);
}

TEST_CASE("ContentRange: the three forms", "[upstream]") {
  CHECK(parse_content_range("bytes 5-9/10") == ContentRange{5, 9, 10});
  CHECK(parse_content_range("Bytes 0-0/1") == ContentRange{0, 0, 1});
  CHECK(parse_content_range("bytes 5-9/*") == ContentRange{5, 9, std::nullopt});
  CHECK(parse_content_range("bytes */10") == ContentRange{std::nullopt, 0, 10});
  for (const char* text : {"", "bytes", "bytes ", "bytes 5-9", "bytes 9-5/10", "bytes 5-10/10", "bytes -5/10",
                           "bytes 5-/10", "bytes */*", "bytes 5-9/x", "bytes=5-9/10", "items 5-9/10", "bytes 5-9/10 ",
                           "bytes 5-9/99999999999999999999", "bytes +5-9/10"}) {
    INFO(text);
    CHECK_FALSE(parse_content_range(text));
  }
}

TEST_CASE("check_blob: whole answers", "[upstream]") {
  auto extent = check(200, {}, 7, 0);
  REQUIRE(extent);
  CHECK(extent->offset == 0);
  CHECK(extent->size == 7U);
  extent = check(200, {}, std::nullopt, 0);
  REQUIRE(extent);
  CHECK_FALSE(extent->size);
  // Upstream ignored the Range.
  extent = check(200, {}, 7, 3);
  REQUIRE(extent);
  CHECK(extent->offset == 0);
  CHECK(check(200, {}, 0, 0, kEmpty));
  CHECK(check(200, {{"Content-Encoding", "identity"}}, 7, 0));
  CHECK(check(200, {{"Docker-Content-Digest", kDigest.to_string()}}, 7, 0));
  CHECK(check(200, {{"Docker-Content-Digest", "nonsense"}}, 7, 0));
}

TEST_CASE("check_blob: answers to something else", "[upstream]") {
  CHECK_FALSE(check(200, {}, 0, 0));
  CHECK_FALSE(check(204, {}, std::nullopt, 0));
  CHECK_FALSE(check(226, {}, 7, 0));
  CHECK(check(226, {}, 7, 0).error().code == Errc::upstream_protocol);
}

TEST_CASE("check_blob: no field disqualifies bytes, it only makes them odd", "[upstream]") {
  const std::vector<http::HeaderField> odd = {{"Content-Type", "text/html; charset=utf-8"},
                                              {"content-type", "TEXT/HTML"},
                                              {"Content-Encoding", "gzip"},
                                              {"Content-Encoding", "aws-chunked"},
                                              {"Docker-Content-Digest", kEmpty.to_string()}};
  for (const http::HeaderField& field : odd) {
    INFO(field.second);
    const auto extent = check(200, {field}, 7, 0);
    REQUIRE(extent);
    CHECK(extent->size == 7U);
    CHECK(check(206, {field, {"Content-Range", "bytes 3-6/7"}}, 4, 3));
    http::ReceivedHead head;
    head.fields = {field};
    CHECK_FALSE(oddity(head, kDigest).empty());
  }
  http::ReceivedHead head;
  head.fields = {{"Content-Type", "application/json"},
                 {"Content-Encoding", "identity"},
                 {"Docker-Content-Digest", kDigest.to_string()}};
  CHECK(oddity(head, kDigest).empty());
  head.fields = {{"Docker-Content-Digest", kEmpty.to_string()}};
  CHECK(oddity(head, std::nullopt).empty());
}

TEST_CASE("check_blob: a 203 is the whole", "[upstream]") {
  const auto extent = check(203, {}, 7, 0);
  REQUIRE(extent);
  CHECK(extent->size == 7U);
  CHECK(check(203, {}, 7, 3)->offset == 0);
  CHECK_FALSE(check(203, {}, 0, 0));
}

TEST_CASE("codings_named: several fields are one list", "[upstream]") {
  http::ReceivedHead head;
  head.fields = {{"Content-Encoding", "identity"}, {"content-encoding", " , gzip\t,Identity,"}};
  CHECK(codings_named(head) == std::vector<std::string_view>{"gzip"});
  CHECK_FALSE(oddity(head, kDigest).empty());
  head.fields = {{"Content-Encoding", "gzip"}, {"Content-Type", "deflate"}, {"Content-Encoding", "gzip"}};
  CHECK(codings_named(head) == std::vector<std::string_view>{"gzip", "gzip"});
  head.fields = {{"Content-Encoding", ""}, {"Content-Encoding", "identity"}};
  CHECK(codings_named(head).empty());
  CHECK(oddity(head, kDigest).empty());
}

TEST_CASE("check_blob: partial answers", "[upstream]") {
  const auto extent = check(206, {{"Content-Range", "bytes 3-6/7"}}, 4, 3);
  REQUIRE(extent);
  CHECK(extent->offset == 3);
  CHECK(extent->size == 7U);
  CHECK(check(206, {{"Content-Range", "bytes 3-6/7"}}, std::nullopt, 3));
  const auto unknown = check(206, {{"Content-Range", "bytes 3-6/*"}}, 4, 3);
  REQUIRE(unknown);
  CHECK_FALSE(unknown->size);

  // The whole, though no range of it was asked for.
  const auto whole = check(206, {{"Content-Range", "bytes 0-6/7"}}, std::nullopt, 0);
  REQUIRE(whole);
  CHECK(whole->offset == 0);
  CHECK(whole->size == 7U);
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 0-5/7"}}, 6, 0));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 0-6/*"}}, 7, 0));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 1-6/7"}}, 6, 0));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 0-6/7"}}, 6, 0));
  CHECK_FALSE(check(206, {}, 7, 0));
  CHECK_FALSE(check(206, {}, 4, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 2-6/7"}}, 5, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 4-6/7"}}, 3, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 3-5/7"}}, 3, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 3-6/7"}}, 5, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes */7"}}, 4, 3));
  CHECK_FALSE(check(206, {{"Content-Range", "bytes 3-6/7"}, {"Content-Range", "bytes 3-6/7"}}, 4, 3));
  CHECK_FALSE(check(206, {{"Content-Type", "multipart/byteranges; boundary=x"}}, 4, 3));
}

TEST_CASE("check_blob_range: those bytes and no others", "[upstream]") {
  const auto range = [](int status, Fields fields, std::optional<std::uint64_t> length) {
    http::ReceivedHead head;
    head.status = status;
    head.fields = std::move(fields);
    return check_blob_range(head, length, 3, 5);
  };
  const auto extent = range(206, {{"Content-Range", "bytes 3-5/7"}}, 3);
  REQUIRE(extent);
  CHECK(extent->offset == 3);
  CHECK(extent->size == 7U);
  CHECK(extent->end == 6U);
  CHECK(range(206, {{"Content-Range", "bytes 3-5/*"}}, std::nullopt));
  CHECK(range(200, {}, 7).error().code == Errc::unsupported);
  for (const char* other : {"bytes 3-6/7", "bytes 3-4/7", "bytes 2-5/7", "bytes 4-5/7", "bytes */7", "x"}) {
    INFO(other);
    CHECK_FALSE(range(206, {{"Content-Range", other}}, std::nullopt));
  }
  CHECK_FALSE(range(206, {{"Content-Range", "bytes 3-5/7"}}, 4));
  CHECK_FALSE(range(206, {}, 3));
  CHECK_FALSE(range(206, {{"Content-Type", "multipart/byteranges; boundary=x"}}, 3));
  CHECK(range(206, {{"Content-Range", "bytes 3-5/7"}, {"Content-Type", "text/html"}}, 3));
  CHECK(range(206, {{"Content-Range", "bytes 3-5/7"}, {"Docker-Content-Digest", kEmpty.to_string()}}, 3));
  CHECK(range(204, {}, std::nullopt).error().code == Errc::upstream_protocol);
}

}  // namespace
}  // namespace sluice::upstream
