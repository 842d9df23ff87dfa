// The command line: what to do, and with which settings.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "app/commands/options.hpp"
#include "config/load.hpp"

namespace sluice::app {

struct CommandLine {
  enum class Command {
    serve,
    check_config,
    version,
    list,
    stat,
    remove,
    gc,
    verify,
    warm,
    take_over,
    reload,
    health,
    doctor,
    top,
    pulls
  };
  Command command = Command::serve;
  std::optional<std::filesystem::path> config;
  config::Overrides overrides;
  CommandOptions options;  // of list and those behind it
};

// What came of reading the arguments: a command to run, or a text to print and a status to exit with (help, usage).
struct ParsedCommandLine {
  std::optional<CommandLine> command;
  int exit_status = 0;
  std::string to_stdout;
  std::string to_stderr;
};

// `argv` as main gets it.
ParsedCommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace sluice::app
