#include "pull/fill_machine.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "base/errc.hpp"

namespace {

using sluice::Errc;
using sluice::Error;
using sluice::pull::FillMachine;
using Do = FillMachine::Do;

const Error kBroken{Errc::upstream_unreachable, "the connection broke"};
const Error kNoRange{Errc::range_invalid, "no byte there"};

// "ask 5", "read skipping 3", "fail size_mismatch": a step as a reader of the table says it.
std::string words(const FillMachine::Step& step) {
  switch (step.what) {
    case Do::ask:
      return "ask " + std::to_string(step.from) +
             (step.failures_before ? " after failure " + std::to_string(*step.failures_before) : "");
    case Do::ask_size: return "ask size";
    case Do::check_part: return "check part";
    case Do::drop_part: return "drop part";
    case Do::take_part:
      return (step.is_whole ? "take whole part, saved " : "take part, saved ") + std::to_string(step.saved);
    case Do::read:
      return std::string(step.is_first ? "read first" : "read") +
             (step.skip != 0 ? ", skipping " + std::to_string(step.skip) : "");
    case Do::write: return "write";
    case Do::complete: return "complete";
    case Do::fail: return "fail " + std::string(sluice::name(step.error->code));
  }
  return "?";
}

// A machine that has read `position` of `size` bytes.
FillMachine reading(std::optional<std::uint64_t> size, std::size_t position, std::size_t attempts = 2) {
  FillMachine machine({.attempts = attempts, .part_bytes = 0});
  static_cast<void>(machine.start());
  static_cast<void>(machine.answered({0, size}));
  static_cast<void>(machine.received(position));
  machine.wrote(position);
  return machine;
}

FillMachine with_part(std::uint64_t part) {
  FillMachine machine({.attempts = 2, .part_bytes = part});
  static_cast<void>(machine.start());
  return machine;
}

}  // namespace

TEST_CASE("FillMachine: a download without trouble", "[pull]") {
  FillMachine machine({});
  CHECK(words(machine.start()) == "ask 0");
  CHECK_FALSE(machine.has_begun());
  CHECK(words(machine.answered({0, 10})) == "read first");
  CHECK(machine.size() == 10);
  CHECK(words(machine.received(6)) == "write");
  machine.wrote(6);
  CHECK(words(machine.received(4)) == "write");
  machine.wrote(4);
  CHECK(machine.position() == 10);
  CHECK(words(machine.ended()) == "complete");
}

TEST_CASE("FillMachine: the first request is not repeated, the registry has done that", "[pull]") {
  for (const Errc code : {Errc::upstream_unreachable, Errc::blob_unknown, Errc::range_invalid}) {
    FillMachine machine({});
    static_cast<void>(machine.start());
    CHECK(words(machine.refused({code, ""})) == "fail " + std::string(sluice::name(code)));
  }
}

TEST_CASE("FillMachine: a broken download is taken up where it stands", "[pull]") {
  FillMachine machine = reading(10, 4);
  CHECK(words(machine.broke(kBroken)) == "ask 4 after failure 0");

  SECTION("and goes on") {
    CHECK(words(machine.answered({4, 10})) == "read");
    CHECK(words(machine.received(1)) == "write");
    machine.wrote(1);
    // A byte has come, so it counts from the first failure again.
    CHECK(words(machine.broke(kBroken)) == "ask 5 after failure 0");
  }
  SECTION("by an upstream that ignores Range") { CHECK(words(machine.answered({0, 10})) == "read, skipping 4"); }
  SECTION("from the beginning where upstream has no answer to a Range") {
    CHECK(words(machine.refused({Errc::upstream_protocol, ""})) == "ask 0");
    CHECK(words(machine.answered({0, 10})) == "read, skipping 4");
  }
  SECTION("from the beginning, in the end, where upstream fails with a Range") {
    CHECK(words(machine.refused({Errc::upstream_failed, ""})) == "ask 0 after failure 1");
    CHECK(words(machine.answered({0, 10})) == "read, skipping 4");
  }
  SECTION("so many times without a byte in between") {
    CHECK(words(machine.refused(kBroken)) == "ask 4 after failure 1");
    CHECK(words(machine.refused(kBroken)) == "fail upstream_unreachable");
  }
  SECTION("not where upstream refuses") { CHECK(words(machine.refused({Errc::denied, ""})) == "fail denied"); }
  SECTION("not where the blob has another length by now") {
    CHECK(words(machine.answered({4, 11})) == "fail size_mismatch");
  }
  SECTION("also where the length is not told again") { CHECK(words(machine.answered({4, std::nullopt})) == "read"); }
}

