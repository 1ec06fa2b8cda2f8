// SPDX-License-Identifier: Apache-2.0
// The steps of the packet path, one by one, and the whole of it, by the core's own functions. Every
// stage goes over bursts of 64 packets, and prefetches for a burst what forward() prefetches, so
// that cache misses overlap as they do there.
//
//   bench_stages             times, by Google Benchmark (its own options hold)
//   bench_stages --count     under valgrind --tool=callgrind --instr-atstart=no: for each stage two
//                            dumps of different length, called "NAME|PACKETS"; their difference is
//                            that of the packets alone
//   bench_stages --list      NAME|BASE a line: BASE is a stage that does nothing else than what
//   NAME
//                            needs around it (a loop, a fresh frame); to be taken off
#include <benchmark/benchmark.h>
#include <valgrind/callgrind.h>

#include <cstdio>

#include "tests/bench/stage.h"

namespace guideway::bench {
namespace {

std::vector<Stage> stages() {
  std::vector<Stage> out;
  add_parts(out);
  add_path(out);
  return out;
}

void count(const Stage& stage) {
  const Runner run = stage.make();
  run(256 * kFew / kBurst);  // flows learned, and proven; spares remembered
  for (const size_t bursts : {kFew / kBurst, 3 * kFew / kBurst}) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    run(bursts);
    const std::string name = stage.name + '|' + std::to_string(bursts * kBurst);
    CALLGRIND_DUMP_STATS_AT(name.c_str());
    CALLGRIND_STOP_INSTRUMENTATION;
  }
}

void enter(const Stage& stage) {
  const auto kept = std::make_shared<Runner>();
  benchmark::RegisterBenchmark(stage.name.c_str(), [kept, stage](benchmark::State& state) {
    constexpr size_t kBursts = kFew / kBurst;
    if (!*kept) {
      *kept = stage.make();
      (*kept)(2 * kMany / kBurst);
    }
    for (auto _ : state) (*kept)(kBursts);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kFew));
  });
}

}  // namespace
}  // namespace guideway::bench

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  for (const guideway::bench::Stage& stage : guideway::bench::stages()) {
    if (option == "--list") {
      std::printf("%s|%s\n", stage.name.c_str(), stage.base.c_str());
    } else if (option == "--count") {
      if (stage.counted) guideway::bench::count(stage);
    } else {
      guideway::bench::enter(stage);
    }
  }
  if (option == "--list" || option == "--count") return 0;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
