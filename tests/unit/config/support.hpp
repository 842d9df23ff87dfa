// Configuration files that live as long as a test case.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "config/load.hpp"
#include "support/temp_directory.hpp"

namespace sluice::config::testing {

class Folder {
 public:
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::ofstream(path() / name, std::ios::binary) << text;
    return path() / name;
  }
  const std::filesystem::path& path() const { return directory_.path(); }

 private:
  test::TempDirectory directory_;
};

inline Result<Settings> load_text(std::string_view text) {
  const Folder folder;
  return load({folder.write("sluice.yml", text), {}, {}});
}

// What load() says about the text, with the folder's name taken out: "sluice.yml:2: …". "ok" when it says nothing.
inline std::string complaints(std::string_view text) {
  const Folder folder;
  const Result<Settings> loaded = load({folder.write("sluice.yml", text), {}, {}});
  if (loaded) return "ok";
  std::string message = loaded.error().message;
  const std::string prefix = folder.path().string() + "/";
  for (std::size_t at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
    message.erase(at, prefix.size());
  }
  return message;
}

}  // namespace sluice::config::testing
