#include "admin/inventory_json.hpp"

#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice::admin {
namespace {

// In the order in which they were put.
using Json = nlohmann::ordered_json;

std::string text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

void put_time(Json& into, const char* key, std::uint32_t seconds) {
  if (seconds != 0) into[key] = rfc3339(Clock::Wall(std::chrono::seconds(seconds)));
}

Json json_of(const BlobRow& row) {
  Json out{{"digest", row.digest.to_string()},
           {"size", row.size},
           {"media_type", row.media_type},
           {"state", name(row.state)}};
  if (row.state == BlobRow::State::part) out["part_bytes"] = row.part_bytes;
  put_time(out, "last_used", row.last_used);
  return out;
}

Json json_of(const DigestStat& stat) {
  Json out = json_of(stat.blob);
  out["repositories"] = stat.repositories;
  out["tags"] = stat.tags;
  if (!stat.file.empty()) out["file"] = stat.file;
  return out;
}

Json json_of(const RepositoryRow& row) {
  Json out{{"name", row.name}, {"tags", row.tags}, {"blobs", row.blobs}, {"bytes", row.bytes}};
  put_time(out, "last_used", row.last_used);
  return out;
}

Json json_of(const TagRow& row) {
  Json out{{"tag", row.name},
           {"digest", row.digest.to_string()},
           {"media_type", row.media_type},
           {"blobs", row.blobs},
           {"blobs_at_rest", row.at_rest},
           {"bytes", row.bytes},
           {"checked_at", rfc3339(row.checked_at)}};
  put_time(out, "last_used", row.last_used);
  return out;
}

Json json_of(const store::VerifyProgress& progress) {
  return {{"blobs", progress.blobs},          {"blobs_total", progress.blobs_total},
          {"bytes", progress.bytes},          {"bytes_total", progress.bytes_total},
          {"damaged", progress.damaged},      {"missing", progress.missing},
          {"unreadable", progress.unreadable}};
}

template <class Row>
Json page_of(const char* key, const Page<Row>& page, std::string_view repository) {
  Json out = Json::object();
  if (!repository.empty()) out["repository"] = repository;
  Json rows = Json::array();
  for (const Row& row : page.rows) rows.push_back(json_of(row));
  out[key] = std::move(rows);
  if (!page.next.empty()) out["next"] = page.next;
  return out;
}

}  // namespace

std::string rfc3339(Clock::Wall time) {
  const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string_view name(BlobRow::State state) noexcept {
  switch (state) {
    case BlobRow::State::at_rest: return "at rest";
    case BlobRow::State::in_flight: return "in flight";
    case BlobRow::State::part: return "part";
    case BlobRow::State::absent: break;
  }
  return "absent";
}

std::string to_json(const Page<RepositoryRow>& page) { return text(page_of("repositories", page, {})); }
std::string to_json(const Page<TagRow>& page, std::string_view repository) {
  return text(page_of("tags", page, repository));
}
std::string to_json(const Page<BlobRow>& page, std::string_view repository) {
  return text(page_of("blobs", page, repository));
}
std::string to_json(const DigestStat& stat) { return text(json_of(stat)); }

std::string to_json(const ImageStat& stat) {
  Json out{{"repository", stat.repository}};
  if (!stat.tag.empty()) out["tag"] = stat.tag;
  if (stat.checked_at) out["checked_at"] = rfc3339(*stat.checked_at);
  out["bytes"] = stat.bytes;
  out["manifest"] = json_of(stat.manifest);
  Json blobs = Json::array();
  for (const BlobRow& blob : stat.blobs) blobs.push_back(json_of(blob));
  out["blobs"] = std::move(blobs);
  return text(out);
}

std::string to_json(const Collected& collected) {
  return text({{"evicted", collected.evicted},
               {"evicted_bytes", collected.evicted_bytes},
               {"missing_files", collected.missing_files},
               {"memberships", collected.memberships},
               {"tags", collected.tags},
               {"parts", collected.parts},
               {"parts_bytes", collected.parts_bytes},
               {"store_blobs", collected.store_blobs},
               {"store_bytes", collected.store_bytes}});
}

std::string to_json(const VerifyJob::Status& status) {
  Json out{{"state", name(status.state)}};
  if (status.state == VerifyJob::State::idle) return text(out);
  out["started_at"] = rfc3339(status.started_at);
  out["seconds"] = std::chrono::duration<double>(status.took).count();
  out["progress"] = json_of(status.progress);
  if (!status.error.empty()) out["error"] = status.error;
  if (status.report) {
    Json found = Json::array();
    for (const store::VerifyReport::Damaged& damaged : status.report->found) {
      Json entry{{"digest", damaged.digest.to_string()}, {"reason", damaged.reason}};
      if (!damaged.quarantined_to.empty()) entry["quarantined_to"] = damaged.quarantined_to.native();
      found.push_back(std::move(entry));
    }
    out["found"] = std::move(found);
  }
  return text(out);
}

std::string to_json(const Removed& removed) {
  return text(
      {{"digests", removed.digests}, {"tags", removed.tags}, {"files", removed.files}, {"bytes", removed.bytes}});
}

std::string error_json(const Error& error) {
  return text({{"error", {{"code", name(error.code)}, {"message", error.message}}}});
}

}  // namespace sluice::admin
