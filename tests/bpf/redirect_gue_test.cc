// SPDX-License-Identifier: Apache-2.0
// redirect and GUE packets: what is sound, what is refused, and how a packet is sent on. No sockets
// here: a plain ACK finds none.
#include <linux/pkt_cls.h>

#include "bpf/gue.h"
#include "tests/bpf/redirect_fixture.h"

namespace guideway {
namespace {

using namespace packet;

class RedirectGue : public RedirectRun {};

INSTANTIATE_TEST_SUITE_P(Crossings, RedirectGue, testing::ValuesIn(kGueCrossings),
                         [](const auto& info) { return "in_" + std::string(info.param.name); });

TEST_P(RedirectGue, TheLastHopDelivers) {
  expect_local(to_us(), tcp(), GW_REDIRECT_local_last);
  for (size_t count = 1; count <= 4; ++count) {
    std::vector<Address> hops = four_hops();
    hops.resize(count);
    expect_local(to_us(hops, static_cast<unsigned>(count)), tcp(), GW_REDIRECT_local_last);
  }
}

TEST_P(RedirectGue, SendsOnToTheNextHop) {
  for (unsigned next = 0; next < 4; ++next) {
    for (bool checksum : {true, false}) {
      SCOPED_TRACE(std::to_string(next) + (checksum ? " with checksum" : ""));
      Gue gue = to_us(four_hops(), next);
      gue.checksum = checksum;
      expect_forwarded(gue, tcp(), next);
      expect_forwarded(gue, tcp(kFin | kAck), next);
      expect_forwarded(gue, tcp(kRst), next);
      expect_forwarded(gue, tcp(kSyn | kAck), next);
    }
  }
  payload_.resize(1400, 'x');
  expect_forwarded(to_us({host(22)}), tcp(), 0);
}

// Patched, the checksum of every packet is what it would be computed anew; never 0, which is none.
TEST_P(RedirectGue, PatchedChecksumsAreRight) {
  for (unsigned i = 0; i < 3000; ++i) {
    Gue gue = to_us({host(22), host(static_cast<int>(30 + i % 200))}, i % 2);
    gue.source_port = static_cast<uint16_t>(0x8000 + i * 37);
    Bytes frame = gue_frame(gue, tcp());
    Outcome run = program_->run(frame);
    size_t udp = 14 + (outer_v4() ? 20u : 40u);
    Bytes segment(run.frame.begin() + static_cast<ptrdiff_t>(udp), run.frame.end());
    ASSERT_NE(segment[6] << 8 | segment[7], 0);
    // Over a segment with its checksum in place it comes out as 0.
    ASSERT_EQ(transport_checksum(host(21), gue.hops[i % 2], IPPROTO_UDP, segment), 0) << i;
  }
}

TEST_P(RedirectGue, ASynIsAtHomeWhereverItComes) {
  for (unsigned next = 0; next <= 4; ++next)
    expect_local(to_us(four_hops(), next), tcp(kSyn), GW_REDIRECT_local_new);
}

TEST_P(RedirectGue, WhatIsNotTcpIsAtHomeAtTheFirstHop) {
  expect_local(to_us(four_hops()), udp(), GW_REDIRECT_local_first);
  expect_forwarded(to_us(four_hops(), 1), udp(), 1);
  expect_local(to_us(four_hops(), 4), udp(), GW_REDIRECT_local_last);
  Bytes echo = icmp_packet(client(), vip(), inner_v4() ? 8 : 128, 0, 1, payload_);
  expect_local(to_us(four_hops()), echo, GW_REDIRECT_local_first);
  Header sctp{.source = client(), .destination = vip(), .protocol = 132};
  expect_local(to_us(four_hops()), ip(sctp, Bytes(3)), GW_REDIRECT_local_first);
}

TEST_P(RedirectGue, ExtensionHeadersAndFragmentsOfTheInnerPacket) {
  Gue gue = to_us(four_hops());
  gue.checksum = false;
  if (inner_v4()) {
    for (uint16_t fragment : {0x2000, 0x0001}) {
      Header header{.fragment = fragment};
      expect_local(gue, tcp(kAck, header), GW_REDIRECT_local_first);
    }
    for (unsigned words = 1; words <= 10; ++words) {
      expect_local(gue, tcp(kSyn, {.option_words = words}), GW_REDIRECT_local_new);
      expect_forwarded(gue, tcp(kAck, {.option_words = words}), 0);
    }
    return;
  }
  Bytes segment = tcp(kAck);
  segment.erase(segment.begin(), segment.begin() + 40);
  auto behind = [&](uint8_t first, const Bytes& headers) {
    return ipv6({.source = client(), .destination = vip(), .protocol = first}, headers + segment);
  };
  const Bytes options = {IPPROTO_TCP, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0};
  expect_forwarded(gue, behind(IPPROTO_DSTOPTS, options), 0);
  const Bytes atomic = {IPPROTO_TCP, 0, 0, 0, 0, 0, 0, 9};
  expect_forwarded(gue, behind(IPPROTO_FRAGMENT, atomic), 0);
  for (Bytes fragment :
       {Bytes{IPPROTO_TCP, 0, 0, 1, 0, 0, 0, 9}, {IPPROTO_TCP, 0, 0, 8, 0, 0, 0, 9}})
    expect_local(gue, behind(IPPROTO_FRAGMENT, fragment), GW_REDIRECT_local_first);
  Bytes too_long = options;
  too_long[1] = 200;
  expect_dropped(gue_frame(gue, behind(IPPROTO_DSTOPTS, too_long)), GW_REDIRECT_malformed);
}

// A list may name this host, in any place and more than once; the packet goes past it.
TEST_P(RedirectGue, HopsThatAreThisHostArePassedOver) {
  expect_forwarded(to_us({host(21), host(29), host(22)}), tcp(), 2);
  expect_forwarded(to_us({host(21), host(21), host(21), host(22)}), tcp(), 3);
  expect_local(to_us({host(21), host(29), host(21), host(21)}), tcp(), GW_REDIRECT_local_last);
  expect_forwarded(to_us({host(22), host(21), host(22)}, 1), tcp(), 2);
}

TEST_P(RedirectGue, NothingIsSentToAHopThatMayNotSendToUs) {
  for (const char* other : {"10.0.1.1", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0"}) {
    if (outer_v4())
      expect_dropped(gue_frame(to_us({address(other)}), tcp()), GW_REDIRECT_next_hop);
    else  // mapped: the IPv4 prefix is no licence for it
      expect_dropped(gue_frame(to_us({address("10.0.0.22")}), tcp()), GW_REDIRECT_next_hop);
  }
  if (outer_v4()) return;
  for (const char* other : {"fd00:0:0:1::1", "ff02::1", "::1", "::"})
    expect_dropped(gue_frame(to_us({address(other)}), tcp()), GW_REDIRECT_next_hop);
}

TEST_P(RedirectGue, NothingIsSentOnWithoutASecret) {
  uint32_t only = 0;
  gw_secret none{};
  ASSERT_EQ(bpf_map_update_elem(program_->map("secret"), &only, &none, BPF_ANY), 0);
  expect_dropped(gue_frame(to_us(four_hops()), tcp()), GW_REDIRECT_failed);
}

TEST_P(RedirectGue, TheHopLimitIsUsedUp) {
  for (uint8_t ttl : {0, 1}) {
    Gue gue = to_us(four_hops());
    gue.outer.ttl = ttl;
    expect_dropped(gue_frame(gue, tcp()), GW_REDIRECT_hop_limit);
    expect_local(gue, tcp(kSyn), GW_REDIRECT_local_new);
  }
  Gue gue = to_us(four_hops());
  gue.outer.ttl = 2;
  expect_forwarded(gue, tcp(), 0);
}

TEST_P(RedirectGue, CongestionMarks) {
  Gue gue = to_us(four_hops());
  gue.outer.ecn = 3;
  expect_forwarded(gue, tcp(kAck, {.ecn = 0}), 0);
  expect_dropped(gue_frame(gue, tcp(kSyn, {.ecn = 0})), GW_REDIRECT_congestion);
  Bytes marked = tcp(kSyn, {.ecn = 3});
  expect(gue_frame(gue, tcp(kSyn, {.ecn = 1})), XDP_PASS, GW_REDIRECT_local_new,
         ethernet(type_of(vip()), marked));
}

// ---------------------------------------------------------------- refused

TEST_P(RedirectGue, RefusesAStrangersSource) {
  Gue gue = to_us(four_hops());
  gue.outer.source = address(outer_v4() ? "10.0.1.0" : "fd00:0:0:1::");
  expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_refused_source);
}

TEST_P(RedirectGue, LeavesAlone) {
  Gue gue = to_us(four_hops());
  gue.outer.destination = host(22);
  expect_untouched(gue_frame(gue, tcp()), GW_REDIRECT_not_local);
  gue = to_us(four_hops());
  for (uint16_t port : {53, 6079, 6081}) {
    gue.port = port;
    expect_untouched(gue_frame(gue, tcp()), GW_REDIRECT_other);
  }
}

TEST_P(RedirectGue, RefusesWhatItDoesNotKnow) {
  for (unsigned bits = 1; bits < 8; ++bits) {
    Gue gue = to_us(four_hops());
    gue.version_control = bits;
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_gue_version);
  }
  for (uint16_t flags : {1, 0x100, 0x8000, 0xffff}) {
    Gue gue = to_us(four_hops());
    gue.flags = flags;
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_gue_version);
  }
  for (unsigned layout = 0; layout < 256; ++layout) {
    if (layout == 1) continue;
    Gue gue = to_us(four_hops());
    gue.layout = layout;
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_gue_layout);
  }
  for (int protocol = 0; protocol < 256; ++protocol) {
    if (protocol == (inner_v4() ? 4 : 41)) continue;
    Gue gue = to_us(four_hops());
    gue.protocol = protocol;
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_malformed);
  }
}