TEST_CASE("FillMachine: an upstream that fails with a Range is asked for the whole of what a part is there of",
          "[pull]") {
  for (const Errc code : {Errc::upstream_protocol, Errc::upstream_failed}) {
    FillMachine machine = with_part(4);
    CHECK(words(machine.refused({code, ""})) == "ask 0");
    FillMachine fails = machine;
    CHECK(words(machine.answered({0, 10})) == "take part, saved 0");
    CHECK(words(machine.took()) == "read first, skipping 4");
    CHECK(words(fails.refused({code, ""})) == "fail " + std::string(sluice::name(code)));
  }
}

TEST_CASE("FillMachine: what breaks behind the last byte is complete", "[pull]") {
  CHECK(words(reading(10, 10).broke(kBroken)) == "complete");
  CHECK(words(reading(10, 10).let_go()) == "complete");
  // The digest decides whether a blob of unknown length has ended there.
  FillMachine machine = reading(std::nullopt, 10);
  CHECK(words(machine.broke(kBroken)) == "ask 10 after failure 0");
  CHECK(words(machine.refused(kNoRange)) == "complete");
}

TEST_CASE("FillMachine: more bytes than announced fail", "[pull]") {
  CHECK(words(reading(10, 4).received(7)) == "fail size_mismatch");
  CHECK(words(reading(std::nullopt, 4).received(7)) == "write");
}

TEST_CASE("FillMachine: errors of the writer are final", "[pull]") {
  for (const Errc code : {Errc::no_space, Errc::io, Errc::abandoned, Errc::cancelled}) {
    CHECK(words(reading(10, 4).broke({code, ""})) == "fail " + std::string(sluice::name(code)));
  }
}

TEST_CASE("FillMachine: a connection that nobody reads from is let go of", "[pull]") {
  CHECK(words(reading(10, 4).let_go()) == "ask 4");
  CHECK(reading(10, 4).can_let_go());
  CHECK_FALSE(reading(std::nullopt, 4).can_let_go());
}

TEST_CASE("FillMachine: others need the connection", "[pull]") {
  CHECK(words(reading(10, 4).must_yield(false)) == "ask 4");
  CHECK(words(reading(10, 4).must_yield(true)) == "ask 4");
  CHECK(words(reading(10, 10).must_yield(false)) == "read");
  // What cannot be taken up again is given up only when nobody reads it.
  CHECK(words(reading(std::nullopt, 4).must_yield(false)) == "read");
  CHECK(words(reading(std::nullopt, 4).must_yield(true)) == "fail abandoned");
  // An upstream that begins anew makes each pause cost all of it again.
  FillMachine repeats = reading(10, 4);
  static_cast<void>(repeats.let_go());
  CHECK(words(repeats.answered({0, 10})) == "read, skipping 4");
  CHECK(words(repeats.must_yield(false)) == "read");
  CHECK(words(repeats.must_yield(true)) == "fail abandoned");
}

TEST_CASE("FillMachine: a part is taken with the first answer", "[pull]") {
  FillMachine machine({.attempts = 2, .part_bytes = 4});
  CHECK(words(machine.start()) == "ask 4");

  SECTION("upstream sends the rest") {
    CHECK(words(machine.answered({4, 10})) == "take part, saved 4");
    CHECK(machine.position() == 0);
    CHECK(words(machine.took()) == "read first");
    CHECK(machine.position() == 4);
  }
  SECTION("upstream sends the whole") {
    CHECK(words(machine.answered({0, 10})) == "take part, saved 0");
    CHECK(words(machine.took()) == "read first, skipping 4");
  }
  SECTION("upstream does not tell the length") {
    CHECK(words(machine.answered({4, std::nullopt})) == "take part, saved 4");
    CHECK(words(machine.took()) == "read first");
    CHECK_FALSE(machine.size());
  }
  SECTION("upstream refuses, and the part stays") {
    CHECK(words(machine.refused({Errc::denied, ""})) == "fail denied");
  }
}

TEST_CASE("FillMachine: a part that is longer than the blob is dropped", "[pull]") {
  SECTION("an answer from the beginning is read") {
    FillMachine machine = with_part(4);
    CHECK(words(machine.answered({0, 3})) == "drop part");
    CHECK(words(machine.dropped()) == "read first");
    CHECK(machine.position() == 0);
  }
  SECTION("another one is asked for again") {
    FillMachine machine = with_part(4);
    CHECK(words(machine.answered({4, 3})) == "drop part");
    CHECK(words(machine.dropped()) == "ask 0");
    CHECK(words(machine.answered({0, 3})) == "read first");
  }
  SECTION("upstream has no byte there") {
    FillMachine machine = with_part(4);
    CHECK(words(machine.refused(kNoRange)) == "ask size");
    CHECK(words(machine.sized(std::uint64_t{3})) == "drop part");
    CHECK(words(machine.dropped()) == "ask 0");
  }
}

