// Configuration files that live as long as a test case.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "config/load.hpp"

namespace sluice::config::testing {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-config-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
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
