// SPDX-License-Identifier: Apache-2.0
// Redirect on interfaces: attaching, adopting, replacing, and tunnel packets that reach a socket.
//
//   socket on the VIP (lo) <- stack <- redirect on gw0 or on the bridge gwbr <- gw0 <= gw1 <- test
#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "bpf/redirect.h"
#include "bpf/tc_attachment.h"
#include "tests/bpf/gue_packet.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/program_run.h"
#include "tests/bpf/sockets.h"

namespace guideway {
namespace {

using namespace packet;

std::vector<Prefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<Prefix> list;
  for (const char* text : texts) list.push_back(Prefix::parse(text).value());
  return list;
}
template <typename Member>
std::set<Member> as_set(const std::vector<Member>& list) {
  return {list.begin(), list.end()};
}

class RedirectAttach : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (!IsSkipped()) add_veth("gw0", "gw1");
  }

  static Result<Redirect> attach(const char* interface, const std::vector<Prefix>& allowed) {
    return Redirect::attach(interface, object_path(kRedirectObject), allowed, local());
  }
  static std::vector<Address> local() { return {address("10.0.0.21"), address("fd00::21")}; }

  const std::vector<Prefix> allowed_ = prefixes({"10.0.0.0/24", "fd00::/64"});
};

TEST_F(RedirectAttach, AttachesNativelyAndIsFoundAgain) {
  EXPECT_FALSE(Redirect::find("gw0").value());
  {
    Result<Redirect> made = attach("gw0", allowed_);
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_EQ(made->how(), Redirect::How::attached);
    EXPECT_EQ(made->mode(), XdpMode::native);
    EXPECT_EQ(made->why_generic(), "");
  }
  // All descriptors are closed: it stays by itself.
  Result<std::optional<Redirect>> found = Redirect::find("gw0");
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->how(), Redirect::How::found);
  EXPECT_EQ((*found)->allowed().value(), as_set(allowed_));
  EXPECT_EQ((*found)->local().value(), as_set(local()));
  EXPECT_EQ((*found)->counters().value(), RedirectCounters{});
  ASSERT_EQ(Redirect::find_all()->size(), 1u);
  EXPECT_EQ(Redirect::find_all()->front().interface(), "gw0");

  EXPECT_TRUE((*found)->detach());
  EXPECT_FALSE((*found)->attached().value());
  EXPECT_TRUE((*found)->detach()) << "gone already";
  EXPECT_FALSE(Redirect::find("gw0").value());
  EXPECT_TRUE(Redirect::find_all()->empty());
}

TEST_F(RedirectAttach, FallsBackToGenericModeAndSaysWhy) {
  Result<Redirect> made = attach("lo", allowed_);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->mode(), XdpMode::generic);
  EXPECT_NE(made->why_generic(), "");
  EXPECT_EQ(Redirect::find("lo").value()->mode(), XdpMode::generic);
  EXPECT_TRUE(made->detach());
  EXPECT_FALSE(Redirect::find("lo").value());
}

TEST_F(RedirectAttach, AdoptsTheSameProgramWithItsCounters) {
  Result<Redirect> first = attach("gw0", allowed_);
  ASSERT_TRUE(first);
  UniqueFd program(bpf_prog_get_fd_by_id(first->program_id()));
  run_program(program.get(), ethernet(ETHERTYPE_ARP, Bytes(46)));

  std::vector<Prefix> others = prefixes({"10.1.0.0/16"});
  Result<Redirect> second = attach("gw0", others);
  ASSERT_TRUE(second) << second.error().text();
  EXPECT_EQ(second->how(), Redirect::How::adopted);
  EXPECT_EQ(second->program_id(), first->program_id());
  EXPECT_EQ(second->allowed().value(), as_set(others));
  EXPECT_EQ(second->counters().value()[GW_REDIRECT_other], 1u);
}

