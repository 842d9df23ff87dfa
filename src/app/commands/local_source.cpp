// The admin API over a store that no process serves from.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "admin/admin_api.hpp"
#include "app/commands/source.hpp"
#include "app/version.hpp"
#include "base/clock.hpp"
#include "http/framing.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "store/blob_store.hpp"
#include "store/names.hpp"
#include "store/parts.hpp"

namespace sluice::app {
namespace {

using runtime::Task;

// Looking changes nothing: only what collects keeps the ages that the settings give.
constexpr std::chrono::seconds kForEver{std::chrono::years{100}};

store::BlobStore::Params store_params(const config::Settings& settings, bool limited) {
  store::BlobStore::Params params;
  params.root = settings.data;
  params.file_mode = settings.store.mode;
  params.walk_pause = std::chrono::milliseconds(0);
  params.quarantine_max_age = kForEver;
  if (limited) {
    params.quarantine_max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.quarantine_max_age);
    params.max_size = settings.store.max_size;
    params.min_free = settings.store.min_free;
    params.max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.max_age);
  }
  return params;
}

store::Parts::Params parts_params(const config::Settings& settings, bool limited, store::Ledger& ledger) {
  store::Parts::Params params;
  params.root = settings.data;
  params.ledger = &ledger;
  params.max_age = kForEver;
  if (limited) params.max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.part_max_age);
  return params;
}

// As those of the proxy (pull/removal.hpp), with nothing in memory that would have to forget.
struct Taking {
  store::BlobStore& store;
  store::Parts& parts;
  runtime::DiskPool& pool;
};

Task<Result<admin::Removed>> drop(Taking in, oci::Digest digest) {
  admin::Removed out;
  // What is called by another name lies under its canonical one, which may have repositories of its own.
  const oci::Digest canonical = store::canonical_name(in.store.catalog(), digest);
  if (canonical != digest && in.store.catalog().scopes_of(canonical).empty()) {
    const Result<admin::Removed> other = co_await drop(in, canonical);
    if (!other) co_return other.error();
    out = *other;
  }
  const std::optional<store::Stored> stored = in.store.find(digest);
  const Result<void> removed = co_await in.store.remove(digest);
  if (!removed && removed.error().code != Errc::not_found) co_return removed.error();
  in.store.catalog().clear_membership(store::Scope(), digest);
  const std::uint64_t part = co_await runtime::offload(in.pool, [in, digest] { return in.parts.drop(digest); });
  out.files += removed ? 1 : 0;
  out.digests = out.files != 0 || part != 0 ? 1 : 0;
  out.bytes += part + (removed && stored ? stored->size : 0);
  co_return out;
}

Task<Result<admin::Removed>> forget_name(Taking in, store::Scope scope, oci::Digest digest) {
  admin::Removed out;
  store::Catalog& catalog = in.store.catalog();
  const bool known = catalog.clear_membership(scope, digest);
  for (const store::NamedTag& tag : catalog.tag_records(scope)) {
    if (tag.record.digest == digest && catalog.clear_tag(scope, tag.name)) ++out.tags;
  }
  if (catalog.scopes_of(digest).empty()) {
    const Result<admin::Removed> dropped = co_await drop(in, digest);
    if (!dropped) co_return dropped.error();
    out.files = dropped->files;
    out.bytes = dropped->bytes;
  }
  out.digests = known || out.files != 0 ? 1 : 0;
  co_return out;
}

Task<Result<admin::Removed>> forget(Taking in, store::Scope scope, oci::Digest digest) {
  const oci::Digest canonical = store::canonical_name(in.store.catalog(), digest);
  Result<admin::Removed> out = co_await forget_name(in, scope, digest);
  if (!out || canonical == digest) co_return out;
  const Result<admin::Removed> other = co_await forget_name(in, scope, canonical);
  if (!other) co_return other.error();
  out->digests = std::max(out->digests, other->digests);
  out->files += other->files;
  out->bytes += other->bytes;
  out->tags += other->tags;
  co_return out;
}

Task<Result<void>> flush(Taking in) {
  co_return co_await runtime::offload(in.pool, [in] { return in.store.catalog().flush(); });
}

class LocalSource final : public Source {
 public:
  LocalSource(const config::Settings& settings, bool limited)
      : filesystem_(settings.store.mode),
        store_(store_params(settings, limited), filesystem_, pool_, clock_, registry_),
        parts_(parts_params(settings, limited, store_.ledger()), filesystem_, clock_, registry_),
        inventory_({settings.default_upstream}, store_, parts_, filesystem_),
        verify_(store_, clock_),
        api_({std::string(version()), {"127.0.0.1"}}, {inventory_, store_, parts_, verify_, pool_, filesystem_, clock_},
             actions({store_, parts_, pool_})) {}

  ~LocalSource() override {
    verify_.stop();
    pool_.stop();
    store_.stop();
  }

  Result<void> start() {
    if (Result<void> started = store_.start(); !started) return started;
    parts_.start([this](const oci::Digest& digest) { return store_.find(digest).has_value(); });
    store_.wait_for_walk();
    return {};
  }

  Task<Result<std::string>> ask(std::string method, std::string target) override {
    const std::string bytes =
        fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n", method, target);
    http::Request request;
    if (http::parse_request(bytes, request)) co_return Error{Errc::internal, "a request that makes no sense"};
    admin::AdminApi::Answer answer = co_await api_.answer(request);
    if (answer.status / 100 != 2) co_return api_error(static_cast<int>(answer.status), answer.body);
    co_return std::move(answer.body);
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("{}, which no sluice uses at the moment", store_.layout().root().native());
  }

 private:
  static admin::AdminApi::Actions actions(Taking in) {
    return {
        [in](store::Scope scope, oci::Digest digest) { return forget(in, std::move(scope), digest); },
        [in](oci::Digest digest) { return drop(in, digest); },
        [in](const store::Scope& scope, const std::string& tag) { return in.store.catalog().clear_tag(scope, tag); },
        [in] { return flush(in); }};
  }

  SystemClock clock_;
  metrics::Registry registry_;
  runtime::PosixFilesystem filesystem_;
  runtime::DiskPool pool_{2};
  store::BlobStore store_;
  store::Parts parts_;
  admin::Inventory inventory_;
  admin::VerifyJob verify_;
  admin::AdminApi api_;
};

}  // namespace

Result<std::unique_ptr<Source>> local_source(const config::Settings& settings, bool limited) {
  std::error_code ignored;
  const std::filesystem::path& data = settings.data;
  if (!std::filesystem::exists(data / "blobs", ignored) && !std::filesystem::exists(data / "catalog.db", ignored)) {
    return Error{Errc::not_found, fmt::format("{} is no data directory of sluice: there is neither blobs/ nor "
                                              "catalog.db in it",
                                              data.native())};
  }
  auto source = std::make_unique<LocalSource>(settings, limited);
  if (const Result<void> started = source->start(); !started) return started.error();
  return std::unique_ptr<Source>(std::move(source));
}

}  // namespace sluice::app
