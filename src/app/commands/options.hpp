// What the command line says to a command other than serve, as it was typed. A value.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace sluice::app {

struct CommandOptions {
  std::vector<std::string> names;     // images, a repository, or a digest
  std::optional<std::string> admin;   // where the running sluice's admin listener is
  std::optional<std::string> server;  // where its clients connect
  bool json = false;
  bool quiet = false;  // no progress
  bool blobs = false;  // ls: blobs rather than repositories or tags
  bool all = false;    // rm: the whole repository; warm: all platforms
  std::string sample;  // verify
  std::string rate;
  std::string seed;
  std::string min_age;                 // gc
  std::vector<std::string> platforms;  // warm
  std::size_t parallel = 4;
  std::optional<std::string> user;      // warm: the login at the cache
  bool password_stdin = false;          // whose password is on standard input
  std::optional<std::string> ca_file;   // whose certificates are trusted
  std::optional<std::string> upstream;  // import: whose repositories they are
  bool dry_run = false;
  std::optional<std::string> root;  // doctor: below which the files of clients are
  bool offline = false;             // sends no request
  bool canary = false;              // sends them although there is a root
  bool once = false;                // top: no live screen
  bool requests = false;            // pulls: each request
  std::size_t limit = 20;           // pulls
};

}  // namespace sluice::app
