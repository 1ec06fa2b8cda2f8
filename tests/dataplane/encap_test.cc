// SPDX-License-Identifier: Apache-2.0
// `gue` byte for byte: the expected frame is written field by field, its checksum over all bytes.
// The other kinds of forwarding are forward_test's.
#include "dataplane/encap.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

uint8_t family_of(const Bytes& ip) {
  return ip[0] >> 4;
}

// Where TCP, UDP or ICMP begins in an IP packet without IPv6 extension headers.
size_t l4_at(const Bytes& ip) {
  return family_of(ip) == 4 ? (ip[0] & 0xfu) * 4 : 40;
}

uint32_t sum_of(const Bytes& b, size_t from, size_t to) {
  uint32_t sum = 0;
  for (size_t i = from; i < to; i += 2) sum += get16(b, i);
  return sum;
}

uint32_t addresses_sum(const Bytes& ip) {
  return family_of(ip) == 4 ? sum_of(ip, 12, 20) : sum_of(ip, 8, 40);
}

// The client's packet as its own stack would send it. `field`: of the checksum, from l4 on.
void fix_l4(Bytes& ip, size_t l4, uint8_t protocol, size_t field) {
  put16(ip, l4 + field, 0);
  const uint32_t pseudo = addresses_sum(ip) + protocol + static_cast<uint32_t>(ip.size() - l4);
  put16(ip, l4 + field, plain_checksum(ip, l4, ip.size(), pseudo));
}

struct Inner {
  std::string name;
  Bytes ip;
  bool is_sum_known;
};

std::vector<Inner> inner_packets(const Family& family, std::mt19937& random) {
  const auto payload = [&] {
    Bytes bytes(random() % 1200);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    return bytes;
  };
  const auto spec_of = [&](uint8_t protocol) {
    PacketSpec spec = spec_for(family);
    spec.protocol = protocol;
    spec.source_port = static_cast<uint16_t>(random());
    spec.tos = static_cast<uint8_t>(random());
    spec.ttl = static_cast<uint8_t>(2 + random() % 200);
    spec.payload = payload();
    return spec;
  };
  const bool v4 = family.ip_header == 20;
  std::vector<Inner> all;
  const auto add = [&](const char* name, Bytes ip, bool is_sum_known) {
    if (!v4) ip[2] = static_cast<uint8_t>(random()), ip[3] = static_cast<uint8_t>(random());
    all.push_back({name, std::move(ip), is_sum_known});
  };

  PacketSpec spec = spec_of(6);
  Bytes ip = ip_packet(spec, transport(spec));
  fix_l4(ip, l4_at(ip), 6, 16);
  add("tcp", ip, true);

  spec = spec_of(17);
  ip = ip_packet(spec, transport(spec));
  add("udp without checksum", ip, false);
  fix_l4(ip, l4_at(ip), 17, 6);
  if (get16(ip, l4_at(ip) + 6) != 0) add("udp", ip, true);

  // Three bytes behind the datagram, in the same IP packet.
  Bytes body = transport(spec);
  append(body, {7, 8, 9});
  ip = ip_packet(spec, body);
  put16(ip, l4_at(ip) + 6, 0x1234);
  add("udp shorter than its packet", ip, false);

  spec = spec_for(family);
  PacketSpec reply = spec;
  std::swap(reply.source, reply.destination);
  std::swap(reply.source_port, reply.destination_port);
  Bytes rest(4);
  append(rest, ip_packet(reply, transport(reply)));
  ip = icmp_frame(spec, v4 ? 11 : 3, 0, rest);
  ip.erase(ip.begin(), ip.begin() + 14);
  add("icmp", ip, true);

  spec = spec_of(6);
  if (v4) {
    spec.v4_options = {1, 1, 1, 0, 1, 1, 1, 0};
    spec.v4_fragment = 0;
    ip = ip_packet(spec, transport(spec));
    fix_l4(ip, l4_at(ip), 6, 16);
    add("tcp behind options", ip, true);
  } else {
    spec.v6_extensions = {6, 0, 1, 4, 0, 0, 0, 0};
    spec.first_extension = 60;
    ip = ip_packet(spec, transport(spec));
    add("tcp behind an extension header", ip, false);
  }
  return all;
}

Bytes expected_frame(const Inner& inner, const gw_backend& first,
                     const std::vector<gw_backend>& later, uint64_t hash) {
  const bool outer_v4 = first.outer_bytes == 42;
  Bytes gue = {static_cast<uint8_t>(1 + later.size() * (outer_v4 ? 1 : 4)),
               static_cast<uint8_t>(family_of(inner.ip) == 4 ? 4 : 41),
               0,
               0,
               1,
               0,
               static_cast<uint8_t>(later.size()),
               static_cast<uint8_t>(outer_v4 ? 4 : 6)};
  for (const gw_backend& hop : later)
    append(gue, outer_v4 ? Bytes{10, 0, 1, static_cast<uint8_t>(hop.counter)}
                         : Bytes{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                 static_cast<uint8_t>(hop.counter)});
  const uint64_t mixed = hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48;
  Bytes udp(8);
  put16(udp, 0, static_cast<unsigned>(32768 + mixed % 32768));
  put16(udp, 2, 6080);
  append(udp, gue);
  append(udp, inner.ip);
  put16(udp, 4, static_cast<unsigned>(udp.size()));

  Bytes frame(first.outer, first.outer + (outer_v4 ? 34 : 54));
  const unsigned tos =
      family_of(inner.ip) == 4 ? inner.ip[1] : (inner.ip[0] & 0xf) << 4 | inner.ip[1] >> 4;
  if (outer_v4) {
    frame[15] = static_cast<uint8_t>(tos);
    put16(frame, 16, static_cast<unsigned>(20 + udp.size()));
    fix_v4_checksum(frame);
  } else {
    put16(frame, 14, 0x6000 | tos << 4 | (hash >> 16 & 0xf));
    put16(frame, 16, hash & 0xffff);
    put16(frame, 18, static_cast<unsigned>(udp.size()));
    if (inner.is_sum_known) {
      const uint32_t pseudo = sum_of(frame, 22, 54) + 17 + static_cast<uint32_t>(udp.size());
      const unsigned checksum = plain_checksum(udp, 0, udp.size(), pseudo);
      put16(udp, 6, checksum ? checksum : 0xffff);
    }
  }
  append(frame, udp);
  return frame;
}

