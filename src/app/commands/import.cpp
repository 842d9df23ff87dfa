#include "app/commands/import.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands/command.hpp"
#include "app/exit_status.hpp"
#include "base/clock.hpp"
#include "base/units.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "store/blob_store.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;
using runtime::Task;

// Between two looks at how far it is, and at whether it is to end.
constexpr std::size_t kSliceBytes = std::size_t{8} << 20;

store::BlobStore::Params store_params(const config::Settings& settings) {
  store::BlobStore::Params params;
  params.root = settings.data;
  params.file_mode = settings.store.mode;
  params.durability = settings.store.fsync ? store::Durability::data : store::Durability::none;
  params.walk_pause = std::chrono::milliseconds(0);
  params.quarantine_max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.quarantine_max_age);
  // No limits: nothing is evicted to make room for what is brought. They are kept by not bringing it (no_room).
  return params;
}

// A file under incoming/ that goes away unless it was adopted.
class Temporary {
 public:
  explicit Temporary(fs::path path) : path_(std::move(path)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  [[nodiscard]] const fs::path& path() const noexcept { return path_; }

 private:
  const fs::path path_;
};

class Importer {
 public:
  Importer(const config::Settings& settings, const DistributionTree& tree, const std::string& upstream,
           ImportReport& report, Progress& progress)
      : settings_(settings),
        tree_(tree),
        origin_{upstream, Rights::own_login},  // whether that registry had a login is not known
        report_(report),
        progress_(progress),
        store_(store_params(settings), filesystem_, pool_, clock_, registry_) {}
  Importer(const Importer&) = delete;
  Importer& operator=(const Importer&) = delete;
  ~Importer() {
    pool_.stop();
    store_.stop();
  }

  Result<void> start() {
    if (Result<void> started = store_.start(); !started) return started;
    store_.wait_for_walk();
    store_.maintain();
    return {};
  }

  // To the end, or until there is no room.
  Task<Result<bool>> run() {
    for (const auto& [digest, source] : tree_.blobs) {
      show();
      if (store_.find(digest)) {
        ++report_.present;
        done_ += source.size;
        continue;
      }
      if (std::string why = no_room(source, source.manifest || !on_one_file_system(source)); !why.empty()) {
        report_.stopped = std::move(why);
        break;
      }
      const Result<void> taken =
          source.manifest ? co_await take_manifest(digest, source) : co_await take(digest, source);
      if (!taken && taken.error().code == Errc::no_space) {
        report_.stopped = taken.error().message;
        break;
      }
      if (!taken) report_.bad.push_back({digest.to_string(), taken.error().message});
    }
    remember();
    const Result<void> flushed = co_await runtime::offload(pool_, [this] { return store_.catalog().flush(); });
    if (!flushed) co_return flushed.error();
    co_return true;
  }

 private:
  void show() {
    std::string more = fmt::format("{} linked, {} copied", report_.linked, report_.copied);
    if (!report_.bad.empty()) more += fmt::format(", {} bad", report_.bad.size());
    progress_.show("import", done_, report_.bytes, more);
  }

  [[nodiscard]] bool on_one_file_system(const DistributionTree::Original& source) const {
    struct stat here{};
    struct stat there{};
    return ::stat(settings_.data.c_str(), &here) == 0 && ::stat(source.path.c_str(), &there) == 0 &&
           here.st_dev == there.st_dev;
  }

  // Why the limits of the store would be crossed; empty when they would not.
  [[nodiscard]] std::string no_room(const DistributionTree::Original& source, bool copied) {
    const Result<runtime::Space> space = filesystem_.space(settings_.data);
    if (!space) return space.error().message;
    const SizeLimit& max_size = settings_.store.max_size;
    const store::Ledger& ledger = store_.ledger();
    const std::uint64_t used = ledger.at_rest() + ledger.idle() + ledger.reserved() + ledger.overhead();
    if (!max_size.off() && used + store::on_disk(source.size) > max_size.of(space->capacity_bytes)) {
      return fmt::format("store.max_size is {}, and the next blob has {}",
                         format_bytes(max_size.of(space->capacity_bytes)), format_bytes(source.size));
    }
    const SizeLimit& min_free = settings_.store.min_free;
    const std::uint64_t needed = copied ? store::on_disk(source.size) : 0;
    if (!min_free.off() && space->available_bytes < min_free.of(space->capacity_bytes) + needed) {
      return fmt::format("{} are left on the file system, of which store.min_free keeps {}",
                         format_bytes(space->available_bytes), format_bytes(min_free.of(space->capacity_bytes)));
    }
    return {};
  }

  Task<Result<void>> take_manifest(oci::Digest digest, DistributionTree::Original source) {
    const Result<std::string> body = co_await runtime::offload(pool_, [this, source] { return read_all(source); });
    if (!body) co_return body.error();
    if (oci::digest_of(oci::Algorithm::sha256, *body) != digest) co_return Error{Errc::digest_mismatch, "is damaged"};
    const Result<oci::ManifestInfo> info = oci::parse_manifest(*body, {});
    if (!info) co_return info.error();
    const Result<void> stored = co_await store_.put(digest, *body, info->media_type, origin_);
    if (!stored) co_return stored;
    ++report_.copied;
    report_.imported_bytes += source.size;
    done_ += source.size;
    co_return Result<void>{};
  }

