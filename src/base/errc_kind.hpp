// What each Errc means to who has asked an upstream. One table, so that all draw the line at the same place.
//
//                          outage  odd  ours  verdict
//   upstream_unreachable   x                           nobody answered
//   upstream_timeout       x
//   upstream_failed        x                           5xx
//   upstream_down          x                           it was not asked, because nobody answers
//   throttled              x                           429
//   upstream_protocol              x                   an answer, but not one to this question
//   digest_mismatch                x
//   size_mismatch                  x
//   manifest_invalid               x
//   upstream_loop                  x
//   overloaded                          x              our own queue was too long
//   cancelled                           x
//   shutting_down                       x
//   unauthorized                              x        upstream's word, which counts
//   denied                                    x
//   blob_unknown                              x
//   manifest_unknown                          x
//   name_unknown                              x
#pragma once

#include "base/errc.hpp"

namespace sluice {

// The registry does not answer at all. Only then does the cache stand in for its word on who may read what.
constexpr bool is_outage(Errc code) noexcept {
  return code == Errc::upstream_unreachable || code == Errc::upstream_timeout || code == Errc::upstream_failed ||
         code == Errc::upstream_down || code == Errc::throttled;
}

// An answer that cannot be used. It is about what was asked for, and says nothing about the registry.
constexpr bool is_odd_answer(Errc code) noexcept {
  return code == Errc::upstream_protocol || code == Errc::digest_mismatch || code == Errc::size_mismatch ||
         code == Errc::manifest_invalid || code == Errc::upstream_loop;
}

// It says nothing about upstream.
constexpr bool is_ours(Errc code) noexcept {
  return code == Errc::cancelled || code == Errc::overloaded || code == Errc::shutting_down;
}

// Upstream's word on what a repository has or may see, which says nothing about another repository.
constexpr bool is_verdict(Errc code) noexcept {
  return code == Errc::unauthorized || code == Errc::denied || code == Errc::blob_unknown ||
         code == Errc::manifest_unknown || code == Errc::name_unknown;
}

// Upstream has no such manifest or list.
constexpr bool is_unknown(Errc code) noexcept { return code == Errc::manifest_unknown || code == Errc::name_unknown; }

// Upstream has the blob that it was asked about, and tells no size of it.
constexpr bool has_without_size(Errc code) noexcept { return code == Errc::unsupported; }

// Upstream's word on one client's login. It says nothing to another client that waited for the same answer.
constexpr bool is_about_login(Errc code) noexcept { return code == Errc::unauthorized || code == Errc::denied; }

// Upstream was asked and nothing came that could be used: an older tag or list does, where there is one.
constexpr bool is_no_answer(Errc code) noexcept {
  return is_outage(code) || code == Errc::overloaded || code == Errc::upstream_protocol ||
         code == Errc::digest_mismatch || code == Errc::manifest_invalid || code == Errc::upstream_loop;
}

}  // namespace sluice
