// SPDX-License-Identifier: Apache-2.0
#include "dataplane/parse.h"

#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

// A chain longer than this is nobody's honest packet (RFC 8504 section 5.3 lets hosts set limits).
constexpr unsigned kExtensionHeadersMax = 8;

struct Cursor {
  const uint8_t* data;  // the frame
  size_t offset;        // of the next header
  size_t end;           // of the IP packet

  size_t left() const { return end - offset; }
  template <typename T>
  const T& at() const {
    return *reinterpret_cast<const T*>(data + offset);
  }
};

void refuse(Packet& packet, Verdict problem) {
  packet.kind = PacketKind::other;
  packet.problem = problem;
}

bool v4_source_possible(const Address& a) {
  const uint8_t first = a.v4()[0];
  return first != 0 && first != 127 && first < 224;
}

bool v6_source_possible(const Address& a) {
  const Address::Words words = a.words();
  const bool unspecified_or_loopback = words[0] == 0 && be64::from_raw(words[1]).host() <= 1;
  return a.bytes[0] != 0xff && !unspecified_or_loopback && !a.is_v4();
}

uint64_t sum_of(const Ipv4Header& ip, size_t header_bytes) {
  return header_bytes == sizeof ip ? checksum_v4_header(&ip) : checksum_add(&ip, header_bytes);
}

// Walks over extension headers; returns whether the cursor stands at an upper-layer header of
// protocol `next`. `problem` otherwise.
bool skip_extensions(Cursor& at, uint8_t& next, Verdict& problem) {
  for (unsigned i = 0; i <= kExtensionHeadersMax; ++i) {
    size_t bytes = 0;
    switch (next) {
      case kProtocolHopByHop:
      case kProtocolDestinationOptions:
      case kProtocolRouting: {
        if (at.left() < sizeof(Ipv6Extension)) return problem = Verdict::truncated, false;
        const auto& header = at.at<Ipv6Extension>();
        // Segments left: the destination is a waypoint and not the VIP's owner (RFC 5095).
        if (next == kProtocolRouting && header.segments_left != 0)
          return problem = Verdict::extension_headers, false;
        bytes = (size_t{header.extra_units} + 1) * 8;
        next = header.next_header;
        break;
      }
      case kProtocolFragment: {
        if (at.left() < sizeof(Ipv6Fragment)) return problem = Verdict::truncated, false;
        const auto& header = at.at<Ipv6Fragment>();
        // Offset 0 and no more to come is an atomic fragment: a whole packet (RFC 6946).
        if ((header.offset_more.host() & 0xfff9) != 0) return problem = Verdict::fragment, false;
        bytes = sizeof(Ipv6Fragment);
        next = header.next_header;
        break;
      }
      case kProtocolAuthentication:
        return problem = Verdict::extension_headers, false;
      default:
        return true;
    }
    if (at.left() < bytes) return problem = Verdict::truncated, false;
    at.offset += bytes;
  }
  problem = Verdict::extension_headers;
  return false;
}

// The packet that an ICMP error is about, which a backend sent: VIP to client. RFC 792 promises
// its IP header and 8 bytes, which hold the ports.
void parse_embedded(Packet& packet, Cursor at, bool v4) {
  refuse(packet, Verdict::truncated);
  uint8_t protocol;
  Address source;
  Address destination;
  if (v4) {
    if (at.left() < sizeof(Ipv4Header)) return;
    const auto& ip = at.at<Ipv4Header>();
    const size_t header_bytes = (ip.version_ihl & 0xf) * 4u;
    if (ip.version_ihl >> 4 != 4 || header_bytes < sizeof(Ipv4Header))
      return refuse(packet, Verdict::bad_header);
    if ((ip.fragment.host() & kIpv4OffsetMask) != 0) return refuse(packet, Verdict::icmp_unrelated);
    if (at.left() < header_bytes) return;
    protocol = ip.protocol;
    source = Address::from_v4(ip.source.data());
    destination = Address::from_v4(ip.destination.data());
    at.offset += header_bytes;
  } else {
    if (at.left() < sizeof(Ipv6Header)) return;
    const auto& ip = at.at<Ipv6Header>();
    if (ip.version_class_flow.host() >> 28 != 6) return refuse(packet, Verdict::bad_header);
    protocol = ip.next_header;
    source = Address::from_v6(ip.source.data());
    destination = Address::from_v6(ip.destination.data());
    at.offset += sizeof(Ipv6Header);
    Verdict problem;
    if (!skip_extensions(at, protocol, problem)) return refuse(packet, problem);
  }
  if (protocol != kProtocolTcp && protocol != kProtocolUdp)
    return refuse(packet, Verdict::icmp_unrelated);
  if (at.left() < sizeof(Ports)) return;
  if (source != packet.key.vip) return refuse(packet, Verdict::icmp_unrelated);
  const auto& ports = at.at<Ports>();
  packet.key.client = destination;
  packet.key.client_port = ports.destination;
  packet.key.vip_port = ports.source;
  packet.key.protocol = protocol;
  packet.kind = PacketKind::icmp_error;
}

