// SPDX-License-Identifier: Apache-2.0
// Any bytes as a root and as a table. The header's size and checksum, and the backends' sums, are
// made right, so that the fuzzer gets behind them; what then passes as valid must be safe to adopt
// and to forward with.
#include <cstring>

#include "dataplane/forward.h"
#include "dataplane/validate.h"
#include "tests/support/images.h"

using namespace guideway;

namespace {

// An image whose pools all use one table, if it has as many backends as each of them.
std::unique_ptr<Image> adopt(const test::Bytes& root, const test::Bytes& table) {
  auto bytes = in_current_layout(std::move(*Mapping::from_bytes(root)));
  const auto& head = *reinterpret_cast<const gw_root*>(bytes->data());
  const auto* pools = reinterpret_cast<const gw_pool*>(bytes->data() + head.pools_offset);
  const auto shared = std::make_shared<const Table>(
      Table{test::digest_of(table), std::move(*Mapping::from_bytes(table))});
  std::vector<std::shared_ptr<const Table>> tables;
  for (uint32_t i = 0; i < head.pools; ++i) {
    tables.push_back(pools[i].backends == shared->head().backends ? shared : nullptr);
  }
  return std::make_unique<Image>(std::move(*bytes), std::move(tables));
}

// Of a root whose backends lie within it.
void add_sums(test::Bytes& bytes) {
  if (bytes.size() < sizeof(gw_root)) return;
  const gw_root root = test::head_of<gw_root>(bytes);
  if (root.header.layout != GW_LAYOUT || root.backends_offset % 8 != 0 ||
      root.backends_offset < sizeof root || root.backends_offset > bytes.size() ||
      root.backends > (bytes.size() - root.backends_offset) / sizeof(gw_backend))
    return;
  auto* backends = reinterpret_cast<gw_backend*>(bytes.data() + root.backends_offset);
  std::for_each(backends, backends + root.backends, test::add_sums);
}

void forward_with(const Image& image) {
  for (const gw_service& service : image.services()) {
    test::PacketSpec spec;
    spec.destination = Address::from_v6(service.vip).text();
    if (!Address::parse(spec.destination)) continue;
    spec.source = Address::from_v6(service.vip).is_v4() ? "198.51.100.7" : "2001:db8:100::7";
    spec.protocol = service.protocol;
    spec.destination_port = be16::from_raw(service.port).host();
    // The first is learned if its slot is unsettled, the second found.
    Forwarder forwarder;
    forwarder.flows = std::move(*FlowTable::make(16));
    for (const uint8_t flags : {0x02, 0x10}) {
      spec.tcp_flags = flags;
      test::Bytes packet(128);
      test::append(packet, test::frame_of(spec));
      Frame frame;
      frame.data = packet.data() + 128;
      frame.bytes = static_cast<uint16_t>(packet.size() - 128);
      frame.headroom = 128;
      forwarder.forward(&image, {PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}}, 1'000'000'000,
                        {&frame, 1});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < sizeof(gw_image_header) || size > 65536) return 0;
  test::Bytes bytes(data, data + size);
  add_sums(bytes);
  test::seal(bytes);
  static const test::Bytes table = test::round_robin_table(7, 3);
  static const test::Bytes roots[] = {test::root_bytes(test::three_backends(34, 1)),
                                      test::root_bytes(test::three_backends(42, 1)),
                                      test::root_bytes(test::three_backends(62, 1))};
  if (validate_table(bytes)) {
    for (const test::Bytes& root : roots) forward_with(*adopt(root, bytes));
  }
  if (validate_root(bytes)) forward_with(*adopt(bytes, table));
  return 0;
}
