// SPDX-License-Identifier: Apache-2.0
// Any bytes as a frame: parsed, forwarded over both outer families and both kinds of port, with all
// backends up and with some that are not, by a flow table that goes on from frame to frame. Nothing
// may read or write outside the buffer (the sanitizer watches), and what leaves must be consistent.
#include <cstdlib>
#include <cstring>

#include "dataplane/encap.h"
#include "dataplane/forward.h"
#include "tests/support/images.h"

using namespace guideway;

namespace {

// Of lists of three hops, of which the one in the middle is an earlier one.
test::Bytes changing_table() {
  return test::table_bytes(7, 3, 3, [](uint32_t slot, uint32_t hop) {
    return static_cast<uint16_t>((slot + hop) % 3 + (hop == 1 ? GW_HOP_EARLIER : 0));
  });
}

std::unique_ptr<Image> image(uint8_t outer_bytes, bool healthy = true, bool changing = false) {
  const test::Bytes table = changing ? changing_table() : test::round_robin_table(7, 3);
  test::RootSpec spec = test::three_backends(outer_bytes, test::digest_of(table));
  if (!healthy) {
    test::set_draining(spec.backends[0]);
    test::set_down(spec.backends[1]);
    test::set_up(spec.backends[2], 30000);
  }
  return test::image_of(spec, {table});
}

void check(const Frame& frame, const uint8_t* begin, const uint8_t* end) {
  if (frame.egress == Egress::none) return;
  if (frame.data < begin || frame.data + frame.bytes > end) std::abort();
  if (frame.egress == Egress::backend && frame.bytes < frame.ip_bytes + 14) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Image> images[] = {image(14),
                                                  image(34),
                                                  image(54),
                                                  image(34, false),
                                                  image(42),
                                                  image(62),
                                                  image(42, false),
                                                  image(62, false, true),
                                                  image(34, true, true),
                                                  nullptr};
  static Forwarder forwarder = [] {
    Forwarder made;
    made.flows = std::move(*FlowTable::make(1024));
    return made;
  }();
  static uint64_t now_ns = 1'000'000'000;
  forwarder.flows.sweep(now_ns += 100'000'000);
  if (size > 4096) return 0;
  constexpr uint16_t kHeadroom = kEncapHeadroom;
  for (const auto& image : images) {
    for (const PortKind kind : {PortKind::shared, PortKind::owned}) {
      // Heap memory of the exact size: the sanitizer sees one byte too far.
      std::unique_ptr<uint8_t[]> buffer(new uint8_t[kHeadroom + size]());
      if (size) std::memcpy(buffer.get() + kHeadroom, data, size);
      Frame frame;
      frame.data = buffer.get() + kHeadroom;
      frame.bytes = static_cast<uint16_t>(size);
      frame.headroom = kHeadroom;
      forwarder.forward(image.get(), {kind, {0x02, 0, 0, 0, 0, 0x11}}, now_ns, {&frame, 1});
      check(frame, buffer.get(), buffer.get() + kHeadroom + size);
    }
  }
  return 0;
}