void parse_icmp(Packet& packet, Cursor at) {
  if (at.left() < sizeof(IcmpHeader)) return refuse(packet, Verdict::truncated);
  const uint8_t type = at.at<IcmpHeader>().type;
  const bool echo = type == (packet.v4 ? kIcmpEchoRequest : kIcmpv6EchoRequest);
  const bool error = packet.v4 ? type == kIcmpUnreachable || type == kIcmpTimeExceeded ||
                                     type == kIcmpParameterProblem
                               : type >= kIcmpv6Unreachable && type <= kIcmpv6ParameterProblem;
  if (echo) {
    packet.kind = PacketKind::echo_request;
  } else if (error) {
    at.offset += sizeof(IcmpHeader);
    parse_embedded(packet, at, packet.v4);
  } else {
    refuse(packet, Verdict::bad_protocol);
  }
}

void parse_transport(Packet& packet, Cursor at, uint8_t protocol) {
  packet.l4_offset = static_cast<uint16_t>(at.offset);
  packet.key.protocol = protocol;
  if (protocol == kProtocolTcp || protocol == kProtocolUdp) {
    const size_t least = protocol == kProtocolTcp ? kTcpHeaderBytes : kUdpHeaderBytes;
    if (at.left() < least) return refuse(packet, Verdict::truncated);
    uint32_t ports;
    std::memcpy(&ports, at.data + at.offset, sizeof ports);
    packet.key.set_ports(ports, protocol);
    if (protocol == kProtocolTcp) packet.tcp_flags = at.at<TcpHeader>().flags;
    packet.kind = PacketKind::flow;
  } else if (protocol == (packet.v4 ? kProtocolIcmp : kProtocolIcmpv6)) {
    parse_icmp(packet, at);
  } else {
    refuse(packet, Verdict::bad_protocol);
  }
}

void parse_v4(Packet& packet, Cursor at) {
  refuse(packet, Verdict::truncated);
  if (at.left() < sizeof(Ipv4Header)) return;
  const auto& ip = at.at<Ipv4Header>();
  packet.v4 = true;
  packet.key.client = Address::from_v4(ip.source.data());
  packet.key.vip = Address::from_v4(ip.destination.data());
  packet.has_destination = true;

  const size_t header_bytes = (ip.version_ihl & 0xf) * 4u;
  const size_t total_bytes = ip.total_bytes.host();
  if (ip.version_ihl >> 4 != 4 || header_bytes < sizeof(Ipv4Header) || total_bytes < header_bytes)
    return refuse(packet, Verdict::bad_header);
  if (at.left() < total_bytes) return;
  if (checksum_fold(sum_of(ip, header_bytes)) != 0xffff)
    return refuse(packet, Verdict::bad_checksum);
  if (!v4_source_possible(packet.key.client)) return refuse(packet, Verdict::bad_source);
  if ((ip.fragment.host() & (kIpv4MoreFragments | kIpv4OffsetMask)) != 0)
    return refuse(packet, Verdict::fragment);

  packet.ip_bytes = static_cast<uint16_t>(total_bytes);
  at.end = at.offset + total_bytes;
  at.offset += header_bytes;
  parse_transport(packet, at, ip.protocol);
}

void parse_v6(Packet& packet, Cursor at) {
  refuse(packet, Verdict::truncated);
  if (at.left() < sizeof(Ipv6Header)) return;
  const auto& ip = at.at<Ipv6Header>();
  packet.key.client = Address::from_v6(ip.source.data());
  packet.key.vip = Address::from_v6(ip.destination.data());
  // A mapped address has no business on the wire (RFC 4942 section 2.2), and would look like a VIP.
  if (packet.key.vip.is_v4()) return refuse(packet, Verdict::not_vip);
  packet.has_destination = true;

  const size_t total_bytes = sizeof(Ipv6Header) + ip.payload_bytes.host();
  if (ip.version_class_flow.host() >> 28 != 6 || total_bytes > UINT16_MAX)
    return refuse(packet, Verdict::bad_header);
  if (at.left() < total_bytes) return;
  if (!v6_source_possible(packet.key.client)) return refuse(packet, Verdict::bad_source);

  packet.ip_bytes = static_cast<uint16_t>(total_bytes);
  at.end = at.offset + total_bytes;
  at.offset += sizeof(Ipv6Header);
  uint8_t next = ip.next_header;
  Verdict problem;
  if (!skip_extensions(at, next, problem)) return refuse(packet, problem);
  parse_transport(packet, at, next);
}

