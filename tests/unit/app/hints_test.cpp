#include <catch2/catch.hpp>

#include "app/hints.hpp"

using namespace sluice;
using namespace sluice::app;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::string hints(const config::Settings& settings, const char* listen) {
  return client_hints(settings, *config::Endpoint::parse(listen), *config::Endpoint::parse("127.0.0.1:5001"));
}

}  // namespace

TEST_CASE("Hints: on loopback they say who reaches it, and what to try", "[app]") {
  const std::string text = hints({}, "127.0.0.1:5000");
  CHECK(has(text, "listens on http://127.0.0.1:5000 and caches docker.io (https://registry-1.docker.io)"));
  CHECK(has(text, "Only this machine reaches it; --listen :5000"));
  CHECK(has(text, "docker pull 127.0.0.1:5000/library/busybox"));
  CHECK(has(text, "\"registry-mirrors\": [\"http://127.0.0.1:5000\"]"));
  CHECK(has(text, "certs.d/docker.io/hosts.toml"));
  CHECK(has(text, "location = \"127.0.0.1:5000\""));
  CHECK(has(text, "Status and metrics: http://127.0.0.1:5001/"));
  CHECK(text.back() == '\n');
}

TEST_CASE("Hints: with a certificate it is https", "[app]") {
  config::Settings settings;
  settings.server.tls.cert_file = "/etc/cert.pem";
  const std::string text = hints(settings, "127.0.0.1:5000");
  CHECK(has(text, "listens on https://127.0.0.1:5000 and"));
  CHECK(has(text, "[host.\"https://127.0.0.1:5000\"]"));
  CHECK_FALSE(has(text, "insecure"));
}

TEST_CASE("Hints: one that listens everywhere is named by loopback here, and otherwise elsewhere", "[app]") {
  const std::string text = hints({}, ":5000");
  CHECK(has(text, "http://127.0.0.1:5000"));
  CHECK(has(text, "On other machines use this machine's name or address instead of 127.0.0.1."));
  CHECK_FALSE(has(text, "Only this machine"));
}

TEST_CASE("Hints: docker's mirrors are for Docker Hub alone", "[app]") {
  config::Settings settings;
  settings.default_upstream = "ghcr.io";
  const std::string text = hints(settings, "10.1.2.3:80");
  CHECK_FALSE(has(text, "registry-mirrors"));
  CHECK(has(text, "certs.d/ghcr.io/hosts.toml"));
  CHECK(has(text, "It caches these too: docker.io"));
  // Only this machine's docker speaks plain HTTP unasked.
  CHECK_FALSE(has(text, "docker pull 10.1.2.3:80/NAME"));
}

TEST_CASE("Hints: who collects the log as JSON gets nothing else", "[app]") {
  config::Settings settings;
  settings.log.format = log::Format::json;
  CHECK(hints(settings, "127.0.0.1:5000").empty());
}
