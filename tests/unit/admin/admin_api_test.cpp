#include <map>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "admin/admin_api.hpp"
#include "admin_fixture.hpp"
#include "http/framing.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace sluice::test;

namespace {

struct ApiFixture : AdminFixture {
  struct Reply {
    unsigned status;
    nlohmann::json body;
    std::string allow;
  };

  Reply ask(const std::string& method, const std::string& target, const std::string& fields = "Host: localhost\r\n") {
    std::string bytes = method + " " + target + " HTTP/1.1\r\n" + fields;
    if (method == "POST" && fields.find("Content-Type") == std::string::npos)
      bytes += "Content-Type: application/json\r\n";
    bytes += "\r\n";
    http::Request request;
    REQUIRE_FALSE(http::parse_request(bytes, request).has_value());
    AdminApi::Answer answer = run(api.answer(request));
    return {answer.status, nlohmann::json::parse(answer.body), std::string(answer.allow)};
  }

  // What the proxy would do, without its caches.
  static runtime::Task<Result<Removed>> forget(ApiFixture* self, store::Scope scope, oci::Digest digest) {
    if (self->redis_down) co_return Error{Errc::io, "Redis does not answer"};
    const bool known = self->store_.catalog().clear_membership(scope, digest);
    co_return Removed{known ? 1U : 0U, 0, 0, 0};
  }
  static runtime::Task<Result<Removed>> drop(ApiFixture* self, oci::Digest digest) {
    const Result<void> removed = co_await self->store_.remove(digest);
    co_return Removed{removed ? 1U : 0U, 0, removed ? 1U : 0U, 0};
  }
  static runtime::Task<Result<void>> nothing() { co_return Result<void>{}; }

  bool redis_down = false;
  VerifyJob verify{store_, clock};
  AdminApi api{
      {"1.2.3", {"127.0.0.1"}},
      {inventory, store_, parts, verify, pool, filesystem, clock},
      {[this](store::Scope scope, oci::Digest digest) { return forget(this, std::move(scope), digest); },
       [this](oci::Digest digest) { return drop(this, digest); },
       [this](const store::Scope& scope, const std::string& tag) { return store_.catalog().clear_tag(scope, tag); },
       [] { return nothing(); }}};
};

}  // namespace

TEST_CASE("Admin API: about, lists and stat", "[admin]") {
  ApiFixture at;
  const oci::Digest digest = at.image("docker.io/a/b", "config", "layer");
  at.tag("docker.io/a/b", "1", digest);
  const ApiFixture::Reply about = at.ask("GET", "/api/v1");
  CHECK(about.status == 200);
  CHECK(about.body["version"] == "1.2.3");
  CHECK(about.body["store"]["blobs"] == 3);
  CHECK(about.body["data"] == at.params.root.native());
  CHECK(at.ask("GET", "/api/v1/").status == 200);
  CHECK(at.ask("GET", "/api/v1/repositories").body["repositories"][0]["name"] == "docker.io/a/b");
  CHECK(at.ask("GET", "/api/v1/tags?repository=a%2Fb").body["tags"][0]["digest"] == digest.to_string());
  CHECK(at.ask("GET", "/api/v1/blobs").body["blobs"].size() == 3);
  CHECK(at.ask("GET", "/api/v1/blobs?repository=a/b").body["repository"] == "docker.io/a/b");
  CHECK(at.ask("GET", "/api/v1/stat?name=a/b:1").body["manifest"]["digest"] == digest.to_string());
  CHECK(at.ask("GET", "/api/v1/stat?name=" + digest.to_string()).body["tags"][0] == "docker.io/a/b:1");
  CHECK(at.ask("HEAD", "/api/v1/repositories").status == 200);
}

TEST_CASE("Admin API: what makes no sense is refused, what is not there is a 404", "[admin]") {
  ApiFixture at;
  for (const char* target : {"/api", "/api/", "/api/v2", "/api/v1x", "/api/v1/nothing", "/api/v1/stat?name=a/b:1",
                             "/api/v1/tags?repository=a/b"}) {
    INFO(target);
    const ApiFixture::Reply reply = at.ask("GET", target);
    CHECK(reply.status == 404);
    CHECK(reply.body["error"]["message"].is_string());
  }
  for (const char* target : {"/api/v1/stat", "/api/v1/stat?name=..", "/api/v1/tags", "/api/v1/repositories?limit=0",
                             "/api/v1/repositories?limit=1001", "/api/v1/repositories?limit=x", "/api/v1/blobs?after=x",
                             "/api/v1/stat?name=sha256:abc", "/api/v1/tags?repository=A/B"}) {
    INFO(target);
    CHECK(at.ask("GET", target).status == 400);
  }
  const std::map<std::string, std::string> only{
      {"/api/v1", "GET, HEAD"},      {"/api/v1/repositories", "GET, HEAD"},
      {"/api/v1/stat", "GET, HEAD"}, {"/api/v1/content", "DELETE"},
      {"/api/v1/gc", "POST"},        {"/api/v1/verify", "GET, HEAD, POST, DELETE"}};
  for (const auto& [target, allow] : only) {
    INFO(target);
    const ApiFixture::Reply reply = at.ask("PUT", target);
    CHECK(reply.status == 405);
    CHECK(reply.allow == allow);
  }
}