TEST_P(RedirectGue, RefusesListsThatContradictThemselves) {
  Gue gue = to_us();
  gue.header_words = 0;
  expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_gue_layout);
  for (size_t hops = 0; hops <= 4; ++hops) {
    std::vector<Address> list = four_hops();
    list.resize(hops);
    const int right = static_cast<int>(1 + hops * (outer_v4() ? 1 : 4));
    for (int words = 1; words < 32; ++words) {
      if (words == right) continue;
      gue = to_us(list);
      gue.header_words = words;
      expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_hop_list);
    }
    for (int count = 0; count < 256; ++count) {
      if (count == static_cast<int>(hops)) continue;
      gue = to_us(list);
      gue.count = count;
      expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_hop_list);
    }
    for (unsigned next = static_cast<unsigned>(hops) + 1; next < 256; ++next)
      expect_dropped(gue_frame(to_us(list, next), tcp(kSyn)), GW_REDIRECT_hop_list);
    for (int family = 0; family < 256; ++family) {
      if (family == (outer_v4() ? 4 : 6)) continue;
      gue = to_us(list);
      gue.family = family;
      expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_hop_list);
    }
  }
  // Five hops, all there and all lengths right.
  for (size_t hops : {5, 6, 7}) {
    if (!outer_v4() && hops > 7) continue;
    expect_dropped(gue_frame(to_us(std::vector<Address>(hops, host(22))), tcp(kSyn)),
                   GW_REDIRECT_hop_list);
  }
}

