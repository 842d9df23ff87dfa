// The canary: a request as a client would make it, and the proof that the cache has seen it. See doctor.hpp.
//
// Threads: main's alone, like the Runner that it is sent on.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "app/commands/runner.hpp"
#include "app/commands/source.hpp"
#include "doctor/report.hpp"

namespace sluice::app {

// What came of one request.
struct Canary {
  std::string image;         // "docker.io/library/busybox:latest"
  int status = 0;            // 0: no answer
  std::string cache_status;  // the field of the answer, which only the cache writes
  std::string error;         // why there was no answer
  bool untrusted = false;    // the certificate was not accepted
  bool counted = false;      // the cache has counted a request for this upstream meanwhile

  // The cache has had the request: it says so itself.
  [[nodiscard]] bool arrived() const noexcept { return counted || cache_status.starts_with("sluice;"); }
};

class Canaries {
 public:
  // `admin`: of the cache that is to say what arrived; null: there is none, and the field of the answer has to do.
  // `own_ca`: the certificate of the cache, which is trusted for a client that checks none; empty: there is none.
  // `root`: below which the files of clients are.
  Canaries(Runner& runner, Source* admin, std::string own_ca, std::string root);

  Canary send(const doctor::Verdict& verdict);

 private:
  [[nodiscard]] std::string image_of(const std::string& upstream);
  [[nodiscard]] std::optional<double> counted(const std::string& upstream);

  Runner& runner_;
  Source* admin_;
  std::string own_ca_;
  std::string root_;
  std::map<std::string, std::string> images_;  // by upstream
};

}  // namespace sluice::app