// What is left to do for a flow's packet: `packet` holds the addresses, all is in order.
void fill_plain(Packet& packet, const uint8_t* frame, size_t l4_offset, uint8_t protocol) {
  uint32_t ports;
  std::memcpy(&ports, frame + l4_offset, sizeof ports);
  packet.key.set_ports(ports, protocol);
  packet.kind = PacketKind::flow;
  packet.has_destination = true;
  if (protocol == kProtocolTcp)
    packet.tcp_flags = reinterpret_cast<const TcpHeader*>(frame + l4_offset)->flags;
  packet.l4_offset = static_cast<uint16_t>(l4_offset);
}

// Enough bytes for the ports and what else is looked at; false for all but TCP and UDP.
bool has_transport(size_t bytes, uint8_t protocol) {
  if (protocol == kProtocolTcp) return bytes >= kTcpHeaderBytes;
  return protocol == kProtocolUdp && bytes >= kUdpHeaderBytes;
}

// The shape of nearly all packets, with nothing wrong: IPv4 without options, TCP or UDP. False: not
// so; then `packet` is as it was.
bool parse_plain_v4(Packet& packet, const uint8_t* frame, size_t bytes, bool header_checked) {
  constexpr size_t kL4 = sizeof(EthernetHeader) + sizeof(Ipv4Header);
  if (bytes < kL4) return false;
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(frame + sizeof(EthernetHeader));
  const size_t total_bytes = ip.total_bytes.host();
  const be16 fragment(kIpv4MoreFragments | kIpv4OffsetMask);
  const uint8_t first = ip.source[0];
  if (ip.version_ihl != 0x45 || total_bytes > bytes - sizeof(EthernetHeader) ||
      total_bytes < sizeof ip || !has_transport(total_bytes - sizeof ip, ip.protocol) ||
      (ip.fragment.raw() & fragment.raw()) != 0 || first == 0 || first == 127 || first >= 224 ||
      (!header_checked && checksum_fold(checksum_v4_header(&ip)) != 0xffff))
    return false;
  packet.key.client = Address::from_v4(ip.source.data());
  packet.key.vip = Address::from_v4(ip.destination.data());
  packet.v4 = true;
  packet.ip_bytes = static_cast<uint16_t>(total_bytes);
  fill_plain(packet, frame, kL4, ip.protocol);
  return true;
}

// The same for IPv6 without extension headers.
bool parse_plain_v6(Packet& packet, const uint8_t* frame, size_t bytes) {
  constexpr size_t kL4 = sizeof(EthernetHeader) + sizeof(Ipv6Header);
  if (bytes < kL4) return false;
  const auto& ip = *reinterpret_cast<const Ipv6Header*>(frame + sizeof(EthernetHeader));
  const size_t payload_bytes = ip.payload_bytes.host();
  const Address client = Address::from_v6(ip.source.data());
  const Address vip = Address::from_v6(ip.destination.data());
  if (frame[sizeof(EthernetHeader)] >> 4 != 6 || payload_bytes > bytes - kL4 ||
      payload_bytes > UINT16_MAX - sizeof ip || !has_transport(payload_bytes, ip.next_header) ||
      !v6_source_possible(client) || vip.is_v4())
    return false;
  packet.key.client = client;
  packet.key.vip = vip;
  packet.ip_bytes = static_cast<uint16_t>(sizeof ip + payload_bytes);
  fill_plain(packet, frame, kL4, ip.next_header);
  return true;
}

bool parse_plain(Packet& packet, const uint8_t* frame, size_t bytes, bool header_checked) {
  if (bytes < sizeof(EthernetHeader)) return false;
  const be16 type = reinterpret_cast<const EthernetHeader*>(frame)->type;
  if (type == be16(kEthernetIpv4)) return parse_plain_v4(packet, frame, bytes, header_checked);
  return type == be16(kEthernetIpv6) && parse_plain_v6(packet, frame, bytes);
}

}  // namespace

Packet parse(const uint8_t* frame, size_t bytes, bool header_checked) {
  Packet packet;
  if (!parse_plain(packet, frame, bytes, header_checked)) packet = parse_step_by_step(frame, bytes);
  return packet;
}

Packet parse_step_by_step(const uint8_t* frame, size_t bytes) {
  Packet packet;
  if (bytes < sizeof(EthernetHeader)) {
    refuse(packet, Verdict::truncated);
    return packet;
  }
  const Cursor at{frame, sizeof(EthernetHeader), bytes};
  switch (reinterpret_cast<const EthernetHeader*>(frame)->type.host()) {
    case kEthernetIpv4:
      parse_v4(packet, at);
      break;
    case kEthernetIpv6:
      parse_v6(packet, at);
      break;
    default:
      break;
  }
  return packet;
}

}  // namespace guideway
