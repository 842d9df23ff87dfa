#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "app/command_line.hpp"
#include "app/commands/run.hpp"
#include "app/composition.hpp"
#include "app/exit_status.hpp"
#include "app/file_check.hpp"
#include "app/signals.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "base/mask.hpp"
#include "config/load.hpp"

namespace {

using namespace sluice;

void print(std::FILE* to, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

// Messages may hold settings: the name of a file, for example.
void print_error(std::string_view text) { print(stderr, mask_userinfo(text)); }

int check_config(const config::Settings& settings) {
  if (const std::string wrong = app::wrong_files(settings); !wrong.empty()) {
    print_error(wrong);
    return app::kExitBadConfig;
  }
  print(stdout, config::describe(settings));
  for (const std::string& warning : settings.warnings) print_error("warning: " + warning + "\n");
  return app::kExitOk;
}

int serve(const config::Settings& settings, const config::LoadParams& params) {
  log::configure({settings.log.level, settings.log.format});
  for (const std::string& warning : settings.warnings) log::warn("config", warning);
  app::ignore_signals_of_writes();
  app::raise_open_file_limit();
  return app::serve(settings, [params] { return config::load(params); });
}

int run(const app::CommandLine& line) {
  if (line.command == app::CommandLine::Command::version) {
    print(stdout, "sluice " + std::string(app::version()) + "\n");
    return app::kExitOk;
  }
  config::LoadParams params{line.config, config::process_environment(), line.overrides};
  const auto named = params.environment.find("SLUICE_CONFIG");
  if (!params.file && named != params.environment.end() && !named->second.empty()) params.file = named->second;

  const Result<config::Settings> settings = config::load(params);
  if (!settings && line.command == app::CommandLine::Command::reload) {
    // The running sluice may have that very file: it is the one to refuse it, and to log and count that.
    return app::reload_despite(line, config::load_readable(params), settings.error().message);
  }
  if (!settings) {
    print_error(settings.error().message + "\n");
    return app::kExitBadConfig;
  }
  switch (line.command) {
    case app::CommandLine::Command::check_config: return check_config(*settings);
    case app::CommandLine::Command::serve: return serve(*settings, params);
    default: return app::run_command(line, *settings, params.file.has_value());
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Where this fails, nothing can be said either.
  if (!app::open_standard_descriptors()) return app::kExitFailure;
  try {
    const app::ParsedCommandLine parsed = app::parse_command_line(argc, argv);
    print(stdout, parsed.to_stdout);
    print_error(parsed.to_stderr);
    return parsed.command ? run(*parsed.command) : parsed.exit_status;
  } catch (const std::exception& error) {
    print_error(std::string("sluice: ") + error.what() + "\n");
    return app::kExitFailure;
  }
}
