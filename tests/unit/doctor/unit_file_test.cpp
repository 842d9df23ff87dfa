#include <catch2/catch.hpp>

#include "doctor/unit_file.hpp"
#include "machine.hpp"

using namespace sluice::doctor;

TEST_CASE("Service: a drop-in replaces ExecStart, and options come out of variables", "[doctor]") {
  const MemoryFiles files({
      {"/lib/systemd/system/docker.service",
       "[Unit]\nDescription=x\n[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// "
       "$DOCKER_OPTS\n"},
      {"/etc/default/docker", "# comment\nDOCKER_OPTS=\"--registry-mirror http://a:1 --insecure-registry=b:2\"\n"},
  });
  const Service service = read_service(files, "docker.service");
  CHECK(service.found);
  CHECK(service.option("--registry-mirror") == std::vector<std::string>{"http://a:1"});
  CHECK(service.option("--insecure-registry") == std::vector<std::string>{"b:2"});
}

TEST_CASE("Service: environment of drop-ins, in the order of their names", "[doctor]") {
  const MemoryFiles files({
      {"/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd\n"},
      {"/etc/systemd/system/docker.service.d/20-more.conf", "[Service]\nEnvironment=\"NO_PROXY=a b\" X=1\n"},
      {"/run/systemd/system/docker.service.d/10-first.conf",
       "[Service]\nEnvironment=HTTP_PROXY=http://p:1 \\\n  NO_PROXY=old\nExecStart=\nExecStart=/usr/bin/dockerd "
       "--debug\n"},
      {"/etc/systemd/system/docker.service.d/ignored.txt", "[Service]\nEnvironment=X=2\n"},
  });
  const Service service = read_service(files, "docker.service");
  CHECK(service.environment.at("HTTP_PROXY") == "http://p:1");
  CHECK(service.environment.at("NO_PROXY") == "a b");
  CHECK(service.environment.at("X") == "1");
  CHECK(service.command == std::vector<std::string>{"/usr/bin/dockerd", "--debug"});
}
