// What an upstream's rights hang on, from its configuration and the files that this names. Blocks: it reads files, and
// hashes secrets slowly.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "pull/rights_ledger.hpp"

namespace sluice::app {

struct UpstreamRights {
  // `address`: url. `rights`: that, the endpoints, the proxy, the access, for which repositories which login counts
  // (user name and password, wherever they stand; the program that knows them; none), and the client certificate. What
  // a credential helper says is not part of it: such logins renew themselves. With a secret in it, it is PBKDF2's.
  pull::RightsLedger::Claim claim;
  // Every file with a secret could be read. Where one could not, the claim is another one.
  bool complete = true;
};

[[nodiscard]] UpstreamRights rights_of(const std::string& name, const config::Upstream& from);

// The files that it reads for logins.
[[nodiscard]] std::vector<std::filesystem::path> secret_files(const config::Upstream& from);

}  // namespace sluice::app
