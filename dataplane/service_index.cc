// SPDX-License-Identifier: Apache-2.0
#include "dataplane/service_index.h"

#include <bit>

namespace guideway {

ServiceIndex::ServiceIndex(std::span<const gw_service> services) {
  if (services.empty()) return;
  // Each service is one entry and brings at most one VIP entry; at most half full.
  const size_t size = std::bit_ceil(services.size() * 4);
  entries_.assign(size, Entry{});
  mask_ = size - 1;
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(size));
  for (uint32_t i = 0; i < services.size(); ++i) {
    const gw_service& service = services[i];
    const Address vip = Address::from_v6(service.vip);
    insert(vip, service.protocol, be16::from_raw(service.port), i);
    insert(vip, 0, be16{}, kNoService);
  }
}

void ServiceIndex::insert(const Address& vip, uint8_t protocol, be16 port, uint32_t service) {
  if (look_up(vip, protocol, port) != kNotVip) return;
  const Address::Words words = vip.words();
  const uint32_t rest = rest_of(protocol, port);
  uint64_t at = hash(words, rest) >> shift_;
  while (entries_[at & mask_].rest != 0) ++at;
  entries_[at & mask_] = {words, rest, service};
}

}  // namespace guideway
