#include "app/commands/run.hpp"

#include <memory>

#include "app/commands/command.hpp"
#include "app/commands/health.hpp"
#include "app/signals.hpp"

namespace sluice::app {
namespace {

using Command = CommandLine::Command;

std::string reachable(config::Endpoint listen) {
  if (listen.address.empty() || listen.address == "0.0.0.0") listen.address = "127.0.0.1";
  if (listen.address == "::") listen.address = "::1";
  return listen.to_string();
}

int warm(Runner& runner, const CommandLine& line, const config::Settings& settings) {
  return warm_command(runner, line.options.server.value_or(reachable(settings.server.listen)), line.options);
}

int reload(Runner& runner, const CommandLine& line, const config::Settings& settings, const std::string& mistakes) {
  return reload_command(runner, line.options.admin.value_or(reachable(settings.admin.listen)), line.options, mistakes);
}

int health(Runner& runner, const CommandLine& line, const config::Settings& settings) {
  return health_command(runner, line.options.admin.value_or(reachable(settings.admin.listen)), line.options);
}

}  // namespace

int run_command(const CommandLine& line, const config::Settings& settings, bool config_named) {
  ignore_sigpipe();
  Runner runner;
  if (line.command == Command::warm) return warm(runner, line, settings);
  if (line.command == Command::reload) return reload(runner, line, settings, {});
  if (line.command == Command::health) return health(runner, line, settings);
  if (line.command == Command::take_over) return import_command(runner, settings, line.options);
  const Where where{settings, line.options, line.overrides.data.has_value(), config_named, line.command == Command::gc};
  const Result<std::unique_ptr<Source>> source = open_source(runner, where);
  if (!source) return fail(source.error());
  switch (line.command) {
    case Command::list: return list_command(runner, **source, line.options);
    case Command::stat: return stat_command(runner, **source, line.options);
    case Command::remove: return remove_command(runner, **source, line.options);
    case Command::gc: return gc_command(runner, **source, line.options);
    default: return verify_command(runner, **source, line.options);
  }
}

int reload_despite(const CommandLine& line, const config::Settings& readable, const std::string& mistakes) {
  ignore_sigpipe();
  Runner runner;
  return reload(runner, line, readable, mistakes);
}

}  // namespace sluice::app