// Same name, other instructions: what an upgrade finds.
TEST_F(RedirectAttach, ReplacesAnotherVersionInOneStep) {
  const bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const std::pair<uint32_t, XdpMode> modes[] = {{XDP_FLAGS_DRV_MODE, XdpMode::native},
                                                {XDP_FLAGS_SKB_MODE, XdpMode::generic}};
  for (auto [flag, mode] : modes) {
    UniqueFd old(bpf_prog_load(BPF_PROG_TYPE_XDP, GW_REDIRECT_PROGRAM, "GPL", pass, 2, nullptr));
    ASSERT_TRUE(old);
    ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gw0")), old.get(), flag, nullptr), 0);
    Result<std::optional<Redirect>> found = Redirect::find("gw0");
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().text(),
              "gw0: BPF program 'guideway_redir' has no map 'allowed' (it is from another version "
              "of Guideway: detach it)");

    Result<Redirect> made = attach("gw0", allowed_);
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_EQ(made->how(), Redirect::How::replaced);
    EXPECT_EQ(made->mode(), mode);
    EXPECT_TRUE(made->attached().value());
    EXPECT_EQ(Redirect::find("gw0").value()->mode(), mode);
    EXPECT_TRUE(made->detach());
  }
}

TEST_F(RedirectAttach, RefusesAForeignProgram) {
  LoadedProgram foreign(kEdgeObject, GW_EDGE_PROGRAM);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gw0")), foreign.fd(), 0, nullptr), 0);
  for (bool attaching : {true, false}) {
    Error error = attaching ? attach("gw0", allowed_).error() : Redirect::find("gw0").error();
    EXPECT_EQ(error.field, "gw0");
    EXPECT_NE(error.message.find("'guideway_edge'"), std::string::npos) << error.text();
    EXPECT_EQ(error.hint, "stop its owner, or: ip link set dev gw0 xdpdrv off");
  }
  EXPECT_TRUE(Redirect::find_all()->empty());
}

// One that lets everything pass.
UniqueFd tc_program(const char* name) {
  const bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  UniqueFd fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name, "GPL", pass, 2, nullptr));
  EXPECT_TRUE(fd);
  return fd;
}

bool in_tc() {
  Interface gw0 = Interface::find("gw0").value();
  return tc_attachment_of(gw0, GW_ONWARD_PROGRAM).value().has_value();
}

// Both halves come and go together; what the administrator has in tc stays.
TEST_F(RedirectAttach, BothHalvesAreAttachedAndDetached) {
  EXPECT_FALSE(in_tc());
  Result<Redirect> made = attach("gw0", allowed_);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_TRUE(in_tc());
  EXPECT_TRUE(made->sends_on().value());
  UniqueFd other = tc_program("other");
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(if_nametoindex("gw0"));
  hook.attach_point = BPF_TC_INGRESS;
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.prog_fd = other.get();
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  EXPECT_TRUE(made->detach());
  EXPECT_FALSE(in_tc());
  shell("tc filter show dev gw0 ingress | grep -qw other");
}

TEST_F(RedirectAttach, ALostTcHalfIsPutBack) {
  Result<Redirect> made = attach("gw0", allowed_);
  ASSERT_TRUE(made);
  shell("tc qdisc del dev gw0 clsact");
  EXPECT_FALSE(made->attached().value());
  EXPECT_FALSE(Redirect::find("gw0").value()->sends_on().value());
  Result<Redirect> again = attach("gw0", allowed_);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->how(), Redirect::How::adopted);
  EXPECT_TRUE(again->attached().value());
}

// The XDP half was taken off and put back: the tc half that stayed must know the new one's secret.
TEST_F(RedirectAttach, HalvesThatDoNotKnowEachOtherAreMatched) {
  ASSERT_TRUE(attach("gw0", allowed_));
  shell("ip link set dev gw0 xdpdrv off");
  Result<Redirect> again = attach("gw0", allowed_);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->how(), Redirect::How::attached);
  EXPECT_TRUE(again->sends_on().value());
}

