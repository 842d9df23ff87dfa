#include "http/response_head.hpp"

#include <string>

#include <catch2/catch.hpp>

using namespace sluice::http;

TEST_CASE("ResponseHead: the text of a head", "[http]") {
  ResponseHead head(206);
  head.add("Content-Type", "text/plain").content_length(12).add("ETag", "\"a\"");
  CHECK(head.status() == 206);
  CHECK(head.str() ==
        "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain\r\nContent-Length: 12\r\nETag: \"a\"\r\n");
  CHECK(ResponseHead(299).str() == "HTTP/1.1 299 Unknown\r\n");
}

TEST_CASE("ResponseHead: what would split an answer is left out", "[http]") {
  ResponseHead head(200);
  head.add("A", "b\r\nC: d").add("A", "b\n").add("A", "b\r").add("A", std::string_view("b\0c", 3)).add("A", "\x7f");
  head.add("", "b").add("A B", "c").add("A:", "b").add("A\r\n", "b");
  CHECK(head.str() == "HTTP/1.1 200 OK\r\n");
  head.add("A", "b\tc \xc3\xa9");
  CHECK(head.str() == "HTTP/1.1 200 OK\r\nA: b\tc \xc3\xa9\r\n");
}

TEST_CASE("ResponseHead: is read back", "[http]") {
  const HeadFacts sized = read_head(ResponseHead(404).add("X-Content-Length: ", "5").content_length(77).str());
  CHECK(sized.status == 404);
  CHECK(sized.has_length);
  CHECK(sized.length == 77);
  CHECK_FALSE(sized.is_chunked);
  const ResponseHead head = ResponseHead(200).add("A", "Content-Length: 5").chunked().add("B", "c");
  const HeadFacts chunked = read_head(head.str());
  CHECK_FALSE(chunked.has_length);
  REQUIRE(chunked.is_chunked);
  CHECK(head.str().substr(chunked.chunked_at, chunked.chunked_bytes) == "Transfer-Encoding: chunked\r\n");
  CHECK(read_head("").status == 0);
}

TEST_CASE("http_date: IMF-fixdate", "[http]") {
  CHECK(http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST_CASE("Statuses without a body", "[http]") {
  CHECK(bodiless(100));
  CHECK(bodiless(204));
  CHECK(bodiless(304));
  CHECK_FALSE(bodiless(200));
  CHECK_FALSE(bodiless(404));
}