TEST_P(RedirectGue, RefusesWrongLengths) {
  Bytes inner = tcp(kSyn);
  const int right =
      static_cast<int>(8 + gue_header(to_us(four_hops()), true).size() + inner.size());
  for (int length : {0, 7, 8, 16, right - 1, right + 1, 0xffff}) {
    Gue gue = to_us(four_hops());
    gue.udp_length = length;
    expect_dropped(gue_frame(gue, inner), GW_REDIRECT_malformed);
  }
  // The inner packet must fill the outer one.
  expect_dropped(gue_frame(to_us(four_hops()), inner + Bytes(1)), GW_REDIRECT_malformed);
  // Padding of the frame is no part of either.
  expect(gue_frame(to_us(four_hops()), inner) + Bytes(5), XDP_PASS, GW_REDIRECT_local_new,
         ethernet(type_of(vip()), inner) + Bytes(5));
}

TEST_P(RedirectGue, RefusesFragmentsAndOptions) {
  if (outer_v4()) {
    Gue gue = to_us(four_hops());
    gue.outer.fragment = 0x2000;
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_fragment);
    // Of a later one nothing tells that it is GUE's, whatever its bytes look like.
    for (uint16_t offset : {0x0001, 0x2001, 0x1fff}) {
      gue.outer.fragment = offset;
      expect_untouched(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_other);
    }
    for (unsigned words = 1; words <= 10; ++words) {
      gue = to_us(four_hops());
      gue.outer.option_words = words;
      expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_malformed);
    }
    return;
  }
  Bytes inside = gue_packet(to_us(four_hops()), tcp(kSyn));
  inside.erase(inside.begin(), inside.begin() + 40);
  Header outer = to_us().outer;
  outer.protocol = IPPROTO_FRAGMENT;
  Bytes fragment = {IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 9};
  expect_dropped(ethernet(ETHERTYPE_IPV6, ipv6(outer, fragment + inside)), GW_REDIRECT_fragment);
  fragment[3] = 8;
  expect_untouched(ethernet(ETHERTYPE_IPV6, ipv6(outer, fragment + inside)), GW_REDIRECT_other);
  outer.protocol = IPPROTO_DSTOPTS;
  Bytes options = {IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0};
  expect_dropped(ethernet(ETHERTYPE_IPV6, ipv6(outer, options + inside)), GW_REDIRECT_malformed);
}

