// What strangers' JSON costs: the branches that a parser takes are counted (see CMakeLists.txt), so a cost that grows
// with the square of the length shows whatever else the machine does.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "oci/error_code.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "pull/list_json.hpp"
#include "upstream/docker_config.hpp"
#include "upstream/token.hpp"

namespace {
std::uint64_t branches = 0;
}

// NOLINTNEXTLINE(bugprone-reserved-identifier): the compiler calls it by this name.
extern "C" __attribute__((no_sanitize("coverage"))) void __sanitizer_cov_trace_pc() { ++branches; }

using namespace sluice;

namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');
const std::string kDescriptor =
    R"({"mediaType":"a/b","digest":")" + kDigest + R"(","size":5,"artifactType":"c/d","annotations":{"k":"v"}})";

// What is repeated in a text that is otherwise right.
struct Shape {
  std::string name;
  std::string before;
  std::string repeated;
  std::string after;

  [[nodiscard]] std::string of(std::size_t bytes) const {
    std::string out = before + repeated;
    while (out.size() + repeated.size() + after.size() + 1 < bytes) out.append(",").append(repeated);
    return out + after;
  }
};

std::vector<Shape> shapes(const std::string& before, const std::string& after) {
  const std::string deep(12, '[');
  const std::string shut(12, ']');
  return {
      {"empty objects", before + R"("x":[)", "{}", "]" + after},
      {"empty objects, deep", before + R"("x":)" + deep, "{}", shut + after},
      {"objects", before + R"("x":[)", R"({"a":{"b":[1]}})", "]" + after},
      {"numbers", before + R"("x":[)", "12.5e1", "]" + after},
      {"escapes", before + R"("x":[)", R"("\u00e9\n\ud83d\ude00")", "]" + after},
      {"the same key", before + R"("y":0,)", R"("x":{})", after},
      {"nulls", before + R"("x":[)", "null", "]" + after},
  };
}

using Parse = std::function<void(const std::string&)>;

std::uint64_t work(const Parse& parse, const std::string& text) {
  const std::uint64_t before = branches;
  parse(text);
  return branches - before;
}

// Twice the text is at most some more than twice the work, and no byte costs more than so many branches.
void check_linear(const Shape& shape, const Parse& parse, std::size_t bytes) {
  const std::string half = shape.of(bytes / 2);
  const std::string whole = shape.of(bytes);
  const std::uint64_t some = work(parse, half);
  const std::uint64_t all = work(parse, whole);
  INFO(shape.name << ": " << half.size() << " bytes " << some << " branches, " << whole.size() << " bytes " << all);
  CHECK(some > 1'000);  // it has been read
  CHECK(static_cast<double>(all) < 2.4 * static_cast<double>(some));
  CHECK(all / whole.size() < 400);
}

}  // namespace

TEST_CASE("JSON work: token answers", "[json]") {
  for (const Shape& shape : shapes(R"({"token":"a",)", "}")) {
    check_linear(shape, [](const std::string& text) { (void)upstream::parse_token(text); }, 3'000);
    check_linear(shape, [](const std::string& text) { (void)upstream::parse_token(text); }, 60'000);
  }
}

TEST_CASE("JSON work: errors", "[json]") {
  for (const Shape& shape : shapes(R"({"message":"m",)", "}")) {
    check_linear(shape, [](const std::string& text) { (void)oci::parse_error_body(text); }, 8'000);
  }
  const Shape errors{"errors", R"({"errors":[)", R"({"code":0.5})", "]}"};
  check_linear(errors, [](const std::string& text) { (void)oci::parse_error_body(text); }, 8'000);
  // As a detail of ours.
  const Shape detail{"detail", "[", "{}", "]"};
  const Parse write = [](const std::string& text) { (void)oci::error_body(oci::ErrorCode::denied, "m", text); };
  check_linear(detail, write, 8'000);
}

TEST_CASE("JSON work: a login and a helper's answer", "[json]") {
  for (const Shape& shape : shapes(R"({"Secret":"a",)", "}")) {
    check_linear(shape, [](const std::string& text) { (void)upstream::parse_helper_answer(text); }, 3'000);
    check_linear(shape, [](const std::string& text) { (void)upstream::DockerConfig::parse(text); }, 200'000);
  }
}

TEST_CASE("JSON work: lists of tags", "[json]") {
  const Parse parse = [](const std::string& text) {
    pull::NameList::Builder names;
    (void)pull::parse_tags(text, names);
  };
  for (const Shape& shape : shapes(R"({"tags":["a"],)", "}")) check_linear(shape, parse, 300'000);
  check_linear({"tags", R"({"tags":[)", R"("v1.2.3")", "]}"}, parse, 300'000);
}

TEST_CASE("JSON work: referrers", "[json]") {
  const Parse parse = [](const std::string& text) { (void)pull::parse_referrers(text); };
  const std::string opening = R"({"schemaVersion":2,"manifests":[)" + kDescriptor + "],";
  for (const Shape& shape : shapes(opening, "}")) check_linear(shape, parse, 300'000);
  check_linear({"descriptors", R"({"manifests":[)", kDescriptor, "]}"}, parse, 300'000);
  const std::string in_one = R"({"manifests":[{"mediaType":"a/b","digest":")" + kDigest + R"(","size":5,)";
  for (const Shape& shape : shapes(in_one, "}]}")) check_linear(shape, parse, 20'000);
}

TEST_CASE("JSON work: manifests", "[json]") {
  const Parse parse = [](const std::string& text) { (void)oci::parse_manifest(text, oci::media_type::kOciManifest); };
  const std::string opening = R"({"schemaVersion":2,"config":)" + kDescriptor + R"(,"layers":[],)";
  for (const Shape& shape : shapes(opening, "}")) check_linear(shape, parse, 300'000);
  check_linear({"layers", R"({"schemaVersion":2,"config":)" + kDescriptor + R"(,"layers":[)", kDescriptor, "]}"}, parse,
               300'000);
}
