#include "store/catalog.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/catalog_file.hpp"
#include "store/catalog_memory.hpp"
#include "store/catalog_writer.hpp"

namespace sluice::store {
namespace {

// Moves the file and what SQLite keeps beside it to the first free `<file>.bad-<n>`, which is returned.
Result<runtime::Path> move_aside(runtime::Filesystem& filesystem, const runtime::Path& file) {
  constexpr int kMost = 1000;
  for (int n = 1; n <= kMost; ++n) {
    const runtime::Path bad(fmt::format("{}.bad-{}", file.native(), n));
    if (filesystem.status(bad)) continue;
    if (Result<void> moved = filesystem.rename(file, bad); !moved) return moved.error();
    // Left behind, an old WAL would be read into the new file.
    for (const char* suffix : {"-wal", "-shm"}) {
      const runtime::Path from(file.native() + suffix);
      const Result<void> moved = filesystem.rename(from, bad.native() + suffix);
      if (!moved && moved.error().code != Errc::not_found) return moved.error();
    }
    return bad;
  }
  return Error(Errc::exists, fmt::format("there are {} of {}.bad-<n> already", kMost, file.native()));
}

Change put_change(const Catalog::BlobRow& row) {
  Change change;
  change.kind = Change::Kind::put_blob;
  change.digest = row.digest;
  change.size = row.size;
  change.media_type = row.media_type;
  change.time = row.last_used;
  change.tag = row.origins;
  return change;
}

Change meta_change(const std::string& key, const std::string& value) {
  Change change;
  change.kind = Change::Kind::set_meta;
  change.tag = key;
  change.scope = value;
  return change;
}

}  // namespace

Catalog::Catalog(Params params, runtime::Filesystem& filesystem, const Clock& clock, MediaTypes& media_types,
                 metrics::Registry& registry)
    : params_(std::move(params)),
      filesystem_(filesystem),
      clock_(clock),
      media_types_(media_types),
      writer_(std::make_unique<Writer>(params_, filesystem, registry)) {
  const Memory::Bounds bounds{params_.max_memberships, params_.max_tags, params_.max_bytes};
  memory_ =
      std::make_unique<Memory>(bounds, media_types_, [this](Change change) { writer_->enqueue(std::move(change)); });
}

Catalog::~Catalog() { close(); }

void Catalog::set_on_trouble(std::function<void(const std::string& why)> on_trouble) {
  writer_->set_on_trouble(std::move(on_trouble));
}

// Made by us where it is not there: SQLite's own files get the mode of the first one.
Result<std::unique_ptr<CatalogFile>> Catalog::open_or_make() {
  const Result<runtime::FileStatus> status = filesystem_.status(params_.file);
  if (status && (status->kind == runtime::FileStatus::Kind::other || status->links > 1) &&
      status->kind != runtime::FileStatus::Kind::directory) {
    return Error(Errc::corrupt, fmt::format("{} is no regular file of one name", params_.file.native()));
  }
  // Where that fails SQLite says why.
  if (!status && status.error().code == Errc::not_found) (void)filesystem_.create(params_.file);
  Result<std::unique_ptr<CatalogFile>> file = CatalogFile::open(params_.file, media_types_);
  if (file && !(*file)->has_wal()) {
    log::warn("store",
              fmt::format("{} is not in WAL mode, which the file system does not allow: each batch of changes is "
                          "forced to the disk, and readers wait for the writer",
                          params_.file.native()));
  }
  return file;
}

// For the writer, later on.
Result<std::unique_ptr<CatalogFile>> Catalog::open_file() {
  Result<std::unique_ptr<CatalogFile>> file = open_or_make();
  if (file || file.error().code != Errc::corrupt) return file;
  const Result<runtime::Path> aside = move_aside(filesystem_, params_.file);
  if (!aside) return aside.error();
  log::error("store", fmt::format("the catalog cannot be used, {} (moved to {})", file.error().message,
                                  aside->filename().native()));
  return open_or_make();
}

Result<void> Catalog::give_everything(const std::function<Result<void>(std::span<const Change>)>& take) const {
  Result<void> done{};
  std::vector<Change> changes;
  {
    const std::scoped_lock lock(meta_mutex_);
    for (const auto& [key, value] : meta_) changes.push_back(meta_change(key, value));
  }
  // First, because it says with which rights the rows were learnt: a crash must not leave them beside other ones.
  if (!changes.empty()) done = take(changes);
  if (done && blob_source_) {
    blob_source_([&](std::span<const BlobRow> rows) {
      changes.clear();
      for (const BlobRow& row : rows) {
        changes.push_back(put_change(row));
        // Memory may know no more of it than its file, and the row, where rows are kept, more.
        if (row.media_type == MediaTypes::kOctetStream) changes.back().kind = Change::Kind::found_blob;
      }
      if (done) done = take(changes);
    });
  }
  if (done) done = memory_->give_everything(take);
  if (!done) return done;
  changes.clear();
  if (complete_.load(std::memory_order_acquire)) changes.emplace_back().kind = Change::Kind::set_complete;
  return take(changes);
}

void Catalog::check_file() { writer_->check_file(); }

void Catalog::forget_old_tags() {
  constexpr std::chrono::hours kBetween{1};
  const Clock::Monotonic now = clock_.now();
  if (params_.max_tag_age.count() == 0 || (tags_looked_at_ && now - *tags_looked_at_ < kBetween)) return;
  tags_looked_at_ = now;
  const std::size_t forgotten = memory_->forget_tags(params_.max_tag_age);
  if (forgotten != 0)
    log::info("store", fmt::format("removed {} tags that upstream has not confirmed for too long", forgotten));
}

std::size_t Catalog::memory_bytes() const { return memory_->bytes(); }

void Catalog::set_meta(std::string key, std::string value) {
  Change change = meta_change(key, value);
  {
    const std::scoped_lock lock(meta_mutex_);
    meta_.insert_or_assign(std::move(key), std::move(value));
  }
  writer_->enqueue(std::move(change));
}

std::optional<std::string> Catalog::meta(const std::string& key) const {
  const std::scoped_lock lock(meta_mutex_);
  const auto at = meta_.find(key);
  return at == meta_.end() ? std::nullopt : std::optional(at->second);
}

// What load reads, from whatever the rows can be had from.
class Catalog::Loading {
 public:
  Loading(Catalog& catalog, const std::function<void(const BlobRow&)>& on_blob, const std::function<void()>& on_blobs,
          const std::function<void()>& on_discard)
      : catalog_(catalog), on_blob_(on_blob), on_blobs_(on_blobs), on_discard_(on_discard) {}

