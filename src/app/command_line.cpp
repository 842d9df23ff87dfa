#include "app/command_line.hpp"

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "app/exit_status.hpp"
#include "app/version.hpp"

namespace sluice::app {
namespace {

constexpr const char* kDescription =
    "sluice: a pull-through cache for container registries.\n\n"
    "Point docker, containerd, podman or buildkit at it as a mirror; it fetches each layer from the\n"
    "registry once, hands it to everybody who waits for it, and keeps it.";

constexpr const char* kFooter =
    "To try it:\n"
    "  sluice serve --data /tmp/sluice\n"
    "and do what it prints. Exit status: 0 fine, 1 could not start or failed, 2 wrong usage, 78 wrong configuration.";

constexpr const char* kServeFooter =
    "Everything has a default, so no option and no file is needed. An option stands above the environment\n"
    "(SLUICE_SERVER_LISTEN and so on), the environment above the file.\n"
    "SIGTERM and SIGINT let running transfers end first, a second one does not; SIGHUP opens the access log again.";

template <class T>
void optional(CLI::App& app, const char* name, std::optional<T>& target, const char* placeholder,
              const std::string& help) {
  // An empty argument is kept, so that it is refused where the key is named.
  app.add_option_function<std::string>(
         name, [&target](const std::string& text) { target = T(text); }, help)
      ->type_name(placeholder)
      ->expected(1);
}

bool is_command(const CLI::App& app, std::string_view word) {
  const auto commands = app.get_subcommands({});
  return std::any_of(commands.begin(), commands.end(),
                     [&](const auto* command) { return command->get_name() == word; });
}

constexpr std::string_view kCommands = "serve, check-config and version";
constexpr std::string_view kMore = "Run with --help for more information.\n";

// What stands on the line and fits nowhere, the first as it was typed: CLI11 names them from the back.
std::string unexpected(const std::vector<std::string>& left_over, const std::string& command, int argc,
                       const char* const* argv) {
  const auto first = std::find_first_of(argv + 1, argv + argc, left_over.begin(), left_over.end(),
                                        [](std::string_view a, std::string_view b) { return a == b; });
  const std::string word = first == argv + argc ? left_over.front() : *first;
  if (!word.starts_with('-')) {
    return fmt::format("\"{}\" is not expected here; a configuration file is named with --config FILE\n", word);
  }
  if (first < std::find(argv + 1, argv + argc, command)) {
    return fmt::format("{0} stands before the command; options follow it: sluice {1} {0} …\n", word, command);
  }
  return fmt::format("{} is no option of {}\n", word, command);
}

void add_settings(CLI::App& app, CommandLine& out) {
  optional(app, "-c,--config", out.config, "FILE",
           "Configuration: sluice's own YAML, or a config.yml of distribution with a proxy section "
           "(or name it in SLUICE_CONFIG)");
  optional(app, "--listen", out.overrides.listen, "ADDR:PORT", "Where clients connect [127.0.0.1:5000]");
  optional(app, "--admin", out.overrides.admin, "ADDR:PORT", "Where metrics and health are [127.0.0.1:5001]");
  optional(app, "--data", out.overrides.data, "DIR", "What is cached lies here [/var/lib/sluice]");
  optional(app, "--upstream", out.overrides.upstream, "URL",
           "The default upstream registry, http or https [https://registry-1.docker.io]");
  optional(app, "--log-level", out.overrides.log_level, "LEVEL", "debug, info, warn, error or off [info]");
  optional(app, "--log-format", out.overrides.log_format, "FORMAT", "text or json [text]");
}

}  // namespace

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  ParsedCommandLine out;
  CommandLine line;
  CLI::App app(kDescription, "sluice");
  app.footer(kFooter);
  app.set_version_flag("--version", fmt::format("sluice {}", version()), "Print the version");
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);

  CLI::App* serve = app.add_subcommand("serve", "Serve until told to stop");
  serve->footer(kServeFooter);
  add_settings(*serve, line);
  CLI::App* check = app.add_subcommand(
      "check-config", "Say what is wrong with the configuration, or print what would be in force, without secrets");
  add_settings(*check, line);
  const CLI::App* show_version = app.add_subcommand("version", "Print the version");

  // CLI11 would only say that a subcommand is missing.
  if (const std::string_view first = argc > 1 ? argv[1] : "-"; !first.starts_with('-') && !is_command(app, first)) {
    out.exit_status = kExitUsage;
    out.to_stderr = fmt::format("\"{}\" is no command; there are {}\n{}", first, kCommands, kMore);
    return out;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    const auto given = app.get_subcommands();
    out.exit_status = kExitUsage;
    out.to_stderr = unexpected(app.remaining(true), given.empty() ? "serve" : given.front()->get_name(), argc, argv);
    out.to_stderr += kMore;
    return out;
  } catch (const CLI::RequiredError&) {
    out.exit_status = kExitUsage;
    out.to_stderr = fmt::format("a command is missing; there are {}\n{}", kCommands, kMore);
    return out;
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    std::ostringstream errors;
    const int status = app.exit(error, text, errors);
    out.exit_status = status == 0 ? kExitOk : kExitUsage;
    out.to_stdout = text.str();
    out.to_stderr = errors.str();
    return out;
  }
  line.command = CommandLine::Command::serve;
  if (check->parsed()) line.command = CommandLine::Command::check_config;
  if (show_version->parsed()) line.command = CommandLine::Command::version;
  out.command = std::move(line);
  return out;
}

}  // namespace sluice::app