  Result<std::string> read_all(const DistributionTree::Original& source) {
    if (source.size > oci::kMaxManifestBytes) return Error{Errc::size_mismatch, "is too large for a manifest"};
    const Result<runtime::File> file = filesystem_.open_read(source.path);
    if (!file) return file.error();
    std::string out(source.size, '\0');
    const Result<std::size_t> read = filesystem_.read_at(*file, 0, std::as_writable_bytes(std::span(out)));
    if (!read) return read.error();
    out.resize(*read);
    return out;
  }

  // What is hashed is what is then kept: the link, or the copy as it is written.
  Task<Result<void>> take(oci::Digest digest, DistributionTree::Original source) {
    const Temporary file(store_.layout().incoming() / ("import-" + digest.to_string().substr(7)));
    const Result<bool> linked = co_await runtime::offload(pool_, [&] { return link_or_clone(source, file.path()); });
    if (!linked) co_return linked.error();
    if (!*linked) {
      // Also on one file system, where room for a copy was not looked for.
      if (std::string why = no_room(source, true); !why.empty()) co_return Error{Errc::no_space, std::move(why)};
    }
    Result<runtime::File> from = filesystem_.open_read(*linked ? file.path() : source.path);
    if (!from) co_return from.error();
    std::optional<runtime::File> to;
    if (!*linked) {
      Result<runtime::File> made = filesystem_.create(file.path());
      if (!made) co_return made.error();
      to = std::move(*made);
    }
    oci::Hasher hasher(oci::Algorithm::sha256);
    std::uint64_t position = 0;
    for (bool more = true; more;) {
      const Result<std::size_t> moved =
          co_await runtime::offload(pool_, [&] { return move(*from, to ? &*to : nullptr, position, hasher); });
      if (!moved) co_return moved.error();
      position += *moved;
      done_ += *moved;
      more = *moved == kSliceBytes;
      show();
    }
    if (hasher.finish() != digest) co_return Error{Errc::digest_mismatch, "is damaged: it has another digest"};
    if (to) {
      if (const Result<void> closed = filesystem_.close(std::move(*to)); !closed) co_return closed.error();
    }
    store::Reservation room = store_.ledger().hold(position);
    const Result<void> adopted =
        co_await store_.adopt(file.path(), digest, position, std::string(oci::media_type::kOctetStream), room, origin_);
    if (!adopted) co_return adopted;
    ++(*linked ? report_.linked : report_.copied);
    report_.imported_bytes += position;
    co_return Result<void>{};
  }

  // Whether the file stands at `to` now without having been copied.
  Result<bool> link_or_clone(const DistributionTree::Original& source, const fs::path& to) {
    std::error_code error;
    fs::remove(to, error);
    fs::create_hard_link(source.path, to, error);
    if (!error) return true;
    // Another file system, one without links, or a file that is not ours to link (fs.protected_hardlinks).
    const Result<runtime::File> from = filesystem_.open_read(source.path);
    if (!from) return from.error();
    const Result<runtime::File> made = filesystem_.create(to);
    if (!made) return made.error();
    if (::ioctl(made->fd(), FICLONE, from->fd()) == 0) return true;
    fs::remove(to, error);
    return false;
  }

  Result<std::size_t> move(const runtime::File& from, const runtime::File* to, std::uint64_t position,
                           oci::Hasher& hasher) {
    buffer_.resize(kSliceBytes);
    const Result<std::size_t> read = filesystem_.scan_at(from, position, buffer_);
    if (!read) return read;
    const auto bytes = std::span<const std::byte>(buffer_).first(*read);
    hasher.update(bytes);
    if (to != nullptr) {
      if (const Result<void> written = filesystem_.write_at(*to, position, bytes); !written) return written.error();
    }
    return read;
  }

  // As upstream's word, but one that is too old to be believed without being asked about.
  void remember() {
    store::Catalog& catalog = store_.catalog();
    const Clock::Wall now = clock_.wall();
    for (const DistributionTree::Repository& repository : tree_.repositories) {
      for (const DistributionTree::Link& link : repository.links) {
        // What is known is believed for ever then, so it has to be upstream's own word.
        if (settings_.descriptors.ttl.count() == 0) break;
        const std::optional<store::Stored> stored = store_.find(link.digest);
        if (!stored || (link.manifest && oci::noted_manifest_type(stored->media_type).empty())) continue;
        // A manifest is in both lists.
        const oci::Descriptor descriptor{link.digest, stored->size, std::string(stored->media_type)};
        const Clock::Wall at = std::min(link.at, now - settings_.descriptors.ttl);
        report_.memberships += catalog.add_membership(repository.scope, link.digest, descriptor, at) ? 1 : 0;
      }
      for (const DistributionTree::TagLink& tag : repository.tags) {
        const std::optional<store::Stored> stored = store_.find(tag.digest);
        if (!stored || oci::noted_manifest_type(stored->media_type).empty()) continue;
        const Clock::Wall at = std::min(tag.at, now - settings_.tags.ttl);
        report_.tags += catalog.add_tag(repository.scope, tag.name, oci::kAllManifests, tag.digest, at) ? 1 : 0;
      }
    }
  }

