// The admin API: /api/v1/… on the admin listener (docs/admin.md). What is in the store, taking out, gc, verify.
//
//   GET     /api/v1                        about this process and its store
//   GET     /api/v1/repositories           ?after=&limit=
//   GET     /api/v1/tags                   ?repository=&after=&limit=
//   GET     /api/v1/blobs                  ?repository=&after=&limit=
//   GET     /api/v1/stat                   ?name=<image|digest>
//   DELETE  /api/v1/content                ?name=<image|digest>&all=true
//   POST    /api/v1/gc                     ?min_age=10m
//   POST    /api/v1/verify                 ?sample=5%&rate=50MiB&seed=7
//   GET     /api/v1/verify
//   DELETE  /api/v1/verify
//   POST    /api/v1/reload
//   GET     /api/v1/now
//   GET     /api/v1/pulls                  ?limit=
//
// Threads: answer runs on the admin loop; what blocks is done on the disk pool, and verify on a thread of its own.
// Owned by the composition root; outlives the admin server.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>

#include "admin/collect.hpp"
#include "admin/guard.hpp"
#include "admin/inventory.hpp"
#include "admin/inventory_json.hpp"
#include "admin/overview.hpp"
#include "admin/verify_job.hpp"
#include "base/clock.hpp"
#include "http/request.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/task.hpp"

namespace sluice::admin {

class AdminApi {
 public:
  // What the proxy does with its caches. They are awaited on the admin loop.
  struct Actions {
    // Takes a digest out of a repository, with the file when that was the last one.
    std::function<runtime::Task<Result<Removed>>(store::Scope, oci::Digest)> forget;
    // A file that no repository has.
    std::function<runtime::Task<Result<Removed>>(oci::Digest)> drop;
    std::function<bool(const store::Scope&, const std::string& tag)> forget_tag;
    // Suspends until what was taken out stays out whatever happens. Errors: io, no_space.
    std::function<runtime::Task<Result<void>>()> flush;
    // Reads the configuration again: what it has changed, as JSON. Null: there is none to read.
    std::function<runtime::Task<Result<std::string>>()> reload = nullptr;
  };
  struct Params {
    std::string version;
    OwnHosts hosts;
  };
  // All must outlive it.
  struct Parts {
    const Inventory& inventory;
    store::BlobStore& store;
    store::Parts& parts;
    VerifyJob& verify;
    runtime::DiskPool& pool;
    runtime::Filesystem& filesystem;
    const Clock& clock;
    Overview* overview = nullptr;  // none: nothing is served, so there is nothing to watch
  };

  AdminApi(Params params, const Parts& parts, Actions actions)
      : params_(std::move(params)), parts_(parts), actions_(std::move(actions)), started_(parts.clock.now()) {}
  AdminApi(const AdminApi&) = delete;
  AdminApi& operator=(const AdminApi&) = delete;

  struct Answer {
    unsigned status = 200;
    std::string body;             // JSON
    std::string_view allow = {};  // with 405
  };
  // Whether the path is one of ours.
  static bool handles(std::string_view path) noexcept { return path == "/api" || path.starts_with("/api/"); }
  runtime::Task<Answer> answer(const http::Request& request);

 private:
  runtime::Task<Answer> list(std::string_view what, std::string_view query);
  runtime::Task<Answer> now();
  [[nodiscard]] Answer pulls(std::string_view query) const;
  runtime::Task<Answer> stat(std::string name);
  runtime::Task<Answer> remove(std::string name, bool all);
  runtime::Task<Result<Removed>> remove_planned(RemovalPlan plan);
  runtime::Task<Result<Removed>> remove_everywhere(oci::Digest digest);
  runtime::Task<Answer> gc(std::string min_age);
  Answer start_verify(std::string_view query);
  [[nodiscard]] Answer about() const;

  const Params params_;
  const Parts parts_;
  const Actions actions_;
  const Clock::Monotonic started_;
  std::atomic<bool> collecting_{false};
};

}  // namespace sluice::admin
