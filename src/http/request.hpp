// The head of a request, parsed: views into the bytes that it was parsed from.
//
// Filled by parse_request (framing.hpp), which lets through only what is safe to act on, so a Request that a handler
// sees has a well-formed target, at most one valid Host, and one unambiguous length. Owned by the session; every view
// is valid until the handler returns. Not thread-safe: the loop's thread alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

struct Field {
  std::string_view name;   // as sent
  std::string_view value;  // without the white space around it
};

// What follows the head.
enum class RequestBody : std::uint8_t { none, content_length, chunked };

class Request {
 public:
  [[nodiscard]] std::string_view method() const noexcept { return method_; }
  [[nodiscard]] bool is_get() const noexcept { return method_ == "GET"; }
  [[nodiscard]] bool is_head() const noexcept { return method_ == "HEAD"; }

  // Origin-form: starts with "/". An absolute-form target has been reduced to it. "*" for `OPTIONS *`, nothing else.
  [[nodiscard]] std::string_view target() const noexcept { return target_; }
  // Up to the first "?", and what follows it. Raw: not percent-decoded.
  [[nodiscard]] std::string_view path() const noexcept { return target_.substr(0, query_at_); }
  [[nodiscard]] std::string_view query() const noexcept {
    return query_at_ < target_.size() ? target_.substr(query_at_ + 1) : std::string_view{};
  }

  // The first field of that name, which compares without case. Empty where there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const noexcept;
  [[nodiscard]] bool has_header(std::string_view name) const noexcept;
  // All fields of that name, in order, joined by ", " (RFC 9110 §5.3). Empty where there is none.
  [[nodiscard]] std::string joined(std::string_view name) const;
  [[nodiscard]] std::span<const Field> fields() const noexcept { return fields_; }

  // The authority asked for, with its port where one was given: from an absolute-form target, else from Host. Empty
  // only for an HTTP/1.0 request that named none.
  [[nodiscard]] std::string_view host() const noexcept { return host_; }

  // 10 or 11.
  [[nodiscard]] unsigned version() const noexcept { return version_; }
  // Whether the client lets the connection stay open after the answer, and nothing of this request is in its way.
  [[nodiscard]] bool keep_alive() const noexcept { return keep_alive_; }
  [[nodiscard]] RequestBody body() const noexcept { return body_; }
  // Of a body with RequestBody::content_length.
  [[nodiscard]] std::uint64_t body_length() const noexcept { return body_length_; }

  // "127.0.0.1:1234", "[::1]:1234".
  [[nodiscard]] std::string_view peer() const noexcept { return peer_; }
  // Frees what the last request needed. Every view into it is gone.
  void give_back() noexcept;
  // `peer` must live as long as the request.
  void set_peer(std::string_view peer) noexcept { peer_ = peer; }

 private:
  friend class RequestBuilder;  // framing.cpp

  std::string_view method_;
  std::string_view target_;
  std::string_view host_;
  std::string_view peer_;
  std::vector<Field> fields_;
  std::string reduced_;  // the target of an absolute-form that had to be put together
  std::size_t query_at_ = std::string_view::npos;
  std::uint64_t body_length_ = 0;
  unsigned version_ = 11;
  RequestBody body_ = RequestBody::none;
  bool keep_alive_ = true;
};

}  // namespace sluice::http
