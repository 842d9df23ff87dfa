#include <fstream>
#include <iterator>

#include <catch2/catch.hpp>

#include "config/fields.hpp"
#include "support.hpp"

using namespace sluice;
using namespace sluice::config;

namespace {

const std::filesystem::path kSource = SLUICE_SOURCE_DIR;

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The second column of the row that explains `key`.
std::string documented_default(const std::string& page, std::string_view key) {
  const std::string start = "\n| `" + std::string(key) + "` | ";
  const std::size_t at = page.find(start);
  if (at == std::string::npos) return "(not documented)";
  const std::size_t from = at + start.size();
  return page.substr(from, page.find(" |", from) - from);
}

std::string without_quotes(std::string text) {
  if (text.size() >= 2 && text.front() == '"') text = text.substr(1, text.size() - 2);
  return "`" + text + "`";
}

}  // namespace

TEST_CASE("Documents: the page of the configuration names every key with its default", "[config]") {
  const std::string page = read(kSource / "docs/configuration.md");
  REQUIRE_FALSE(page.empty());
  for (const auto& field : settings_fields()) {
    INFO(field.key);
    const std::string value = field.show(Settings{});
    const bool empty = value == "\"\"" || value == "[]";
    CHECK(documented_default(page, field.key) == (empty ? "none" : without_quotes(value)));
  }
  for (const auto& field : upstream_fields()) {
    INFO(field.key);
    const std::string value = without_quotes(field.show(Upstream{}));
    const std::string documented = documented_default(page, field.key);
    CHECK(documented != "(not documented)");
    if (documented.front() == '`' && field.key != "url") CHECK(documented == value);
  }
}

TEST_CASE("Documents: the default file means the same as none", "[config]") {
  const Result<Settings> loaded = load({kSource / "config/sluice.yml", {}, {}});
  if (!loaded) FAIL(loaded.error().message);
  CHECK(describe(*loaded) == describe(Settings{}));
  CHECK(loaded->warnings.empty());
}

TEST_CASE("Documents: the default file shows every key", "[config]") {
  const std::string text = read(kSource / "config/sluice.yml");
  for (const auto& field : settings_fields()) {
    const std::string leaf(field.key.substr(field.key.rfind('.') + 1));
    INFO(field.key);
    CHECK(text.find(leaf + ":") != std::string::npos);
  }
  for (const auto& field : upstream_fields()) {
    INFO(field.key);
    if (field.key != "password") CHECK(text.find(std::string(field.key) + ":") != std::string::npos);
  }
}

TEST_CASE("Documents: the examples are valid", "[config]") {
  const testing::Folder folder;
  const auto file = folder.write("secret", "hunter2");
  std::size_t examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "config/examples")) {
    INFO(entry.path().string());
    // The files that an example names are not on this machine.
    std::string text = read(entry.path());
    for (const char* key : {"password_file: ", "ca_file: ", "docker_config: "}) {
      const std::size_t at = text.find(key);
      if (at == std::string::npos) continue;
      const std::size_t from = at + std::string_view(key).size();
      text.replace(from, text.find('\n', from) - from, file.string());
    }
    const Result<Settings> loaded = testing::load_text(text);
    CHECK((loaded ? "ok" : loaded.error().message) == "ok");
    ++examples;
  }
  CHECK(examples == 5);
}
