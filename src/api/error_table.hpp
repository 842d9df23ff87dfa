// The one place where an Error becomes an HTTP status and an error code of the registry API.
#pragma once

#include <string>
#include <string_view>

#include "base/errc.hpp"
#include "oci/error_code.hpp"

namespace sluice::api {

struct HttpError {
  unsigned status;
  oci::ErrorCode code;
};

// Pure.
HttpError http_error(Errc code) noexcept;

// The whole answer to a request that failed: a head as Exchange::send takes it, and the JSON body. `request_id` is told
// to the client where the reason is ours and stands in the log only.
struct ErrorAnswer {
  unsigned status;
  bool in_log_only;  // the client was not told why: the caller logs it
  std::string head;
  std::string body;
};
// 508 (RFC 5842 section 7.2): the request has come through here before.
ErrorAnswer loop_answer();

// `allow`: the methods that a 405 names.
ErrorAnswer error_answer(const Error& error, const std::string& request_id, std::string_view allow = "GET, HEAD");

}  // namespace sluice::api