TEST_F(RedirectAttach, AForeignTcProgramInOurPlace) {
  UniqueFd foreign = tc_program("foreign");
  Interface gw0 = Interface::find("gw0").value();
  ASSERT_TRUE(tc_attach(gw0, foreign.get()));
  Error error = attach("gw0", allowed_).error();
  EXPECT_EQ(error.text(),
            "gw0: has the tc program 'foreign' where 'guideway_onward' would be (stop its owner, "
            "or: tc filter del dev gw0 ingress protocol all pref 1 handle 0x6777 bpf)");
  EXPECT_FALSE(Redirect::find("gw0").value());
  shell("tc filter del dev gw0 ingress protocol all pref 1 handle 0x6777 bpf");
  EXPECT_TRUE(attach("gw0", allowed_));
}

TEST_F(RedirectAttach, SaysWhichFileIsMissingOrBroken) {
  EXPECT_EQ(Redirect::attach("gw0", "/nowhere/redirect.bpf.o", allowed_, local()).error().field,
            "/nowhere/redirect.bpf.o");
  EXPECT_EQ(Redirect::attach("gw0", "/dev/null", allowed_, local()).error().field, "/dev/null");
  EXPECT_FALSE(Redirect::find("gw0").value());
}

TEST_F(RedirectAttach, TakesNoMorePrefixesThanFit) {
  Result<Redirect> made = attach("gw0", allowed_);
  ASSERT_TRUE(made);
  std::vector<Prefix> many(kAllowedPrefixesMax + 1, allowed_[0]);
  EXPECT_EQ(made->set_allowed(many).error().text(), "gw0: 2049 allowed prefixes, at most 2048 fit");

  // As many as promised, and as many others in their place.
  many.pop_back();
  for (uint8_t turn : {1, 2}) {
    for (size_t i = 0; i < many.size(); ++i) {
      many[i].bits = 128;
      many[i].address.bytes[13] = turn;
      many[i].address.bytes[14] = static_cast<uint8_t>(i >> 8);
      many[i].address.bytes[15] = static_cast<uint8_t>(i);
    }
    Result<void> set = made->set_allowed(many);
    ASSERT_TRUE(set) << set.error().text();
    EXPECT_EQ(made->allowed().value(), as_set(many));
  }
}

// A wider prefix makes way for a narrower one and back; an address in both is always let in.
TEST_F(RedirectAttach, ASenderThatStaysAllowedIsNeverRefused) {
  Result<Redirect> made = attach("gw0", allowed_);
  ASSERT_TRUE(made);
  UniqueFd program(bpf_prog_get_fd_by_id(made->program_id()));
  UniqueFd map = map_of_program(program.get(), "allowed").value();
  gw_prefix_key key{.bits = 128, .bytes = {}};
  std::memcpy(key.bytes, address("10.0.0.11").bytes.data(), 16);

  std::atomic<bool> stop = false;
  std::atomic<uint64_t> looks = 0, refused = 0;
  std::thread reader([&] {
    uint8_t value;
    do {
      if (bpf_map_lookup_elem(map.get(), &key, &value) != 0) ++refused;
      ++looks;
    } while (!stop);
  });
  std::vector<Prefix> wide = prefixes({"10.0.0.0/8"}), narrow = prefixes({"10.0.0.0/28"});
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(made->set_allowed(i % 2 == 0 ? wide : narrow));
  stop = true;
  reader.join();
  EXPECT_EQ(refused, 0u) << "of " << looks;
}

TEST_F(RedirectAttach, KnowsTheHostsAddresses) {
  EXPECT_EQ(host_addresses().value(), std::set<Address>{});
  shell("ip addr add 10.0.0.21/24 dev gw0");
  shell("ip addr add fd00::21/64 dev gw0 nodad");
  shell("ip addr add 203.0.113.10/32 dev lo");
  EXPECT_EQ(host_addresses().value(), (std::set<Address>{address("10.0.0.21"), address("fd00::21"),
                                                         address("203.0.113.10")}));
}

// ---------------------------------------------------------------- delivery

struct Delivery {
  const char* name;
  const char* interface;  // gw0: native; gwbr, a bridge over it: generic
  const char* node;
  const char* backend;
  const char* client;
  const char* vip;
};

