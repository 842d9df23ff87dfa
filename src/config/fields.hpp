// Every key of the configuration: what it may hold, how it is set from text and how it is shown. The file, the
// environment, suggestions and the printout all come from these two lists. Internal to this folder.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"

namespace sluice::config {

template <class Owner>
struct Field {
  std::string_view key;  // its path with dots: "server.listen"
  std::string expected;  // completes "expected …"
  // Sets the field; false when `text` is not what is expected, and then nothing has changed.
  std::function<bool(Owner&, std::string_view text)> set;
  // The value as a YAML scalar or flow list that `set` takes again, with secrets and passwords in URLs masked.
  std::function<std::string(const Owner&)> show;
  bool secret = false;  // its text, which is or may hold a secret, as a URL does, never stands in a message
  bool list = false;    // a YAML list; `set` takes its items joined by commas
  // Whether both have the same value. Null: whether both show the same, because nothing is masked.
  std::function<bool(const Owner&, const Owner&)> same = nullptr;
};

// All keys but those below `upstreams`, in the order in which people read them.
const std::vector<Field<Settings>>& settings_fields();

// The keys below `upstreams.<name>`, but for `credentials`, which is a list of mappings.
const std::vector<Field<Upstream>>& upstream_fields();

// The keys of an item of `upstreams.<name>.credentials`.
const std::vector<Field<CredentialRule>>& credential_fields();

// A double-quoted YAML scalar.
std::string in_quotes(std::string_view text);

// The same of a value that may be a URL, with its password masked (base/mask.hpp).
std::string in_quotes_masked(std::string_view value);

}  // namespace sluice::config