TEST_CASE("FillMachine: a part may be the whole blob", "[pull]") {
  FillMachine machine = with_part(4);
  CHECK(words(machine.refused(kNoRange)) == "ask size");

  SECTION("its digest is right") {
    CHECK(words(machine.sized(std::uint64_t{4})) == "check part");
    CHECK(words(machine.checked(true)) == "take whole part, saved 4");
    CHECK(machine.size() == 4);
    CHECK(words(machine.took()) == "complete");
    CHECK(machine.position() == 4);
  }
  SECTION("it is damaged") {
    CHECK(words(machine.sized(std::uint64_t{4})) == "check part");
    const FillMachine::Step step = machine.checked(false);
    CHECK(words(step) == "drop part");
    CHECK(step.error->code == Errc::digest_mismatch);
    CHECK(words(machine.dropped()) == "ask 0");
    CHECK(words(machine.answered({0, 4})) == "read first");
  }
  SECTION("upstream has it and does not tell its size") {
    CHECK(words(machine.sized(Error{Errc::unsupported, ""})) == "check part");
    CHECK(words(machine.checked(true)) == "take whole part, saved 4");
  }
  SECTION("upstream does not let us know") {
    CHECK(words(machine.sized(Error{Errc::unauthorized, ""})) == "fail unauthorized");
  }
}

TEST_CASE("FillMachine: which errors leave a part", "[pull]") {
  for (const Errc code : {Errc::upstream_unreachable, Errc::upstream_timeout, Errc::throttled, Errc::overloaded,
                          Errc::denied, Errc::blob_unknown, Errc::abandoned, Errc::cancelled}) {
    CHECK(FillMachine::keeps_part(code));
  }
  for (const Errc code : {Errc::digest_mismatch, Errc::size_mismatch, Errc::io, Errc::no_space, Errc::internal}) {
    CHECK_FALSE(FillMachine::keeps_part(code));
  }
}

// An upstream that breaks, refuses, ignores Range and hides the length at random, against the machine. Whatever
// happens: what is written is one byte after another, and the end is `complete` with all bytes, or an error.
TEST_CASE("FillMachine: whatever upstream does, each byte is written once and in order", "[pull]") {
  for (std::uint32_t seed = 0; seed < 2'000; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&random](unsigned percent) { return random() % 100 < percent; };
    const std::uint64_t size = 1 + random() % 40;
    const bool tells_size = !chance(20);
    const bool ignores_range = chance(20);
    const std::uint64_t part = chance(50) ? random() % (size + 3) : 0;
    const bool part_is_right = chance(80);
    FillMachine machine({.attempts = 2, .part_bytes = part});
    std::vector<bool> right;  // what the file holds, byte for byte
    std::uint64_t at = 0;     // of the answer's next byte
    std::string story;
    FillMachine::Step step = machine.start();
    int steps = 0;
    for (; steps < 1'000; ++steps) {
      story += words(step) + "\n";
      const std::optional<std::uint64_t> told = tells_size ? std::optional(size) : std::nullopt;
      if (step.what == Do::complete || step.what == Do::fail) break;
      if (step.what == Do::ask) {
        if (chance(10)) {
          step = machine.refused(kBroken);
        } else if (!ignores_range && step.from >= size) {
          step = machine.refused(kNoRange);
        } else {
          at = ignores_range ? 0 : step.from;
          step = machine.answered({at, told});
        }
      } else if (step.what == Do::ask_size) {
        step = machine.sized(size);
      } else if (step.what == Do::check_part) {
        step = machine.checked(part == size && part_is_right);
      } else if (step.what == Do::drop_part) {
        right.clear();
        step = machine.dropped();
      } else if (step.what == Do::take_part) {
        right.assign(part, part_is_right);
        step = machine.took();
      } else {
        at += step.skip;
        if (at > size) {
          step = machine.broke({Errc::size_mismatch, ""});
          continue;
        }
        while (step.what == Do::read || step.what == Do::write) {
          INFO("seed " << seed << "\n" << story);
          REQUIRE(at == right.size());
          REQUIRE(machine.position() == right.size());
          if (at == size) {
            step = chance(20) ? machine.broke(kBroken) : machine.ended();
          } else if (chance(15)) {
            step = machine.broke(kBroken);
          } else if (machine.can_let_go() && chance(10)) {
            step = machine.let_go();
          } else if (chance(10)) {
            step = machine.must_yield(chance(50));
          } else {
            const std::uint64_t n = 1 + random() % std::min<std::uint64_t>(size - at, 8);
            step = machine.received(n);
            machine.wrote(n);
            right.insert(right.end(), n, true);
            at += n;
          }
        }
      }
    }
    INFO("seed " << seed << "\n" << story);
    REQUIRE(steps < 1'000);
    if (step.what != Do::complete) continue;
    // A part of a blob whose length nobody tells may be too long: then the digest is wrong, as with a damaged one.
    const bool is_whole = right.size() == size;
    REQUIRE((is_whole || (!tells_size && part > size)));
  }
}
