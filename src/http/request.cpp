#include "http/request.hpp"

#include <algorithm>

namespace sluice::http {
namespace {

constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool same_name(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::string_view Request::header(std::string_view name) const noexcept {
  for (const Field& field : fields_) {
    if (same_name(field.name, name)) return field.value;
  }
  return {};
}

bool Request::has_header(std::string_view name) const noexcept {
  return std::ranges::any_of(fields_, [name](const Field& field) { return same_name(field.name, name); });
}

std::string Request::joined(std::string_view name) const {
  std::string all;
  bool first = true;
  for (const Field& field : fields_) {
    if (!same_name(field.name, name)) continue;
    if (!first) all += ", ";
    all += field.value;
    first = false;
  }
  return all;
}

void Request::give_back() noexcept {
  method_ = target_ = host_ = {};
  query_at_ = std::string_view::npos;
  std::vector<Field>().swap(fields_);
  std::string().swap(reduced_);
}

}  // namespace sluice::http
