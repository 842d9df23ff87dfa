// The version that CMakeLists.txt names.
#pragma once

#include <string_view>

namespace sluice::app {

std::string_view version() noexcept;

}  // namespace sluice::app
