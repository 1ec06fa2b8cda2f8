// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "tests/bpf/program_run.h"

namespace guideway {
namespace {

using namespace packet;

struct Family {
  const char* name;
  const char* client;
  const char* vip;
  const char* other;  // differs from the VIP in the last bit
};

class EdgeTest : public testing::TestWithParam<Family> {
 protected:
  EdgeTest() {
    std::vector<Address> vips = {address("203.0.113.10"), address("2001:db8::10")};
    EXPECT_TRUE(set_addresses(program_.map("vips"), vips));
  }

  Bytes frame_to(const char* destination, Header header = {}) const {
    header.source = address(GetParam().client);
    header.destination = address(destination);
    return ethernet(type_of(header.source), ip(header, Bytes(20, 7)));
  }

  // The action, and that exactly this counter went up, and that the frame is untouched.
  void expect(const Bytes& frame, unsigned action, gw_edge_counter counter) {
    std::vector<uint64_t> want = program_.counters("edge_counters", GW_EDGE_COUNTERS_END);
    ++want[counter];
    Outcome run = program_.run(frame);
    EXPECT_EQ(run.action, action);
    EXPECT_EQ(run.frame, frame);
    EXPECT_EQ(program_.counters("edge_counters", GW_EDGE_COUNTERS_END), want);
  }

  LoadedProgram program_{kEdgeObject, GW_EDGE_PROGRAM};
};

INSTANTIATE_TEST_SUITE_P(
    Families, EdgeTest,
    testing::Values(Family{"v4", "198.51.100.7", "203.0.113.10", "203.0.113.11"},
                    Family{"v6", "2001:db8:c::7", "2001:db8::10", "2001:db8::11"}),
    [](const auto& info) { return info.param.name; });

TEST_P(EdgeTest, DropsVipPacketsWhileNoDataplaneListens) {
  expect(frame_to(GetParam().vip), XDP_DROP, GW_EDGE_no_dataplane);
}

TEST_P(EdgeTest, LeavesAllOthersToTheKernel) {
  expect(frame_to(GetParam().other), XDP_PASS, GW_EDGE_kernel);
}

TEST_P(EdgeTest, SeesTheVipWhateverFollowsTheFixedHeader) {
  expect(frame_to(GetParam().vip, {.protocol = IPPROTO_ICMP}), XDP_DROP, GW_EDGE_no_dataplane);
  expect(frame_to(GetParam().vip, {.protocol = IPPROTO_FRAGMENT, .fragment = 0x20ff}), XDP_DROP,
         GW_EDGE_no_dataplane);
  expect(frame_to(GetParam().vip, {.option_words = 10}), XDP_DROP, GW_EDGE_no_dataplane);
}

TEST_P(EdgeTest, PassesWhatIsTooShortToHaveADestination) {
  Bytes whole = frame_to(GetParam().vip);
  size_t header_end = 14u + (address(GetParam().vip).is_v4() ? 20 : 40);
  for (size_t size = 14; size <= whole.size(); ++size) {
    SCOPED_TRACE(size);
    Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    bool seen = size >= header_end;
    expect(cut, seen ? XDP_DROP : XDP_PASS, seen ? GW_EDGE_no_dataplane : GW_EDGE_kernel);
  }
}

TEST_P(EdgeTest, PassesOtherEthertypes) {
  for (uint16_t type : {ETHERTYPE_ARP, ETHERTYPE_VLAN, 0x88a8, 0}) {
    Bytes frame = frame_to(GetParam().vip);
    put16(frame, 12, type);
    expect(frame, XDP_PASS, GW_EDGE_kernel);
  }
}

TEST_P(EdgeTest, PassesARemovedVip) {
  ASSERT_TRUE(set_addresses(program_.map("vips"), {}));
  expect(frame_to(GetParam().vip), XDP_PASS, GW_EDGE_kernel);
}

// On the wire it is no address at all; as a key it would be the VIP.
TEST(EdgeMaps, MappedIpv6DestinationIsNoVip) {
  LoadedProgram program(kEdgeObject, GW_EDGE_PROGRAM);
  std::vector<Address> vips = {address("203.0.113.10")};
  ASSERT_TRUE(set_addresses(program.map("vips"), vips));
  Bytes frame = ethernet(ETHERTYPE_IPV6,
                         ipv6({.source = address("fd00::1"), .destination = vips[0]}, Bytes(20)));
  EXPECT_EQ(program.run(frame).action, static_cast<unsigned>(XDP_PASS));
}

TEST(EdgeMaps, HoldAsManyVipsAsTheyPromise) {
  LoadedProgram program(kEdgeObject, GW_EDGE_PROGRAM);
  std::vector<Address> vips(GW_EDGE_VIPS_MAX);
  for (size_t i = 0; i < vips.size(); ++i) {
    vips[i].bytes[0] = 0x20;
    vips[i].bytes[14] = static_cast<uint8_t>(i >> 8);
    vips[i].bytes[15] = static_cast<uint8_t>(i);
  }
  ASSERT_TRUE(set_addresses(program.map("vips"), vips));
  // As many others in their place: needs the old ones out of the way first.
  for (Address& vip : vips) vip.bytes[1] = 1;
  ASSERT_TRUE(set_addresses(program.map("vips"), vips));
  EXPECT_EQ(addresses_in(program.map("vips")).value(), std::set<Address>(vips.begin(), vips.end()));
}

}  // namespace
}  // namespace guideway
