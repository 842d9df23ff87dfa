// Signed docker schema 1 manifests, whose digest is not that of their bytes. A pure function; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::oci {

// What the digest of a signed docker schema 1 manifest is computed of: its bytes without the signatures (the format of
// docker/libtrust, as the registry's own digest of such a manifest). Nothing for anything else, and nothing where the
// signed form says more than the payload and its signatures: the protected header, which tells what the payload is, is
// part of what a stranger sends.
std::optional<std::string> signed_payload(std::string_view bytes);

}  // namespace sluice::oci
