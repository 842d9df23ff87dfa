// ls, stat and rm.
#include <chrono>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "admin/image_name.hpp"
#include "app/commands/command.hpp"
#include "app/commands/text.hpp"
#include "app/exit_status.hpp"
#include "base/units.hpp"
#include "http/url.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;

constexpr std::string_view kPageSize = "500";

// All pages of a list, as one document.
Result<Document> all_pages(Runner& runner, Source& source, const std::string& target, const char* key) {
  json out;
  std::string after;
  do {
    std::string page = target + (target.find('?') == std::string::npos ? "?" : "&") + "limit=" + std::string(kPageSize);
    if (!after.empty()) page += "&after=" + http::percent_encode(after);
    Result<Document> part = ask(runner, source, "GET", page);
    if (!part) return part.error();
    json& rows = part->json;
    after = rows.value("next", std::string());
    rows.erase("next");
    if (out.is_null()) {
      out = std::move(rows);
    } else {
      for (json& row : rows[key]) out[key].push_back(std::move(row));
    }
  } while (!after.empty());
  return Document(std::move(out));
}

std::string size_of(const json& row, const char* key) { return format_bytes(row.value(key, std::uint64_t{0})); }

std::string used(const json& row, const char* key = "last_used") {
  return ago(row.value(key, std::string()), std::chrono::system_clock::now());
}

std::string state_of(const json& blob) {
  std::string state = blob.value("state", std::string());
  if (state == "part") return fmt::format("part, {}", size_of(blob, "part_bytes"));
  return state;
}

void add_blob(Table& table, const json& blob) {
  table.add(
      {blob.value("digest", ""), size_of(blob, "size"), state_of(blob), blob.value("media_type", ""), used(blob)});
}

Table blob_table() { return Table({"DIGEST", ">SIZE", "STATE", "TYPE", "LAST USED"}); }

// Blobs that no repository is known to have, as after the catalog was lost.
std::string no_repositories(Runner& runner, Source& source) {
  const Result<Document> blobs = ask(runner, source, "GET", "/api/v1/blobs?limit=1");
  if (!blobs) return "no repository is known yet\n";
  if (blobs->json.value("blobs", json::array()).empty()) return "nothing is stored yet\n";
  return "no repository is known yet, but blobs are stored; \"sluice ls --blobs\" lists them\n";
}

int show_repositories(Runner& runner, Source& source, const json& list) {
  Table table({"REPOSITORY", ">TAGS", ">BLOBS", ">SIZE", "LAST USED"});
  for (const json& row : list["repositories"]) {
    table.add({row.value("name", ""), fmt::to_string(row.value("tags", 0U)), fmt::to_string(row.value("blobs", 0U)),
               size_of(row, "bytes"), used(row)});
  }
  print(table.empty() ? no_repositories(runner, source) : table.str());
  return kExitOk;
}

int show_tags(const json& list) {
  Table table({"TAG", "DIGEST", ">SIZE", ">BLOBS", "CHECKED", "LAST USED"});
  for (const json& row : list["tags"]) {
    table.add({row.value("tag", ""), short_digest(row.value("digest", "")), size_of(row, "bytes"),
               fmt::format("{}/{}", row.value("blobs_at_rest", 0U), row.value("blobs", 0U)), used(row, "checked_at"),
               used(row)});
  }
  print(table.empty() ? fmt::format("no tag of {} is known; --blobs lists what is\n", list.value("repository", ""))
                      : table.str());
  return kExitOk;
}

int show_blobs(const json& list) {
  Table table = blob_table();
  for (const json& row : list["blobs"]) add_blob(table, row);
  print(table.empty() ? std::string("nothing is stored yet\n") : table.str());
  return kExitOk;
}

void line(std::string& out, std::string_view name, const std::string& value) {
  if (!value.empty()) out += fmt::format("{:<14}{}\n", fmt::format("{}:", name), value);
}

