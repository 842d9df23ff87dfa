// Via (RFC 9110 section 7.6.3): through whom a request has come. Pure.
#pragma once

#include <string>
#include <string_view>

namespace sluice::api {

// A Via longer than this is no chain of caches any more, and taken for a loop.
inline constexpr std::size_t kMaxViaBytes = 4096;

// Whether `pseudonym` has received the request before, as the value of Via says ("1.1 cache-a, HTTP/1.1 cache-b:80
// (comment)"). Names compare without case. An empty pseudonym has received nothing.
[[nodiscard]] bool has_come_through(std::string_view via, std::string_view pseudonym) noexcept;

// `via` without what a chain of caches does not need: of each entry the protocol and the name, both of plain
// characters, at most kMaxViaEntries of them. It goes upstream with questions whose answers other clients get too, so
// it must not hold what a client makes up to have them refused.
inline constexpr std::size_t kMaxViaEntries = 16;
[[nodiscard]] std::string plain_via(std::string_view via);

// A name that no other instance has: "sluice-" and 16 random hexadecimal digits.
[[nodiscard]] std::string random_pseudonym();

}  // namespace sluice::api
