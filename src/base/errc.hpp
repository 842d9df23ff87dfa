// Error codes of the whole program, and the error value that travels in a Result.
//
// A code says what the caller can do about the failure; the message says what happened, where. Codes become an HTTP
// status and an OCI error code in exactly one place, api/error_table.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

enum class Errc : std::uint8_t {
  // What the client asked for cannot be understood or does not exist.
  digest_invalid,      // not `algorithm:encoded`, or the wrong length or characters for its algorithm
  digest_unsupported,  // well-formed, but of an algorithm that we do not know
  name_invalid,        // a repository name outside the grammar of the distribution-spec
  tag_invalid,         // a tag outside the grammar of the distribution-spec
  manifest_invalid,    // bytes that are not a manifest of the media type they claim
  range_invalid,       // no byte of the representation lies in the range asked for
  blob_unknown,
  manifest_unknown,
  name_unknown,        // unknown repository or upstream
  pagination_invalid,  // a page size that is no number
  unsupported,         // an operation that a pull-through cache does not offer

  // Upstream answered, and its answer is the answer.
  unauthorized,  // 401 that our credentials did not mend
  denied,        // 403
  throttled,     // 429

  // Upstream did not give a usable answer. Another try, later or elsewhere, may.
  upstream_unreachable,  // name resolution, connect or TLS failed, or the connection broke
  upstream_timeout,      // connected, but nothing came for too long
  upstream_failed,       // 5xx
  upstream_down,         // it did not answer a moment ago, or is offline, so it was not asked
  upstream_protocol,     // an answer that breaks HTTP or is not what was asked for
  digest_mismatch,       // the bytes do not have the digest that they were asked by
  size_mismatch,         // more or fewer bytes than announced
  upstream_loop,         // 508: it leads back to a cache that has asked it

  // Here.
  cancelled,      // the operation was given up because its owner went away
  shutting_down,  // no new work is taken
  closed,         // used after close, or in the wrong order
  abandoned,      // every reader left before the writer had finished
  superseded,     // somebody else has finished the same work meanwhile: look again
  exists,
  not_found,  // a file, an entry or a key is not there
  no_space,   // ENOSPC, EDQUOT or our own limit
  io,         // any other failure of the disk
  corrupt,    // what is on disk is not what was written there
  timeout,
  overloaded,
  config_invalid,
  internal,  // a bug
};

// The name of the code, as it stands in the enumeration; for logs.
std::string_view name(Errc code) noexcept;

// What went wrong. Copyable; `message` is one line for a person, without a trailing full stop.
struct Error {
  Errc code = Errc::internal;
  std::string message;
  // How long to wait before another try, where upstream or we ourselves said so (Retry-After); else zero.
  std::chrono::seconds retry_after{0};
  // The values of WWW-Authenticate with which upstream refused a client's own Authorization (access: passthrough), for
  // that client; else empty.
  std::vector<std::string> challenges;

  Error() = default;
  explicit(false) Error(Errc c) : code(c), message(name(c)) {}
  Error(Errc c, std::string text) : code(c), message(std::move(text)) {}
  Error(Errc c, std::string text, std::chrono::seconds wait) : code(c), message(std::move(text)), retry_after(wait) {}

  // The same error with `where: ` before its message.
  [[nodiscard]] Error in(std::string_view where) const;
};

// An errno as an Error: ENOENT not_found, EEXIST exists, ENOSPC and EDQUOT no_space; EMFILE, ENFILE and
// ENOMEM, which say nothing about the file, overloaded; everything else io.
// `what` names the operation and the file.
Error errno_error(int errno_value, std::string_view what);

}  // namespace sluice