// In a buffer that has not one byte of headroom too many, with Ethernet padding behind.
Bytes encapsulated(const Inner& inner, const gw_backend& first,
                   const std::vector<gw_backend>& later, uint64_t hash) {
  const Bytes in = ethernet(inner.ip);
  std::vector<const gw_backend*> hops;
  for (const gw_backend& hop : later) hops.push_back(&hop);
  const auto headroom = static_cast<uint16_t>(encap_bytes(first, hops) - 14);
  EXPECT_LE(headroom, kEncapHeadroom);
  Bytes storage(headroom);
  append(storage, in);
  storage.resize(storage.size() + 7, 0xee);
  Frame frame;
  frame.data = storage.data() + headroom;
  frame.bytes = static_cast<uint16_t>(in.size() + 7);
  frame.headroom = headroom;
  const Packet packet = parse(frame.data, frame.bytes);
  EXPECT_NE(packet.kind, PacketKind::other) << inner.name;
  encapsulate(frame, packet, first, hash, hops);
  EXPECT_EQ(frame.data, storage.data());
  EXPECT_EQ(frame.headroom, 0);
  return {frame.data, frame.data + frame.bytes};
}

TEST(Encap, GueIsExactToTheByteInEveryCrossing) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    for (const uint8_t outer_bytes : {42, 62}) {
      for (const Family& family : kFamilies) {
        for (const Inner& inner : inner_packets(family, random)) {
          const uint64_t hash = uint64_t{random()} << 32 | random();
          std::vector<gw_backend> later;
          for (uint8_t hop = 0; hop <= 4; ++hop) {
            const auto out = encapsulated(inner, backend(outer_bytes, 9), later, hash);
            ASSERT_EQ(out, expected_frame(inner, backend(outer_bytes, 9), later, hash))
                << inner.name << " " << family.name << " " << int{outer_bytes} << " " << int{hop};
            later.push_back(backend(outer_bytes, static_cast<uint8_t>(random() % 250)));
          }
        }
      }
    }
  }
}

// Not 0, which would say that there is none.
TEST(Encap, AnOuterChecksumThatComesOutAsZeroIsSentAsAllOnes) {
  std::mt19937 random(2);
  unsigned met = 0;
  for (int round = 0; round < 4; ++round) {
    const Inner inner = inner_packets(kFamilies[1], random)[0];
    for (uint64_t hash = 0; hash < 32768; ++hash) {
      const Bytes out = encapsulated(inner, backend(62, 9), {}, hash);
      ASSERT_NE(get16(out, 60), 0u);
      if (get16(out, 60) != 0xffff) continue;
      EXPECT_EQ(out, expected_frame(inner, backend(62, 9), {}, hash));
      ++met;
    }
  }
  EXPECT_GT(met, 0u);
}

// The error stays one: who looks at all bytes sees it.
TEST(Encap, AWrongInnerChecksumMakesAWrongOuterOne) {
  std::mt19937 random(3);
  for (const Family& family : kFamilies) {
    Inner inner = inner_packets(family, random)[0];
    inner.ip.back() ^= 0x10;
    const Bytes out = encapsulated(inner, backend(62, 9), {}, 77);
    const uint32_t pseudo = sum_of(out, 22, 54) + 17 + static_cast<uint32_t>(out.size() - 54);
    EXPECT_NE(plain_checksum(out, 54, out.size(), pseudo), 0u);
  }
}

TEST(Encap, BytesOfEachKind) {
  const gw_backend hop = backend(62, 1);
  const gw_backend* later[] = {&hop, &hop, &hop, &hop};
  EXPECT_EQ(encap_bytes(backend(14, 1)), 14u);
  EXPECT_EQ(encap_bytes(backend(34, 1)), 34u);
  EXPECT_EQ(encap_bytes(backend(54, 1)), 54u);
  // 36 to 52 over IPv4 and 56 to 120 over IPv6, and Ethernet: docs/design/gue.md.
  EXPECT_EQ(encap_bytes(backend(42, 1)), 14u + 36);
  EXPECT_EQ(encap_bytes(backend(42, 1), later), 14u + 52);
  EXPECT_EQ(encap_bytes(backend(62, 1)), 14u + 56);
  EXPECT_EQ(encap_bytes(backend(62, 1), later), 14u + 120);
}

}  // namespace
}  // namespace guideway
