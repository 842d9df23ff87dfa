// The name of a Result's error, or "success": for one comparison that tells both when it fails.
#pragma once

#include <string>

#include "base/result.hpp"

namespace sluice::test {

template <class T>
std::string code_of(const Result<T>& result) {
  return result ? "success" : std::string(name(result.error().code));
}

}  // namespace sluice::test
