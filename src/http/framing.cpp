#include "http/framing.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "base/ascii.hpp"

namespace sluice::http {

namespace beast_http = boost::beast::http;
using BeastView = boost::beast::string_view;
using BeastError = boost::beast::error_code;

namespace {

// More fields than this are an attack on whoever walks them.
constexpr std::size_t kMaxFields = 128;
// Clients send fewer, as a rule.
constexpr std::size_t kUsualFields = 16;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_hex(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

bool starts_with_no_case(std::string_view text, std::string_view prefix) noexcept {
  return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(), [](char p, char t) {
           return p == (t >= 'A' && t <= 'Z' ? static_cast<char>(t + ('a' - 'A')) : t);
         });
}

bool equals_no_case(std::string_view text, std::string_view lower_case) noexcept {
  return text.size() == lower_case.size() && starts_with_no_case(text, lower_case);
}

std::string_view view(BeastView text) noexcept { return {text.data(), text.size()}; }

// Codings but chunked we do not undo, and need not: a body is never read. What counts is that everybody agrees where it
// ends: chunked once, and last (RFC 9112 §6.1, §6.3).
std::optional<Refusal> check_transfer_encoding(std::string_view value) noexcept {
  bool chunked = false;
  bool others = false;
  for (;;) {
    const std::size_t comma = value.find(',');
    const std::string_view coding = trim(value.substr(0, comma));
    if (chunked || coding.empty()) return Refusal{400, "chunked must be the last transfer coding"};
    if (equals_no_case(coding, "chunked")) {
      chunked = true;
    } else {
      others = true;
    }
    if (comma == std::string_view::npos) break;
    value.remove_prefix(comma + 1);
  }
  if (!chunked) return Refusal{400, "chunked must be the last transfer coding"};
  if (others) return Refusal{501, "transfer coding not supported"};
  return std::nullopt;
}

bool valid_port(std::string_view port) noexcept {
  return port.size() <= 5 && std::ranges::all_of(port, is_digit) && (port.size() < 5 || port <= "65535");
}

bool valid_ip_literal(std::string_view inside) noexcept {
  return inside.size() >= 2 && inside.find(':') != std::string_view::npos &&
         std::ranges::all_of(inside, [](char c) { return is_hex(c) || c == ':' || c == '.'; });
}

// reg-name (RFC 3986 §3.2.2) without the comma, which makes a list.
bool valid_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > 255) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (is_alpha(c) || is_digit(c) || std::strchr("-._~!$&'()*+;=", c) != nullptr) continue;
    if (c != '%' || name.size() - i < 3 || !is_hex(name[i + 1]) || !is_hex(name[i + 2])) return false;
    i += 2;
  }
  return true;
}

}  // namespace

bool valid_host(std::string_view host) noexcept {
  if (host.find('\0') != std::string_view::npos) return false;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos || !valid_ip_literal(host.substr(1, close - 1))) return false;
    const std::string_view rest = host.substr(close + 1);
    return rest.empty() || (rest.front() == ':' && valid_port(rest.substr(1)));
  }
  const std::size_t colon = host.find(':');
  if (!valid_name(host.substr(0, colon))) return false;
  return colon == std::string_view::npos || valid_port(host.substr(colon + 1));
}

HeadScanner::State HeadScanner::refuse(unsigned status, std::string_view reason) noexcept {
  refusal_ = Refusal{status, reason};
  return State::refused;
}

