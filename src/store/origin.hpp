// Origin: through which upstream bytes came, and with whose rights. A value.
#pragma once

#include <string>

#include "base/rights.hpp"

namespace sluice::store {

struct Origin {
  std::string upstream;  // its name in the configuration; behind it, where its address has changed, how often
  Rights rights = Rights::client_login;

  // Fetched without a login: every upstream that has the blob may give out these bytes.
  [[nodiscard]] bool is_public() const noexcept { return rights == Rights::anonymous; }
};

}  // namespace sluice::store
