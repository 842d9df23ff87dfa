#include "pull/rights_ledger.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::pull {
namespace {

using descriptors::RightsMarks;

std::string key_of(const std::string& name) { return "rights:" + name; }

struct Noted {
  std::uint64_t moves = 0;
  std::uint64_t changes = 0;
  std::string_view address;
  std::string_view rights;
};

// "<moves> <changes> <mark> <mark>". What makes no sense fits nothing.
Noted parse(std::string_view text) {
  const auto word = [&text] {
    const std::string_view out = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), out.size() + 1));
    return out;
  };
  const auto number = [&word] {
    std::uint64_t out = 0;
    const std::string_view digits = word();
    std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return out;
  };
  Noted out;
  out.moves = number();
  out.changes = number();
  out.address = word();
  out.rights = word();
  return out;
}

}  // namespace

std::shared_ptr<access::RightsTerm> RightsLedger::term(const std::string& name, const Standing& standing) {
  return std::make_shared<access::RightsTerm>(++terms_,
                                              standing.moves == 0 ? name : fmt::format("{}#{}", name, standing.moves));
}

void RightsLedger::note(const std::string& name, const Standing& standing) {
  parts_.store.catalog().set_meta(
      key_of(name), fmt::format("{} {} {} {}", standing.moves, standing.changes,
                                RightsMarks::make(standing.claim.address), RightsMarks::make(standing.claim.rights)));
}

// From the catalog before what is noted: the file may get the one without the other.
void RightsLedger::change(const std::string& name, const Claim& claim, bool moved, Standing& standing) {
  if (standing.term) standing.term->is_over = true;
  if (moved) ++standing.moves;
  ++standing.changes;
  standing.claim = claim;
  standing.term = term(name, standing);
  const bool known = parts_.store.catalog().forget_upstream(name);
  parts_.access.forget_upstream(name);
  parts_.manifests.forget_upstream();
  note(name, standing);
  if (!known) return;
  log::info("rights", fmt::format("{} of {} has changed: upstream is asked again about everything that is stored of it",
                                  moved ? "the address" : "the access or a login", name));
}

// Of an upstream of which this process knows nothing yet.
RightsLedger::Standing RightsLedger::begin(const std::string& name, const Claim& claim) {
  Standing out{claim};
  const std::optional<std::string> text = parts_.store.catalog().meta(key_of(name));
  if (!text) {
    out.term = term(name, out);
    // Where the file could not be read, it may hold rows that were learnt with other rights.
    if (parts_.store.catalog().is_unread()) parts_.store.catalog().forget_upstream(name);
    note(name, out);
    return out;
  }
  const Noted noted = parse(*text);
  out.moves = noted.moves;
  out.changes = noted.changes;
  const bool moved = !RightsMarks::fits(noted.address, claim.address);
  if (moved || !RightsMarks::fits(noted.rights, claim.rights)) {
    change(name, claim, moved, out);
  } else {
    out.term = term(name, out);
  }
  return out;
}

access::RightsTerms RightsLedger::settle(const Claims& claims) {
  // Of an upstream that is gone, and may come back as another one.
  for (auto at = now_.begin(); at != now_.end();) {
    if (claims.contains(at->first)) {
      ++at;
      continue;
    }
    at->second.term->is_over = true;
    at = now_.erase(at);
  }
  if (now_.empty()) {
    found_nothing_ = std::none_of(claims.begin(), claims.end(), [this](const auto& claim) {
      return parts_.store.catalog().meta(key_of(claim.first)).has_value();
    });
  }
  access::RightsTerms terms;
  RightsMarks::Table marks;
  for (const auto& [name, claim] : claims) {
    const auto at = now_.find(name);
    if (at == now_.end()) {
      now_.emplace(name, begin(name, claim));
    } else if (at->second.claim != claim) {
      change(name, claim, at->second.claim.address != claim.address, at->second);
    }
    const Standing& standing = now_.find(name)->second;
    terms.emplace(name, standing.term);
    marks.emplace(name, RightsMarks::Upstream{claim.rights, standing.changes == 0});
  }
  parts_.marks.set(std::move(marks));
  return terms;
}

}  // namespace sluice::pull
