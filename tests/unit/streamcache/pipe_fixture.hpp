// What the tests of single pipes share.
#pragma once

#include "fixture.hpp"

namespace sluice::streamcache {

struct PipeFixture : Fixture {
  int files = 0;

  std::unique_ptr<Storage> storage() {
    const runtime::Path path = directory.path() / fmt::format("file-{}", ++files);
    return make_file_storage(*filesystem.create(path), path, filesystem, disk);
  }
  std::shared_ptr<Pipe> pipe(const PipeParams& params) {
    auto made = std::make_shared<Pipe>(params, clock, metrics);
    made->open(storage());
    return made;
  }
  std::unique_ptr<Stream> reader(const std::shared_ptr<Pipe>& from) { return from->open_reader().value(); }
  auto produce(const std::shared_ptr<Pipe>& into, std::string data, std::size_t piece = 1) {
    return start(write_pieces(std::make_shared<Writer>(into), std::move(data), piece));
  }
};

inline PipeParams with_window(std::optional<std::uint64_t> window, Abandoned abandoned = Abandoned::fail) {
  PipeParams params;
  params.window_bytes = window;
  params.abandoned = abandoned;
  return params;
}

}  // namespace sluice::streamcache
