// The page that a person sees at the admin address. Pure; any thread.
#pragma once

#include <string>

#include "admin/event_stream.hpp"
#include "admin/overview.hpp"

namespace sluice::admin {

// The parts that change, as EventStream sends them.
Sections render_sections(const OverviewData& data);

// A whole HTML document with these parts in it, complete without its script, and without anything that it would load.
std::string render(const OverviewData& data);

}  // namespace sluice::admin
