#include "bench.hpp"

#include "support/test_ca.hpp"

namespace sluice::upstream {
namespace {

using test::TestCa;

ScriptedOrigin::Params secure(const TestCa& ca, const std::vector<std::string>& names, std::string host = "127.0.0.1") {
  ScriptedOrigin::Params params;
  params.tls = ca.server_context(names);
  params.host = std::move(host);
  return params;
}

TEST_CASE("TLS: a download over a certificate for an address and for a name", "[upstream]") {
  const TestCa ca;
  for (const auto& [host, san] : std::vector<std::pair<std::string, std::string>>{{"127.0.0.1", "IP:127.0.0.1"},
                                                                                  {"localhost", "DNS:localhost"}}) {
    INFO(host);
    Bench bench(1, secure(ca, {san}, host));
    bench.params.ca_file = ca.certificate_file();
    const std::string content = content_of(3 << 20);
    const std::string name = bench.origin.add_blob("app", content);
    const Download got = bench.get(name, 0, 256 << 10);
    CHECK_FALSE(got.opening);
    CHECK_FALSE(got.error);
    CHECK(got.bytes == content);
    CHECK(bench.get(name, 1000).bytes == content.substr(1000));
    CHECK(bench.stat(name));
    CHECK(bench.origin.seen().connections == 1);
  }
}

TEST_CASE("TLS: chunked and endless bodies", "[upstream]") {
  const TestCa ca;
  Bench bench(1, secure(ca, {"IP:127.0.0.1"}));
  bench.params.ca_file = ca.certificate_file();
  const std::string content = content_of(500'000);
  const std::string name = bench.origin.add_blob("app", content);
  for (const Framing framing : {Framing::chunked, Framing::until_close}) {
    Reply reply;
    reply.body = content;
    reply.framing = framing;
    bench.origin.script(Bench::blob(name), reply);
    const Download got = bench.get(name, 0, 256 << 10);
    CHECK_FALSE(got.error);
    CHECK(got.bytes == content);
  }
}

TEST_CASE("TLS: an end without close_notify is no end", "[upstream]") {
  const TestCa ca;
  Bench bench(1, secure(ca, {"IP:127.0.0.1"}));
  bench.params.ca_file = ca.certificate_file();
  const std::string name = bench.origin.add_blob("app", "content");
  Reply reply;
  reply.body = content_of(100'000);
  reply.framing = Framing::until_close;
  reply.cut_after = 50'000;
  reply.cut_with_reset = true;
  bench.origin.script(Bench::blob(name), reply);
  const Download got = bench.get(name);
  CHECK(got.bytes.size() <= 50'000);
  // SSL_shutdown says goodbye before the reset: whether it arrives is up to the kernel, but never more than was sent.
  if (got.error) CHECK(got.error->code == Errc::upstream_unreachable);
}

TEST_CASE("TLS: a certificate for somebody else", "[upstream]") {
  const TestCa ca;
  Bench bench(1, secure(ca, {"DNS:other.example", "IP:127.0.0.2"}));
  bench.params.ca_file = ca.certificate_file();
  bench.params.retries = 0;
  const auto got = bench.get(bench.origin.add_blob("app", "content"));
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
  CHECK(got.opening->message.find("certificate") != std::string::npos);
  CHECK(bench.origin.requests().empty());
}

TEST_CASE("TLS: a name is not taken for an address", "[upstream]") {
  const TestCa ca;
  Bench bench(1, secure(ca, {"DNS:127.0.0.1"}));
  bench.params.ca_file = ca.certificate_file();
  bench.params.retries = 0;
  CHECK(bench.get(bench.origin.add_blob("app", "content")).opening);
  CHECK(bench.origin.requests().empty());
}

TEST_CASE("TLS: an authority that nobody knows", "[upstream]") {
  const TestCa ca;
  const TestCa other;
  Bench bench(1, secure(ca, {"IP:127.0.0.1"}));
  bench.params.retries = 0;
  SECTION("neither the system") {}
  SECTION("nor the file") { bench.params.ca_file = other.certificate_file(); }
  const auto got = bench.get(bench.origin.add_blob("app", "content"));
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
  CHECK(bench.origin.requests().empty());
}

TEST_CASE("TLS: a server that does not speak it", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.connect_timeout = std::chrono::seconds(20);
  bench.params.base.scheme = "https";
  // The origin takes the hello for the beginning of a request and waits for its end.
  bench.params.connect_timeout = std::chrono::milliseconds(50);
  const auto got = bench.get(ScriptedOrigin::digest_of("x"));
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_timeout);
}

TEST_CASE("TLS: a CA file that cannot be read stops the start", "[upstream]") {
  Bench bench;
  bench.params.ca_file = "/nonexistent/ca.pem";
  CHECK_THROWS_AS(bench.registry(), std::runtime_error);
}

TEST_CASE("TLS: never from https down to http", "[upstream]") {
  const TestCa ca;
  Bench bench(1, secure(ca, {"IP:127.0.0.1"}));
  ScriptedOrigin plain;
  bench.params.ca_file = ca.certificate_file();
  bench.params.credentials = {"alice", "secret"};
  const std::string name = bench.origin.add_blob("app", "content");
  SECTION("by a redirect") {
    Reply reply;
    reply.status = 307;
    reply.fields = {{"Location", plain.url("/o")}};
    bench.origin.script(Bench::blob(name), reply);
    CHECK(bench.get(name).opening->code == Errc::upstream_protocol);
  }
  SECTION("by a realm") {
    bench.origin.require_token(plain.url("/token"));
    CHECK(bench.get(name).opening->code == Errc::unauthorized);
  }
  CHECK(plain.requests().empty());
}

}  // namespace
}  // namespace sluice::upstream
