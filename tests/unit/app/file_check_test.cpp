#include <fstream>

#include <catch2/catch.hpp>

#include "app/file_check.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::app;

TEST_CASE("File check: a ca_file that holds no certificate is told, with its key", "[app]") {
  const test::TempDirectory folder;
  config::Settings settings;
  CHECK(wrong_files(settings).empty());
  const std::filesystem::path file = folder.path() / "not.pem";
  std::ofstream(file) << "this is no certificate\n";
  settings.upstreams.at("docker.io").ca_file = file;
  settings.upstreams.at("ghcr.io").ca_file = folder.path() / "nothing.pem";
  const std::string wrong = wrong_files(settings);
  CHECK(wrong.find("upstreams.docker.io.ca_file: ") == 0);
  CHECK(wrong.find("not.pem") != std::string::npos);
  CHECK(wrong.find("\nupstreams.ghcr.io.ca_file: ") != std::string::npos);
}
