#include "bench.hpp"

namespace sluice::upstream {
namespace {

const std::string kPath = "/v2/app/tags/list";

Reply page(std::string body, const std::string& link = {}) {
  Reply reply;
  reply.fields = {{"Content-Type", "application/json"}};
  if (!link.empty()) reply.fields.emplace_back("Link", "<" + link + ">; rel=\"next\"");
  reply.body = std::move(body);
  return reply;
}

Result<ListAnswer> list(Bench& bench, const std::string& what) {
  return bench.loops.run(bench.registry().list(repository("app"), what));
}

TEST_CASE("list: the next page is asked for at our own address", "[upstream]") {
  struct Row {
    std::string link;
    std::string next;
  };
  const Row row = GENERATE(values<Row>({
      {"/v2/app/tags/list?n=2&last=b", "/v2/app/tags/list?n=2&last=b"},
      {"list?last=b", "/v2/app/tags/list?last=b"},
      {"?last=b", "/v2/app/tags/list?last=b"},
      // A host that only the registry knows, and a scheme that it does not speak outside.
      {"http://registry.internal:5000/v2/app/tags/list?last=b", "/v2/app/tags/list?last=b"},
      {"https://10.0.0.1/v2/app/tags/list?last=b", "/v2/app/tags/list?last=b"},
      // What a proxy in front puts before the name is left out, or stands there once more.
      {"/v2/list-without-key/tags/list?last=b", "/v2/app/tags/list?last=b"},
      {"/prefix/v2/app/tags/list?last=b", "/v2/app/tags/list?last=b"},
      {"/v2/_next/abc?last=b", "/v2/_next/abc?last=b"},
  }));
  INFO(row.link);
  Bench bench;
  bench.origin.script(kPath, page(R"({"tags":["a","b"]})", row.link));
  const auto first = list(bench, "tags/list");
  REQUIRE(first);
  CHECK(first->next == row.next);
  CHECK_FALSE(first->next_is_unusable);
  bench.origin.script(row.next.substr(0, row.next.find('?')), page(R"({"tags":["c"]})"));
  REQUIRE(list(bench, first->next));
  CHECK(bench.origin.requests().back().target == row.next);
}

TEST_CASE("list: the next page is the first link of that relation", "[upstream]") {
  struct Row {
    std::vector<std::string> fields;
    std::string next;
  };
  const Row row = GENERATE(values<Row>({
      {{R"(<?last=a>; rel="prev", <?last=b>; rel="next")"}, "?last=b"},
      {{R"(<?last=a>; rel="prev")", R"(<?last=b>; rel="next")"}, "?last=b"},
      {{R"(<?last=b,c>; title="a, \"b\"; rel=prev"; REL="Next")"}, "?last=b,c"},
      {{R"(<?last=b>;rel=next)"}, "?last=b"},
      {{R"(<?last=b>; rel = "start next" ; x)"}, "?last=b"},
      {{R"(<?last=b>; rel="next", <?last=c>; rel="next")"}, "?last=b"},
      {{R"(<?last=b>; rel="prev"; rel="next")"}, ""},
      {{R"(<?last=b>; rel="nextish")"}, ""},
      {{R"(<?last=b>; title="rel=next")"}, ""},
      {{"<?last=b"}, ""},
      {{"rel=next"}, ""},
      {{R"(<?last=b>; rel="next)"}, "?last=b"},
      {{""}, ""},
  }));
  Bench bench;
  Reply reply = page(R"({"tags":["a"]})");
  for (const std::string& field : row.fields) reply.fields.emplace_back("Link", field);
  INFO(row.fields.front());
  bench.origin.script(kPath, std::move(reply));
  const auto got = list(bench, "tags/list");
  REQUIRE(got);
  CHECK(got->next == (row.next.empty() ? "" : kPath + row.next));
  CHECK_FALSE(got->next_is_unusable);
}

TEST_CASE("list: a 203, and a 206 that has all of it, are taken", "[upstream]") {
  Bench bench;
  Reply reply = page(R"({"tags":["a"]})");
  reply.status = 203;
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list")->body == R"({"tags":["a"]})");
  reply.status = 206;
  reply.fields.emplace_back("Content-Range", "bytes 0-13/14");
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list")->body == R"({"tags":["a"]})");
  reply.fields.back().second = "bytes 0-13/20";
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list").error().code == Errc::upstream_protocol);
}

TEST_CASE("list: what is a list is taken, whatever its type says", "[upstream]") {
  Bench bench;
  Reply reply;
  reply.fields = {{"Content-Type", "text/html; charset=utf-8"}};
  reply.body = "\n {\"tags\":[\"a\"]}";
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list")->body == reply.body);
  reply.body = "<html>please log in</html>";
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list").error().code == Errc::upstream_protocol);
}

TEST_CASE("list: a Link of no use costs the next page, not this one", "[upstream]") {
  const std::string link = GENERATE("http://[", "/somewhere/else?x", "ftp://a/b", "/v2/app/tags/list");
  INFO(link);
  Bench bench;
  bench.origin.script(kPath, page(R"({"tags":["a"]})", link));
  const auto got = list(bench, "tags/list");
  REQUIRE(got);
  CHECK(got->body == R"({"tags":["a"]})");
  CHECK(got->next.empty());
  CHECK(got->next_is_unusable);
}

TEST_CASE("list: a registry without the referrers API may say so in several ways", "[upstream]") {
  Bench bench;
  const std::string subject = ScriptedOrigin::digest_of("subject");
  const std::string path = "/v2/app/referrers/" + subject;
  for (const int status : {405, 406, 410, 501}) {
    INFO(status);
    Reply reply;
    reply.status = status;
    bench.origin.script(path, reply);
    CHECK(list(bench, "referrers/" + subject).error().code == Errc::unsupported);
  }
  CHECK(list(bench, "referrers/" + subject).error().code == Errc::manifest_unknown);
  Reply html;
  html.fields = {{"Content-Type", "text/html"}};
  html.body = "<html>";
  bench.origin.script(path, html);
  const auto nonsense = list(bench, "referrers/" + subject);
  CHECK(nonsense.error().code == Errc::upstream_protocol);
  CHECK(nonsense.error().message.find(bench.origin.authority()) != std::string::npos);
  // Of tags it says nothing of the kind.
  Reply reply;
  reply.status = 405;
  bench.origin.script(kPath, reply);
  CHECK(list(bench, "tags/list").error().code == Errc::upstream_protocol);
}

TEST_CASE("list: tags of 64 MiB, and no more", "[upstream]") {
  Bench bench;
  std::string body = R"({"tags":[")";
  body.append(kMaxTagListBytes - body.size() - 3, 'a').append(R"("]})");
  REQUIRE(body.size() == kMaxTagListBytes);
  bench.origin.script(kPath, page(body));
  const auto got = list(bench, "tags/list");
  REQUIRE(got);
  CHECK(got->body.size() == kMaxTagListBytes);
  bench.origin.script(kPath, page(body + " "));
  CHECK(list(bench, "tags/list").error().code == Errc::upstream_protocol);
  // Referrers are handed on as a manifest is.
  const std::string referrers = "/v2/app/referrers/x";
  bench.origin.script(referrers, page(std::string(kMaxListBytes + 1, ' ')));
  CHECK(list(bench, "referrers/x").error().code == Errc::upstream_protocol);
}

}  // namespace
}  // namespace sluice::upstream