// Cut off at any byte, the outer lengths being what they were.
TEST_P(RedirectGue, TruncatedAtEveryByte) {
  const size_t udp_end = 14 + (outer_v4() ? 20u : 40u) + 8;
  for (uint8_t flags : {kSyn, kAck}) {
    Bytes whole = gue_frame(to_us(four_hops()), tcp(flags));
    for (size_t size = 14; size < whole.size(); ++size) {
      SCOPED_TRACE(size);
      Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      if (size < udp_end)
        expect_untouched(cut, GW_REDIRECT_other);  // not to be seen as GUE yet
      else
        expect_dropped(cut, GW_REDIRECT_malformed);
    }
  }
}

// The same, but outer IP and UDP tell the truth about what is left: only GUE or the inner packet
// is cut. Padding of the frame must not pass for what is missing.
TEST_P(RedirectGue, TruncatedInsideAtEveryByte) {
  for (const Bytes& inner : {tcp(kSyn), tcp(kAck), udp()}) {
    Gue gue = to_us(four_hops());
    Bytes whole = gue_header(gue, inner_v4()) + inner;
    for (size_t size = 0; size < whole.size(); ++size) {
      SCOPED_TRACE(size);
      Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      Bytes frame = ethernet(type_of(host(11)), gue_around(gue, cut));
      expect_dropped(frame, GW_REDIRECT_malformed);
      expect_dropped(frame + Bytes(100), GW_REDIRECT_malformed);
    }
  }
}

// The inner packet's own length is as short as it is: nothing is there to tell a flow by.
TEST_P(RedirectGue, RefusesInnerPacketsWithoutPorts) {
  Header header{.source = client(), .destination = vip()};
  for (auto [protocol, least] : {std::pair{IPPROTO_TCP, 20}, {IPPROTO_UDP, 8}}) {
    header.protocol = static_cast<uint8_t>(protocol);
    for (int size = 0; size < least; ++size) {
      Gue gue = to_us(four_hops());
      expect_dropped(gue_frame(gue, ip(header, Bytes(static_cast<size_t>(size)))),
                     GW_REDIRECT_malformed);
    }
  }
}

