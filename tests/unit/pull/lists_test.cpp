#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "oci/media_type.hpp"
#include "pull/attachments.hpp"
#include "pull/list_json.hpp"
#include "pull/name_list.hpp"
#include "pull/pages.hpp"
#include "pull/referrer_list.hpp"
#include "pull/referrers.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace sluice::pull;
using Names = std::vector<std::string>;

namespace {

NameList list_of(const Names& names) {
  NameList::Builder builder;
  for (const std::string& name : names) builder.add(name);
  return builder.sorted();
}

// The names of a page, as a client reads them.
Names names_of(const Page& page) { return nlohmann::json::parse("[" + std::string(page.names) + "]").get<Names>(); }

Names all_of(const NameList& list) { return names_of(list.page({}, list.count())); }

}  // namespace

TEST_CASE("Pages: names are in alphanumeric order, whatever their case", "[pull]") {
  const NameList names = list_of({"b", "A", "a", "1.10", "1.9", "B", "_x", "a", "ab", "Ab"});
  CHECK(all_of(names) == Names{"1.10", "1.9", "_x", "A", "a", "Ab", "ab", "B", "b"});
  CHECK(names.count() == 9);
  CHECK(names.name(0) == "1.10");
  CHECK(names.name(8) == "b");
  CHECK(list_of({}).empty());
  CHECK(all_of(list_of({})).empty());
}

TEST_CASE("Pages: n and last", "[pull]") {
  const NameList names = list_of({"a", "B", "c", "d"});
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
  const Page page = names.page(*asked, 100);
  CHECK(names_of(page) == row.page);
  CHECK(page.count == row.page.size());
  CHECK(page.more == row.more);
}

TEST_CASE("Pages: an n that is no number is refused", "[pull]") {
  for (const std::string_view query : {"n=", "n=a", "n=-1", "n=1.5", "n=1a", "n=+1", "n= 1", "n=0x10", "n=%zz"}) {
    INFO(query);
    CHECK(test::code_of(parse_page(query)) == "pagination_invalid");
  }
}

TEST_CASE("Pages: all pages by their links are the whole list", "[pull]") {
  Names names;
  for (int i = 0; i < 25; ++i) names.push_back("v" + std::to_string(i) + (i % 3 == 0 ? "+x" : ""));
  const NameList list = list_of(names);
  Names seen;
  std::string query = GENERATE("n=7", "n=1", "n=25", "");
  for (;;) {
    const Result<PageRequest> asked = parse_page(query);
    REQUIRE(asked.has_value());
    const Page page = list.page(*asked, 10);
    CHECK(page.count <= 10);
    const Names some = names_of(page);
    seen.insert(seen.end(), some.begin(), some.end());
    const std::string link = link_field("/v2/app/tags/list", "quay.io", *asked, page);
    if (link.empty()) break;
    CHECK(link.starts_with("Link: </v2/app/tags/list?n="));
    CHECK(link.ends_with("&ns=quay.io>; rel=\"next\"\r\n"));
    const std::size_t at = link.find('?') + 1;
    query = link.substr(at, link.find('>') - at);
  }
  CHECK(seen == all_of(list));
}

TEST_CASE("Lists: upstream's tags are checked", "[pull]") {
  const auto parse_tags = [](std::string_view body) -> Result<Names> {
    NameList::Builder into;
    const Result<void> parsed = pull::parse_tags(body, into);
    if (!parsed) return parsed.error();
    return all_of(into.sorted());
  };
  CHECK(*parse_tags(R"({"name":"a","tags":["b","a"]})") == Names{"a", "b"});
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

TEST_CASE("Lists: upstream's referrers are checked, and filtered", "[pull]") {
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
  REQUIRE(referrers->referrers.size() == 2);
  CHECK(referrers->left_out == 0);
  const ReferrerList list(referrers->referrers);
  const auto body_of = [&list](std::string_view type) {
    const ReferrerList::Page page = list.page(type, "", 1'000'000);
    std::string pieces;
    std::size_t at = page.first;
    for (std::string_view piece = list.piece(page, at); !piece.empty(); piece = list.piece(page, at)) {
      pieces.append(pieces.empty() ? "" : ",").append(piece);
    }
    CHECK(pieces.size() == page.bytes);
    return nlohmann::json::parse(std::string(referrers_opening()).append(pieces).append(kListClosing));
  };
  const auto all = nlohmann::json::parse(list.index());
  CHECK(body_of("") == all);
  CHECK(all["schemaVersion"] == 2);
  CHECK(all["mediaType"] == oci::media_type::kOciIndex);
  CHECK(all["manifests"].size() == 2);
  CHECK(all["manifests"][0] == nlohmann::json::parse(one("a/sig")));
  const auto some = body_of("a/sbom");
  REQUIRE(some["manifests"].size() == 1);
  CHECK(some["manifests"][0]["artifactType"] == "a/sbom");
  CHECK(body_of("a/none")["manifests"].empty());
  CHECK(parse_referrers(index("")).value().referrers.empty());

  for (const std::string& bad : {std::string("<html>"), std::string("{}"), std::string(R"({"tags":[]})"),
                                 index(one("a/sig")).substr(0, 200), index("") + "x"}) {
    INFO(bad);
    CHECK(test::code_of(parse_referrers(bad)) == "upstream_protocol");
  }
}

TEST_CASE("Lists: referrers in pages, filtered or not", "[pull]") {
  std::vector<Referrer> referrers;
  for (int i = 0; i < 100; ++i) {
    const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, std::to_string(i));
    const std::string type = i % 3 == 0 ? "a/sbom" : i % 3 == 1 ? "a/sig" : "";
    referrers.push_back(
        {R"({"digest":")" + digest.to_string() + R"(","n":)" + std::to_string(i) + "}", type, digest.to_string()});
  }
  const ReferrerList list(referrers);
  CHECK(list.count() == 100);
  for (const std::string type : {"", "a/sbom", "a/sig", "a/none"}) {
    INFO(type);
    std::vector<int> seen;
    std::string after;
    for (int pages = 0; pages < 200; ++pages) {
      const ReferrerList::Page page = list.page(type, after, 1000);
      CHECK((page.count <= 1 || page.bytes <= 1000));
      std::string pieces;
      std::size_t at = page.first;
      for (std::string_view piece = list.piece(page, at); !piece.empty(); piece = list.piece(page, at)) {
        pieces.append(pieces.empty() ? "" : ",").append(piece);
      }
      CHECK(pieces.size() == page.bytes);
      for (const auto& one : nlohmann::json::parse("[" + pieces + "]")) seen.push_back(one["n"].get<int>());
      if (page.after.empty()) break;
      after = page.after;
    }
    std::vector<int> wanted;
    for (int i = 0; i < 100; ++i) {
      if (type.empty() || referrers[static_cast<std::size_t>(i)].artifact_type == type) wanted.push_back(i);
    }
    CHECK(seen == wanted);
  }
  // One that is gone meanwhile: from the beginning.
  CHECK(list.page("", "sha256:gone", 1000).first == 0);
  // A page has one, however large.
  CHECK(list.page("", "", 1).count == 1);
}

