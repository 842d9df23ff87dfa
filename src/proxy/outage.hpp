// What upstream's errors mean to who has asked: whether it is out, which is when the cache stands in with what it has.
#pragma once

#include "base/errc.hpp"

namespace sluice::proxy {

// Upstream gave no usable answer, as opposed to one that one does not like: 401, 403 and 404 are answers.
constexpr bool is_outage(Errc code) noexcept {
  switch (code) {
    case Errc::upstream_unreachable:
    case Errc::upstream_timeout:
    case Errc::upstream_failed:
    case Errc::upstream_protocol:
    case Errc::throttled:
    case Errc::overloaded:
    case Errc::digest_mismatch:
    case Errc::manifest_invalid: return true;
    default: return false;
  }
}

// Upstream's word on one client's login. It says nothing to another client that waited for the same answer.
constexpr bool is_about_login(Errc code) noexcept { return code == Errc::unauthorized || code == Errc::denied; }

}  // namespace sluice::proxy
