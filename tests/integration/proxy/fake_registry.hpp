// An upstream registry that a test scripts: what it has, how it fails, and how far its bytes come.
//
//   FakeRegistry& origin = …;
//   const oci::Digest digest = origin.add_blob("library/app", content);
//   origin.hold(digest, 100'000);                       // no byte beyond that until release()
//   origin.plan(digest, {.break_at = 50'000});          // the next download breaks there
//   origin.wait_until([](const auto& seen) { return seen.downloads == 1; });
//
// Threads: everything is thread-safe; it is asked on loops and scripted by the test's thread. What a test holds back
// must be let go, or the tasks that wait be cancelled, before it is destroyed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "streamcache/cursor.hpp"
#include "upstream/registry.hpp"

namespace sluice::test {

class FakeRegistry final : public upstream::Registry {
 public:
  // One download; as it stands nothing is wrong with it.
  struct Plan {
    std::optional<Error> refuse = {};            // instead of a body
    std::optional<std::uint64_t> break_at = {};  // position in the blob where reading fails
    Error broken = Errc::upstream_unreachable;   // how
    bool ignore_range = false;                   // from 0, whatever was asked; a bounded range is refused for that
    bool hide_size = false;
    bool redirected = false;                          // it comes from another server
    bool guessed = false;                             // to be the blob
    std::optional<std::uint64_t> announced = {};      // instead of the real size
    std::shared_ptr<const std::string> content = {};  // instead of the real bytes
    std::string media_type = "application/octet-stream";
  };

  struct Seen {
    std::size_t downloads = 0;                                         // open_blob, those included that were refused
    std::vector<std::uint64_t> offsets = {};                           // at which
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges = {};  // open_blob_range, in order
    std::uint64_t bytes = 0;                                           // of blobs, given out
    int open = 0;                                                      // downloads whose connection is held
    std::size_t blob_heads = 0;
    std::size_t manifest_gets = 0;
    std::size_t manifest_heads = 0;
    std::vector<std::string> accepts = {};  // of both, in order
    std::vector<std::string> lists = {};    // what was asked to be listed, in order
    std::size_t pings = 0;
    std::vector<std::shared_ptr<upstream::Urgency>> urgencies = {};  // of what was to come behind others, in order
    std::vector<std::string> behalves = {};  // the Authorization of each question on behalf of a client, in order

    [[nodiscard]] std::size_t manifests() const { return manifest_gets + manifest_heads; }
    [[nodiscard]] std::size_t all() const {
      return downloads + ranges.size() + blob_heads + manifests() + lists.size();
    }
  };

  explicit FakeRegistry(std::string name = "docker.io") : name_(std::move(name)) {}

  // --- Scripting.

  oci::Digest add_blob(const std::string& repository, std::string content,
                       oci::Algorithm algorithm = oci::Algorithm::sha256);
  // `content` under a digest that is not its own.
  void add_wrong_blob(const std::string& repository, const oci::Digest& digest, std::string content);
  // Under its digest, which the answers for `tag` name too, where that is not empty.
  oci::Digest add_manifest(const std::string& repository, const std::string& tag, std::string content,
                           std::string media_type, oci::Algorithm algorithm = oci::Algorithm::sha256);
  // What a tag is for those who accept no index.
  void set_narrow(const std::string& repository, const std::string& tag, std::string content, std::string media_type);
  void remove_manifest(const std::string& repository, const std::string& reference);
  // Every question about this repository is answered so; nothing: no more.
  void refuse(const std::string& repository, std::optional<Error> error);
  // Every question at all.
  void fail_all(std::optional<Error> error);
  // HEADs of that blob name it so.
  void claim(const oci::Digest& digest, const oci::Digest& canonical);
  // GETs of that manifest give other bytes.
  void spoil(const oci::Digest& digest, bool spoilt);
  // No length is told of any blob, and no range given out.
  void hide_sizes(bool hide) { hide_sizes_ = hide; }
  // HEADs of manifests tell no digest.
  void hide_digests(bool hide);

