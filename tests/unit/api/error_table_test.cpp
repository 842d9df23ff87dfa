#include <set>
#include <string>
#include <string_view>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "api/error_table.hpp"

using namespace sluice;
using namespace sluice::api;

namespace {

struct Row {
  Errc code;
  unsigned status;
  std::string_view oci_code;
};

// Every code of errc.hpp, in its order.
constexpr Row kRows[] = {
    {Errc::digest_invalid, 400, "DIGEST_INVALID"},
    {Errc::digest_unsupported, 400, "DIGEST_INVALID"},
    {Errc::name_invalid, 400, "NAME_INVALID"},
    {Errc::tag_invalid, 404, "MANIFEST_UNKNOWN"},
    {Errc::manifest_invalid, 502, "MANIFEST_INVALID"},
    {Errc::range_invalid, 416, "RANGE_INVALID"},
    {Errc::blob_unknown, 404, "BLOB_UNKNOWN"},
    {Errc::manifest_unknown, 404, "MANIFEST_UNKNOWN"},
    {Errc::name_unknown, 404, "NAME_UNKNOWN"},
    {Errc::pagination_invalid, 400, "PAGINATION_NUMBER_INVALID"},
    {Errc::unsupported, 405, "UNSUPPORTED"},
    {Errc::unauthorized, 401, "UNAUTHORIZED"},
    {Errc::denied, 403, "DENIED"},
    {Errc::throttled, 503, "TOOMANYREQUESTS"},
    {Errc::upstream_unreachable, 502, "UNAVAILABLE"},
    {Errc::upstream_timeout, 504, "UNAVAILABLE"},
    {Errc::upstream_failed, 502, "UNAVAILABLE"},
    {Errc::upstream_protocol, 502, "UNAVAILABLE"},
    {Errc::upstream_loop, 508, "UNAVAILABLE"},
    {Errc::digest_mismatch, 502, "UNAVAILABLE"},
    {Errc::size_mismatch, 502, "UNAVAILABLE"},
    {Errc::cancelled, 503, "UNAVAILABLE"},
    {Errc::shutting_down, 503, "UNAVAILABLE"},
    {Errc::closed, 500, "UNKNOWN"},
    {Errc::abandoned, 503, "UNAVAILABLE"},
    {Errc::superseded, 503, "UNAVAILABLE"},
    {Errc::exists, 500, "UNKNOWN"},
    {Errc::not_found, 500, "UNKNOWN"},
    {Errc::no_space, 503, "UNAVAILABLE"},
    {Errc::io, 503, "UNAVAILABLE"},
    {Errc::corrupt, 500, "UNKNOWN"},
    {Errc::timeout, 503, "UNAVAILABLE"},
    {Errc::overloaded, 503, "UNAVAILABLE"},
    {Errc::upstream_down, 503, "UNAVAILABLE"},
    {Errc::config_invalid, 500, "UNKNOWN"},
    {Errc::internal, 500, "UNKNOWN"},
};

}  // namespace

TEST_CASE("ErrorTable: every code has its status and its code of the registry API", "[api]") {
  std::set<Errc> seen;
  for (const Row& row : kRows) {
    INFO(name(row.code));
    seen.insert(row.code);
    CHECK(http_error(row.code).status == row.status);
    const ErrorAnswer answer = error_answer(Error{row.code, "what went wrong: /srv/secret"}, "id-7");
    CHECK(answer.status == row.status);
    const nlohmann::json body = nlohmann::json::parse(answer.body);
    REQUIRE(body["errors"].size() == 1);
    CHECK(body["errors"][0]["code"] == row.oci_code);
    const std::string message = body["errors"][0]["message"];
    const bool disk = row.code == Errc::no_space || row.code == Errc::io;
    CHECK(answer.in_log_only == (row.status == 500 || disk));
    if (answer.in_log_only) {
      CHECK(message.find("secret") == std::string::npos);
      CHECK(message.find("id-7") != std::string::npos);
    } else {
      CHECK(message == "what went wrong: /srv/secret");
    }
    CHECK(answer.head.starts_with("HTTP/1.1 " + std::to_string(row.status) + " "));
    CHECK(answer.head.find("Content-Type: application/json\r\n") != std::string::npos);
    CHECK(answer.head.find("Content-Length: " + std::to_string(answer.body.size()) + "\r\n") != std::string::npos);
    CHECK((answer.head.find("Allow: GET, HEAD\r\n") != std::string::npos) == (row.status == 405));
    CHECK((answer.head.find("WWW-Authenticate: ") != std::string::npos) == (row.status == 401));
    const bool outage = row.code == Errc::upstream_unreachable || row.code == Errc::upstream_timeout ||
                        row.code == Errc::upstream_failed;
    CHECK((answer.head.find("Retry-After: ") != std::string::npos) == (row.status == 503 || outage));
  }
  // Whoever adds a code adds its row.
  CHECK(seen.size() == static_cast<std::size_t>(Errc::internal) + 1);
}

TEST_CASE("ErrorTable: a 401 has a challenge, upstream's where there is one", "[api]") {
  // One that no client answers with the user's login.
  const std::string ours = error_answer(Error{Errc::unauthorized, ""}, "").head;
  CHECK(ours.find("WWW-Authenticate: Upstream realm=\"") != std::string::npos);
  CHECK(ours.find("Basic") == std::string::npos);
  CHECK(ours.find("Bearer") == std::string::npos);
  Error theirs{Errc::unauthorized, ""};
  theirs.challenges = {"Basic realm=\"a\"", "Bearer realm=\"https://b/token\""};
  const std::string passed = error_answer(theirs, "").head;
  CHECK(passed.find("WWW-Authenticate: Basic realm=\"a\"\r\n") != std::string::npos);
  CHECK(passed.find("WWW-Authenticate: Bearer realm=\"https://b/token\"\r\n") != std::string::npos);
  CHECK(passed.find("Upstream") == std::string::npos);
}

TEST_CASE("ErrorTable: Retry-After is upstream's where it said so", "[api]") {
  using std::chrono::seconds;
  CHECK(error_answer(Error{Errc::throttled, "", seconds(17)}, "").head.find("Retry-After: 17\r\n") !=
        std::string::npos);
  CHECK(error_answer(Error{Errc::upstream_failed, "", seconds(3)}, "").head.find("Retry-After: 3\r\n") !=
        std::string::npos);
  CHECK(error_answer(Error{Errc::throttled, ""}, "").head.find("Retry-After: 5\r\n") != std::string::npos);
}

TEST_CASE("ErrorTable: a message with anything in it stays JSON", "[api]") {
  const std::string message = "a \"quote\", a \\, a\nline, \x01, caf\xc3\xa9";
  const ErrorAnswer answer = error_answer(Error{Errc::blob_unknown, message}, "");
  CHECK(nlohmann::json::parse(answer.body)["errors"][0]["message"] == message);
  // What is not UTF-8 must not make it throw.
  const ErrorAnswer broken = error_answer(Error{Errc::blob_unknown, "\xff\xfe"}, "");
  CHECK_FALSE(nlohmann::json::parse(broken.body, nullptr, false).is_discarded());
}
