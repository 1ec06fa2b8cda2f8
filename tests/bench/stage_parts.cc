// SPDX-License-Identifier: Apache-2.0
#include "dataplane/choice.h"
#include "dataplane/counters_region.h"
#include "tests/bench/stage.h"

namespace guideway::bench {
namespace {

// Another seed makes hashes of other flows.
std::vector<uint64_t> hashes_of(size_t flows, uint64_t seed = kSeed) {
  std::vector<uint64_t> out;
  for (const FlowKey& key : keys_of(true, flows)) out.push_back(flow_hash(key, seed));
  return out;
}

Runner nothing() {
  return around(kFew, [value = uint64_t{0}](size_t at) mutable {
    for (size_t i = 0; i < kBurst; ++i) benchmark::DoNotOptimize(value = at + i);
  });
}

Runner fresh(bool v4) {
  const auto burst = std::make_shared<Packets>(v4, false);
  return around(kFew, [burst, order = Order(kFew)](size_t) mutable {
    burst->make_all(order);
    benchmark::ClobberMemory();
  });
}

Runner parsing(bool v4) {
  const auto burst = std::make_shared<Packets>(v4, false);
  Order order(kFew);
  burst->make_all(order);
  const auto packets = std::make_shared<std::array<Packet, kBurst>>();
  return around(kFew, [burst, packets](size_t) {
    for (size_t i = 0; i < kBurst; ++i)
      (*packets)[i] = parse(burst->frames[i].data, burst->frames[i].bytes);
    benchmark::ClobberMemory();
  });
}

// The index alone: every burst is for other services.
Runner service_of(bool v4, unsigned services) {
  const std::shared_ptr<Image> image = image_for(34, "quiet", services);
  std::vector<gw_service> wanted;
  for (const gw_service& one : image->services()) {
    const bool is_v4 = one.vip[0] == 0;
    if (is_v4 == v4) wanted.push_back(one);
  }
  std::vector<FlowKey> keys;
  for (size_t i = 0; i < kFew; ++i) {
    FlowKey key = key_of(v4, static_cast<uint32_t>(i));
    const gw_service& one = wanted[i * 2654435761u % wanted.size()];
    std::memcpy(&key.vip, one.vip, 16);
    keys.push_back(key);
  }
  return around(kFew, [image, keys](size_t at) {
    for (size_t i = 0; i < kBurst; ++i) {
      const FlowKey& key = keys[at + i];
      benchmark::DoNotOptimize(image->service_index().find(key.vip, key.protocol, key.vip_port));
    }
  });
}

Runner hashing(bool v4) {
  return around(kFew, [keys = keys_of(v4, kFew)](size_t at) {
    for (size_t i = 0; i < kBurst; ++i)
      benchmark::DoNotOptimize(flow_slot(flow_hash(keys[at + i], kSeed), kSlots));
  });
}

std::shared_ptr<FlowTable> table_for(size_t entries) {
  auto made = FlowTable::make(entries);
  auto table = std::make_shared<FlowTable>(std::move(*made));
  table->prefault();
  return table;
}

// Established flows that are in the table, or others.
Runner looking_up(size_t flows, bool there) {
  const auto table = table_for(4 * flows);
  const std::vector<uint64_t> known = hashes_of(flows);
  for (const FlowSign sign : {FlowSign::syn, FlowSign::data}) {
    for (const uint64_t hash : known) table->learn(hash, 1, sign, 100);
  }
  const std::vector<uint64_t> asked = there ? known : hashes_of(flows, kSeed + 1);
  return around(flows, [table, asked](size_t at) {
    for (size_t i = 0; i < kBurst; ++i) table->prefetch(asked[at + i]);
    for (size_t i = 0; i < kBurst; ++i) {
      Flow* flow = table->find(asked[at + i], 101);
      if (flow) FlowTable::see(*flow, FlowSign::data, 101);
      benchmark::DoNotOptimize(flow);
    }
  });
}

// New flows, each wave of them after the last has expired. Many: the table is as large as 1 M flows
// ask for.
Runner learning(size_t flows) {
  const auto table = table_for(4 * flows);
  const auto hashes = hashes_of(flows);
  return around(flows, [table, hashes, now = uint16_t{100}](size_t at) mutable {
    if (at == 0) now = static_cast<uint16_t>(now + kOpeningIdle + 1);
    for (size_t i = 0; i < kBurst; ++i) table->prefetch(hashes[at + i]);
    for (size_t i = 0; i < kBurst; ++i)
      benchmark::DoNotOptimize(table->learn(hashes[at + i], 1, FlowSign::syn, now));
  });
}

// From the hash to the owner, and whether the flow table is to be asked.
Runner slot_of(size_t flows) {
  const std::shared_ptr<Image> image = image_for(34, "quiet");
  return around(flows, [image, hashes = hashes_of(flows)](size_t at) {
    const PoolView& pool = image->pools()[0];
    std::array<uint32_t, kBurst> slots;
    for (size_t i = 0; i < kBurst; ++i) {
      slots[i] = flow_slot(hashes[at + i], pool.slots);
      __builtin_prefetch(pool.slot_hops(slots[i]));
    }
    for (size_t i = 0; i < kBurst; ++i) {
      const gw_backend* owner = pool.owner(slots[i]);
      benchmark::DoNotOptimize(owner);
      benchmark::DoNotOptimize(is_settled(pool, owner, slots[i]));
    }
  });
}

struct Counts {
  gw_worker_counters own{};
  std::vector<gw_traffic> services = std::vector<gw_traffic>(GW_SERVICES_MAX);
  std::vector<gw_traffic> backends = std::vector<gw_traffic>(GW_BACKENDS_MAX);
  WorkerCounters counters() { return {&own, services.data(), backends.data()}; }
};

Runner counting() {
  const auto counts = std::make_shared<Counts>();
  std::vector<Frame> frames(kFew);
  for (size_t i = 0; i < kFew; ++i) {
    frames[i].verdict = Verdict::forwarded;
    frames[i].ip_bytes = 50;
    frames[i].backend = static_cast<uint32_t>(i * 2654435761u % kBackends + 1);
  }
  return around(kFew, [counts, frames](size_t at) {
    WorkerCounters counters = counts->counters();
    counters.received(kBurst);
    counters.finish({frames.data() + at, kBurst});
    benchmark::ClobberMemory();
  });
}

}  // namespace

void add_parts(std::vector<Stage>& out) {
  const std::string loop = "the loop alone";
  out.push_back({loop, "", true, nothing});
  for (const bool v4 : {true, false}) {
    const std::string family = v4 ? " v4" : " v6";
    out.push_back({"a fresh frame" + family, "", true, [=] { return fresh(v4); }});
    out.push_back({"parse" + family, loop, true, [=] { return parsing(v4); }});
    out.push_back({"service, 1" + family, loop, true, [=] { return service_of(v4, 1); }});
    out.push_back({"hash and slot's number" + family, loop, true, [=] { return hashing(v4); }});
  }
  out.push_back({"service, 1,000 v4", loop, true, [] { return service_of(true, 1000); }});
  for (const size_t flows : {kFew, kMany}) {
    const bool few = flows == kFew;
    const std::string text = few ? ", 1 k flows" : ", 1 M flows";
    out.push_back({"flow table: hit" + text, loop, few, [=] { return looking_up(flows, true); }});
    out.push_back({"flow table: miss" + text, loop, few, [=] { return looking_up(flows, false); }});
    out.push_back({"flow table: insert" + text, loop, few, [=] { return learning(flows); }});
    out.push_back({"slot's owner" + text, loop, few, [=] { return slot_of(flows); }});
  }
  out.push_back({"counters", loop, true, counting});
}

}  // namespace guideway::bench