TEST_P(RedirectGue, AWrongOuterChecksum) {
  for (uint16_t error : {1, 0x100, 0x8000}) {
    Gue gue = to_us(four_hops());
    gue.checksum_error = error;
    expect_dropped(gue_frame(gue, tcp()), GW_REDIRECT_checksum);
    expect_dropped(gue_frame(gue, tcp(kSyn)), GW_REDIRECT_checksum);
    expect_dropped(gue_frame(gue, udp()), GW_REDIRECT_checksum);
    expect_dropped(gue_frame(gue, icmp_packet(client(), vip(), inner_v4() ? 8 : 128, 0, 1, {})),
                   GW_REDIRECT_checksum);
  }
  // Each byte of the hop list is covered.
  Bytes sound = gue_frame(to_us(four_hops()), tcp());
  const size_t gue_at = 14 + (outer_v4() ? 20u : 40u) + 8;
  for (size_t at = gue_at + 8; at < gue_at + 8 + 4 * (outer_v4() ? 4u : 16u); ++at) {
    Bytes bad = sound;
    bad[at] ^= 1;
    expect_dropped(bad, GW_REDIRECT_checksum);
  }
}

// The headers do not tell what a datagram without checksum adds up to: nothing is said about it.
TEST_P(RedirectGue, AnInnerDatagramWithoutChecksum) {
  Bytes inner = udp();
  const size_t check_at = (inner_v4() ? 20u : 40u) + 6;
  inner[check_at] = inner[check_at + 1] = 0;
  Gue gue = to_us(four_hops());
  expect_local(gue, inner, GW_REDIRECT_local_first);
  gue.checksum = false;
  expect_local(gue, inner, GW_REDIRECT_local_first);
}

// ---------------------------------------------------------------- the tc half

TEST_P(RedirectGue, OnlyTheSecretIsSentOnByTc) {
  Result<BpfObject> object = BpfObject::load(object_path(kRedirectObject));
  ASSERT_TRUE(object) << object.error().text();
  int onward = object->program_fd(GW_ONWARD_PROGRAM).value();
  Bytes frame = gue_frame(to_us(four_hops()), tcp());
  std::fill(frame.begin(), frame.begin() + 6, 0);  // lo's own address
  const auto unspecified = static_cast<unsigned>(TC_ACT_UNSPEC);

  // Without a secret, its absence is none.
  std::fill(frame.begin() + 6, frame.begin() + 12, 0);
  EXPECT_EQ(run_program(onward, frame).action, unspecified);
  uint32_t only = 0;
  ASSERT_EQ(bpf_map_update_elem(object->map_fd("secret").value(), &only, &kSecret, BPF_ANY), 0);
  EXPECT_EQ(run_program(onward, frame).action, unspecified);

  std::copy(kSecret.mac, kSecret.mac + 6, frame.begin() + 6);
  EXPECT_EQ(run_program(onward, frame).action, static_cast<unsigned>(TC_ACT_REDIRECT));
  for (size_t bit = 0; bit < 48; ++bit) {
    Bytes guess = frame;
    guess[6 + bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_EQ(run_program(onward, guess).action, unspecified) << bit;
  }
  frame[0] = 2;  // to another host
  EXPECT_EQ(run_program(onward, frame).action, static_cast<unsigned>(TC_ACT_SHOT));
}

TEST(GueHeader, SourcePortsSpread) {
  std::set<uint16_t> seen;
  for (uint64_t i = 0; i < 64; ++i) {
    EXPECT_GE(gw_gue_source_port(uint64_t{1} << i), 32768);
    seen.insert(gw_gue_source_port(uint64_t{1} << i));
  }
  EXPECT_GE(seen.size(), 15u) << "each bit moves the port, but for one in 16";
}

}  // namespace
}  // namespace guideway
