// The overview and the last pulls as the admin API gives them (docs/admin.md). Pure.
#pragma once

#include <string>
#include <vector>

#include "admin/overview.hpp"

namespace sluice::admin {

std::string to_json(const OverviewData& data);
std::string to_json(const std::vector<Pull>& pulls);

}  // namespace sluice::admin