constexpr Delivery kDeliveries[] = {
    {"native_4in4", "gw0", "10.0.0.11", "10.0.0.21", "198.51.100.7", "203.0.113.10"},
    {"native_6in4", "gw0", "10.0.0.11", "10.0.0.21", "2001:db8:c::7", "2001:db8::10"},
    {"native_4in6", "gw0", "fd00::11", "fd00::21", "198.51.100.7", "203.0.113.10"},
    {"native_6in6", "gw0", "fd00::11", "fd00::21", "2001:db8:c::7", "2001:db8::10"},
    {"generic_4in4", "gwbr", "10.0.0.11", "10.0.0.21", "198.51.100.7", "203.0.113.10"},
    {"generic_6in4", "gwbr", "10.0.0.11", "10.0.0.21", "2001:db8:c::7", "2001:db8::10"},
    {"generic_4in6", "gwbr", "fd00::11", "fd00::21", "198.51.100.7", "203.0.113.10"},
    {"generic_6in6", "gwbr", "fd00::11", "fd00::21", "2001:db8:c::7", "2001:db8::10"},
};

class RedirectDelivery : public RedirectAttach, public testing::WithParamInterface<Delivery> {};

INSTANTIATE_TEST_SUITE_P(Crossings, RedirectDelivery, testing::ValuesIn(kDeliveries),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr uint16_t kPort = 5300;

UniqueFd udp_socket_on(const Address& local) {
  UniqueFd fd(socket(local.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM, 0));
  EXPECT_TRUE(bind_to(fd, local, kPort));
  be_patient(fd);
  return fd;
}

void send_frame(const char* interface, const Bytes& frame) {
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW, 0));
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(if_nametoindex(interface));
  ASSERT_EQ(
      sendto(fd.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to),
      static_cast<ssize_t>(frame.size()))
      << std::strerror(errno);
}

void take_mac_of(const char* interface, Bytes& frame) {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  ASSERT_EQ(ioctl(fd.get(), SIOCGIFHWADDR, &request), 0);
  std::memcpy(frame.data(), request.ifr_hwaddr.sa_data, 6);
}

TEST_P(RedirectDelivery, TheInnerPacketReachesTheSocketOnTheVip) {
  const Delivery& with = GetParam();
  const Address client = address(with.client), vip = address(with.vip);
  if (std::string(with.interface) == "gwbr") {
    shell("ip link add gwbr type bridge");
    shell("ip link set gw0 master gwbr && ip link set gwbr up");
  }
  shell(std::string("ip addr add 10.0.0.21/24 dev ") + with.interface);
  shell(std::string("ip addr add fd00::21/64 nodad dev ") + with.interface);
  shell(std::string("ip addr add ") + with.vip + (vip.is_v4() ? "/32" : "/128") + " dev lo");
  // A route back, as every backend has.
  shell(std::string("ip route add default dev ") + with.interface);
  shell(std::string("ip -6 route add default dev ") + with.interface);
  Result<Redirect> redirect = attach(with.interface, allowed_);
  ASSERT_TRUE(redirect) << redirect.error().text();
  EXPECT_EQ(redirect->mode(),
            std::string(with.interface) == "gw0" ? XdpMode::native : XdpMode::generic);
  UniqueFd listener = udp_socket_on(vip);

  Bytes question = {'h', 'e', 'l', 'l', 'o'};
  Bytes inner = udp_packet(client, vip, {.source = 40000, .destination = kPort}, question);
  Header outer{.source = address(with.node),
               .destination = address(with.backend),
               .protocol = tunnel_protocol(vip)};
  Bytes frame = ethernet(type_of(outer.source), ip(outer, inner));
  take_mac_of(with.interface, frame);
  send_frame("gw1", frame);

  Bytes got(100);
  ssize_t size = recv(listener.get(), got.data(), got.size(), 0);
  ASSERT_GE(size, 0) << "nothing arrived: " << std::strerror(errno);
  got.resize(static_cast<size_t>(size));
  EXPECT_EQ(got, question);
  EXPECT_EQ(redirect->counters().value()[GW_REDIRECT_delivered], 1u);
}

}  // namespace
}  // namespace guideway
