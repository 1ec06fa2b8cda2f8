// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>

#include "dataplane/encap.h"
#include "tests/bench/stage.h"

namespace guideway::bench {
namespace {

constexpr uint64_t kPacketNs = 60;

// The hop spent, and the outer header; gue: with one later hop in the list.
Runner encapsulating(bool v4, uint8_t outer_bytes) {
  struct State {
    State(bool family, uint8_t outer) : burst(family, false), image(image_for(outer, "quiet")) {}
    Packets burst;
    std::unique_ptr<Image> image;
    std::array<Packet, kBurst> packets;
    Order order{kFew};
  };
  const auto state = std::make_shared<State>(v4, outer_bytes);
  state->burst.make_all(state->order);
  for (size_t i = 0; i < kBurst; ++i)
    state->packets[i] = parse(state->burst.frames[i].data, state->burst.frames[i].bytes);
  return around(kFew, [state, v4](size_t at) {
    state->burst.make_all(state->order);
    const auto backends = state->image->backends();
    const bool list = is_gue(backends[0]);
    for (size_t i = 0; i < kBurst; ++i) {
      Frame& frame = state->burst.frames[i];
      const size_t one = (at + i) % (kBackends - 1);
      const gw_backend* later = &backends[one + 1];
      if (!spend_hop(frame, v4)) std::abort();
      encapsulate(frame, state->packets[i], backends[one], at * 0x9E3779B97F4A7C15ull,
                  list ? LaterHops(&later, 1) : LaterHops());
    }
    benchmark::ClobberMemory();
  });
}

struct Path {
  uint8_t outer_bytes = 34;
  bool v4 = true;
  const char* mood = "quiet";
  bool syn = false;
  size_t flows = kFew;
  size_t entries = 4 * kFew;
};

// forward(), all its packets to a backend.
Runner forwarding(const Path& path) {
  struct State {
    explicit State(const Path& path)
        : burst(path.v4, path.syn),
          image(image_for(path.outer_bytes, path.mood)),
          order(path.flows) {
      forwarder.flows = std::move(*FlowTable::make(path.entries));
      forwarder.flows.prefault();
    }
    Packets burst;
    std::unique_ptr<Image> image;
    Order order;
    Forwarder forwarder;
    uint64_t packets = 0;
  };
  const auto state = std::make_shared<State>(path);
  const Ingress ingress{PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}};
  return around(kFew, [state, ingress, flows = path.flows](size_t) {
    state->burst.make_all(state->order);
    // What is learned in the first round is proven a second later.
    const uint64_t start = state->packets < flows ? 100 : 102;
    state->forwarder.forward(state->image.get(), ingress,
                             start * 1'000'000'000 + state->packets * kPacketNs,
                             state->burst.frames);
    state->packets += kBurst;
    for (const Frame& frame : state->burst.frames) {
      if (frame.verdict == Verdict::forwarded) continue;
      std::fprintf(stderr, "not forwarded: %s\n", std::string(verdict_name(frame.verdict)).c_str());
      std::abort();
    }
  });
}

struct Kind {
  const char* name;
  uint8_t outer_v4, outer_v6;
};
constexpr Kind kKinds[] = {{"l2", 14, 14}, {"ipip", 34, 54}, {"gue", 42, 62}};

}  // namespace

void add_path(std::vector<Stage>& out) {
  for (const bool v4 : {true, false}) {
    const std::string family = v4 ? " v4" : " v6";
    for (const Kind& kind : kKinds) {
      const uint8_t outer = v4 ? kind.outer_v4 : kind.outer_v6;
      out.push_back({"encapsulate " + (kind.name + family), "a fresh frame" + family, true,
                     [=] { return encapsulating(v4, outer); }});
      out.push_back({"forward() " + (kind.name + family), "a fresh frame" + family, true,
                     [=] { return forwarding({.outer_bytes = outer, .v4 = v4}); }});
    }
  }
  const std::string base = "a fresh frame v4";
  const auto add = [&](const char* name, bool counted, const Path& path) {
    out.push_back({std::string("forward() ipip v4, ") + name, base, counted,
                   [=] { return forwarding(path); }});
  };
  add("1 M flows", false, {.flows = kMany});
  add("learned", true, {.mood = "learn"});
  add("learned, 1 M flows", false, {.mood = "learn", .flows = kMany, .entries = 4 * kMany});
  // More than a run of callgrind sends: all are new there.
  add("all new, table full", true,
      {.mood = "drain", .syn = true, .flows = 8 * kMany, .entries = kFew});
}

}  // namespace guideway::bench
