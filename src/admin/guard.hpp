// Who may talk to the admin API: programs, not web pages. Pure.
//
// The admin address is not meant to be reached from outside, but a browser on the same machine reaches it, and runs
// what strangers wrote. What a page can send without being asked (the "simple requests" of the Fetch standard) is
// refused:
//   Origin      browsers send it with every request that could change something; programs do not
//   Host        of a name that leads here without being ours (DNS rebinding): only addresses and localhost count
//   Sec-Fetch-Site  cross-site or same-site: another origin's page asks (an <img> sends no Origin); /events only
//   POST        with Content-Type: application/json, which a page may not set without a preflight, which fails
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::admin {

struct Guarded {
  std::string_view method;
  std::string_view host;  // as sent, with its port
  bool has_origin = false;
  std::string_view content_type = {};
  std::string_view fetch_site = {};  // Sec-Fetch-Site; left empty below /api
};

// What a Host may be.
struct OwnHosts {
  // Where the admin listener is: an IP address, or empty, "0.0.0.0" or "::" for every one, where a Host may then be any
  // IP address.
  std::string listen_address;
  // Other names, in lower case. "*" stands for all of them where only is_readable is asked.
  std::vector<std::string> names = {};
};

// Why a request of the admin API is refused; nothing: it is not.
std::optional<std::string> refusal(const Guarded& request, const OwnHosts& hosts);

// Whether a page that tells about the program may be read by who sent this Host: the same, but a request without one is
// no browser's. `host` as sent, with its port.
bool is_readable(std::string_view host, const OwnHosts& hosts);

}  // namespace sluice::admin
