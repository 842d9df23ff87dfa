// The style and the script of the status page, and the policy that lets a browser use these and nothing else. Any
// thread.
#pragma once

#include <string>
#include <string_view>

namespace sluice::admin {

// What stands in the page's <style> and <script>.
std::string_view status_style() noexcept;
std::string_view status_script() noexcept;

// The Content-Security-Policy of the page: its style and script by their hashes, the event stream of its own origin,
// and nothing from anywhere.
const std::string& status_policy();

}  // namespace sluice::admin