  Result<void> read(CatalogFile& file) {
    const Result<CatalogFile::Summary> summary = file.load([this](const Change& row) { take(row); }, on_blobs_);
    if (!summary) {
      discard();
      return summary.error();
    }
    loaded.complete = summary->complete;
    catalog_.complete_.store(summary->complete, std::memory_order_release);
    loaded.meta = catalog_.meta_ = summary->meta;
    if (summary->skipped != 0) {
      log::warn("store", fmt::format("ignored {} invalid rows of the catalog", summary->skipped));
    }
    return {};
  }

  // Without the file, which is no catalog or damaged: it is moved aside.
  void start_anew(const Error& problem, const Writer::Source& source) {
    loaded.discarded = problem.message;
    const Result<runtime::Path> aside = move_aside(catalog_.filesystem_, catalog_.params_.file);
    if (aside) loaded.discarded += fmt::format(" (moved to {})", aside->filename().native());
    // A file that could not be moved is tried once more as it is: it is used if it has turned out to be empty.
    Result<std::unique_ptr<CatalogFile>> file = catalog_.open_or_make();
    if (file) {
      const Result<CatalogFile::Summary> summary = (*file)->load([](const Change&) {});
      if (aside || (summary && !summary->complete)) {
        catalog_.writer_->start(std::move(*file), Writer::There::nothing, source);
        return;
      }
    }
    log::error("store", fmt::format("cannot create catalog.db: memberships and tags will be lost at a restart: {}",
                                    file ? problem.message : file.error().message));
    catalog_.writer_->start(nullptr, Writer::There::nothing, source);
  }

  Loaded loaded;

 private:
  // On two threads: the counters of blobs and of all others are apart.
  void take(const Change& row) {
    if (row.kind == Change::Kind::put_blob) {
      ++loaded.blobs;
      on_blob_(BlobRow{row.digest, row.size, row.media_type, static_cast<std::uint32_t>(row.time), row.tag});
    } else {
      ++(row.kind == Change::Kind::put_tag ? loaded.tags : loaded.memberships);
      catalog_.memory_->restore(row);
    }
  }
  void discard() {
    loaded = Loaded{};
    catalog_.memory_->clear();
    on_discard_();
  }

