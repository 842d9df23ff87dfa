// What a run of the verifier is told, as a query or a command line has it. Pure.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "store/verifier.hpp"

namespace sluice::admin {

// "5%", "0.05" or "100%"; greater than 0. Errors: config_invalid, with what was expected.
Result<double> parse_sample(std::string_view text);

// Each may be empty: all blobs, as fast as it goes, the seed 0. Errors: config_invalid.
Result<store::VerifyOptions> verify_options(std::string_view sample, std::string_view rate, std::string_view seed);

}  // namespace sluice::admin
