#include <cerrno>
#include <set>
#include <stdexcept>
#include <string>

#include <catch2/catch.hpp>

#include "base/result.hpp"

using namespace sluice;
using namespace std::chrono_literals;

TEST_CASE("Errc: every code has a name of its own", "[base]") {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Errc::internal); ++code) {
    const std::string_view text = name(static_cast<Errc>(code));
    INFO(code);
    CHECK(text != "unknown");
    CHECK(names.insert(text).second);
  }
  CHECK(name(static_cast<Errc>(255)) == "unknown");
}

TEST_CASE("Error: without a text it says its code", "[base]") {
  const Error error = Errc::no_space;
  CHECK(error.code == Errc::no_space);
  CHECK(error.message == "no_space");
}

TEST_CASE("Error: in() puts a place before the message and keeps the rest", "[base]") {
  const Error error = Error{Errc::throttled, "slow down", 7s}.in("docker.io").in("fill");
  CHECK(error.message == "fill: docker.io: slow down");
  CHECK(error.code == Errc::throttled);
  CHECK(error.retry_after == 7s);
}

TEST_CASE("Error: errno values become what a caller can act upon", "[base]") {
  CHECK(errno_error(ENOENT, "open x").code == Errc::not_found);
  CHECK(errno_error(EEXIST, "create x").code == Errc::exists);
  CHECK(errno_error(ENOSPC, "write x").code == Errc::no_space);
  CHECK(errno_error(EDQUOT, "write x").code == Errc::no_space);
  CHECK(errno_error(EIO, "read x").code == Errc::io);
  CHECK(errno_error(EMFILE, "open x").code == Errc::overloaded);
  CHECK(errno_error(EACCES, "open x").message == "open x: Permission denied");
}

TEST_CASE("Result: a value or an error", "[base]") {
  const Result<int> value = 5;
  REQUIRE(value.has_value());
  CHECK(*value == 5);
  const Result<int> error = Error{Errc::timeout, "late"};
  REQUIRE(error.has_error());
  CHECK(error.error().message == "late");
  const Result<void> fine{};
  CHECK(fine.has_value());
}

TEST_CASE("Result: value() of an error is a bug, and the exception says which error it was", "[base]") {
  const Result<int> error = Error{Errc::corrupt, "blob 1"};
  std::string said;
  try {
    static_cast<void>(error.value());
  } catch (const std::logic_error& bug) {
    said = bug.what();
  }
  CHECK(said.find("corrupt: blob 1") != std::string::npos);
}
