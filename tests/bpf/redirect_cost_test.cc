// SPDX-License-Identifier: Apache-2.0
// What a packet costs in redirect. Prints; it judges nothing but that the packets took the way they
// were meant to take.
#include <netinet/tcp.h>

#include <cstdio>

#include "tests/bpf/redirect_fixture.h"
#include "tests/bpf/sockets.h"

namespace guideway {
namespace {

using namespace packet;

class RedirectCost : public RedirectRun {
 protected:
  static constexpr int kRuns = 20000;

  // The kernel's own clock around one run, averaged. Each run gets a fresh frame: a second run over
  // what the first has left would be another packet's.
  static double nanoseconds(int program, const Bytes& frame, unsigned action) {
    Bytes in = frame, out(frame.size() + 256);
    uint64_t total = 0;
    for (int i = 0; i < kRuns; ++i) {
      bpf_test_run_opts options;
      std::memset(&options, 0, sizeof options);
      options.sz = sizeof options;
      options.data_in = in.data();
      options.data_size_in = static_cast<uint32_t>(in.size());
      options.data_out = out.data();
      options.data_size_out = static_cast<uint32_t>(out.size());
      options.repeat = 1;
      EXPECT_EQ(bpf_prog_test_run_opts(program, &options), 0);
      EXPECT_EQ(options.retval, action);
      total += options.duration;
    }
    return static_cast<double>(total) / kRuns;
  }
  double cost(const Bytes& frame, unsigned action, gw_redirect_counter counter) const {
    uint64_t before = counters()[counter];
    double per_packet = nanoseconds(program_->fd(), frame, action) - empty_;
    EXPECT_EQ(counters()[counter] - before, uint64_t{kRuns});
    return per_packet;
  }

  double empty_ = 0;  // of a program that does nothing: the clock's own
};

INSTANTIATE_TEST_SUITE_P(Crossings, RedirectCost, testing::ValuesIn(kGueCrossings),
                         [](const auto& info) { return "in_" + std::string(info.param.name); });

TEST_P(RedirectCost, PerPacket) {
  const bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  UniqueFd nothing(bpf_prog_load(BPF_PROG_TYPE_XDP, "nothing", "GPL", pass, 2, nullptr));
  ASSERT_TRUE(nothing);
  shell("ip addr add dev lo 203.0.113.10/32; ip addr add dev lo 2001:db8::10/128 nodad");
  shell("ip route add default dev lo && ip -6 route add default dev lo");
  UniqueFd fd = tcp_socket(vip());
  int on = 1;
  ASSERT_EQ(setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0);
  ASSERT_TRUE(bind_to(fd, vip(), ports_.destination) && connect_to(fd, client(), ports_.source));
  payload_.resize(1000, 'x');
  Bytes known = tcp();
  ++ports_.source;
  Bytes unknown = tcp();

  Header outer{.source = host(11), .destination = host(21)};
  outer.protocol = tunnel_protocol(vip());
  Gue plain = to_us({host(22)}), four = to_us(four_hops());
  plain.checksum = four.checksum = !outer_v4();  // as nodes send them

  empty_ = nanoseconds(nothing.get(), ethernet(ETHERTYPE_IP, known), XDP_PASS);
  struct {
    const char* what;
    double ns;
  } const rows[] = {
      {"no tunnel packet", cost(ethernet(type_of(vip()), known), XDP_PASS, GW_REDIRECT_other)},
      {"IP in IP",
       cost(ethernet(type_of(host(11)), ip(outer, known)), XDP_PASS, GW_REDIRECT_delivered)},
      {"GUE, SYN", cost(gue_frame(plain, tcp(kSyn)), XDP_PASS, GW_REDIRECT_local_new)},
      {"GUE, local", cost(gue_frame(plain, known), XDP_PASS, GW_REDIRECT_local_socket)},
      {"GUE of four hops, local", cost(gue_frame(four, known), XDP_PASS, GW_REDIRECT_local_socket)},
      {"GUE, sent on", cost(gue_frame(plain, unknown), XDP_PASS, GW_REDIRECT_forwarded_1)},
  };
  std::printf("  %s, ns per packet (a program that does nothing: %.0f, taken off):\n",
              GetParam().name, empty_);
  for (const auto& row : rows) std::printf("    %-24s %6.0f\n", row.what, row.ns);
}

}  // namespace
}  // namespace guideway
