// What the clients of a machine will do with the cache.
#pragma once

#include "doctor/cache.hpp"
#include "doctor/judge.hpp"
#include "doctor/report.hpp"

namespace sluice::doctor {

// Reads the configuration of every client that is there. Pure, but for what `machine.files` does.
Report diagnose(const Machine& machine, const Cache& cache);

}  // namespace sluice::doctor
