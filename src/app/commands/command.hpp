// The commands besides serve: each asks a Source (or, warm, the registry API), prints, and returns an exit status.
//
// Standard output has what was asked for, a table or with --json one JSON document; standard error everything else.
// Called by main, on its thread, with the settings loaded.
#pragma once

#include <filesystem>
#include <string>

#include "app/commands/options.hpp"
#include "app/commands/source.hpp"

namespace sluice::app {

int list_command(Runner& runner, Source& source, const CommandOptions& options);
int stat_command(Runner& runner, Source& source, const CommandOptions& options);
int remove_command(Runner& runner, Source& source, const CommandOptions& options);
int gc_command(Runner& runner, Source& source, const CommandOptions& options);
int verify_command(Runner& runner, Source& source, const CommandOptions& options);
// `mistakes`: of the configuration that was named; empty: none. They are printed where the running sluice does not say
// the same.
int reload_command(Runner& runner, const std::string& admin, const CommandOptions& options,
                   const std::string& mistakes = {});
// Through the registry API.
struct WarmTarget {
  std::string server;             // ADDR:PORT or a URL
  std::filesystem::path ca_file;  // PEM, trusted besides the system's; empty: none
  std::string authorization;      // sent to it; empty: nothing
};
int warm_command(Runner& runner, const WarmTarget& target, const CommandOptions& options);

// Into the data directory of the settings, which no sluice may use.
int import_command(Runner& runner, const config::Settings& settings, const CommandOptions& options);

// Prints "sluice: …" to standard error and returns the status that goes with the error.
int fail(const Error& error);
void print(const std::string& text);  // to standard output

}  // namespace sluice::app
