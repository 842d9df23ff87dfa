#include "app/commands/distribution_tree.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "oci/name.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxLinkBytes = 256;

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

Clock::Wall modified(const fs::path& path) {
  struct stat found{};
  if (::stat(path.c_str(), &found) != 0) return {};
  return Clock::Wall(std::chrono::seconds(found.st_mtim.tv_sec));
}

class Reader {
 public:
  Reader(fs::path root, std::string upstream, bool library_prefix)
      : root_(std::move(root)), upstream_(std::move(upstream)), library_prefix_(library_prefix) {}

  DistributionTree read() {
    walk(root_ / "repositories", {});
    count_left_out();
    return std::move(tree_);
  }

 private:
  using Original = DistributionTree::Original;
  using Repository = DistributionTree::Repository;

  void bad(const fs::path& path, std::string reason) { tree_.bad.push_back({path.native(), std::move(reason)}); }

  // Names of directories, sorted; those that are none are left out.
  std::vector<std::string> directories(const fs::path& path) {
    std::vector<std::string> out;
    std::error_code error;
    if (!is_folder(path)) return out;
    for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
      if (is_folder(at->path())) out.push_back(at->path().filename().native());
    }
    if (error) bad(path, "cannot be read: " + error.message());
    std::sort(out.begin(), out.end());
    return out;
  }

  void walk(const fs::path& directory, const std::string& name) {
    if (name.size() > kMaxNameBytes) return bad(directory, "is no repository's name");
    bool is_repository = false;
    for (const std::string& child : directories(directory)) {
      if (child.starts_with('_')) {
        is_repository = is_repository || child == "_layers" || child == "_manifests";
      } else {
        walk(directory / child, name.empty() ? child : fmt::format("{}/{}", name, child));
      }
    }
    if (is_repository) repository(directory, name);
  }

  void repository(const fs::path& directory, std::string name) {
    // As requests for it are understood.
    if (library_prefix_ && name.find('/') == std::string::npos) name = "library/" + name;
    const Result<oci::Repository> parsed = oci::Repository::parse(name);
    if (!parsed) return bad(directory, parsed.error().message);
    Result<store::Scope> scope = store::Scope::repository(upstream_ + "/" + name);
    if (!scope) return bad(directory, scope.error().message);
    Repository out{std::move(*scope), {}, {}};
    links(directory / "_manifests" / "revisions", true, out);
    links(directory / "_layers", false, out);
    const fs::path tags = directory / "_manifests" / "tags";
    for (const std::string& tag : directories(tags)) {
      const fs::path link = tags / tag / "current" / "link";
      const std::optional<oci::Digest> digest = target(link);
      const auto reference = oci::Reference::parse(tag);
      if (!digest) continue;
      if (!reference || reference->is_digest()) {
        bad(link, "is no tag's name");
      } else {
        out.tags.push_back({tag, *digest, modified(link)});
      }
    }
    tree_.repositories.push_back(std::move(out));
  }

  void links(const fs::path& directory, bool manifest, Repository& into) {
    for (const std::string& algorithm : directories(directory)) {
      for (const std::string& hex : directories(directory / algorithm)) {
        const fs::path path = directory / algorithm / hex / "link";
        const std::optional<oci::Digest> digest = target(path);
        if (!digest) continue;
        if (digest->to_string() != fmt::format("{}:{}", algorithm, hex)) {
          bad(path, "names another digest than its place does");
        } else if (digest->algorithm() != oci::Algorithm::sha256) {
          ++tree_.left_out;
        } else if (source(*digest, manifest)) {
          into.links.push_back({*digest, manifest, modified(path)});
        }
      }
    }
  }

  // What a link says; nothing where distribution has taken it away, which leaves the directory.
  std::optional<oci::Digest> target(const fs::path& path) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return std::nullopt;
    std::ifstream in(path, std::ios::binary);
    std::string text(kMaxLinkBytes, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    const Result<oci::Digest> digest = oci::Digest::parse(text);
    if (digest) return *digest;
    bad(path, "holds no digest");
    return std::nullopt;
  }

  bool source(const oci::Digest& digest, bool manifest) {
    const auto [at, is_new] = tree_.blobs.try_emplace(digest);
    Original& blob = at->second;
    blob.manifest = blob.manifest || manifest;
    if (!is_new) return true;
    const std::string hex = digest.to_string().substr(7);
    blob.path = root_ / "blobs" / "sha256" / hex.substr(0, 2) / hex / "data";
    struct stat found{};
    if (::lstat(blob.path.c_str(), &found) != 0) {
      if (errno == ENOENT) {
        if (gone_.insert(digest).second) ++tree_.gone;
      } else {
        bad(blob.path, "cannot be read: " + std::generic_category().message(errno));
      }
    } else if (!S_ISREG(found.st_mode)) {
      bad(blob.path, "is no regular file");
    } else {
      blob.size = static_cast<std::uint64_t>(found.st_size);
      return true;
    }
    tree_.blobs.erase(at);
    return false;
  }

  void count_left_out() {
    const fs::path all = root_ / "blobs" / "sha256";
    for (const std::string& shelf : directories(all)) {
      for (const std::string& hex : directories(all / shelf)) {
        const Result<oci::Digest> digest = oci::Digest::parse("sha256:" + hex);
        if (!digest || !tree_.blobs.contains(*digest)) ++tree_.left_out;
      }
    }
  }

  const fs::path root_;
  const std::string upstream_;
  const bool library_prefix_;
  DistributionTree tree_;
  std::set<oci::Digest> gone_;
};

}  // namespace

Result<std::filesystem::path> find_distribution(const std::filesystem::path& from) {
  for (const std::filesystem::path& root : {from / "docker" / "registry" / "v2", from}) {
    if (is_folder(root / "blobs") && is_folder(root / "repositories")) return root;
  }
  return Error{Errc::not_found, fmt::format("{} is no store of distribution: there is no docker/registry/v2 with blobs "
                                            "and repositories in it",
                                            from.native())};
}

DistributionTree read_distribution(const std::filesystem::path& root, const std::string& upstream,
                                   bool library_prefix) {
  return Reader(root, upstream, library_prefix).read();
}

}  // namespace sluice::app