  Catalog& catalog_;
  const std::function<void(const BlobRow&)>& on_blob_;
  const std::function<void()>& on_blobs_;
  const std::function<void()>& on_discard_;
};

Catalog::Loaded Catalog::load(const std::function<void(const BlobRow&)>& on_blob, const std::function<void()>& on_blobs,
                              const std::function<void()>& on_discard) {
  const Writer::Source source{[this] { return open_file(); },
                              [this](const auto& take) { return give_everything(take); }};
  Loading loading(*this, on_blob, on_blobs, on_discard);
  Error problem;
  {
    Result<std::unique_ptr<CatalogFile>> file = open_or_make();
    const Result<void> read = file ? loading.read(**file) : file.error();
    if (read) {
      writer_->start(std::move(*file), Writer::There::nothing, source);
      return loading.loaded;
    }
    problem = read.error();
  }  // closed before it is moved
  const Result<runtime::FileStatus> status = filesystem_.status(params_.file);
  const bool directory = status && status->kind == runtime::FileStatus::Kind::directory;
  if (problem.code == Errc::corrupt || directory) {
    loading.start_anew(problem, source);
    return loading.loaded;
  }

  // A disk that is full or fails, too many open files, no permission, another process: nothing of it says that the rows
  // are bad.
  const auto read = [&]() -> Result<void> {
    const Result<std::unique_ptr<CatalogFile>> file = CatalogFile::open_to_read(params_.file, media_types_);
    if (!file) return file.error();
    return loading.read(**file);
  }();
  if (read) {
    log::error("store", fmt::format("the catalog was read but cannot be written yet: {}", problem.message));
    writer_->start(nullptr, Writer::There::read, source);
    return loading.loaded;
  }
  if (!status && status.error().code == Errc::not_found) {
    log::error("store", fmt::format("cannot create catalog.db yet: {}", problem.message));
  } else {
    loading.loaded.discarded = fmt::format("{} (it stays where it is, and is opened again later)", problem.message);
  }
  memory_->set_partial();
  unread_ = true;
  writer_->start(nullptr, Writer::There::unread, source);
  return loading.loaded;
}

std::optional<Membership> Catalog::membership(const Scope& scope, const oci::Digest& digest) const {
  return memory_->membership(scope.str(), digest);
}

void Catalog::set_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor) {
  memory_->set_membership(scope.str(), digest, descriptor, clock_.wall(), false);
}

bool Catalog::add_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor) {
  return memory_->set_membership(scope.str(), digest, descriptor, clock_.wall(), true);
}

bool Catalog::add_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor,
                             Clock::Wall checked_at) {
  return memory_->set_membership(scope.str(), digest, descriptor, checked_at, true);
}

bool Catalog::clear_membership(const Scope& scope, const oci::Digest& digest) {
  return memory_->clear_membership(scope.str(), digest);
}

std::vector<std::string> Catalog::scopes_of(const oci::Digest& digest) const { return memory_->scopes_of(digest); }

std::vector<Member> Catalog::members(const Scope& scope) const { return memory_->members(scope.str()); }

std::optional<TagRecord> Catalog::tag(const Scope& scope, std::string_view tag, oci::ManifestClass accept_class) const {
  return memory_->tag(scope.str(), tag, accept_class);
}

Version::Watch Catalog::watch_tag(const Scope& scope, std::string_view tag) const noexcept {
  return memory_->watch_tag(scope.str(), tag);
}

void Catalog::set_tag(const Scope& scope, std::string_view tag, oci::ManifestClass accept_class,
                      const oci::Digest& digest) {
  memory_->set_tag(scope.str(), tag, accept_class, digest, clock_.wall());
}

bool Catalog::add_tag(const Scope& scope, std::string_view tag, oci::ManifestClass accept_class,
                      const oci::Digest& digest, Clock::Wall checked_at) {
  if (memory_->tag(scope.str(), tag, accept_class)) return false;
  memory_->set_tag(scope.str(), tag, accept_class, digest, checked_at);
  return true;
}

bool Catalog::clear_tag(const Scope& scope, std::string_view tag) { return memory_->clear_tag(scope.str(), tag); }

std::vector<std::string> Catalog::tags(const Scope& scope) const { return memory_->tags(scope.str()); }

// The file is told of the range and not of each row: it may hold rows that are not in memory.
bool Catalog::forget_upstream(std::string_view name) {
  Change change;
  change.scope = change.tag = name;
  change.scope += '/';
  change.tag += '0';  // what follows '/'
  const bool known = memory_->forget_scopes(change.scope);
  for (const Change::Kind kind : {Change::Kind::remove_memberships_between, Change::Kind::remove_tags_between}) {
    change.kind = kind;
    writer_->enqueue(change);
  }
  return known;
}

std::vector<NamedTag> Catalog::tag_records(const Scope& scope) const { return memory_->tag_records(scope.str()); }

std::vector<std::string> Catalog::repositories() const { return memory_->repositories(); }

Version::Watch Catalog::watch_repositories() const noexcept { return memory_->watch_repositories(); }

void Catalog::put_blob(const BlobRow& row) { writer_->enqueue(put_change(row)); }

void Catalog::found_blob(const BlobRow& row) {
  Change change = put_change(row);
  change.kind = Change::Kind::found_blob;
  writer_->enqueue(std::move(change));
}

void Catalog::remove_blob(const oci::Digest& digest) {
  Change change;
  change.kind = Change::Kind::remove_blob;
  change.digest = digest;
  writer_->enqueue(std::move(change));
}

void Catalog::touch_blob(const oci::Digest& digest, std::uint32_t last_used) {
  Change change;
  change.kind = Change::Kind::touch_blob;
  change.digest = digest;
  change.time = last_used;
  writer_->enqueue(std::move(change));
}

void Catalog::set_complete() {
  complete_.store(true, std::memory_order_release);
  Change change;
  change.kind = Change::Kind::set_complete;
  writer_->enqueue(std::move(change));
}

Result<void> Catalog::flush() { return writer_->flush(); }

void Catalog::close() { writer_->close(); }

std::size_t Catalog::pending() const { return writer_->pending(); }

}  // namespace sluice::store
