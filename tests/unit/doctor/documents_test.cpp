#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "doctor/address.hpp"
#include "doctor/document.hpp"
#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::doctor;

namespace {

std::string text_of_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("Document: tables of TOML keep the order of the file", "[doctor]") {
  const auto parsed = parse_toml("[host.\"http://b\"]\n[host.\"http://a\"]\n[host.\"http://a\".header]\nx = \"y\"\n");
  REQUIRE(parsed);
  std::string order;
  for (const auto& [key, value] : at(parsed->root, {"host"}).items()) order += key + " ";
  CHECK(order == "http://b http://a ");
}

TEST_CASE("Document: an error names its line", "[doctor]") {
  const auto toml = parse_toml("a = 1\nb = \n");
  REQUIRE_FALSE(toml);
  CHECK(toml.error().message.starts_with("line 2 is not TOML"));
  const auto json = parse_json("{\n  \"a\": 1,\n}");
  REQUIRE_FALSE(json);
  CHECK(json.error().message.starts_with("line 3 is not JSON"));
  const auto yaml = parse_yaml("mirrors:\n\tdocker.io:\n");
  REQUIRE_FALSE(yaml);
  CHECK(yaml.error().message.starts_with("line 2 is not YAML"));
}

TEST_CASE("Document: YAML has booleans where they are not quoted", "[doctor]") {
  const auto parsed = parse_yaml("a: true\nb: \"true\"\nc: [x, y]\n");
  REQUIRE(parsed);
  CHECK(is_true(at(parsed->root, {"a"})));
  CHECK_FALSE(is_true(at(parsed->root, {"b"})));
  CHECK(texts_of(at(parsed->root, {"c"})) == std::vector<std::string>{"x", "y"});
}

TEST_CASE("Address: takes apart whatever people write", "[doctor]") {
  const Address full = Address::parse("HTTP://Cache.Example:5000/v2/docker.io/");
  CHECK(full.scheme == "http");
  CHECK(full.host == "cache.example");
  CHECK(full.port == 5000);
  CHECK(full.path == "/v2/docker.io");
  CHECK_FALSE(full.odd);
  CHECK(Address::parse("[::1]:5000").authority() == "[::1]:5000");
  CHECK(Address::parse("https://user@cache.example").odd);
  CHECK(Address::parse("http://cache.example:99999").odd);
  CHECK(Address::parse("cache.example").port_or("https") == 443);
}

TEST_CASE("Doctor: its page has every finding", "[doctor]") {
  const std::filesystem::path root = SLUICE_SOURCE_DIR;
  const std::string page = text_of_file(root / "docs/doctor.md");
  std::vector<std::filesystem::path> sources{root / "src/app/commands/doctor.cpp"};
  for (const auto& entry : std::filesystem::directory_iterator(root / "src/doctor")) {
    if (entry.path().extension() == ".cpp") sources.push_back(entry.path());
  }
  // What client files have such names.
  const std::set<std::string> keys{"digest-only",           "tag-only",         "http-proxy",
                                   "https-proxy",           "no-proxy",         "insecure-registries",
                                   "insecure-registry",     "registry-mirror",  "registry-mirrors",
                                   "mirror-by-digest-only", "pull-from-mirror", "unqualified-search-registries"};
  std::size_t found = 0;
  for (const auto& source : sources) {
    const std::string text = text_of_file(source);
    const std::regex literal("\"([a-z0-9]+(-[a-z0-9]+)+)\"");
    for (std::sregex_iterator at(text.begin(), text.end(), literal), end; at != end; ++at) {
      const std::string name = (*at)[1];
      if (keys.contains(name)) continue;
      ++found;
      INFO(name);
      CHECK(page.find("`" + name + "`") != std::string::npos);
    }
  }
  CHECK(found > 50);
}
