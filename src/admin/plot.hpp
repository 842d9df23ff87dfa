// Small plots of the status page, as SVG without styles of its own: shares of time, the newest at the right edge. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::admin {

// How many values a plot is wide; of more, the newest count.
inline constexpr std::size_t kPlotValues = 120;

// A line of shares from 0 to 1; where there is no value, there is a gap. `label`: what a screen reader says.
std::string share_plot(const std::vector<std::optional<double>>& values, std::string_view label);

// Bars from 0 to the largest value of both; `behind` may be empty. Negative values count as 0.
std::string bar_plot(const std::vector<double>& values, const std::vector<double>& behind, std::string_view label);

// A bar that is filled up to `share`.
std::string share_bar(double share);

}  // namespace sluice::admin
