// Masking of passwords in text for people. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// `text` with `user:***@` in the place of the user information of each URL, and of what looks like one without its
// scheme. Digests behind a name (`app@sha256:…`) stay.
std::string mask_userinfo(std::string_view text);

// The same where all of `value` may be one URL, so that its password may hold spaces, quotes and commas.
std::string mask_userinfo_of(std::string_view value);

}  // namespace sluice
