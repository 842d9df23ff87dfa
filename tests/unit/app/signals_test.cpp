#include <csignal>

#include <catch2/catch.hpp>

#include "app/signals.hpp"
#include "base/log.hpp"
#include "runtime/loop.hpp"

using namespace sluice;
using namespace sluice::app;

namespace {

struct Heard {
  int drain = 0;
  int stop_now = 0;
  int reopen = 0;
  [[nodiscard]] int all() const { return drain + stop_now + reopen; }
};

// Raises the signal and lets the loop run until it was heard. A raised signal is there at once: no time passes.
void raise_and_hear(runtime::Loop& loop, Heard& heard, int signal) {
  const int before = heard.all();
  REQUIRE(std::raise(signal) == 0);
  while (heard.all() == before) loop.run_one();
}

}  // namespace

TEST_CASE("Signals: the first asks to drain, the second to stop, SIGHUP opens logs again", "[app]") {
  log::configure({log::Level::off, log::Format::text});
  const int first = GENERATE(SIGTERM, SIGINT);
  const int second = GENERATE(SIGTERM, SIGINT);
  runtime::Loop loop;
  Heard heard;
  Signals signals(loop, {[&] { ++heard.drain; }, [&] { ++heard.stop_now; }, [&] { ++heard.reopen; }});
  signals.start();
  raise_and_hear(loop, heard, SIGHUP);
  raise_and_hear(loop, heard, first);
  CHECK(heard.drain == 1);
  CHECK(heard.stop_now == 0);
  raise_and_hear(loop, heard, SIGHUP);
  raise_and_hear(loop, heard, second);
  CHECK(heard.drain == 1);
  CHECK(heard.stop_now == 1);
  CHECK(heard.reopen == 2);
}

TEST_CASE("Signals: after cancel the loop has nothing to wait for", "[app]") {
  runtime::Loop loop;
  Heard heard;
  Signals signals(loop, {[&] { ++heard.drain; }, {}, {}});
  signals.start();
  signals.cancel();
  loop.run();
  CHECK(heard.all() == 0);
}

TEST_CASE("Signals: those of writes are ignored, and the limit of files is as high as it may be", "[app]") {
  ignore_signals_of_writes();
  CHECK(std::raise(SIGPIPE) == 0);
  CHECK(std::raise(SIGXFSZ) == 0);
  CHECK(raise_open_file_limit() > 0);
}
