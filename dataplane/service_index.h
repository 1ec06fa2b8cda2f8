// SPDX-License-Identifier: Apache-2.0
// From (VIP, protocol, port) to the service, built once for each adopted image. Open addressing
// with linear probing, at most half full; a look-up of an established flow's packet touches one
// entry.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/abi.h"
#include "dataplane/address.h"
#include "dataplane/byteorder.h"

namespace guideway {

class ServiceIndex {
 public:
  // Results of find() that are no service.
  static constexpr uint32_t kNotVip = UINT32_MAX;  // no service has this address
  static constexpr uint32_t kNoService =
      UINT32_MAX - 1;  // the VIP is ours, protocol and port are not

  ServiceIndex() = default;
  explicit ServiceIndex(std::span<const gw_service> services);

  // Index of the service: the one with this port, else the VIP's service on all ports of the
  // protocol.
  uint32_t find(const Address& vip, uint8_t protocol, be16 port) const {
    uint32_t found = look_up(vip, protocol, port);
    if (found < kNoService) return found;
    found = look_up(vip, protocol, be16{});
    return found < kNoService ? found : find_vip(vip);
  }

  // kNoService if some service has this address, else kNotVip.
  uint32_t find_vip(const Address& vip) const { return look_up(vip, 0, be16{}); }

 private:
  struct Entry {
    Address vip;
    be16 port;
    uint8_t protocol = 0;  // 0: the VIP itself
    uint8_t used = 0;
    uint32_t service = 0;
  };

  static uint64_t hash(const Address& vip, uint8_t protocol, be16 port) {
    uint64_t high, low;
    std::memcpy(&high, vip.bytes.data(), 8);
    std::memcpy(&low, vip.bytes.data() + 8, 8);
    const uint64_t rest = uint64_t{port.raw()} << 8 | protocol;
    // Two multiplications with odd constants mix all 16 + 3 bytes into the upper half.
    const uint64_t mixed = (low ^ (rest << 40) ^ rest) * 0x9E3779B97F4A7C15ull;
    return ((mixed ^ (mixed >> 32)) + high) * 0xD6E8FEB86659FD93ull;
  }

  uint32_t look_up(const Address& vip, uint8_t protocol, be16 port) const {
    if (entries_.empty()) return kNotVip;
    for (uint64_t at = hash(vip, protocol, port) >> shift_;; ++at) {
      const Entry& entry = entries_[at & mask_];
      if (!entry.used) return kNotVip;
      if (entry.vip == vip && entry.port == port && entry.protocol == protocol)
        return entry.service;
    }
  }

  void insert(const Address& vip, uint8_t protocol, be16 port, uint32_t service);

  std::vector<Entry> entries_;
  uint64_t mask_ = 0;
  unsigned shift_ = 0;
};

}  // namespace guideway