TEST_CASE("Lists: what a client asked by stands in the answer as valid JSON", "[pull]") {
  const auto parsed = nlohmann::json::parse(tags_opening("a\xff\"b") + "\"x\"" + std::string(kListClosing));
  CHECK(parsed["tags"] == nlohmann::json{"x"});
  CHECK(nlohmann::json::parse(std::string(kCatalogOpening).append(kListClosing))["repositories"].empty());
}

TEST_CASE("Lists: a null is an empty list", "[pull]") {
  CHECK(parse_referrers(R"({"schemaVersion":2,"manifests":null})").value().referrers.empty());
}

TEST_CASE("Lists: a referrer that is no descriptor is left out alone", "[pull]") {
  const std::string good = R"({"digest":"sha256:)" + std::string(64, 'a') + R"(","size":5})";
  const auto read = [&good](const std::string& entry) {
    return parse_referrers(R"({"manifests":[)" + entry + "," + good + "]}").value();
  };
  for (const std::string entry : {"null", "5", "\"x\"", "[[{}],{}]", "{}", R"({"digest":null})", R"({"digest":5})",
                                  R"({"digest":"sha256:zz"})", R"({"digest":"x"})"}) {
    INFO(entry);
    const ReadReferrers some = read(entry);
    CHECK(some.left_out == 1);
    REQUIRE(some.referrers.size() == 1);
    CHECK(some.referrers.front().descriptor == good);
  }
  // What is odd in another way is kept as it is, bytes that are not UTF-8 among it.
  const std::string sha1 = R"({"digest":"sha1:)" + std::string(40, 'a') + R"("})";
  const std::string latin = R"({"annotations":{"by":"Ren)"
                            "\xe9"
                            R"("},"digest":"sha256:)" +
                            std::string(64, 'b') + "\"}";
  for (const std::string& entry :
       {sha1, latin, R"({"digest":"sha256:)" + std::string(64, 'c') + R"(","size":1.0})",
        R"({"digest":"sha256:)" + std::string(64, 'c') + R"(","mediaType":null,"size":-1})",
        R"({"annotations":{"by":"Ren\u00e9é"},"digest":"sha256:)" + std::string(64, 'c') + "\"}"}) {
    INFO(entry);
    const ReadReferrers all = read(entry);
    CHECK(all.left_out == 0);
    REQUIRE(all.referrers.size() == 2);
    if (entry.find("u00e9") == std::string::npos) CHECK(all.referrers.front().descriptor == entry);
  }
  CHECK(test::code_of(parse_referrers(R"({"manifests":[null,{"digest":"x"}]})")) == "upstream_protocol");
  const ReadReferrers marked = parse_referrers("\xef\xbb\xbf{\"manifests\":[" + latin + "]}").value();
  REQUIRE(marked.referrers.size() == 1);
  CHECK(marked.referrers.front().descriptor == latin);
}

TEST_CASE("Lists: which tags stand for what is attached to an image", "[pull]") {
  const std::string hex(64, 'a');
  for (const std::string& tag : {"sha256-" + hex, "sha256-" + hex + ".sig", "sha256-" + hex + ".att",
                                 "sha256-" + hex + ".sbom", "sha512-" + hex + hex + ".sig"}) {
    CHECK(is_attachment_tag(tag));
  }
  for (const std::string& tag : {std::string("latest"), std::string("sha256-abc.sig"), "sha256-" + hex + ".tar",
                                 "x-" + hex, "sha256-" + std::string(64, 'g'), std::string(".sig"), std::string("-")}) {
    CHECK_FALSE(is_attachment_tag(tag));
  }
}

TEST_CASE("Referrers: the tag that stands in for the API is a tag for any digest", "[pull]") {
  const auto sha256 = oci::digest_of(oci::Algorithm::sha256, "x");
  const auto sha512 = oci::digest_of(oci::Algorithm::sha512, "x");
  CHECK(Referrers::tag_of(sha256) == "sha256-" + sha256.to_string().substr(7));
  CHECK(Referrers::tag_of(sha512) == "sha512-" + sha512.to_string().substr(7, 64));
}
