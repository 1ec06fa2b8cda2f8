// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_packet.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "dataplane/abi.h"
#include "dataplane/checksum.h"
#include "dataplane/encap.h"
#include "dataplane/headers.h"
#include "dataplane/outer_sum.h"

namespace guideway {
namespace {

constexpr uint8_t kTtl = 64;
constexpr uint16_t kWindow = 64240;
constexpr uint16_t kMssV4 = 1460;
constexpr uint16_t kMssV6 = 1440;
constexpr unsigned kDnsHeaderBytes = 12;
constexpr unsigned kIcmpPayloadAt = sizeof(IcmpHeader);

using Bytes = std::vector<uint8_t>;

void put16(uint8_t* at, uint16_t value) {
  const be16 big(value);
  std::memcpy(at, &big, sizeof big);
}

void put32(uint8_t* at, uint32_t value) {
  const be32 big(value);
  std::memcpy(at, &big, sizeof big);
}

template <size_t N>
std::array<uint8_t, N> array_of(const uint8_t* bytes) {
  std::array<uint8_t, N> out;
  std::memcpy(out.data(), bytes, N);
  return out;
}

Bytes tcp_header(uint16_t to, uint8_t flags, uint16_t mss) {
  Bytes header(mss ? kTcpHeaderBytes + 4 : kTcpHeaderBytes);
  put16(&header[2], to);
  header[12] = static_cast<uint8_t>(header.size() / 4 << 4);
  header[13] = flags;
  if (mss == 0) return header;
  put16(&header[14], kWindow);
  header[20] = 2;  // kind: maximum segment size
  header[21] = 4;  // bytes
  put16(&header[22], mss);
  return header;
}

void append_label(Bytes& name, std::string_view label) {
  name.push_back(static_cast<uint8_t>(label.size()));
  name.insert(name.end(), label.begin(), label.end());
}

Bytes dns_query() {
  Bytes query(kDnsHeaderBytes);
  put16(&query[2], 0x0100);  // RD
  put16(&query[4], 1);       // one question
  append_label(query, std::string(GW_PROBE_TEXT_BYTES, 'a'));
  append_label(query, "guideway");
  append_label(query, "invalid");
  const uint8_t end[] = {0, 0, 16, 0, 1};  // root, TXT, IN
  query.insert(query.end(), std::begin(end), std::end(end));
  return query;
}

Bytes udp_datagram(uint16_t to, UdpQuery query) {
  const Bytes payload =
      query == UdpQuery::dns ? dns_query() : Bytes(GW_PROBE_TEXT_BYTES + GW_PROBE_ECHO_OFFSET);
  Bytes datagram(kUdpHeaderBytes + payload.size());
  put16(&datagram[2], to);
  put16(&datagram[4], static_cast<uint16_t>(datagram.size()));
  std::copy(payload.begin(), payload.end(), datagram.begin() + kUdpHeaderBytes);
  return datagram;
}

Bytes echo_request(bool v4) {
  Bytes message(kIcmpPayloadAt + sizeof(gw_probe_mark));
  message[0] = v4 ? kIcmpEchoRequest : kIcmpv6EchoRequest;
  return message;
}

size_t write_ip(uint8_t* at, const ProbeTarget& target, uint8_t protocol, size_t l4_bytes) {
  if (target.source.is_v4()) {
    Ipv4Header header{.version_ihl = 0x45,
                      .tos = 0,
                      .total_bytes = be16(static_cast<uint16_t>(sizeof header + l4_bytes)),
                      .id = be16(0),
                      .fragment = be16(kIpv4DontFragment),
                      .ttl = kTtl,
                      .protocol = protocol,
                      .checksum = be16(0),
                      .source = array_of<4>(target.source.v4()),
                      .destination = array_of<4>(target.destination.v4())};
    header.checksum = checksum_finish(checksum_add(&header, sizeof header));
    std::memcpy(at, &header, sizeof header);
    return sizeof header;
  }
  const Ipv6Header header{.version_class_flow = be32(6u << 28),
                          .payload_bytes = be16(static_cast<uint16_t>(l4_bytes)),
                          .next_header = protocol,
                          .hop_limit = kTtl,
                          .source = array_of<16>(target.source.v6()),
                          .destination = array_of<16>(target.destination.v6())};
  std::memcpy(at, &header, sizeof header);
  return sizeof header;
}

// RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1. ICMPv4 has none.
uint64_t pseudo_sum(const ProbeTarget& target, uint8_t protocol, size_t l4_bytes) {
  if (protocol == kProtocolIcmp) return 0;
  const be32 rest[] = {be32(static_cast<uint32_t>(l4_bytes)), be32(protocol)};
  const bool v4 = target.source.is_v4();
  uint64_t sum = checksum_add(rest, sizeof rest);
  sum = checksum_add(v4 ? target.source.v4() : target.source.v6(), v4 ? 4 : 16, sum);
  return checksum_add(v4 ? target.destination.v4() : target.destination.v6(), v4 ? 4 : 16, sum);
}

bool is_outer(size_t bytes) {
  if (bytes == sizeof(EthernetHeader)) return true;
  for (const size_t ip : {sizeof(Ipv4Header), sizeof(Ipv6Header)})
    for (const size_t udp : {size_t{0}, size_t{kUdpHeaderBytes}})
      if (bytes == sizeof(EthernetHeader) + ip + udp) return true;
  return false;
}

}  // namespace

Result<ProbePacket> ProbePacket::make(const ProbeTarget& target, const gw_probe_secret& secret) {
  if (!is_outer(target.outer.size()))
    return fail("probe", "an outer header of " + std::to_string(target.outer.size()) + " bytes");
  if (target.source.is_v4() != target.destination.is_v4())
    return fail("probe", "from " + target.source.text() + " to " + target.destination.text() +
                             ", which is of another family");
  ProbePacket packet;
  packet.secret_ = secret;
  packet.id_ = target.id;
  packet.query_ = target.probe.query;
  packet.v4_ = target.source.is_v4();
  std::memcpy(packet.peer_.address, target.destination.bytes.data(), 16);
  packet.peer_.port = target.probe.port;
  const uint16_t port = target.probe.port;
  switch (target.probe.kind) {
    case ProbeKind::tcp:
      packet.peer_.protocol = IPPROTO_TCP;
      packet.probe_ = packet.frame_of(target, kProtocolTcp,
                                      tcp_header(port, kTcpSyn, packet.v4_ ? kMssV4 : kMssV6));
      packet.reset_ = packet.frame_of(target, kProtocolTcp, tcp_header(port, kTcpRst, 0));
      return packet;
    case ProbeKind::udp:
      packet.peer_.protocol = IPPROTO_UDP;
      packet.probe_ = packet.frame_of(target, kProtocolUdp, udp_datagram(port, target.probe.query));
      return packet;
    case ProbeKind::icmp:
      packet.peer_.protocol = IPPROTO_ICMP;
      packet.peer_.port = 0;
      packet.probe_ = packet.frame_of(target, packet.v4_ ? kProtocolIcmp : kProtocolIcmpv6,
                                      echo_request(packet.v4_));
      return packet;
    case ProbeKind::none:
    case ProbeKind::http:
      break;
  }
  return fail("probe", "of a kind that is not sent as packets");
}

ProbePacket::Frame ProbePacket::frame_of(const ProbeTarget& target, uint8_t protocol,
                                         std::span<const uint8_t> l4) const {
  uint8_t scratch[kEncapHeadroom + kBytesMax] = {};
  uint8_t* ip = scratch + kEncapHeadroom + sizeof(EthernetHeader);
  const size_t ip_header_bytes = write_ip(ip, target, protocol, l4.size());
  std::memcpy(ip + ip_header_bytes, l4.data(), l4.size());

  gw_backend backend{};
  backend.outer_bytes = static_cast<uint8_t>(target.outer.size());
  std::memcpy(backend.outer, target.outer.data(), target.outer.size());
  set_sums(backend);
  Packet packet;
  packet.v4 = v4_;
  packet.ip_bytes = static_cast<uint16_t>(ip_header_bytes + l4.size());
  guideway::Frame inner{.data = scratch + kEncapHeadroom,
                        .bytes = static_cast<uint16_t>(sizeof(EthernetHeader) + packet.ip_bytes),
                        .headroom = kEncapHeadroom};
  // One flow label for all probes of a target: they go one way.
  const gw_probe_name label{id_, 0};
  encapsulate(inner, packet, backend, gw_probe_proof(&secret_, &peer_, &label));

  Frame frame;
  std::memcpy(frame.bytes.data(), inner.data, inner.bytes);
  frame.size = inner.bytes;
  frame.l4 = static_cast<uint16_t>(inner.bytes - l4.size());
  frame.checksum_at = protocol == kProtocolTcp ? 16 : protocol == kProtocolUdp ? 6 : 2;
  frame.pseudo_sum = pseudo_sum(target, protocol, l4.size());
  return frame;
}

std::span<const uint8_t> ProbePacket::probe(uint32_t attempt) {
  attempt %= GW_PROBE_ATTEMPTS;
  const gw_probe_name name{id_, attempt};
  uint8_t* l4 = &probe_.bytes[probe_.l4];
  switch (peer_.protocol) {
    case IPPROTO_TCP: {
      const TcpName& tcp = tcp_name(attempt);
      write_tcp(probe_, tcp.sequence, tcp.port);
      break;
    }
    case IPPROTO_UDP:
      write_udp(l4, name, gw_probe_proof(&secret_, &peer_, &name));
      break;
    default: {
      // Id and sequence number are for those who read a trace.
      put16(l4 + 4, static_cast<uint16_t>(id_));
      put16(l4 + 6, static_cast<uint16_t>(attempt));
      gw_probe_mark mark;
      gw_probe_write_mark(&mark, &name, gw_probe_proof(&secret_, &peer_, &name));
      std::memcpy(l4 + kIcmpPayloadAt, &mark, sizeof mark);
    }
  }
  write_checksum(probe_);
  return {probe_.bytes.data(), probe_.size};
}

std::span<const uint8_t> ProbePacket::reset(uint32_t attempt) {
  const TcpName& tcp = tcp_name(attempt % GW_PROBE_ATTEMPTS);
  write_tcp(reset_, tcp.sequence + 1, tcp.port);
  write_checksum(reset_);
  return {reset_.bytes.data(), reset_.size};
}

const ProbePacket::TcpName& ProbePacket::tcp_name(uint32_t attempt) {
  TcpName& tcp = names_[attempt % names_.size()];
  if (tcp.attempt == attempt) return tcp;
  const gw_probe_name name{id_, attempt};
  tcp = {attempt, gw_probe_sequence(&secret_, &name),
         gw_probe_port(gw_probe_proof(&secret_, &peer_, &name))};
  return tcp;
}

void ProbePacket::write_tcp(Frame& frame, uint32_t sequence, uint16_t port) const {
  uint8_t* l4 = &frame.bytes[frame.l4];
  put16(l4, port);
  put32(l4 + 4, sequence);
}

void ProbePacket::write_udp(uint8_t* l4, const gw_probe_name& name, uint64_t proof) const {
  put16(l4, gw_probe_port(proof));
  uint8_t* payload = l4 + kUdpHeaderBytes;
  if (query_ == UdpQuery::dns) {
    // Some servers drop a query that repeats the id of one under way.
    put16(payload, static_cast<uint16_t>(proof >> 48));
    gw_probe_write_text(payload + GW_PROBE_DNS_OFFSET, &name, proof);
  } else {
    gw_probe_write_text(payload + GW_PROBE_ECHO_OFFSET, &name, proof);
  }
}

void ProbePacket::write_checksum(Frame& frame) const {
  uint8_t* l4 = &frame.bytes[frame.l4];
  std::memset(l4 + frame.checksum_at, 0, 2);
  be16 sum = checksum_finish(
      checksum_add(l4, static_cast<size_t>(frame.size - frame.l4), frame.pseudo_sum));
  // RFC 768: 0 means that there is none.
  if (peer_.protocol == IPPROTO_UDP && sum.raw() == 0) sum = be16(0xffff);
  std::memcpy(l4 + frame.checksum_at, &sum, sizeof sum);
}

}  // namespace guideway