HeadScanner::State HeadScanner::scan(std::string_view bytes) noexcept {
  for (;;) {
    // What previous calls have looked at is not looked at again: a head may come byte by byte.
    const std::size_t from = std::max(line_, scanned_);
    const std::size_t newline = bytes.find('\n', from);
    const std::string_view line = bytes.substr(line_, newline == std::string_view::npos ? newline : newline - line_);
    const std::string_view fresh = line.substr(from - line_);
    if (!in_fields_ && line.size() > limits_.max_line_bytes) return refuse(414, "request target too long");
    if (in_fields_ && (line.starts_with(' ') || line.starts_with('\t'))) return refuse(400, "folded header field");
    if (fresh.find('\0') != std::string_view::npos) return refuse(400, "NUL in the request head");

    std::size_t carriage = fresh.find('\r');
    if (carriage != std::string_view::npos) carriage += from - line_;
    if (newline == std::string_view::npos) {
      if (carriage != std::string_view::npos && carriage + 1 != line.size()) {
        return refuse(400, "bare CR in the request head");
      }
      if (bytes.size() >= limits_.max_head_bytes) return refuse(431, "request head too large");
      // A CR at the end is looked at again, with what follows it.
      scanned_ = bytes.size() - (line.ends_with('\r') ? 1 : 0);
      return State::need_more;
    }
    if (newline >= limits_.max_head_bytes) return refuse(431, "request head too large");
    if (carriage == std::string_view::npos) return refuse(400, "bare LF in the request head");
    if (carriage + 1 != line.size()) return refuse(400, "bare CR in the request head");

    line_ = newline + 1;
    if (line.size() > 1) {
      in_fields_ = true;
    } else if (in_fields_) {
      end_ = line_;
      return State::complete;
    } else {
      begin_ = line_;
    }
  }
}

// Beast's parser, which hands each part of the head over as a view into its input: no copy, no table of its own.
class RequestBuilder final : public beast_http::basic_parser<true> {
 public:
  explicit RequestBuilder(Request& request) : request_(request) {
    header_limit((std::numeric_limits<std::uint32_t>::max)());
    body_limit(boost::none);
    request_.fields_.clear();
    request_.fields_.reserve(kUsualFields);
    request_.method_ = request_.target_ = request_.host_ = {};
    request_.body_ = RequestBody::none;
    request_.body_length_ = 0;
  }

  std::optional<Refusal> parse(std::string_view head);

 private:
  void on_request_impl(beast_http::verb, BeastView method, BeastView target, int version, BeastError&) override {
    request_.method_ = view(method);
    request_.target_ = view(target);
    request_.version_ = static_cast<unsigned>(version);
  }
  void on_field_impl(beast_http::field field, BeastView name, BeastView value, BeastError&) override;

  void on_response_impl(int, BeastView, int, BeastError&) override {}
  void on_header_impl(BeastError&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, BeastError&) override {}
  std::size_t on_body_impl(BeastView, BeastError&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, BeastView, BeastError&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView, BeastError&) override { return 0; }
  void on_finish_impl(BeastError&) override {}

  std::optional<Refusal> check_length();
  std::optional<Refusal> check_host();
  std::optional<Refusal> check_target();
  std::optional<Refusal> reduce_absolute(std::string_view authority_and_rest);

  Request& request_;
  std::string_view host_field_;
  std::string_view length_field_;
  std::string_view coding_field_;
  unsigned hosts_ = 0;
  unsigned lengths_ = 0;
  unsigned codings_ = 0;
};

void RequestBuilder::on_field_impl(beast_http::field field, BeastView name, BeastView value, BeastError& ec) {
  if (request_.fields_.size() == kMaxFields) {
    ec = beast_http::error::header_limit;
    return;
  }
  request_.fields_.push_back(Field{view(name), view(value)});
  switch (field) {
    case beast_http::field::host: ++hosts_, host_field_ = view(value); break;
    case beast_http::field::content_length: ++lengths_, length_field_ = view(value); break;
    case beast_http::field::transfer_encoding: ++codings_, coding_field_ = view(value); break;
    default: break;
  }
}

