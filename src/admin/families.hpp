// Looking into what a Registry has collected. Pure.
#pragma once

#include <string_view>
#include <vector>

#include "base/metrics.hpp"

namespace sluice::admin {

using Families = std::vector<metrics::Family>;

// Null where there is none of that name.
const metrics::Family* find(const Families& families, std::string_view name);

// Empty where the sample has no such label.
std::string_view label(const metrics::Sample& sample, std::string_view name);

// The values of a counter or gauge, added up; with `key` those that have this label alone.
double sum(const Families& families, std::string_view name, std::string_view key = {}, std::string_view value = {});

// Of sluice_blob_requests_total and its like, by result.
struct Requests {
  double hit = 0, join = 0, stale = 0, miss = 0, unknown = 0, denied = 0, error = 0;
  // What a client got without a question to upstream of its own.
  [[nodiscard]] double served() const { return hit + join + stale; }
  // Refusals are upstream's answers: they neither help nor hurt the cache.
  [[nodiscard]] double counted() const { return served() + miss + error; }
};
Requests requests_of(const Families& families, std::string_view name);

}  // namespace sluice::admin
