// What lies in a store that distribution's registry has filled: its tree of names (docker/registry/v2). No blob is
// opened; what cannot be read or is no name is told and passed over.
//
// Threads: none of its own; it blocks on the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "store/catalog.hpp"

namespace sluice::app {

struct DistributionTree {
  struct Link {
    oci::Digest digest;
    bool manifest;
    Clock::Wall at;  // when distribution was given it
  };
  struct TagLink {
    std::string name;
    oci::Digest digest;
    Clock::Wall at;
  };
  struct Repository {
    store::Scope scope;
    std::vector<Link> links;
    std::vector<TagLink> tags;
  };
  struct Original {
    std::filesystem::path path;
    std::uint64_t size = 0;  // in bytes
    bool manifest = false;
  };
  struct Bad {
    std::string what;  // a digest, or a path
    std::string reason;
  };

  std::vector<Repository> repositories;
  std::map<oci::Digest, Original> blobs;  // that repositories link, manifests among them
  std::uint64_t gone = 0;                 // linked, but distribution has dropped them
  std::uint64_t left_out = 0;             // of no repository, or not named by a sha256
  std::vector<Bad> bad;
};

// Where the tree begins, below distribution's rootdirectory or the v2 directory itself. Errors: not_found.
Result<std::filesystem::path> find_distribution(const std::filesystem::path& from);

// Repositories get the scopes of `upstream`. `library_prefix`: a name without a slash is below library/, as requests
// for it are understood.
DistributionTree read_distribution(const std::filesystem::path& root, const std::string& upstream, bool library_prefix);

}  // namespace sluice::app
