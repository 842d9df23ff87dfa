// Lets Catch print a Result, so that REQUIRE(result) and CHECK(result) compile and tell the error. Without it Catch
// falls back to Boost's own stream operator, which wants both the value and the error to be printable.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "base/result.hpp"

template <class T>
struct Catch::StringMaker<boost::system::result<T, sluice::Error>> {
  static std::string convert(const boost::system::result<T, sluice::Error>& result) {
    if (result.has_value()) return "a value";
    return std::string(sluice::name(result.error().code)) + ": " + result.error().message;
  }
};
