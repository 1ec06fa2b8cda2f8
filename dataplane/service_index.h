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
    Address::Words vip{};
    uint32_t rest = 0;  // rest_of(); 0: unused
    uint32_t service = 0;
  };

  // `protocol` 0: the VIP itself.
  static uint32_t rest_of(uint8_t protocol, be16 port) {
    return 1u << 24 | uint32_t{protocol} << 16 | port.raw();
  }

  static uint64_t hash(const Address::Words& vip, uint64_t rest) {
    // Two multiplications with odd constants mix all bytes into the upper half.
    const uint64_t mixed = (vip[1] ^ (rest << 40) ^ rest) * 0x9E3779B97F4A7C15ull;
    return ((mixed ^ (mixed >> 32)) + vip[0]) * 0xD6E8FEB86659FD93ull;
  }

  uint32_t look_up(const Address& vip, uint8_t protocol, be16 port) const {
    const Address::Words words = vip.words();
    const uint32_t rest = rest_of(protocol, port);
    for (uint64_t at = hash(words, rest) >> shift_;; ++at) {
      const Entry& entry = entries_[at & mask_];
      const uint64_t differs =
          (entry.vip[0] ^ words[0]) | (entry.vip[1] ^ words[1]) | (entry.rest ^ rest);
      if (differs == 0) return entry.service;
      if (entry.rest == 0) return kNotVip;
    }
  }

  void insert(const Address& vip, uint8_t protocol, be16 port, uint32_t service);

  // Some are unused, always: there a search ends.
  std::vector<Entry> entries_ = std::vector<Entry>(2);
  uint64_t mask_ = 1;
  unsigned shift_ = 63;
};

}  // namespace guideway