  // So many tags on a page; 0, as it stands: all.
  void set_page_size(std::size_t tags);
  // What tags/list says instead of the tags that there are.
  void set_tags_body(std::optional<std::string> body);
  // Asked first about every list; nothing: it is answered as it would be.
  using ListScript = std::function<std::optional<Result<upstream::ListAnswer>>(const std::string& what)>;
  void script_lists(ListScript script);
  // What the referrers API says of a subject. Without one for any, there is no such API.
  void set_referrers(const std::string& repository, const oci::Digest& subject, std::string index);
  // on_behalf_of(): who sends this Authorization may pull from that repository; nobody else gets anything.
  void allow(const std::string& authorization, const std::string& repository);
  void disallow(const std::string& authorization, const std::string& repository);

  // The next downloads of that blob, in order; and the next ranges.
  void plan(const oci::Digest& digest, Plan plan);
  void plan_range(const oci::Digest& digest, Plan plan);
  // No byte of that blob beyond `bytes`, until release() or a larger hold().
  void hold(const oci::Digest& digest, std::uint64_t bytes);
  void release(const oci::Digest& digest);
  // Questions wait, once counted, until let_questions().
  void hold_questions();
  void let_questions();

  [[nodiscard]] Seen seen() const;
  // Blocks until `done`; false after twenty seconds.
  bool wait_until(const std::function<bool(const Seen&)>& done) const;

  // Whether it is asked with a login of ours; as it stands: anonymously.
  void set_login(bool login) { login_ = login; }

  // --- Registry.

  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] Rights rights(const oci::Repository&) const override {
    return login_ ? Rights::own_login : Rights::anonymous;
  }
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) override;
  runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                                       std::uint64_t offset) override;
  // Not held back by hold().
  runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> open_blob_range(oci::Repository repository,
                                                                             oci::Digest digest, std::uint64_t first,
                                                                             std::uint64_t last) override;
  runtime::Task<Result<upstream::ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                               std::string accept) override;
  runtime::Task<Result<upstream::ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                              std::string accept) override;
  // Tags in an order that is not the lexical one.
  runtime::Task<Result<upstream::ListAnswer>> list(oci::Repository repository, std::string what) override;
  runtime::Task<Result<void>> ping() override;
  [[nodiscard]] std::shared_ptr<upstream::Registry> on_behalf_of(std::string authorization) override;
  // Itself: what comes behind others is not told apart. Each is counted.
  [[nodiscard]] std::shared_ptr<upstream::Registry> behind_others(std::shared_ptr<upstream::Urgency> urgency) override;

 private:
  class Body;
  class OnBehalf;
  struct Manifest {
    std::string content;
    std::string media_type;
    oci::Digest digest;
  };
  using Cursor = streamcache::Cursor;

  template <class Change>
  void note(Change change);
  void note_closed();
  std::shared_ptr<Cursor> gate(const oci::Digest& digest);
  static Plan next_plan(std::deque<Plan>& planned);
  std::shared_ptr<Cursor> questions() const;
  std::optional<Error> refusal(const std::string& repository) const;
  std::optional<Error> check(const std::string& authorization, const std::string& repository);
  Result<Manifest> manifest(const oci::Repository& repository, const oci::Reference& reference,
                            const std::string& accept) const;

  const std::string name_;
  std::atomic<bool> login_{false};
  std::atomic<bool> hide_sizes_{false};
  mutable std::mutex mutex_;  // guards everything below
  mutable std::condition_variable changed_;
  Seen seen_;
  std::map<oci::Digest, std::shared_ptr<const std::string>> contents_;
  std::set<std::pair<std::string, oci::Digest>> blobs_;
  std::map<std::pair<std::string, std::string>, Manifest> manifests_;
  std::map<std::pair<std::string, std::string>, Manifest> narrow_;
  std::map<std::string, Error> refusals_;
  std::optional<Error> failure_;
  bool hide_digests_ = false;
  std::map<oci::Digest, oci::Digest> claims_;
  std::set<oci::Digest> spoilt_;
  std::map<oci::Digest, std::deque<Plan>> plans_;
  std::map<oci::Digest, std::deque<Plan>> range_plans_;
  std::map<oci::Digest, std::shared_ptr<Cursor>> gates_;
  std::shared_ptr<Cursor> questions_;
  std::size_t page_size_ = 0;
  std::optional<std::string> tags_body_;
  ListScript list_script_;
  std::map<std::pair<std::string, oci::Digest>, std::string> referrers_;
  std::set<std::pair<std::string, std::string>> allowed_;
};

}  // namespace sluice::test