  const config::Settings& settings_;
  const DistributionTree& tree_;
  const store::Origin origin_;
  ImportReport& report_;
  Progress& progress_;
  SystemClock clock_;
  metrics::Registry registry_;
  runtime::PosixFilesystem filesystem_{settings_.store.mode};
  runtime::DiskPool pool_{2};
  store::BlobStore store_;
  std::uint64_t done_ = 0;
  std::vector<std::byte> buffer_;
};

ImportReport report_of(const DistributionTree& tree) {
  ImportReport report;
  report.repositories = tree.repositories.size();
  report.blobs = tree.blobs.size();
  for (const auto& [digest, source] : tree.blobs) report.bytes += source.size;
  report.gone = tree.gone;
  report.left_out = tree.left_out;
  report.bad = tree.bad;
  return report;
}

void count_present(const DistributionTree& tree, const config::Settings& settings, ImportReport& report) {
  const store::Layout layout(settings.data);
  std::error_code ignored;
  for (const auto& [digest, source] : tree.blobs) {
    if (fs::exists(layout.blob(digest), ignored)) ++report.present;
  }
}

}  // namespace

Result<ImportReport> import_store(Runner& runner, const config::Settings& settings, const ImportParams& params,
                                  Progress& progress) {
  const Result<fs::path> root = find_distribution(params.from);
  if (!root) return root.error();
  const std::string& name = params.upstream.empty() ? settings.default_upstream : params.upstream;
  const auto upstream = settings.upstreams.find(name);
  if (upstream == settings.upstreams.end()) {
    return Error{Errc::not_found, fmt::format("no upstream named {} is configured", name)};
  }
  const DistributionTree tree = read_distribution(*root, name, upstream->second.library_prefix);
  ImportReport report = report_of(tree);
  if (params.dry_run) {
    count_present(tree, settings, report);
    return report;
  }
  Importer importer(settings, tree, name, report, progress);
  if (const Result<void> started = importer.start(); !started) return started.error();
  const Result<bool> ended = runner.run(importer.run());
  progress.finish();
  if (!ended && !runner.interrupted()) return ended.error();
  if (!ended) report.stopped = "interrupted";
  return report;
}

namespace {

nlohmann::json to_json(const ImportReport& report, bool dry_run) {
  nlohmann::json bad = nlohmann::json::array();
  for (const DistributionTree::Bad& one : report.bad) bad.push_back({{"what", one.what}, {"reason", one.reason}});
  return {{"dry_run", dry_run},
          {"repositories", report.repositories},
          {"blobs", report.blobs},
          {"bytes", report.bytes},
          {"linked", report.linked},
          {"copied", report.copied},
          {"imported_bytes", report.imported_bytes},
          {"present", report.present},
          {"memberships", report.memberships},
          {"tags", report.tags},
          {"gone", report.gone},
          {"left_out", report.left_out},
          {"bad", std::move(bad)},
          {"stopped", report.stopped}};
}

std::string to_text(const ImportReport& report, bool dry_run) {
  std::string out =
      fmt::format("there are        {}, {}, in {}\n", counted(report.blobs, "blob"), format_bytes(report.bytes),
                  report.repositories == 1 ? "1 repository" : fmt::format("{} repositories", report.repositories));
  if (!dry_run) {
    out += fmt::format("imported         {}: {} linked, {} copied\nremembered       {}, {}\n",
                       format_bytes(report.imported_bytes), report.linked, report.copied,
                       counted(report.memberships, "membership"), counted(report.tags, "tag"));
  }
  out += fmt::format("here already     {}\n", report.present);
  if (report.gone != 0) out += fmt::format("gone there       {}\n", report.gone);
  if (report.left_out != 0)
    out += fmt::format("left out         {}, of no repository or of another kind\n", report.left_out);
  return out;
}

}  // namespace

int import_command(Runner& runner, const config::Settings& settings, const CommandOptions& options) {
  Progress progress(options.quiet);
  const ImportParams params{options.names.front(), options.upstream.value_or(""), options.dry_run};
  const Result<ImportReport> report = import_store(runner, settings, params, progress);
  if (!report) return fail(report.error());
  print(options.json ? to_json(*report, params.dry_run).dump(2) + "\n" : to_text(*report, params.dry_run));
  for (const DistributionTree::Bad& bad : report->bad) {
    std::fputs(fmt::format("{}: {}\n", bad.what, bad.reason).c_str(), stderr);
  }
  if (!report->stopped.empty()) {
    std::fputs(fmt::format("sluice: stopped before the end: {}; what was brought stays\n", report->stopped).c_str(),
               stderr);
  }
  if (runner.interrupted()) return kExitInterrupted;
  return report->bad.empty() && report->stopped.empty() ? kExitOk : kExitFailure;
}

}  // namespace sluice::app
