#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "admin/event_stream.hpp"

using namespace sluice::admin;

namespace {

nlohmann::json data_of(const std::string& event) {
  constexpr std::string_view kStart = "event: parts\ndata: ";
  REQUIRE(event.starts_with(kStart));
  REQUIRE(event.ends_with("\n\n"));
  const std::string data = event.substr(kStart.size(), event.size() - kStart.size() - 2);
  // A line break would end the field.
  CHECK(data.find('\n') == std::string::npos);
  return nlohmann::json::parse(data);
}

}  // namespace

TEST_CASE("Event stream: first everything, then what has changed, then nothing", "[admin]") {
  const Sections first{{"a", "one\ntwo"}, {"b", "\"<b>\""}};
  CHECK(data_of(event_of(first, {})) == nlohmann::json::parse(R"({"a":"one\ntwo","b":"\"<b>\""})"));
  CHECK(event_of(first, first).empty());
  const Sections second{{"a", "one\ntwo"}, {"b", "c"}};
  CHECK(data_of(event_of(second, first)) == nlohmann::json::parse(R"({"b":"c"})"));
}

TEST_CASE("Event stream: bytes that are not UTF-8 do not break it", "[admin]") {
  CHECK(data_of(event_of({{"a", "x\xFFy"}}, {}))["a"] == "x\xEF\xBF\xBDy");
}
