// RightsLedger: remembers, over restarts, what each upstream's rights hang on, and takes back what was learnt with
// other ones: which repository has what, tags, and what upstream does not have. Bytes stay; the first who asks for them
// has upstream asked.
//
//   nothing noted of it    noted; what is known counts (a new catalog, one of an older version, a new upstream), unless
//                          the catalog could not be read: then its rows are removed as soon as it can be
//   the same as noted      nothing happens
//   its rights are others  a new term; what was learnt of its repositories is forgotten, in memory and in the catalog
//   its address too        also another origin: bytes that came with a login are asked of it again, as of a stranger
//
// It stands in the catalog's meta, "rights:<upstream>": how often the address has changed, how often anything has, and
// the marks of both (rights_marks.hpp), from which no login can be read. A change of rights removes the rows before it
// notes the new rights, and a catalog that is written again from memory gets the notes before the rows: whenever the
// process dies, the next start finds no row beside a note that it does not belong to.
//
// Threads: settle() from one thread at a time, while no loop runs a handler: before they start, or in
// runtime::while_paused. It does not block on the disk.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "access/blob_access.hpp"
#include "access/rights_term.hpp"
#include "descriptors/rights_marks.hpp"
#include "pull/manifest_service.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class RightsLedger {
 public:
  // All outlive it.
  struct Parts {
    store::BlobStore& store;
    access::BlobAccess& access;
    ManifestService& manifests;
    descriptors::RightsMarks& marks;
  };
  // What they hang on. Where there are secrets in it: a hash that takes long to compute.
  struct Claim {
    std::string address;  // where the upstream is
    std::string rights;   // that, and with whose login it is asked for what

    friend bool operator==(const Claim&, const Claim&) = default;
  };
  using Claims = std::map<std::string, Claim, std::less<>>;  // by the upstream's name

  explicit RightsLedger(const Parts& parts) : parts_(parts) {}

  // What is in force from now on. The store must have been started.
  [[nodiscard]] access::RightsTerms settle(const Claims& claims);
  // After the first settle(): nothing was noted of any upstream, as in a new or a lost catalog. Then nothing tells with
  // which rights, or from which address, the parts of interrupted downloads came.
  [[nodiscard]] bool found_nothing() const noexcept { return found_nothing_; }

 private:
  struct Standing {
    Claim claim;
    std::uint64_t moves = 0;    // of the address
    std::uint64_t changes = 0;  // of anything
    std::shared_ptr<access::RightsTerm> term = nullptr;
  };

  [[nodiscard]] Standing begin(const std::string& name, const Claim& claim);
  void change(const std::string& name, const Claim& claim, bool moved, Standing& standing);
  void note(const std::string& name, const Standing& standing);
  [[nodiscard]] std::shared_ptr<access::RightsTerm> term(const std::string& name, const Standing& standing);

  const Parts parts_;
  std::map<std::string, Standing, std::less<>> now_;
  std::uint64_t terms_ = 0;
  bool found_nothing_ = false;
};

}  // namespace sluice::pull
