// SPDX-License-Identifier: Apache-2.0
// The sums that a backend of an image carries (gw_backend in abi.h), so that no worker adds up what
// is the same in every packet. One's complement, folded, in the byte order of memory (RFC 1071).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bpf/gue.h"
#include "dataplane/abi.h"
#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {

// Of `outer`, what is the same in every packet: of an IPv4 header all but TOS, length, protocol and
// checksum; of gue over IPv6 what its UDP checksum covers: both addresses, the next header and the
// destination port. 0 where the worker makes no checksum (l2, ipip over IPv6).
inline uint16_t outer_sum(const gw_backend& backend) {
  const uint8_t* ip = backend.outer + sizeof(EthernetHeader);
  switch (backend.outer_bytes) {
    case 34:
    case 42: {
      Ipv4Header header;
      std::memcpy(&header, ip, sizeof header);
      header.tos = 0;
      header.protocol = 0;
      header.total_bytes = header.checksum = be16{};
      return checksum_fold(checksum_v4_header(&header));
    }
    case 62: {
      const uint64_t fixed = uint64_t{be16(kProtocolUdp).raw()} + be16(GW_GUE_PORT).raw();
      return checksum_fold(checksum_add(ip + offsetof(Ipv6Header, source), 32, fixed));
    }
    default:
      return 0;
  }
}

// Of `address`: what a hop in a list of gue over IPv6 adds to the UDP checksum.
inline uint16_t address_sum(const gw_backend& backend) {
  return checksum_fold(checksum_add(backend.address, sizeof backend.address));
}

inline void set_sums(gw_backend& backend) {
  backend.outer_sum = outer_sum(backend);
  backend.address_sum = address_sum(backend);
}

}  // namespace guideway
