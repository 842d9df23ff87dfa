#include "app/commands/run.hpp"

#include <iostream>
#include <memory>
#include <string>

#include "app/commands/command.hpp"
#include "app/commands/doctor.hpp"
#include "app/commands/health.hpp"
#include "app/commands/top.hpp"
#include "app/signals.hpp"
#include "config/load.hpp"
#include "upstream/credentials.hpp"

namespace sluice::app {
namespace {

using Command = CommandLine::Command;

std::string reachable(config::Endpoint listen) {
  if (listen.address.empty() || listen.address == "0.0.0.0") listen.address = "127.0.0.1";
  if (listen.address == "::") listen.address = "::1";
  return listen.to_string();
}

// The password for --user: the first line of standard input, or SLUICE_PASSWORD. Not an argument, which others could
// read in the list of processes.
Result<std::string> warm_password(bool from_stdin) {
  std::string out;
  if (from_stdin) {
    std::getline(std::cin, out);
    if (out.ends_with('\r')) out.pop_back();
    if (out.empty()) return Error(Errc::config_invalid, "--password-stdin: found nothing on standard input");
    return out;
  }
  const auto environment = config::process_environment();
  const auto at = environment.find("SLUICE_PASSWORD");
  if (at != environment.end() && !at->second.empty()) return at->second;
  return Error(Errc::config_invalid, "--user: found no password, expected --password-stdin or SLUICE_PASSWORD");
}

Result<WarmTarget> warm_target(const CommandLine& line, const config::Settings& settings) {
  WarmTarget out;
  const CommandOptions& options = line.options;
  const config::Tls& tls = settings.server.tls;
  out.server = options.server.value_or(reachable(settings.server.listen));
  if (out.server.find("://") == std::string::npos && !tls.cert_file.empty()) out.server = "https://" + out.server;
  out.ca_file = options.ca_file ? std::filesystem::path(*options.ca_file) : tls.cert_file;
  if (options.password_stdin && !options.user) {
    return Error(Errc::config_invalid, "--password-stdin: found without --user, expected both");
  }
  if (!options.user) return out;
  Result<std::string> password = warm_password(options.password_stdin);
  if (!password) return password.error();
  out.authorization = upstream::basic_authorization({*options.user, *password});
  return out;
}

int warm(Runner& runner, const CommandLine& line, const config::Settings& settings) {
  const Result<WarmTarget> target = warm_target(line, settings);
  return target ? warm_command(runner, *target, line.options) : fail(target.error());
}

std::string admin_of(const CommandLine& line, const config::Settings& settings) {
  return line.options.admin.value_or(reachable(settings.admin.listen));
}

int reload(Runner& runner, const CommandLine& line, const config::Settings& settings, const std::string& mistakes) {
  return reload_command(runner, admin_of(line, settings), line.options, mistakes);
}

int health(Runner& runner, const CommandLine& line, const config::Settings& settings) {
  return health_command(runner, admin_of(line, settings), line.options);
}

}  // namespace

int run_command(const CommandLine& line, const config::Settings& settings, bool config_named) {
  ignore_signals_of_writes();
  Runner runner;
  if (line.command == Command::warm) return warm(runner, line, settings);
  if (line.command == Command::reload) return reload(runner, line, settings, {});
  if (line.command == Command::health) return health(runner, line, settings);
  if (line.command == Command::doctor) {
    return doctor_command(runner, settings, admin_of(line, settings), line.options);
  }
  if (line.command == Command::top) return top_command(runner, admin_of(line, settings), line.options);
  if (line.command == Command::pulls) return pulls_command(runner, admin_of(line, settings), line.options);
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
  ignore_signals_of_writes();
  Runner runner;
  return reload(runner, line, readable, mistakes);
}

}  // namespace sluice::app
