#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "app/command_line.hpp"
#include "app/exit_status.hpp"
#include "app/version.hpp"

using namespace sluice::app;
using Command = CommandLine::Command;

namespace {

ParsedCommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "sluice");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// The line of the overview that starts with this word.
bool lists(const std::string& text, const std::string& command) { return has(text, "\n  " + command + " "); }

}  // namespace

TEST_CASE("Command line: serve takes settings, and leaves out what is not said", "[app]") {
  const ParsedCommandLine parsed =
      parse({"serve", "--listen", ":5000", "--data=/srv/x", "--upstream", "http://a", "-c", "f.yml"});
  REQUIRE(parsed.command.has_value());
  CHECK(parsed.command->command == Command::serve);
  CHECK(parsed.command->overrides.listen == ":5000");
  CHECK(parsed.command->overrides.data == "/srv/x");
  CHECK(parsed.command->overrides.upstream == "http://a");
  CHECK(parsed.command->config == "f.yml");
  CHECK_FALSE(parsed.command->overrides.admin.has_value());
  CHECK_FALSE(parsed.command->overrides.log_level.has_value());
}

TEST_CASE("Command line: each command is told from the others", "[app]") {
  const auto command = [](std::vector<const char*> words) {
    const ParsedCommandLine parsed = parse(std::move(words));
    REQUIRE(parsed.command.has_value());
    return parsed.command->command;
  };
  CHECK(command({"check-config"}) == Command::check_config);
  CHECK(command({"version"}) == Command::version);
  CHECK(command({"ls"}) == Command::list);
  CHECK(command({"stat", "x"}) == Command::stat);
  CHECK(command({"rm", "x"}) == Command::remove);
  CHECK(command({"gc"}) == Command::gc);
  CHECK(command({"verify"}) == Command::verify);
  CHECK(command({"warm", "x"}) == Command::warm);
  CHECK(command({"reload"}) == Command::reload);
}

TEST_CASE("Command line: the options of the commands", "[app]") {
  const ParsedCommandLine warm = parse({"warm", "--platform", "linux/arm64", "a:1", "--platform", "linux/amd64", "b",
                                        "--server", "h:1", "--parallel", "8", "--json", "-q"});
  REQUIRE(warm.command.has_value());
  CHECK(warm.command->options.names == std::vector<std::string>{"a:1", "b"});
  CHECK(warm.command->options.platforms == std::vector<std::string>{"linux/arm64", "linux/amd64"});
  CHECK(warm.command->options.server == "h:1");
  CHECK(warm.command->options.parallel == 8);
  CHECK(warm.command->options.json);
  CHECK(warm.command->options.quiet);

  const ParsedCommandLine verify =
      parse({"verify", "--sample", "5%", "--rate", "50MiB", "--admin", "127.0.0.1:1", "--data", "/d"});
  REQUIRE(verify.command.has_value());
  CHECK(verify.command->options.sample == "5%");
  CHECK(verify.command->options.rate == "50MiB");
  CHECK(verify.command->options.admin == "127.0.0.1:1");
  CHECK(verify.command->overrides.data == "/d");
  // --admin is where the sluice is that is asked, not a setting.
  CHECK_FALSE(verify.command->overrides.admin.has_value());

  const ParsedCommandLine remove = parse({"rm", "--all", "a", "b"});
  REQUIRE(remove.command.has_value());
  CHECK(remove.command->options.all);
  CHECK(remove.command->options.names.size() == 2);
}

TEST_CASE("Command line: what makes no sense is named, with status 2", "[app]") {
  struct Wrong {
    std::vector<const char*> words;
    const char* said;
  };
  const Wrong wrong =
      GENERATE(Wrong{{}, "a command is missing"}, Wrong{{"nothing"}, "\"nothing\" is no command"},
               Wrong{{"serve", "--nothing"}, "--nothing is no option of serve"},
               Wrong{{"serve", "file.yml"}, "\"file.yml\" is not expected here"},
               Wrong{{"--data", "x", "serve"}, "stands before the command"}, Wrong{{"stat"}, "name"},
               Wrong{{"rm"}, "name"}, Wrong{{"warm"}, "image"}, Wrong{{"warm", "x", "--parallel", "0"}, "parallel"},
               Wrong{{"help", "nothing"}, "\"nothing\" is no command"},
               Wrong{{"ls", "a", "b"}, "\"b\" is not expected here"}, Wrong{{"serve", "--listen"}, "--listen"});
  const ParsedCommandLine parsed = parse(wrong.words);
  CHECK_FALSE(parsed.command.has_value());
  CHECK(parsed.exit_status == kExitUsage);
  INFO(parsed.to_stderr);
  CHECK(has(parsed.to_stderr, wrong.said));
  CHECK(parsed.to_stdout.empty());
}

TEST_CASE("Command line: help lists every command, and each one explains itself", "[app]") {
  const ParsedCommandLine all = parse({"--help"});
  CHECK_FALSE(all.command.has_value());
  CHECK(all.exit_status == kExitOk);
  CHECK(parse({"help"}).to_stdout == all.to_stdout);
  for (const char* name : {"serve", "check-config", "ls", "stat", "rm", "gc", "verify", "warm", "import", "reload",
                           "health", "doctor", "top", "pulls", "help", "version"}) {
    INFO(name);
    CHECK(lists(all.to_stdout, name));
    const ParsedCommandLine one = parse({"help", name});
    CHECK(one.exit_status == kExitOk);
    CHECK(has(one.to_stdout, std::string("sluice ") + name));
    CHECK(has(parse({name, "--help"}).to_stdout, std::string("sluice ") + name));
  }
  CHECK(has(parse({"help", "ls"}).to_stdout, "Examples:"));
  // Each stands under a heading of ours.
  CHECK_FALSE(has(all.to_stdout, "Subcommands:"));
  CHECK_FALSE(has(all.to_stdout, "SUBCOMMANDS:"));
}

TEST_CASE("Command line: the version goes to standard output", "[app]") {
  const ParsedCommandLine parsed = parse({"--version"});
  CHECK(parsed.exit_status == kExitOk);
  CHECK(has(parsed.to_stdout, version()));
}
