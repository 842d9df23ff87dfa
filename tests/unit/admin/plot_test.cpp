#include <algorithm>

#include <catch2/catch.hpp>

#include "admin/plot.hpp"

using namespace sluice::admin;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Plot: shares become a line with gaps, at the right edge", "[admin]") {
  const std::string plot = share_plot({1.0, std::nullopt, 0.5, 0.0}, "a \"label\"");
  CHECK(has(plot, "aria-label=\"a &quot;label&quot;\""));
  // 120 places, of which the last four are taken: a full share is at the top (1), none at the bottom (31).
  CHECK(has(plot, "class=\"line\" d=\"M116 1.0h1M118 16.0h1L119 31.0h1\""));
}

TEST_CASE("Plot: nothing is drawn where there is nothing", "[admin]") {
  CHECK_FALSE(has(share_plot({}, "x"), "class=\"line\""));
  CHECK_FALSE(has(share_plot({std::nullopt}, "x"), "class=\"line\""));
  CHECK_FALSE(has(bar_plot({}, {}, "x"), "class=\"bars\""));
  CHECK_FALSE(has(bar_plot({0, 0}, {}, "x"), "class=\"bars\""));
}

TEST_CASE("Plot: bars are as high as their share of the largest", "[admin]") {
  const std::string plot = bar_plot({-5, 50, 100}, {0, 25, 0}, "x");
  CHECK(has(plot, "class=\"bars\" d=\"M118 31v-15.0h.9v15.0zM119 31v-30.0h.9v30.0z\""));
  CHECK(has(plot, "class=\"other\" d=\"M118 31v-7.5h.9v7.5z\""));
  // Of more values than fit, the newest.
  std::vector<double> many(500, 0);
  many.back() = 1;
  many.front() = 1;
  CHECK(has(bar_plot(many, {}, "x"), "class=\"bars\" d=\"M119 31v-30.0h.9v30.0z\""));
}

TEST_CASE("Plot: no styles, which the page's policy would not let in", "[admin]") {
  for (const std::string& text : {share_plot({0.5}, "x"), bar_plot({1}, {1}, "x"), share_bar(0.25)}) {
    CHECK_FALSE(has(text, "style"));
  }
  CHECK(has(share_bar(0.25), "width=\"25.0\""));
  CHECK(has(share_bar(7), "width=\"100.0\""));
}
