#include <algorithm>
#include <utility>

#include "fault_matrix.hpp"

namespace sluice::test::faults {
namespace {

using Spoil = std::function<void(Reply&, const Request&, const Place&)>;
using Fields = std::vector<std::pair<std::string, std::string>>;

std::uint64_t first_of(const Request& request) {
  const std::string range = request.field("Range");
  return range.starts_with("bytes=") ? std::stoull(range.substr(6)) : 0;
}

// So many bytes of the answer come before that byte of the blob.
std::uint64_t before(std::size_t at, const Request& request) {
  return at - std::min<std::uint64_t>(at, first_of(request));
}

// Headless: the connection ends before a byte of the answer.
Spoil headless(bool by_reset) {
  return [by_reset](Reply& reply, const Request&, const Place&) {
    reply.raw = std::string();
    reply.cut_after = 0;
    reply.cut_with_reset = by_reset;
  };
}

Spoil cut(bool at_once, bool by_reset) {
  return [at_once, by_reset](Reply& reply, const Request& request, const Place& place) {
    reply.cut_after = at_once ? 0 : before(std::min(place.cut_at, reply.body.size() / 2), request);
    reply.cut_with_reset = by_reset;
  };
}

Spoil status(int code, Fields fields = {}) {
  return [code, fields](Reply& reply, const Request&, const Place&) {
    reply = Reply{};
    reply.status = code;
    reply.fields = fields;
    reply.fields.emplace_back("Content-Type", "application/json");
    reply.body = R"({"errors":[{"code":"UNKNOWN","message":"scripted"}]})";
  };
}

Spoil challenge(std::string scheme, std::string realm_path = {}) {
  return [scheme, realm_path](Reply& reply, const Request& request, const Place& place) {
    std::string value = scheme;
    if (!realm_path.empty()) value += " realm=\"" + place.origin + realm_path + "\",service=\"test\"";
    status(401, scheme.empty() ? Fields{} : Fields{{"WWW-Authenticate", value}})(reply, request, place);
  };
}

Spoil framing(Framing how) {
  return [how](Reply& reply, const Request&, const Place&) { reply.framing = how; };
}

// Another length than the body's, by so much.
Spoil length(int by) {
  return [by](Reply& reply, const Request&, const Place&) {
    reply.announced = reply.body.size() + static_cast<std::uint64_t>(by);
    reply.close_unannounced = true;
  };
}

Spoil field(std::string name, std::string value) {
  return [name, value](Reply& reply, const Request&, const Place&) {
    std::erase_if(reply.fields, [&](const auto& known) { return known.first == name; });
    if (!value.empty()) reply.fields.emplace_back(name, value);
  };
}

Spoil also(std::string name, std::string value) {
  return [name, value](Reply& reply, const Request&, const Place&) { reply.fields.emplace_back(name, value); };
}

// `to`: of the place; behind it comes what the storage knows the path by.
Spoil redirect(std::string Place::* to, std::string behind) {
  return [to, behind](Reply& reply, const Request& request, const Place& place) {
    reply = Reply{};
    reply.status = 307;
    reply.fields = {{"Location", place.*to + behind + request.path() + "?signature=1"}};
  };
}

Spoil redirect_to(std::string address) {
  return [address](Reply& reply, const Request&, const Place&) {
    reply = Reply{};
    reply.status = 307;
    reply.fields = {{"Location", address}};
  };
}

void silence(Reply& reply, const Request&, const Place&) { reply.head_gate = std::make_shared<Gate>(); }

void stall(Reply& reply, const Request& request, const Place& place) {
  reply.gate = std::make_shared<Gate>(before(std::min(place.cut_at, reply.body.size() / 2), request));
}

void drip(Reply& reply, const Request&, const Place& place) { reply.gate = place.drip; }

// What is read as a whole is shorter.
void cut_later(Reply& reply, const Request&, const Place& place) {
  reply.cut_after = std::max<std::size_t>(place.cut_at / 2, 5'000);
}

// Another byte each time, as on a bad line.
void damage(Reply& reply, const Request& request, const Place& place) {
  if (reply.body.empty()) return;
  const std::uint64_t first = std::min<std::uint64_t>(first_of(request), reply.body.size() - 1);
  reply.corrupt_at = first + (*place.random)() % (reply.body.size() - first);
}

void other_content(Reply& reply, const Request&, const Place& place) {
  std::string other = place.other_content;
  other.resize(reply.body.size(), 'x');
  reply.body = other;
}

void login_page(Reply& reply, const Request&, const Place&) {
  reply = Reply{};
  reply.fields = {{"Content-Type", "text/html"}};
  reply.body = "<html>please log in</html>";
  reply.ranges = false;
}

void other_digest(Reply& reply, const Request& request, const Place& place) {
  field("Docker-Content-Digest", place.other_digest)(reply, request, place);
}

void empty(Reply& reply, const Request&, const Place&) {
  reply.body.clear();
  reply.ranges = false;
}

std::vector<Fault> of_the_connection() {
  return {
      {"no such name", Cause::unreachable, Reach::answers, false, Line::no_name},
      {"refused", Cause::unreachable, Reach::answers, false, Line::refused},
      {"TLS: untrusted", Cause::certificate, Reach::answers, false, Line::untrusted},
      {"TLS: expired", Cause::certificate, Reach::answers, false, Line::expired},
      {"TLS: other name", Cause::certificate, Reach::answers, false, Line::other_name},
      {"TLS: too old", Cause::unreachable, Reach::answers, false, Line::old_tls},
      {"reset before the head", Cause::unreachable, Reach::answers, false, Line::plain, headless(true)},
      {"reset before the head, once", Cause::unreachable, Reach::answers, true, Line::plain, headless(true)},
      {"closed before the head", Cause::unreachable, Reach::answers, false, Line::plain, headless(false)},
      {"closed before the head, once", Cause::unreachable, Reach::answers, true, Line::plain, headless(false)},
      {"reset after the head", Cause::breaking, Reach::gets, false, Line::plain, cut(true, true)},
      {"reset after the head, once", Cause::breaking, Reach::gets, true, Line::plain, cut(true, true)},
      {"closed after the head", Cause::breaking, Reach::gets, false, Line::plain, cut(true, false)},
      {"reset in the body", Cause::breaking, Reach::gets, false, Line::plain, cut(false, true)},
      {"reset in the body, once", Cause::breaking, Reach::gets, true, Line::plain, cut(false, true)},
      {"closed in the body", Cause::breaking, Reach::gets, false, Line::plain, cut(false, false)},
      {"closed in the body, once", Cause::breaking, Reach::gets, true, Line::plain, cut(false, false)},
      {"closed again and again", Cause::pieces, Reach::gets, false, Line::plain, cut_later},
      {"silent", Cause::silence, Reach::answers, false, Line::plain, silence},
      {"silent, once", Cause::silence, Reach::answers, true, Line::plain, silence},
      {"stall", Cause::stalling, Reach::gets, false, Line::plain, stall},
      {"stall, once", Cause::stalling, Reach::gets, true, Line::plain, stall},
      {"drip", Cause::dripping, Reach::gets, false, Line::plain, drip},
  };
}

std::vector<Fault> of_the_content() {
  return {
      {"length: one less", Cause::damage, Reach::answers, false, Line::plain, length(-1), true},
      {"length: ten more", Cause::breaking, Reach::gets, false, Line::plain, length(10), true},
      {"length: absent", Cause::nothing, Reach::answers, false, Line::plain, framing(Framing::until_close)},
      {"length: chunked", Cause::nothing, Reach::answers, false, Line::plain, framing(Framing::chunked)},
      {"length: zero", Cause::odd, Reach::answers, false, Line::plain, empty},
      {"length: two", Cause::odd, Reach::answers, false, Line::plain, also("Content-Length", "5")},
      {"length: and chunked", Cause::odd, Reach::answers, false, Line::plain, also("Transfer-Encoding", "chunked")},
      {"bytes behind the end", Cause::nothing, Reach::gets, false, Line::plain,
       [](Reply& reply, const Request&, const Place&) { reply.behind_body = "junk"; }},
      {"digest: damaged", Cause::damage, Reach::gets, false, Line::plain, damage},
      {"digest: other content", Cause::damage, Reach::gets, false, Line::plain, other_content},
      {"digest: the field lies", Cause::nothing, Reach::answers, false, Line::plain, other_digest},
      {"digest: no field", Cause::nothing, Reach::answers, false, Line::plain, field("Docker-Content-Digest", "")},
      {"type: HTML", Cause::nothing, Reach::answers, false, Line::plain, field("Content-Type", "text/html")},
      {"type: octets", Cause::nothing, Reach::answers, false, Line::plain,
       field("Content-Type", "application/octet-stream")},
      {"type: none", Cause::nothing, Reach::answers, false, Line::plain, field("Content-Type", "")},
      {"a login page", Cause::damage, Reach::answers, false, Line::plain, login_page},
  };
}

std::vector<Fault> of_redirects() {
  return {
      {"redirect: well", Cause::nothing, Reach::answers, false, Line::plain, redirect(&Place::storage, "/storage")},
      {"redirect: to https", Cause::nothing, Reach::answers, false, Line::plain,
       redirect(&Place::storage_tls, "/storage")},
      {"redirect: from https to http", Cause::odd, Reach::answers, false, Line::tls,
       redirect(&Place::storage, "/storage")},
      {"redirect: to itself", Cause::odd, Reach::answers, false, Line::plain, redirect(&Place::origin, "")},
      {"redirect: loop elsewhere", Cause::storage, Reach::answers, false, Line::plain,
       redirect(&Place::storage, "/loop")},
      {"redirect: nowhere", Cause::storage, Reach::answers, false, Line::plain, redirect(&Place::nobody, "")},
      {"redirect: 404", Cause::storage, Reach::answers, false, Line::plain, redirect(&Place::storage, "/404")},
      {"redirect: 403", Cause::storage, Reach::answers, false, Line::plain, redirect(&Place::storage, "/403")},
      {"redirect: 500", Cause::storage, Reach::answers, false, Line::plain, redirect(&Place::storage, "/500")},
      {"redirect: to a link-local address", Cause::storage, Reach::answers, false, Line::plain,
       redirect_to("http://169.254.1.1/secret")},
      {"redirect: to no address", Cause::odd, Reach::answers, false, Line::plain, redirect_to("ftp://127.0.0.1/")},
  };
}

std::vector<Fault> of_statuses() {
  return {
      {"401 without a challenge", Cause::login, Reach::answers, false, Line::plain, challenge("")},
      {"401 to every token", Cause::login, Reach::answers, false, Line::plain, challenge("Bearer", "/token")},
      {"401 for a password", Cause::login, Reach::answers, false, Line::plain, challenge("Basic", "/")},
      {"401, and the token server fails", Cause::no_token, Reach::answers, false, Line::plain,
       challenge("Bearer", "/500/token")},
      {"403", Cause::denied, Reach::answers, false, Line::plain, status(403)},
      {"404", Cause::missing, Reach::answers, false, Line::plain, status(404)},
      {"400", Cause::odd, Reach::answers, false, Line::plain, status(400)},
      {"508", Cause::loop, Reach::answers, false, Line::plain, status(508)},
      {"429", Cause::throttling, Reach::answers, false, Line::plain, status(429)},
      {"429 for two minutes", Cause::throttling, Reach::answers, false, Line::plain,
       status(429, {{"Retry-After", "120"}})},
      {"429 for a second, once", Cause::throttling, Reach::answers, true, Line::plain,
       status(429, {{"Retry-After", "1"}})},
      {"500", Cause::failing, Reach::answers, false, Line::plain, status(500)},
      {"502", Cause::failing, Reach::answers, false, Line::plain, status(502)},
      {"503", Cause::failing, Reach::answers, false, Line::plain, status(503)},
      {"503 for a minute", Cause::failing, Reach::answers, false, Line::plain, status(503, {{"Retry-After", "60"}})},
      {"504", Cause::failing, Reach::answers, false, Line::plain, status(504)},
      {"500, once", Cause::failing, Reach::answers, true, Line::plain, status(500)},
      {"503 for a second, once", Cause::failing, Reach::answers, true, Line::plain,
       status(503, {{"Retry-After", "1"}})},
  };
}

std::vector<Fault> of_heads() {
  const auto head = [](std::string name, Spoil spoil) {
    return Fault{"HEAD: " + std::move(name), Cause::nothing, Reach::heads, false, Line::plain, std::move(spoil)};
  };
  return {
      head("400", status(400)),
      head("401", challenge("")),
      head("403", status(403)),
      head("404", status(404)),
      head("405", status(405)),
      head("429", status(429)),
      head("500", status(500)),
      head("no length", framing(Framing::chunked)),
      head("length 0", empty),
      head("one byte more", length(1)),
      head("other digest", other_digest),
      head("no digest", field("Docker-Content-Digest", "")),
      head("HTML", field("Content-Type", "text/html")),
      head("reset", headless(true)),
      head("silent", silence),
      head("redirect nowhere", redirect(&Place::nobody, "")),
      head("with a body",
           [](Reply& reply, const Request&, const Place&) {
             reply.body_on_head = true;
             // Unannounced, the next request on that connection may meet the body before its end is noticed.
             reply.close = true;
           }),
  };
}

}  // namespace

const std::vector<Fault>& all() {
  static const std::vector<Fault> faults = [] {
    std::vector<Fault> out;
    for (auto make : {of_the_connection, of_the_content, of_redirects, of_statuses, of_heads}) {
      for (Fault& fault : make()) out.push_back(std::move(fault));
    }
    return out;
  }();
  return faults;
}

}  // namespace sluice::test::faults