// RFC 9112 §2.3: another major version is 505, and so is a minor one that does not exist; anything else is no version.
static Refusal refuse_version(std::string_view head) noexcept {
  const std::string_view line = head.substr(0, head.find('\r'));
  const std::string_view version = line.substr(std::min(line.size(), line.rfind(' ') + 1));
  const bool well_formed = version.size() == 8 && version.starts_with("HTTP/") && is_digit(version[5]) &&
                           version[6] == '.' && is_digit(version[7]);
  return well_formed ? Refusal{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"}
                     : Refusal{400, "malformed request line"};
}

static Refusal refuse_syntax(std::string_view head, const BeastError& ec) noexcept {
  using beast_http::error;
  if (ec == error::bad_version) return refuse_version(head);
  if (ec == error::header_limit) return {431, "too many header fields"};
  if (ec == error::bad_method || ec == error::bad_target) return {400, "malformed request line"};
  if (ec == error::bad_content_length) return {400, "bad Content-Length"};
  if (ec == error::bad_transfer_encoding) return {400, "bad Transfer-Encoding"};
  return {400, "malformed header field"};
}

std::optional<Refusal> RequestBuilder::parse(std::string_view head) {
  BeastError ec;
  const std::size_t used = put(boost::asio::buffer(head.data(), head.size()), ec);
  if (ec) return refuse_syntax(head, ec);
  if (!is_header_done() || used != head.size()) return Refusal{400, "incomplete request head"};
  if (auto refusal = check_length()) return refusal;
  if (auto refusal = check_host()) return refusal;
  if (auto refusal = check_target()) return refusal;
  request_.query_at_ = request_.target_.find('?');
  // A body is never read to its end here, so nothing may follow it on the connection.
  request_.keep_alive_ = keep_alive() && request_.body_ == RequestBody::none;
  return std::nullopt;
}

std::optional<Refusal> RequestBuilder::check_length() {
  if (codings_ != 0) {
    if (lengths_ != 0) return Refusal{400, "both Content-Length and Transfer-Encoding"};
    if (codings_ > 1) return Refusal{400, "more than one Transfer-Encoding"};
    if (request_.version_ < 11) return Refusal{400, "Transfer-Encoding in an HTTP/1.0 request"};
    request_.body_ = RequestBody::chunked;
    return check_transfer_encoding(coding_field_);
  }
  if (lengths_ == 0) return std::nullopt;
  if (lengths_ > 1) return Refusal{400, "more than one Content-Length"};
  const char* const last = length_field_.data() + length_field_.size();
  const auto [end, error] = std::from_chars(length_field_.data(), last, request_.body_length_);
  if (error != std::errc{} || end != last) return Refusal{400, "bad Content-Length"};
  if (request_.body_length_ != 0) request_.body_ = RequestBody::content_length;
  return std::nullopt;
}

// RFC 9112 §3.2: an intermediary in front may have read another of several hosts than we would.
std::optional<Refusal> RequestBuilder::check_host() {
  if (hosts_ > 1) return Refusal{400, "more than one Host"};
  if (hosts_ == 0) {
    if (request_.version_ >= 11) return Refusal{400, "no Host"};
    return std::nullopt;
  }
  if (!valid_host(host_field_)) return Refusal{400, "bad Host"};
  request_.host_ = host_field_;
  return std::nullopt;
}

// The four forms of RFC 9112 §3.2, of which a registry knows origin-form and absolute-form.
std::optional<Refusal> RequestBuilder::check_target() {
  const std::string_view target = request_.target_;
  if (request_.method_ == "CONNECT") return Refusal{400, "CONNECT is not for a registry"};
  for (const char c : target) {
    if (c <= 0x20 || c >= 0x7f || c == '#') return Refusal{400, "bad character in the request target"};
  }
  if (target.starts_with('/')) return std::nullopt;
  if (target == "*" && request_.method_ == "OPTIONS") return std::nullopt;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (starts_with_no_case(target, scheme)) return reduce_absolute(target.substr(scheme.size()));
  }
  return Refusal{400, "bad request target"};
}

std::optional<Refusal> RequestBuilder::reduce_absolute(std::string_view authority_and_rest) {
  const std::size_t end = std::min(authority_and_rest.find_first_of("/?"), authority_and_rest.size());
  const std::string_view authority = authority_and_rest.substr(0, end);
  if (!valid_host(authority)) return Refusal{400, "bad authority in the request target"};
  request_.host_ = authority;
  const std::string_view rest = authority_and_rest.substr(end);
  if (rest.starts_with('/')) {
    request_.target_ = rest;
  } else {
    request_.reduced_ = "/";
    request_.reduced_ += rest;
    request_.target_ = request_.reduced_;
  }
  return std::nullopt;
}

std::optional<Refusal> parse_request(std::string_view head, Request& request) {
  RequestBuilder builder(request);
  return builder.parse(head);
}

}  // namespace sluice::http
