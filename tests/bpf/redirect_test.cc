// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "tests/bpf/program_run.h"

namespace guideway {
namespace {

using namespace packet;

// One test with four inputs: every crossing of the families.
struct Crossing {
  const char* name;
  const char* node;      // outer source
  const char* stranger;  // as near to the allowed prefix as can be
  const char* backend;   // outer destination
  const char* other_host;
  const char* client;  // inner source
  const char* vip;     // inner destination
};

constexpr Crossing kCrossings[] = {
    {"4in4", "10.0.0.11", "10.0.1.0", "10.0.0.21", "10.0.0.22", "198.51.100.7", "203.0.113.10"},
    {"6in4", "10.0.0.11", "10.0.1.0", "10.0.0.21", "10.0.0.22", "2001:db8:c::7", "2001:db8::10"},
    {"4in6", "fd00::11", "fd00:0:0:1::", "fd00::21", "fd00::22", "198.51.100.7", "203.0.113.10"},
    {"6in6", "fd00::11", "fd00:0:0:1::", "fd00::21", "fd00::22", "2001:db8:c::7", "2001:db8::10"},
};

class RedirectTest : public testing::TestWithParam<Crossing> {
 protected:
  RedirectTest() {
    std::vector<Prefix> allowed = {Prefix::parse("10.0.0.0/24").value(),
                                   Prefix::parse("fd00::/64").value()};
    std::vector<Address> local = {address("10.0.0.21"), address("fd00::21")};
    EXPECT_TRUE(set_prefixes(program_.map("allowed"), allowed));
    EXPECT_TRUE(set_addresses(program_.map("local"), local));
  }

  static bool outer_v4() { return address(GetParam().node).is_v4(); }
  static bool inner_v4() { return address(GetParam().vip).is_v4(); }
  static size_t outer_bytes() { return outer_v4() ? 20 : 40; }

  Header inner_header() const {
    return {.source = address(GetParam().client), .destination = address(GetParam().vip)};
  }
  Header outer_header() const {
    return {.source = address(GetParam().node),
            .destination = address(GetParam().backend),
            .protocol = tunnel_protocol(address(GetParam().vip))};
  }
  Bytes inner(const Header& header) const { return ip(header, payload_); }
  Bytes inner() const { return inner(inner_header()); }
  Bytes frame(const Header& outer, const Bytes& inside) const {
    return ethernet(type_of(outer.source), ip(outer, inside));
  }
  Bytes frame() const { return frame(outer_header(), inner()); }
  Bytes delivered(const Bytes& inside) const {
    return ethernet(type_of(address(GetParam().vip)), inside);
  }

  // The action, exactly one count, and the exact bytes that are left.
  void expect(const Bytes& in, unsigned action, gw_redirect_counter counter, const Bytes& out) {
    std::vector<uint64_t> want = counters();
    ++want[counter];
    Outcome run = program_.run(in);
    EXPECT_EQ(run.action, action);
    EXPECT_EQ(run.frame, out);
    EXPECT_EQ(counters(), want);
  }
  void expect_delivered(const Bytes& in, const Bytes& inside) {
    expect(in, XDP_PASS, GW_REDIRECT_delivered, delivered(inside));
  }
  void expect_dropped(const Bytes& in, gw_redirect_counter counter) {
    expect(in, XDP_DROP, counter, in);
  }
  void expect_untouched(const Bytes& in, gw_redirect_counter counter) {
    expect(in, XDP_PASS, counter, in);
  }

  std::vector<uint64_t> counters() const {
    return program_.counters("redir_counters", GW_REDIRECT_COUNTERS_END);
  }

