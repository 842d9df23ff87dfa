#include "admin/plot.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "admin/html.hpp"

namespace sluice::admin {
namespace {

constexpr double kHeight = 30;

// The number of the first value that is shown, and where it stands.
struct Span {
  explicit Span(std::size_t values)
      : first(values - std::min(values, kPlotValues)), left(kPlotValues - std::min(values, kPlotValues)) {}
  [[nodiscard]] std::size_t x(std::size_t i) const { return left + i - first; }
  std::size_t first;
  std::size_t left;
};

std::string figure(std::string_view label, std::string_view inside) {
  return fmt::format(
      "<svg class=\"plot\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">{}</svg>",
      html_escaped(label), kPlotValues, kHeight + 2, inside);
}

// One path for all bars: a plot of two hours' worth of elements would be slow to replace.
std::string bars(const std::vector<double>& values, double largest, std::string_view css_class) {
  const Span span(values.size());
  std::string path;
  for (std::size_t i = span.first; i < values.size(); ++i) {
    if (values[i] <= 0 || largest <= 0) continue;
    const double height = std::max(0.8, kHeight * values[i] / largest);
    fmt::format_to(std::back_inserter(path), "M{} {}v-{:.1f}h.9v{:.1f}z", span.x(i), kHeight + 1, height, height);
  }
  return path.empty() ? std::string() : fmt::format("<path class=\"{}\" d=\"{}\"/>", css_class, path);
}

double largest_of(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

}  // namespace

std::string share_plot(const std::vector<std::optional<double>>& values, std::string_view label) {
  const Span span(values.size());
  std::string line;
  std::string area;
  bool drawing = false;
  for (std::size_t i = span.first; i < values.size(); ++i) {
    if (!values[i]) {
      drawing = false;
      continue;
    }
    const double height = kHeight * std::clamp(*values[i], 0.0, 1.0);
    fmt::format_to(std::back_inserter(line), "{}{} {:.1f}h1", drawing ? 'L' : 'M', span.x(i), 1 + kHeight - height);
    fmt::format_to(std::back_inserter(area), "M{} {}v-{:.1f}h1v{:.1f}z", span.x(i), kHeight + 1, height, height);
    drawing = true;
  }
  std::string inside = fmt::format("<path class=\"grid\" d=\"M0 1h{0}M0 {1}h{0}\"/>", kPlotValues, kHeight + 1);
  if (!line.empty()) {
    inside += fmt::format("<path class=\"area\" d=\"{}\"/><path class=\"line\" d=\"{}\"/>", area, line);
  }
  return figure(label, inside);
}

std::string bar_plot(const std::vector<double>& values, const std::vector<double>& behind, std::string_view label) {
  const double largest = std::max(largest_of(values), largest_of(behind));
  const std::string grid = fmt::format("<path class=\"grid\" d=\"M0 {}h{}\"/>", kHeight + 1, kPlotValues);
  return figure(label, grid + bars(values, largest, "bars") + bars(behind, largest, "other"));
}

std::string share_bar(double share) {
  return fmt::format(
      "<svg class=\"bar\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
      "<rect width=\"{:.1f}\" height=\"1\"/></svg>",
      100 * std::clamp(share, 0.0, 1.0));
}

}  // namespace sluice::admin
