// Takes over a store that distribution's registry has filled (docker/registry/v2 below its rootdirectory).
//
// Blobs that a repository links are hashed as they come, linked where source and data directory are on one file system
// and may be linked, else copied; distribution's files are never written to. What repositories have and what their tags
// are becomes what upstream has said some time ago, so it is asked about before it is believed, and believed while
// upstream is out. What is there already stays as it is, so it may be run again.
//
// Threads: main's alone. No sluice may run on the data directory, and no registry should on the source.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/commands/distribution_tree.hpp"
#include "app/commands/runner.hpp"
#include "app/commands/text.hpp"
#include "base/result.hpp"
#include "config/settings.hpp"

namespace sluice::app {

struct ImportParams {
  std::filesystem::path from;  // distribution's rootdirectory, or the v2 directory itself
  std::string upstream;        // whose repositories they are; empty: the default one
  bool dry_run = false;        // only says what there is
};

struct ImportReport {
  std::uint64_t repositories = 0;
  std::uint64_t blobs = 0;  // that repositories link, manifests among them
  std::uint64_t bytes = 0;
  std::uint64_t linked = 0;
  std::uint64_t copied = 0;
  std::uint64_t imported_bytes = 0;
  std::uint64_t present = 0;      // here already
  std::uint64_t memberships = 0;  // new ones
  std::uint64_t tags = 0;
  std::uint64_t gone = 0;      // linked, but distribution has dropped them
  std::uint64_t left_out = 0;  // of no repository, or not named by a sha256
  std::vector<DistributionTree::Bad> bad;
  std::string stopped;  // why it ended before the end: there is no room, or a signal; empty: it did not
};

// Errors: not_found (there is no such store, or no such upstream), exists (a sluice uses the data directory), io.
Result<ImportReport> import_store(Runner& runner, const config::Settings& settings, const ImportParams& params,
                                  Progress& progress);

}  // namespace sluice::app