TEST_CASE("Admin API: pages of the web are not let in", "[admin]") {
  ApiFixture at;
  const oci::Digest digest = at.put("docker.io/a/b", "content");
  const std::string target = "/api/v1/content?name=" + digest.to_string();
  for (const char* fields :
       {"Host: attacker.example\r\n", "Host: localhost\r\nOrigin: http://localhost\r\n", "Host: 10.0.0.1\r\n"}) {
    INFO(fields);
    CHECK(at.ask("DELETE", target, fields).status == 403);
    CHECK(at.ask("GET", "/api/v1", fields).status == 403);
  }
  CHECK(at.ask("POST", "/api/v1/gc", "Host: localhost\r\nContent-Type: text/plain\r\n").status == 403);
  CHECK(at.store_.find(digest).has_value());
}

TEST_CASE("Admin API: images, digests and repositories are taken out", "[admin]") {
  ApiFixture at;
  const oci::Digest digest = at.image("docker.io/a/b", "config", "layer");
  at.tag("docker.io/a/b", "1", digest);
  const ApiFixture::Reply image = at.ask("DELETE", "/api/v1/content?name=a/b:1");
  CHECK(image.status == 200);
  CHECK(image.body["tags"] == 1);
  CHECK(image.body["digests"] == 3);
  CHECK(at.store_.catalog().repositories().empty());
  CHECK(at.ask("DELETE", "/api/v1/content?name=a/b:1").status == 404);
  // The files that no repository has any more, in this test.
  CHECK(at.ask("DELETE", "/api/v1/content?name=" + digest.to_string()).body["files"] == 1);
  CHECK(at.ask("DELETE", "/api/v1/content?name=" + digest.to_string()).status == 404);
  CHECK(at.ask("DELETE", "/api/v1/content").status == 400);

  at.image("docker.io/c/d", "config", "layer");
  // A tag beside it is a slip, which must not cost the whole repository.
  CHECK(at.ask("DELETE", "/api/v1/content?name=c/d:1&all=true").status == 400);
  CHECK(at.ask("DELETE", "/api/v1/content?name=c/d&all=true").body["digests"] == 3);
  at.put("docker.io/e/f", "x");
  at.redis_down = true;
  const ApiFixture::Reply failed = at.ask("DELETE", "/api/v1/content?name=" + sha256_of("x").to_string());
  CHECK(failed.status == 503);
  CHECK(failed.body["error"]["message"] == "Redis does not answer");
}

TEST_CASE("Admin API: what is taken out goes by all names that the repository knows it by", "[admin]") {
  ApiFixture at;
  const oci::Digest canonical = at.put("docker.io/a/b", "bytes");
  const oci::Digest other = oci::digest_of(oci::Algorithm::sha512, "bytes");
  const oci::Digest stranger = oci::digest_of(oci::Algorithm::sha512, "other bytes");
  at.store_.catalog().set_membership(store::Scope(), other, {canonical, 5, "application/octet-stream"});
  for (const oci::Digest& name : {other, stranger}) at.know("docker.io/a/b", name, 5, "application/octet-stream");
  CHECK(at.ask("DELETE", "/api/v1/content?name=a/b@" + canonical.to_string()).status == 200);
  const auto scope = at.scope("docker.io/a/b");
  CHECK_FALSE(at.store_.catalog().membership(scope, canonical));
  CHECK_FALSE(at.store_.catalog().membership(scope, other));
  CHECK(at.store_.catalog().membership(scope, stranger));
}

TEST_CASE("Admin API: gc and verify", "[admin]") {
  ApiFixture at;
  at.put("docker.io/a/b", std::string(3 << 20, 'x'));
  at.know("docker.io/a/b", sha256_of("nowhere"), 3, "application/octet-stream");
  const ApiFixture::Reply collected = at.ask("POST", "/api/v1/gc?min_age=0s");
  CHECK(collected.status == 200);
  CHECK(collected.body["memberships"] >= 1);
  CHECK(at.ask("POST", "/api/v1/gc?min_age=soon").status == 400);

  CHECK(at.ask("GET", "/api/v1/verify").body["state"] == "idle");
  CHECK(at.ask("DELETE", "/api/v1/verify").status == 404);
  CHECK(at.ask("POST", "/api/v1/verify?sample=0").status == 400);
  CHECK(at.ask("POST", "/api/v1/verify?rate=1").status == 202);
  CHECK(at.ask("POST", "/api/v1/verify").status == 409);
  CHECK(at.ask("GET", "/api/v1/verify").body["state"] == "running");
  CHECK(at.ask("DELETE", "/api/v1/verify").status == 202);
  at.verify.stop();
  CHECK(at.ask("GET", "/api/v1/verify").body["state"] == "cancelled");
}

TEST_CASE("Admin API: nothing is told of a store that is not open", "[admin]") {
  ApiFixture at;
  at.store_.stop();
  CHECK(at.ask("GET", "/api/v1").status == 503);
  CHECK(at.ask("POST", "/api/v1/gc").status == 503);
}