std::string digest_lines(const json& stat) {
  std::string out;
  line(out, "digest", stat.value("digest", ""));
  line(out, "size", fmt::format("{} ({} bytes)", size_of(stat, "size"), stat.value("size", std::uint64_t{0})));
  line(out, "type", stat.value("media_type", ""));
  line(out, "state", state_of(stat));
  line(out, "last used", stat.contains("last_used") ? used(stat) + ", " + stat.value("last_used", "") : "");
  line(out, "file", stat.value("file", ""));
  bool first = true;
  for (const json& name : stat["repositories"]) {
    line(out, std::exchange(first, false) ? "repositories" : "", name.get<std::string>());
  }
  first = true;
  for (const json& name : stat["tags"]) line(out, std::exchange(first, false) ? "tags" : "", name.get<std::string>());
  return out;
}

std::string image_lines(const json& stat) {
  std::string out;
  line(out, "repository", stat.value("repository", ""));
  line(out, "tag", stat.value("tag", ""));
  line(out, "checked", stat.contains("checked_at") ? used(stat, "checked_at") : "");
  line(out, "stored", size_of(stat, "bytes"));
  out += digest_lines(stat["manifest"]);
  Table table = blob_table();
  for (const json& blob : stat["blobs"]) add_blob(table, blob);
  return table.empty() ? out : out + "\n" + table.str();
}

int show(const json& document, const CommandOptions& options, const std::string& text) {
  print(options.json ? document.dump(2) + "\n" : text);
  return kExitOk;
}

}  // namespace

int fail(const Error& error) {
  std::fputs(("sluice: " + error.message + "\n").c_str(), stderr);
  switch (error.code) {
    case Errc::cancelled: return kExitInterrupted;
    case Errc::config_invalid:
    case Errc::name_invalid:
    case Errc::tag_invalid:
    case Errc::digest_invalid:
    case Errc::digest_unsupported: return kExitUsage;
    default: return kExitFailure;
  }
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

int list_command(Runner& runner, Source& source, const CommandOptions& options) {
  const std::string name = options.names.empty() ? std::string() : options.names.front();
  if (name.empty()) {
    const char* const key = options.blobs ? "blobs" : "repositories";
    const Result<Document> list = all_pages(runner, source, std::string("/api/v1/") + key, key);
    if (!list) return fail(list.error());
    if (options.json) return show(list->json, options, {});
    return options.blobs ? show_blobs(list->json) : show_repositories(runner, source, list->json);
  }
  const Result<admin::ImageName> image = admin::ImageName::parse(name);
  if (!image) return fail(image.error());
  if (image->tag || image->digest) return stat_command(runner, source, options);
  const char* const key = options.blobs ? "blobs" : "tags";
  const Result<Document> list =
      all_pages(runner, source, fmt::format("/api/v1/{}?repository={}", key, http::percent_encode(name)), key);
  if (!list) return fail(list.error());
  if (options.json) return show(list->json, options, {});
  return options.blobs ? show_blobs(list->json) : show_tags(list->json);
}

int stat_command(Runner& runner, Source& source, const CommandOptions& options) {
  const Result<Document> stat =
      ask(runner, source, "GET", "/api/v1/stat?name=" + http::percent_encode(options.names.front()));
  if (!stat) return fail(stat.error());
  const json& document = stat->json;
  return show(document, options, document.contains("manifest") ? image_lines(document) : digest_lines(document));
}

int remove_command(Runner& runner, Source& source, const CommandOptions& options) {
  int status = kExitOk;
  json all = json::array();
  for (const std::string& name : options.names) {
    Result<Document> removed =
        ask(runner, source, "DELETE",
            fmt::format("/api/v1/content?name={}{}", http::percent_encode(name), options.all ? "&all=true" : ""));
    if (!removed) {
      status = fail(removed.error());
      if (runner.interrupted()) break;
      continue;
    }
    if (!options.json) {
      print(fmt::format("{}: {} and {} taken out, {} freed in {}\n", name,
                        counted(removed->json.value("tags", 0U), "tag"),
                        counted(removed->json.value("digests", 0U), "digest"), size_of(removed->json, "bytes"),
                        counted(removed->json.value("files", 0U), "file")));
    }
    removed->json["name"] = name;
    all.push_back(std::move(removed->json));
  }
  if (options.json) print(all.dump(2) + "\n");
  return status;
}

}  // namespace sluice::app
