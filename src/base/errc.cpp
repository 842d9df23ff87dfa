#include "base/errc.hpp"

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "base/result.hpp"

namespace sluice {

std::string_view name(Errc code) noexcept {
  switch (code) {
    case Errc::digest_invalid: return "digest_invalid";
    case Errc::digest_unsupported: return "digest_unsupported";
    case Errc::name_invalid: return "name_invalid";
    case Errc::tag_invalid: return "tag_invalid";
    case Errc::manifest_invalid: return "manifest_invalid";
    case Errc::range_invalid: return "range_invalid";
    case Errc::blob_unknown: return "blob_unknown";
    case Errc::manifest_unknown: return "manifest_unknown";
    case Errc::name_unknown: return "name_unknown";
    case Errc::pagination_invalid: return "pagination_invalid";
    case Errc::unsupported: return "unsupported";
    case Errc::unauthorized: return "unauthorized";
    case Errc::denied: return "denied";
    case Errc::throttled: return "throttled";
    case Errc::upstream_unreachable: return "upstream_unreachable";
    case Errc::upstream_timeout: return "upstream_timeout";
    case Errc::upstream_failed: return "upstream_failed";
    case Errc::upstream_protocol: return "upstream_protocol";
    case Errc::digest_mismatch: return "digest_mismatch";
    case Errc::size_mismatch: return "size_mismatch";
    case Errc::upstream_loop: return "upstream_loop";
    case Errc::cancelled: return "cancelled";
    case Errc::shutting_down: return "shutting_down";
    case Errc::closed: return "closed";
    case Errc::abandoned: return "abandoned";
    case Errc::superseded: return "superseded";
    case Errc::exists: return "exists";
    case Errc::not_found: return "not_found";
    case Errc::no_space: return "no_space";
    case Errc::io: return "io";
    case Errc::corrupt: return "corrupt";
    case Errc::timeout: return "timeout";
    case Errc::upstream_down: return "upstream_down";
    case Errc::overloaded: return "overloaded";
    case Errc::config_invalid: return "config_invalid";
    case Errc::internal: return "internal";
  }
  return "unknown";
}

Error Error::in(std::string_view where) const {
  Error out = *this;
  out.message = std::string(where) + ": " + message;
  return out;
}

Error errno_error(int errno_value, std::string_view what) {
  Errc code = Errc::io;
  switch (errno_value) {
    case ENOENT: code = Errc::not_found; break;
    case EEXIST: code = Errc::exists; break;
    case ENOSPC:
    case EDQUOT: code = Errc::no_space; break;
    case EMFILE:
    case ENFILE:
    case ENOMEM: code = Errc::overloaded; break;
    default: break;
  }
  return {code, std::string(what) + ": " + std::generic_category().message(errno_value)};
}

void throw_exception_from_error(const Error& error, const boost::source_location& where) {
  throw std::logic_error(std::string(where.file_name()) + ":" + std::to_string(where.line()) +
                         ": value() of an error: " + std::string(name(error.code)) + ": " + error.message);
}

}  // namespace sluice
