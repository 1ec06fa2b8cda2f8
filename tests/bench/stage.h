// SPDX-License-Identifier: Apache-2.0
// What the stages of the bench work on: packets of many flows, an image, and the shape of a stage.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/flow.h"
#include "dataplane/forward.h"
#include "dataplane/parse.h"
#include "tests/support/images.h"

namespace guideway::bench {

inline constexpr size_t kBurst = kBurstMax;
inline constexpr size_t kFew = 1024, kMany = 1 << 20;  // flows; powers of two
inline constexpr uint32_t kSlots = 65537;
inline constexpr uint8_t kBackends = 100;
inline constexpr uint64_t kSeed = 42;
inline constexpr const char* kVip[] = {"203.0.113.10", "2001:db8:203::10"};

// Each burst has kBurst packets.
using Runner = std::function<void(size_t bursts)>;

struct Stage {
  std::string name;
  std::string base;  // the stage that does only what this one needs around it; empty: none
  bool counted;      // by callgrind as well
  std::function<Runner()> make;
};

// The steps one by one; the steps that need a fresh frame each time, and the whole of it.
void add_parts(std::vector<Stage>& to);
void add_path(std::vector<Stage>& to);

// Visits each of `flows` (a power of two) once before any again, in an order that looks random.
struct Order {
  explicit Order(size_t count) : mask(count - 1), step((count * 5 / 8) | 1) {}
  uint32_t next() { return static_cast<uint32_t>(at = (at + step) & mask); }
  size_t mask, step, at = 0;
};

// Ready frames of 64 (IPv4) or 74 bytes, each with its headroom, that turn into those of any flow.
class Packets {
 public:
  Packets(bool v4, bool syn) : v4_(v4) {
    test::PacketSpec spec;
    spec.source = v4 ? "198.51.100.7" : "2001:db8:1::7";
    spec.destination = kVip[v4 ? 0 : 1];
    spec.payload = test::Bytes(v4 ? 10 : 0);
    spec.tcp_flags = syn ? 0x02 : 0x10;
    test::Bytes frame = test::frame_of(spec);
    bytes_ = static_cast<uint16_t>(frame.size());
    std::copy(frame.begin(), frame.end(), made_.begin());
    if (v4) {
      // Source and identification change against each other, so that the checksum holds.
      put16(made_.data(), kSourceV4, 0);
      put16(made_.data(), kIdentification, 0xffff);
      put16(made_.data(), 24, 0);
      uint32_t sum = 0;
      for (size_t i = 14; i < 34; i += 2) sum += made_[i] * 256u + made_[i + 1];
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      put16(made_.data(), 24, ~sum & 0xffff);
    }
  }

  // A frame as it comes in. Its results are nobody's yet.
  void make(size_t i, uint32_t flow) {
    uint8_t* at = room_[i].data() + kHeadroom;
    std::memcpy(at, made_.data(), kFrameBytes);
    const auto high = static_cast<uint16_t>(flow >> 15);
    put_raw(at + (v4_ ? 34 : 54), static_cast<uint16_t>(1024 + (flow & 0x7fff)));
    put_raw(at + (v4_ ? kSourceV4 : 34), high);
    if (v4_) put_raw(at + kIdentification, static_cast<uint16_t>(0xffff - high));
    frames[i].data = at;
    frames[i].bytes = bytes_;
    frames[i].headroom = kHeadroom;
  }
  void make_all(Order& order) {
    for (size_t i = 0; i < kBurst; ++i) make(i, order.next());
  }

  std::array<Frame, kBurst> frames;

 private:
  static constexpr size_t kHeadroom = 128, kFrameBytes = 80;
  static constexpr size_t kIdentification = 18, kSourceV4 = 28;

  static void put16(uint8_t* to, size_t at, unsigned value) {
    to[at] = static_cast<uint8_t>(value >> 8);
    to[at + 1] = static_cast<uint8_t>(value);
  }
  static void put_raw(uint8_t* at, uint16_t value) {
    const uint16_t raw = be16(value).raw();
    std::memcpy(at, &raw, sizeof raw);
  }

  const bool v4_;
  uint16_t bytes_ = 0;
  std::array<uint8_t, kFrameBytes> made_{};
  std::array<std::array<uint8_t, 256>, kBurst> room_{};
};

// One pool behind `services` TCP services of both families. `mood`: quiet, learn or drain, as in
// publish_image.cc.
inline std::unique_ptr<Image> image_for(uint8_t outer_bytes, const std::string& mood,
                                        unsigned services = 1) {
  const test::Bytes table = test::round_robin_table(kSlots, kBackends);
  test::RootSpec spec;
  spec.flow_seed = kSeed;
  for (unsigned i = 0; i < services; ++i) {
    const std::string v4 =
        i == 0 ? kVip[0] : "198.18." + std::to_string(i >> 8) + '.' + std::to_string(i & 255);
    spec.services.push_back(test::service(v4.c_str(), 6, 443, 0, i));
  }
  spec.services.push_back(test::service(kVip[1], 6, 443, 0, services));
  std::sort(spec.services.begin(), spec.services.end(),
            [](const auto& a, const auto& b) { return std::memcmp(a.vip, b.vip, 16) < 0; });
  spec.pools = {test::pool_of(test::digest_of(table), 0, kBackends, outer_bytes)};
  for (uint8_t i = 1; i <= kBackends; ++i) {
    spec.backends.push_back(test::backend(outer_bytes, i));
    if (mood == "learn") test::set_up(spec.backends.back(), 1);
    if (mood == "drain" && i % 10 != 0) test::set_draining(spec.backends.back());
  }
  return test::image_of(spec, {table});
}

inline FlowKey key_of(bool v4, uint32_t flow) {
  Packets burst(v4, false);
  burst.make(0, flow);
  return parse(burst.frames[0].data, burst.frames[0].bytes).key;
}

inline std::vector<FlowKey> keys_of(bool v4, size_t flows) {
  std::vector<FlowKey> out;
  Order order(flows);
  Packets burst(v4, false);
  while (out.size() < flows) {
    burst.make_all(order);
    for (const Frame& frame : burst.frames) out.push_back(parse(frame.data, frame.bytes).key);
  }
  return out;
}

// A runner that calls each(at) for bursts that start at `at`, over `count` things, round and round.
template <typename Each>
Runner around(size_t count, Each each) {
  return [count, each, at = size_t{0}](size_t bursts) mutable {
    for (; bursts > 0; --bursts) {
      each(at);
      at = (at + kBurst) & (count - 1);
    }
  };
}

}  // namespace guideway::bench
