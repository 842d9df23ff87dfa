// Parameters of a raw query string, and those of the verifier. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "store/verifier.hpp"

namespace sluice::admin {

// Percent-decoded; empty where it is absent or broken.
std::string query_parameter(std::string_view query, std::string_view name);

// "5%", "0.05" or "100%"; greater than 0. Errors: config_invalid, with what was expected.
Result<double> parse_sample(std::string_view text);

// Each may be empty: all blobs, as fast as it goes, the seed 0. Errors: config_invalid.
Result<store::VerifyOptions> verify_options(std::string_view sample, std::string_view rate, std::string_view seed);

}  // namespace sluice::admin
