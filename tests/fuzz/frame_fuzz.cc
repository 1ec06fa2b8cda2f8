// SPDX-License-Identifier: Apache-2.0
// Any bytes as a frame: parsed, forwarded over both outer families and both kinds of port. Nothing
// may read or write outside the buffer (the sanitizer watches), and what leaves must be consistent.
#include <cstdlib>
#include <cstring>

#include "dataplane/forward.h"
#include "tests/support/images.h"

using namespace guideway;

namespace {

std::unique_ptr<Image> image(uint8_t outer_bytes) {
  const test::Bytes table = test::round_robin_table(7, 3);
  return test::image_of(test::three_backends(outer_bytes, test::digest_of(table)), {table});
}

void check(const Frame& frame, const uint8_t* begin, const uint8_t* end) {
  if (frame.egress == Egress::none) return;
  if (frame.data < begin || frame.data + frame.bytes > end) std::abort();
  if (frame.egress == Egress::backend && frame.bytes < frame.ip_bytes + 14) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Image> images[] = {image(14), image(34), image(54), nullptr};
  if (size > 4096) return 0;
  constexpr uint16_t kHeadroom = 64;
  for (const auto& image : images) {
    for (const PortKind kind : {PortKind::shared, PortKind::owned}) {
      // Heap memory of the exact size: the sanitizer sees one byte too far.
      std::unique_ptr<uint8_t[]> buffer(new uint8_t[kHeadroom + size]());
      if (size) std::memcpy(buffer.get() + kHeadroom, data, size);
      Frame frame;
      frame.data = buffer.get() + kHeadroom;
      frame.bytes = static_cast<uint16_t>(size);
      frame.headroom = kHeadroom;
      Forwarder forwarder;
      forwarder.forward(image.get(), {kind, {0x02, 0, 0, 0, 0, 0x11}}, 1'000'000'000, {&frame, 1});
      check(frame, buffer.get(), buffer.get() + kHeadroom + size);
    }
  }
  return 0;
}