  LoadedProgram program_{kRedirectObject, GW_REDIRECT_PROGRAM};
  Bytes payload_ = {'G', 'E', 'T', ' ', '/', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
};

INSTANTIATE_TEST_SUITE_P(Crossings, RedirectTest, testing::ValuesIn(kCrossings),
                         [](const auto& info) { return "in_" + std::string(info.param.name); });

TEST_P(RedirectTest, DeliversTheInnerPacketByteForByte) {
  expect_delivered(frame(), inner());
}

TEST_P(RedirectTest, DeliversIpOptionsAndLargePackets) {
  if (inner_v4()) {
    Header optioned = inner_header();
    optioned.option_words = 10;
    expect_delivered(frame(outer_header(), inner(optioned)), inner(optioned));
  }
  if (outer_v4()) {
    for (unsigned words = 1; words <= 10; ++words) {
      Header optioned = outer_header();
      optioned.option_words = words;
      expect_delivered(frame(optioned, inner()), inner());
    }
  }
  payload_.resize(1400, 'x');
  expect_delivered(frame(), inner());
}

// A short frame is padded to 60 bytes; the kernel trims by the inner length.
TEST_P(RedirectTest, LeavesEthernetPaddingBehind) {
  payload_.clear();
  Bytes padding(17, 0xee);
  expect_delivered(frame() + padding, inner() + padding);
}

// An inner fragment is the local stack's business.
TEST_P(RedirectTest, DeliversInnerFragments) {
  Header header = inner_header();
  if (inner_v4()) {
    header.fragment = 0x2001;
  } else {
    header.protocol = IPPROTO_FRAGMENT;
  }
  expect_delivered(frame(outer_header(), inner(header)), inner(header));
}

TEST_P(RedirectTest, RefusesAStrangersSource) {
  Header header = outer_header();
  header.source = address(GetParam().stranger);
  expect_dropped(frame(header, inner()), GW_REDIRECT_refused_source);
}

TEST_P(RedirectTest, RefusesEverybodyWithoutPrefixes) {
  ASSERT_TRUE(set_prefixes(program_.map("allowed"), {}));
  expect_dropped(frame(), GW_REDIRECT_refused_source);
}

TEST_P(RedirectTest, LeavesOtherHostsTunnelsAlone) {
  Header header = outer_header();
  header.destination = address(GetParam().other_host);
  expect_untouched(frame(header, inner()), GW_REDIRECT_not_local);
}

TEST_P(RedirectTest, LeavesEverythingElseAlone) {
  Header header = outer_header();
  for (int protocol : {+IPPROTO_TCP, +IPPROTO_UDP, +IPPROTO_GRE, +IPPROTO_HOPOPTS}) {
    header.protocol = static_cast<uint8_t>(protocol);
    expect_untouched(frame(header, inner()), GW_REDIRECT_other);
  }
  Bytes tagged = frame();
  for (uint16_t type : {ETHERTYPE_ARP, ETHERTYPE_VLAN, 0}) {
    put16(tagged, 12, type);
    expect_untouched(tagged, GW_REDIRECT_other);
  }
}

// The header cut off at any byte: either it is not to be seen as a tunnel packet yet, or it
// contradicts itself. Cut anywhere in front of the inner payload's end, the length is wrong.
TEST_P(RedirectTest, TruncatedAtEveryByte) {
  Bytes whole = frame();
  for (size_t size = 14; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    if (size < 14 + outer_bytes()) {
      expect_untouched(cut, GW_REDIRECT_other);
    } else {
      expect_dropped(cut, GW_REDIRECT_malformed);
    }
  }
}

// As above, but the outer lengths agree with the frame, so that only the inner header is wrong.
TEST_P(RedirectTest, InnerTruncatedAtEveryByte) {
  Bytes whole = inner();
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    expect_dropped(frame(outer_header(), cut), GW_REDIRECT_malformed);
    // Padding must not pass for what is missing.
    expect_dropped(frame(outer_header(), cut) + Bytes(100), GW_REDIRECT_malformed);
  }
}

TEST_P(RedirectTest, DropsFragmentsOfTunnelPackets) {
  if (outer_v4()) {
    for (uint16_t fragment : {0x2000, 0x0001, 0x2001, 0x1fff}) {
      Header header = outer_header();
      header.fragment = fragment;
      expect_dropped(frame(header, inner()), GW_REDIRECT_fragment);
    }
    Header whole = outer_header();
    whole.fragment = 0x4000;  // DF
    expect_delivered(frame(whole, inner()), inner());
    return;
  }
  Header header = outer_header();
  Bytes fragment = {header.protocol, 0, 0, 1, 0, 0, 0, 9};
  header.protocol = IPPROTO_FRAGMENT;
  expect_dropped(frame(header, fragment + inner()), GW_REDIRECT_fragment);
  fragment[0] = IPPROTO_TCP;
  expect_untouched(frame(header, fragment + inner()), GW_REDIRECT_other);
}

TEST_P(RedirectTest, DropsWrongInnerVersions) {
  for (int version = 0; version < 16; ++version) {
    if (version == (inner_v4() ? 4 : 6)) continue;
    SCOPED_TRACE(version);
    Header header = inner_header();
    header.version = version;
    expect_dropped(frame(outer_header(), inner(header)), GW_REDIRECT_malformed);
  }
}

TEST_P(RedirectTest, LeavesWrongOuterVersionsToTheKernel) {
  for (int version = 0; version < 16; ++version) {
    if (version == (outer_v4() ? 4 : 6)) continue;
    SCOPED_TRACE(version);
    Header header = outer_header();
    header.version = version;
    expect_untouched(frame(header, inner()), GW_REDIRECT_other);
  }
}

TEST_P(RedirectTest, DropsWrongInnerLengths) {
  int right = static_cast<int>(inner_v4() ? inner().size() : payload_.size());
  for (int length : {right + 1, right + 40, 0xffff}) {
    SCOPED_TRACE(length);
    Header header = inner_header();
    header.length = length;
    expect_dropped(frame(outer_header(), inner(header)), GW_REDIRECT_malformed);
  }
  if (!inner_v4()) return;
  for (int length : {0, 19}) {
    Header header = inner_header();
    header.length = length;
    expect_dropped(frame(outer_header(), inner(header)), GW_REDIRECT_malformed);
  }
  for (int words = 0; words < 5; ++words) {
    Header header = inner_header();
    header.header_words = words;
    expect_dropped(frame(outer_header(), inner(header)), GW_REDIRECT_malformed);
  }
  Header header = inner_header();
  header.header_words = 15;
  expect_dropped(frame(outer_header(), inner(header)), GW_REDIRECT_malformed);
}

TEST_P(RedirectTest, DropsWrongOuterLengths) {
  int right = static_cast<int>((outer_v4() ? 20 : 0) + inner().size());
  for (int length : {0, 19, right - 1, right + 1, 0xffff}) {
    SCOPED_TRACE(length);
    Header header = outer_header();
    header.length = length;
    expect_dropped(frame(header, inner()), GW_REDIRECT_malformed);
  }
  if (!outer_v4()) return;
  for (int words = 0; words < 16; ++words) {
    if (words == 5) continue;
    SCOPED_TRACE(words);
    Header header = outer_header();
    header.header_words = words;
    expect_dropped(frame(header, inner()), GW_REDIRECT_malformed);
  }
}

TEST_P(RedirectTest, DropsAWrongOuterChecksum) {
  if (!outer_v4()) return;  // IPv6 has none
  Header header = outer_header();
  header.checksum_error = 1;
  expect_dropped(frame(header, inner()), GW_REDIRECT_malformed);
  // Also when the wrong byte is in the options.
  Header optioned = outer_header();
  optioned.option_words = 10;
  Bytes bad = frame(optioned, inner());
  bad[14 + 20 + 39] ^= 1;
  expect_dropped(bad, GW_REDIRECT_malformed);
}

// RFC 6040, figure 4: all 16 pairs. Only a congestion mark on the outer header matters.
TEST_P(RedirectTest, CarriesCongestionMarksOver) {
  for (uint8_t outer_ecn = 0; outer_ecn < 4; ++outer_ecn) {
    for (uint8_t inner_ecn = 0; inner_ecn < 4; ++inner_ecn) {
      SCOPED_TRACE(outer_ecn * 10 + inner_ecn);
      Header outer = outer_header(), in = inner_header(), want = inner_header();
      outer.ecn = outer_ecn;
      in.ecn = want.ecn = inner_ecn;
      if (outer_ecn == 3 && inner_ecn == 0) {
        expect_dropped(frame(outer, inner(in)), GW_REDIRECT_congestion);
        continue;
      }
      if (outer_ecn == 3) want.ecn = 3;
      expect_delivered(frame(outer, inner(in)), inner(want));
    }
  }
}

// A v4 prefix is no licence for the v6 address that its mapped form spells out.
TEST_P(RedirectTest, MappedOuterAddressesAreNobodys) {
  if (outer_v4()) return;  // only an IPv6 header can hold one
  Header header = outer_header();
  header.source = address("10.0.0.11");
  Bytes forged = ethernet(ETHERTYPE_IPV6, ipv6(header, inner()));
  expect_dropped(forged, GW_REDIRECT_malformed);
  header = outer_header();
  header.destination = address("10.0.0.21");
  expect_dropped(ethernet(ETHERTYPE_IPV6, ipv6(header, inner())), GW_REDIRECT_malformed);
}

}  // namespace
}  // namespace guideway
