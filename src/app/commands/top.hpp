// top and pulls: what the running sluice does, and what it has done lately. See command.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include <nlohmann/json.hpp>

#include "app/commands/options.hpp"
#include "app/commands/runner.hpp"

namespace sluice::app {

// On a terminal until q or a signal, elsewhere once. Exit status 0 also after Ctrl-C, which is a way to leave.
int top_command(Runner& runner, const std::string& admin, const CommandOptions& options);
int pulls_command(Runner& runner, const std::string& admin, const CommandOptions& options);

// The screen of top, from two answers of /api/v1/now, of which `before` may be null: then nothing is said about
// seconds. Pure.
struct TopScreen {
  std::string where;  // the address that answers
  nlohmann::json now;
  nlohmann::json before;
};
std::string top_text(const TopScreen& screen);
// The first `rows` lines of a text, each cut to `columns` characters, as a terminal of that size shows them.
std::string fitted(const std::string& text, std::size_t rows, std::size_t columns);

// The table of pulls, from an answer of /api/v1/pulls; with `requests` each request of each pull. Pure.
std::string pulls_text(const nlohmann::json& answer, bool requests, std::chrono::system_clock::time_point now);

}  // namespace sluice::app
