#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "oci/media_type.hpp"
#include "proxy/list_json.hpp"
#include "proxy/pages.hpp"
#include "proxy/referrers.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace sluice::proxy;
using Names = std::vector<std::string>;

TEST_CASE("Pages: names are in alphanumeric order, whatever their case", "[proxy]") {
  Names names{"b", "A", "a", "1.10", "1.9", "B", "_x", "a", "ab", "Ab"};
  sort_names(names);
  CHECK(names == Names{"1.10", "1.9", "_x", "A", "a", "Ab", "ab", "B", "b"});
}

TEST_CASE("Pages: n and last", "[proxy]") {
  const Names names{"a", "B", "c", "d"};
  struct Row {
    std::string_view query;
    Names page;
    bool more;
  };
  const Row row = GENERATE(values<Row>({
      {"", {"a", "B", "c", "d"}, false},
      {"n=2", {"a", "B"}, true},
      {"n=2&last=B", {"c", "d"}, false},
      {"last=b", {"c", "d"}, false},
      {"last=A", {"a", "B", "c", "d"}, false},
      {"n=1&last=bb", {"c"}, true},
      {"n=4", {"a", "B", "c", "d"}, false},
      {"n=5", {"a", "B", "c", "d"}, false},
      {"n=0", {}, false},
      {"n=0&last=a", {}, false},
      {"last=d", {}, false},
      {"last=zz&n=1", {}, false},
      {"n=99999999999999999999999", {"a", "B", "c", "d"}, false},
      {"last=%zz", {"a", "B", "c", "d"}, false},
  }));
  INFO(row.query);
  const Result<PageRequest> asked = parse_page(row.query);
  REQUIRE(asked.has_value());
  const Page page = page_of(names, *asked, 100);
  CHECK(page.names == row.page);
  CHECK(page.more == row.more);
}

TEST_CASE("Pages: an n that is no number is refused", "[proxy]") {
  for (const std::string_view query : {"n=", "n=a", "n=-1", "n=1.5", "n=1a", "n=+1", "n= 1", "n=0x10", "n=%zz"}) {
    INFO(query);
    CHECK(test::code_of(parse_page(query)) == "pagination_invalid");
  }
}

TEST_CASE("Pages: all pages by their links are the whole list", "[proxy]") {
  Names names;
  for (int i = 0; i < 25; ++i) names.push_back("v" + std::to_string(i) + (i % 3 == 0 ? "+x" : ""));
  sort_names(names);
  Names seen;
  std::string query = GENERATE("n=7", "n=1", "n=25", "");
  for (;;) {
    const Result<PageRequest> asked = parse_page(query);
    REQUIRE(asked.has_value());
    const Page page = page_of(names, *asked, 10);
    CHECK(page.names.size() <= 10);
    seen.insert(seen.end(), page.names.begin(), page.names.end());
    const std::string link = link_field("/v2/app/tags/list", "quay.io", *asked, page);
    if (link.empty()) break;
    CHECK(link.starts_with("Link: </v2/app/tags/list?n="));
    CHECK(link.ends_with("&ns=quay.io>; rel=\"next\"\r\n"));
    const std::size_t at = link.find('?') + 1;
    query = link.substr(at, link.find('>') - at);
  }
  CHECK(seen == names);
}

TEST_CASE("Lists: upstream's tags are checked", "[proxy]") {
  CHECK(*parse_tags(R"({"name":"a","tags":["b","a"]})") == Names{"b", "a"});
  CHECK(parse_tags(R"({"name":"a","tags":null})")->empty());
  CHECK(parse_tags(R"({"tags":[]})")->empty());
  // What is no tag is not passed on.
  CHECK(*parse_tags(R"({"tags":["ok","../x","a b","","\u0000",".x","v1"]})") == Names{"ok", "v1"});
  const std::string deep = R"({"tags":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  for (const std::string_view bad : {std::string_view("<html>"), std::string_view(""), std::string_view("[]"),
                                     std::string_view(R"({"tags":"a"})"), std::string_view(R"({"tags":{"a":1}})"),
                                     std::string_view(R"({"tags":[1]})"), std::string_view(R"({"tags":["a")"),
                                     std::string_view("{}"), std::string_view("null"), std::string_view(deep)}) {
    INFO(bad.substr(0, 40));
    CHECK(test::code_of(parse_tags(bad)) == "upstream_protocol");
  }
}

TEST_CASE("Lists: upstream's referrers are checked, and filtered", "[proxy]") {
  const std::string digest = "sha256:" + std::string(64, 'a');
  const auto index = [&](const std::string& manifests) {
    return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" + manifests +
           "]}";
  };
  const auto one = [&](const std::string& type) {
    return R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" + digest +
           R"(","size":5,"artifactType":")" + type + R"(","annotations":{"k":"v"}})";
  };
  const auto referrers = parse_referrers(index(one("a/sig") + "," + one("a/sbom")));
  REQUIRE(referrers.has_value());
  REQUIRE(referrers->size() == 2);
  const auto all = nlohmann::json::parse(referrers_body(*referrers, ""));
  CHECK(all["schemaVersion"] == 2);
  CHECK(all["mediaType"] == oci::media_type::kOciIndex);
  CHECK(all["manifests"].size() == 2);
  CHECK(all["manifests"][0] == nlohmann::json::parse(one("a/sig")));
  const auto some = nlohmann::json::parse(referrers_body(*referrers, "a/sbom"));
  REQUIRE(some["manifests"].size() == 1);
  CHECK(some["manifests"][0]["artifactType"] == "a/sbom");
  CHECK(nlohmann::json::parse(referrers_body(*referrers, "a/none"))["manifests"].empty());
  CHECK(parse_referrers(index("")).value().empty());

  for (const std::string& bad :
       {std::string("<html>"), std::string("{}"), std::string(R"({"tags":[]})"), index(R"({"digest":"x"})"),
        index(R"({"mediaType":"a/b","digest":"sha256:12","size":1})"),
        index(R"({"mediaType":"a/b","digest":")" + digest + R"(","size":-1})"),
        index(R"({"digest":")" + digest + R"(","size":1})"), index("5")}) {
    INFO(bad);
    CHECK(test::code_of(parse_referrers(bad)) == "upstream_protocol");
  }
}

TEST_CASE("Lists: what a client asked by stands in the answer as valid JSON", "[proxy]") {
  const auto parsed = nlohmann::json::parse(tags_body("a\xff\"b", {"x"}));
  CHECK(parsed["tags"] == nlohmann::json{"x"});
  CHECK(nlohmann::json::parse(catalog_body({}))["repositories"].empty());
}

TEST_CASE("Referrers: the tag that stands in for the API is a tag for any digest", "[proxy]") {
  const auto sha256 = oci::digest_of(oci::Algorithm::sha256, "x");
  const auto sha512 = oci::digest_of(oci::Algorithm::sha512, "x");
  CHECK(Referrers::tag_of(sha256) == "sha256-" + sha256.to_string().substr(7));
  CHECK(Referrers::tag_of(sha512) == "sha512-" + sha512.to_string().substr(7, 64));
}
