// SPDX-License-Identifier: Apache-2.0
// Edge on an interface, with the driver's part played as DPDK 22.11 plays it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "bpf/edge.h"
#include "bpf/redirect.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/program_run.h"

namespace guideway {
namespace {

using packet::address;

// drivers/net/af_xdp: load_custom_xdp_prog(). 0 or a negative errno. The object is given away, as
// the driver does; the program stays attached when it is closed.
int attach_as_driver(const char* interface, uint32_t mode = 0) {
  bpf_object* object = bpf_object__open_file(object_path(kEdgeObject).c_str(), nullptr);
  if (!object) return -errno;
  int result = bpf_object__load(object);
  bpf_program* program = bpf_object__next_program(object, nullptr);
  if (result == 0 && !bpf_object__find_map_by_name(object, "xsks_map")) result = -ENOENT;
  if (result == 0)
    result = bpf_xdp_attach(static_cast<int>(if_nametoindex(interface)), bpf_program__fd(program),
                            XDP_FLAGS_UPDATE_IF_NOEXIST | mode, nullptr);
  bpf_object__close(object);
  return result;
}

class EdgeAttach : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (!IsSkipped()) add_veth("gw0", "gw1");
  }
};

TEST_F(EdgeAttach, FindsWhatTheDriverAttached) {
  Result<Edge> none = Edge::find("gw0");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().text(), "gw0: the edge program is not attached");

  ASSERT_EQ(attach_as_driver("gw0"), 0);
  Result<Edge> edge = Edge::find("gw0");
  ASSERT_TRUE(edge) << edge.error().text();
  EXPECT_EQ(edge->mode(), XdpMode::native);
  EXPECT_TRUE(edge->attached().value());
  EXPECT_EQ(edge->counters().value(), EdgeCounters{});
}

TEST_F(EdgeAttach, ClearsWhatAKilledProcessLeft) {
  for (uint32_t mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    SCOPED_TRACE(mode);
    ASSERT_EQ(attach_as_driver("gw0", mode), 0);
    ASSERT_NE(attach_as_driver("gw0", mode), 0) << "the driver does not attach over another";
    Result<Edge> old = Edge::find("gw0");
    ASSERT_TRUE(old) << old.error().text();
    EXPECT_EQ(old->mode(), mode == XDP_FLAGS_DRV_MODE ? XdpMode::native : XdpMode::generic);

    ASSERT_TRUE(Edge::clear_stale("gw0"));
    EXPECT_FALSE(old->attached().value());
    EXPECT_TRUE(Edge::clear_stale("gw0")) << "nothing to clear is no error";
    ASSERT_EQ(attach_as_driver("gw0", mode), 0);
    EXPECT_FALSE(old->attached().value()) << "the new one is not the old one";

    EXPECT_TRUE(old->detach()) << "gone already";
    EXPECT_TRUE(Edge::find("gw0")) << "and another's program is left alone";
    EXPECT_TRUE(Edge::find("gw0")->detach());
    EXPECT_FALSE(Edge::find("gw0"));
  }
}

TEST_F(EdgeAttach, RefusesAForeignProgramAndSaysHowToTakeItOff) {
  LoadedProgram foreign(kRedirectObject, GW_REDIRECT_PROGRAM);
  int index = static_cast<int>(if_nametoindex("gw0"));
  const std::pair<uint32_t, const char*> modes[] = {{XDP_FLAGS_DRV_MODE, "xdpdrv"},
                                                    {XDP_FLAGS_SKB_MODE, "xdpgeneric"}};
  for (auto [mode, word] : modes) {
    ASSERT_EQ(bpf_xdp_attach(index, foreign.fd(), mode, nullptr), 0);
    Result<void> cleared = Edge::clear_stale("gw0");
    ASSERT_FALSE(cleared);
    EXPECT_NE(cleared.error().message.find("runs the XDP program 'guideway_redir' (id "),
              std::string::npos)
        << cleared.error().text();
    std::string command = std::string("ip link set dev gw0 ") + word + " off";
    EXPECT_EQ(cleared.error().hint, "stop its owner, or: " + command);
    shell(command);
    EXPECT_TRUE(Edge::clear_stale("gw0"));
  }
}

TEST_F(EdgeAttach, NamesTheLinkThatHoldsAForeignProgram) {
  LoadedProgram foreign(kRedirectObject, GW_REDIRECT_PROGRAM);
  UniqueFd link(
      bpf_link_create(foreign.fd(), static_cast<int>(if_nametoindex("gw0")), BPF_XDP, nullptr));
  ASSERT_TRUE(link);
  Result<void> cleared = Edge::clear_stale("gw0");
  ASSERT_FALSE(cleared);
  EXPECT_NE(cleared.error().hint.find("bpftool link detach id "), std::string::npos);
}

TEST_F(EdgeAttach, NoSuchInterface) {
  EXPECT_EQ(Edge::clear_stale("gw9").error().text(), "gw9: no such interface (ip link)");
  EXPECT_EQ(Edge::find("gw9").error().text(), "gw9: no such interface (ip link)");
}

TEST_F(EdgeAttach, TakesNoMoreVipsThanFit) {
  ASSERT_EQ(attach_as_driver("gw0"), 0);
  Result<Edge> edge = Edge::find("gw0");
  ASSERT_TRUE(edge);
  std::vector<Address> vips(GW_EDGE_VIPS_MAX + 1);
  EXPECT_EQ(edge->set_vips(vips).error().text(), "gw0: 8193 VIPs, at most 8192 fit");
}

// A reader that never stops looking while the list changes around the VIP that stays.
TEST_F(EdgeAttach, AVipThatStaysIsNeverMissing) {
  ASSERT_EQ(attach_as_driver("gw0"), 0);
  Result<Edge> edge = Edge::find("gw0");
  ASSERT_TRUE(edge);
  UniqueFd program(bpf_prog_get_fd_by_id(edge->program_id()));
  UniqueFd map = map_of_program(program.get(), "vips").value();

  const Address kept = address("203.0.113.10");
  std::vector<Address> one = {kept, address("203.0.113.11")};
  std::vector<Address> other = {address("2001:db8::10"), kept};
  ASSERT_TRUE(edge->set_vips(one));

  std::atomic<bool> stop = false;
  std::atomic<uint64_t> looks = 0, missing = 0;
  std::thread reader([&] {
    uint8_t value;
    do {
      if (bpf_map_lookup_elem(map.get(), kept.bytes.data(), &value) != 0) ++missing;
      ++looks;
    } while (!stop);
  });
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(edge->set_vips(i % 2 == 0 ? other : one));
  stop = true;
  reader.join();
  EXPECT_EQ(missing, 0u) << "of " << looks;
  EXPECT_EQ(addresses_in(map.get()).value(), std::set<Address>(one.begin(), one.end()));
}

}  // namespace
}  // namespace guideway
