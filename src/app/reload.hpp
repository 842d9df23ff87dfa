// What of another configuration counts at once, and what only after a restart. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"

namespace sluice::app {

// Whether a key, as config::changed_keys gives them, is put in force by a reload.
bool is_reloadable(std::string_view key) noexcept;

// What came of a reload.
struct Reloaded {
  std::vector<std::string> changed;  // and in force
  std::vector<std::string> restart;  // different from what the process was started with, and not in force
};

// `started`: what the process was started with; `now`: what is in force; `loaded`: what is to be.
Reloaded compare(const config::Settings& started, const config::Settings& now, const config::Settings& loaded);

// Whether keys in Redis keep their names, which depend on those of all upstreams (docs/configuration.md, "redis");
// where not, what is loaded cannot be put in force.
bool same_names_in_redis(const config::Settings& started, const config::Settings& loaded);

// For the admin API.
std::string to_json(const Reloaded& reloaded);
// For the log and for `sluice reload`: one line.
std::string describe(const Reloaded& reloaded);

}  // namespace sluice::app
