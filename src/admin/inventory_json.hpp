// The answers of the admin API as JSON text, and what the commands print with --json. Pure; any thread.
//
// Times are RFC 3339 in UTC, left out where nothing is known; sizes are bytes. Names that may hold anything are
// escaped; bytes that are not UTF-8 are replaced.
#pragma once

#include <string>
#include <string_view>

#include "admin/collect.hpp"
#include "admin/inventory.hpp"
#include "admin/verify_job.hpp"

namespace sluice::admin {

std::string to_json(const Page<RepositoryRow>& page);
std::string to_json(const Page<TagRow>& page, std::string_view repository);
// `repository` is empty for all.
std::string to_json(const Page<BlobRow>& page, std::string_view repository);
std::string to_json(const DigestStat& stat);
std::string to_json(const ImageStat& stat);
std::string to_json(const Collected& collected);
std::string to_json(const VerifyJob::Status& status);

struct Removed {
  std::size_t digests = 0;  // that were taken out of a repository
  std::size_t tags = 0;
  std::size_t files = 0;    // that went, because no repository has them any more
  std::uint64_t bytes = 0;  // of those
};
std::string to_json(const Removed& removed);

// {"error":{"code":…,"message":…}}
std::string error_json(const Error& error);

std::string_view name(BlobRow::State state) noexcept;
// "2026-01-02T03:04:05Z"
std::string rfc3339(Clock::Wall time);

}  // namespace sluice::admin
