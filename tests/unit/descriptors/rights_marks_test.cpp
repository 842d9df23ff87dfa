#include <catch2/catch.hpp>

#include "descriptors/rights_marks.hpp"

using namespace sluice::descriptors;

TEST_CASE("RightsMarks: a mark fits what it was made of, and does not tell it", "[descriptors]") {
  const std::string mark = RightsMarks::make("alice:secret");
  CHECK(RightsMarks::fits(mark, "alice:secret"));
  CHECK_FALSE(RightsMarks::fits(mark, "bob:secret"));
  CHECK_FALSE(RightsMarks::fits(mark, ""));
  CHECK(mark.find("secret") == std::string::npos);
  CHECK(RightsMarks::make("alice:secret") != mark);  // another key
  for (const std::string& nonsense :
       {std::string(), std::string("."), mark.substr(1), mark + "0", mark.substr(0, 33)}) {
    CHECK_FALSE(RightsMarks::fits(nonsense, "alice:secret"));
  }
}

TEST_CASE("RightsMarks: what was learnt with other rights does not count", "[descriptors]") {
  const Scope app = Scope::repository("ghcr.io/team/app").value();
  const Scope other = Scope::repository("quay.io/team/app").value();
  RightsMarks first;
  CHECK(first.mark(app).empty());
  CHECK(first.counts(app, "whatever"));
  first.set({{"ghcr.io", {"a"}}, {"quay.io", {"a"}}});
  RightsMarks alike;
  alike.set({{"ghcr.io", {"a"}}, {"quay.io", {"b"}}});
  CHECK(first.mark(app) != alike.mark(app));
  CHECK(first.counts(app, alike.mark(app)));
  CHECK(alike.counts(app, first.mark(app)));
  CHECK_FALSE(alike.counts(other, first.mark(other)));
  CHECK_FALSE(alike.counts(app, "nonsense"));
  // What bears none counts until something has changed.
  CHECK(first.counts(app, ""));
  const std::string before = first.mark(app);
  first.set({{"ghcr.io", {"c", false}}});
  CHECK_FALSE(first.counts(app, before));
  CHECK_FALSE(first.counts(app, ""));
  CHECK(first.counts(app, first.mark(app)));
}
