// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/agent.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/wait.h>

#include <csignal>
#include <ext/stdio_filebuf.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bpf/redirect.h"
#include "controlplane/cli/agent_checks.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/program_run.h"

namespace guideway::cli {
namespace {

using packet::address;

// What a person or a program sees of one command.
struct Shown {
  int exit_code;
  std::string out, err;
};

Shown shown(int (*command)(const Context&, const AgentOptions&), const AgentOptions& options,
            bool json = false) {
  std::ostringstream out, err;
  Context context(out, err);
  context.json = json;
  int exit_code = command(context, options);
  return {exit_code, out.str(), err.str()};
}

// `agent run` in a process of its own, in this namespace; its log is read line by line.
class RunningAgent {
 public:
  explicit RunningAgent(const AgentOptions& options) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    log_ = UniqueFd(ends[0]);
    child_ = fork();
    if (child_ != 0) {
      close(ends[1]);
      return;
    }
    __gnu_cxx::stdio_filebuf<char> buffer(ends[1], std::ios::out);
    std::ostream log(&buffer);
    Context context(log, log);
    int exit_code = agent_run(context, options);
    log.flush();
    _exit(exit_code);
  }
  ~RunningAgent() {
    if (child_ > 0) stop(SIGKILL);
  }

  // Reads the log up to a line that holds `text`; false if the agent ends, or is silent for long.
  bool says(const std::string& text) {
    std::string line;
    char c;
    pollfd ready{.fd = log_.get(), .events = POLLIN, .revents = 0};
    while (poll(&ready, 1, 20000) == 1 && read(log_.get(), &c, 1) == 1) {
      if (c != '\n') {
        line += c;
        continue;
      }
      if (line.find(text) != std::string::npos) return true;
      seen_ += line + "\n";
      line.clear();
    }
    ADD_FAILURE() << "the agent did not say '" << text << "' but:\n" << seen_ << line;
    return false;
  }

  // Its wait status.
  int stop(int signal) {
    kill(child_, signal);
    int status = 0;
    waitpid(child_, &status, 0);
    child_ = -1;
    return status;
  }

 private:
  pid_t child_ = -1;
  UniqueFd log_;
  std::string seen_;
};

class AgentTest : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    add_veth("gw0", "gw1");
    shell("ip addr add 10.0.0.21/24 dev gw0");
  }

  const AgentOptions once_{
      .interface = "gw0", .allow = {"10.0.0.0/24", "fd00::/64"}, .once = true, .bpf_dir = {}};
  AgentOptions gw0_{.interface = "gw0", .allow = {}, .bpf_dir = {}};
};

TEST_F(AgentTest, OnceAttachesAndLeavesItAttached) {
  Shown run = shown(agent_run, once_);
  EXPECT_EQ(run.exit_code, kOk) << run.err;
  EXPECT_NE(run.err.find("gw0: redirect attached, native mode, program id "), std::string::npos)
      << run.err;
  EXPECT_NE(shown(agent_run, once_).err.find("was attached already; adopted"), std::string::npos);

  Shown status = shown(agent_status, {}, true);
  EXPECT_EQ(status.exit_code, kOk) << status.err;
  nlohmann::json all = nlohmann::json::parse(status.out);
  ASSERT_EQ(all["interfaces"].size(), 1u);
  const nlohmann::json& one = all["interfaces"][0];
  EXPECT_EQ(one["interface"], "gw0");
  EXPECT_EQ(one["mode"], "native");
  EXPECT_EQ(one["allowed"], nlohmann::json({"10.0.0.0/24", "fd00::/64"}));
  EXPECT_EQ(one["local"], nlohmann::json({"10.0.0.21"}));
  EXPECT_EQ(one["sends_on"], true);
  EXPECT_EQ(one["counters"]["delivered"], 0);
  EXPECT_EQ(one["counters"].size(), size_t{GW_REDIRECT_COUNTERS_END});

  EXPECT_EQ(shown(agent_detach, {}).out, "detached from gw0\n");
  EXPECT_EQ(shown(agent_detach, {}).out, "nothing to detach\n");
  EXPECT_EQ(shown(agent_detach, {}, true).out, "{\"detached\":[]}\n");
}

TEST_F(AgentTest, StatusWithoutAnythingAttached) {
  for (const AgentOptions& options : {AgentOptions{}, gw0_}) {
    Shown status = shown(agent_status, options);
    EXPECT_EQ(status.exit_code, kRefused);
    EXPECT_EQ(status.err, "guideway: redirect is not attached to " +
                              (options.interface.empty() ? "any interface" : options.interface) +
                              " (guideway agent run --interface IF --allow PREFIX)\n");
  }
  EXPECT_EQ(shown(agent_status, {}, true).out, "{\"interfaces\":[]}\n");
}

TEST_F(AgentTest, StatusForPeople) {
  ASSERT_EQ(shown(agent_run, once_).exit_code, kOk);
  std::string out = shown(agent_status, gw0_).out;
  EXPECT_NE(out.find("gw0: redirect is attached, native mode"), std::string::npos) << out;
  EXPECT_NE(out.find("10.0.0.0/24, fd00::/64"), std::string::npos) << out;
  EXPECT_NE(out.find("refused_source"), std::string::npos) << out;
  EXPECT_EQ(out.find("no second chance"), std::string::npos) << out;
  shell("tc qdisc del dev gw0 clsact");
  out = shown(agent_status, gw0_).out;
  EXPECT_NE(out.find("no second chance"), std::string::npos) << out;
}

TEST_F(AgentTest, WrongOptionsAndInterfaces) {
  AgentOptions options = once_;
  options.allow = {"10.0.0.1/24"};
  Shown run = shown(agent_run, options);
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_EQ(run.err, "guideway: 10.0.0.1/24: bits are set after the prefix (write 10.0.0.0/24)\n");

  options = once_;
  options.interface = "gw9";
  for (auto command : {agent_run, agent_status, agent_detach}) {
    run = shown(command, options);
    EXPECT_EQ(run.exit_code, kRefused);
    EXPECT_NE(run.err.find("gw9: no such interface (ip link)"), std::string::npos) << run.err;
  }
}

TEST_F(AgentTest, RefusesAForeignProgram) {
  LoadedProgram foreign(kEdgeObject, GW_EDGE_PROGRAM);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gw0")), foreign.fd(), 0, nullptr), 0);
  for (auto command : {agent_run, agent_status, agent_detach}) {
    Shown run = shown(command, once_);
    EXPECT_EQ(run.exit_code, kRefused);
    EXPECT_NE(run.err.find("ip link set dev gw0 xdpdrv off"), std::string::npos) << run.err;
  }
  EXPECT_EQ(shown(agent_detach, {}).out, "nothing to detach\n") << "the foreign one stays";
}

TEST_F(AgentTest, FollowsAddressesAndLeavesTheProgramAttached) {
  AgentOptions options = once_;
  options.once = false;
  RunningAgent agent(options);
  ASSERT_TRUE(agent.says("gw0: redirect attached"));
  shell("ip addr add 10.0.0.77/24 dev gw0");
  ASSERT_TRUE(agent.says("addresses changed: 2 now"));
  std::set<Address> local = Redirect::find("gw0").value()->local().value();
  EXPECT_TRUE(local.contains(address("10.0.0.77")));

  // Somebody takes it off, and it comes back.
  shell("ip link set dev gw0 xdpdrv off");
  ASSERT_TRUE(agent.says("was taken off; attaching it again"));
  ASSERT_TRUE(agent.says("gw0: redirect attached"));
  // Or only its half in tc.
  shell("tc qdisc del dev gw0 clsact && ip addr del 10.0.0.77/24 dev gw0");
  ASSERT_TRUE(agent.says("was taken off; attaching it again"));
  ASSERT_TRUE(agent.says("gw0: redirect was attached already; adopted"));

  int status = agent.stop(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kOk) << status;
  EXPECT_TRUE(agent.says("redirect stays attached (guideway agent detach --interface gw0)"));
  EXPECT_TRUE(Redirect::find("gw0").value());
}

TEST_F(AgentTest, AKilledAgentLeavesTheProgramAttached) {
  AgentOptions options = once_;
  options.once = false;
  RunningAgent agent(options);
  ASSERT_TRUE(agent.says("gw0: redirect attached"));
  agent.stop(SIGKILL);
  EXPECT_TRUE(Redirect::find("gw0").value());
}

TEST_F(AgentTest, EndsWithAnErrorWhenTheInterfaceGoes) {
  AgentOptions options = once_;
  options.once = false;
  RunningAgent agent(options);
  ASSERT_TRUE(agent.says("gw0: redirect attached"));
  shell("ip link del gw0");
  EXPECT_TRUE(agent.says("gw0: no such interface"));
  int status = agent.stop(0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kRefused) << status;
}

// ---------------------------------------------------------------- checks

TEST_F(AgentTest, GathersFacts) {
  shell("sysctl -qw net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/gw0/rp_filter=1");
  shell("sysctl -qw net/ipv4/conf/all/arp_ignore=2 net/ipv4/conf/gw0/arp_ignore=1");
  shell("ip route add default via 10.0.0.1 advmss 1400");
  shell("ip route add default via 10.0.0.2 table 7 advmss 1300");
  shell("ip link set gw0 mtu 1600");
  Result<BackendFacts> facts = backend_facts("gw0");
  ASSERT_TRUE(facts) << facts.error().text();
  EXPECT_EQ(facts->mtu, 1600u);
  EXPECT_EQ(facts->rp_filter, 1u);
  EXPECT_EQ(facts->arp_ignore, 2u);
  EXPECT_FALSE(facts->v4_on_loopback);
  ASSERT_EQ(facts->routes.size(), 1u);
  EXPECT_TRUE(facts->routes[0].v4);
  EXPECT_EQ(facts->routes[0].interface_index, if_nametoindex("gw0"));
  EXPECT_EQ(facts->routes[0].mtu, 1600u);
  EXPECT_EQ(facts->routes[0].advmss, 1400u);
  shell("ip addr add 203.0.113.10/32 dev lo");
  EXPECT_TRUE(backend_facts("gw0")->v4_on_loopback);
}

BackendFacts sound_facts() {
  BackendFacts facts;
  facts.interface = "eth0";
  facts.interface_index = 2;
  facts.mtu = 1600;
  facts.rp_filter = 1;
  facts.arp_ignore = 1;
  facts.v4_on_loopback = true;
  facts.routes = {{.v4 = true, .interface_index = 2, .mtu = 1600, .advmss = 0}};
  return facts;
}

std::vector<std::string> mends(const BackendFacts& facts, std::initializer_list<const char*> allow,
                               bool asked = false) {
  std::vector<Prefix> allowed;
  for (const char* text : allow) allowed.push_back(Prefix::parse(text).value());
  std::vector<std::string> commands;
  for (const Warning& warning : backend_warnings(facts, allowed, asked))
    commands.push_back(warning.mend);
  return commands;
}

using Mends = std::vector<std::string>;

TEST(AgentChecks, NothingToSayAboutASoundBackend) {
  EXPECT_EQ(mends(sound_facts(), {"10.0.0.0/24", "fd00::/64"}), Mends{});
}

TEST(AgentChecks, StrictReversePathFilterMattersOnlyIfRepliesLeaveElsewhere) {
  BackendFacts facts = sound_facts();
  const Mends mend = {"sysctl -w net/ipv4/conf/eth0/rp_filter=2"};
  facts.routes[0].interface_index = 3;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}), mend);
  facts.routes.clear();
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}), mend);
  facts.rp_filter = 2;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}), Mends{});
}

TEST(AgentChecks, ArpForVipsOnLoopback) {
  BackendFacts facts = sound_facts();
  facts.arp_ignore = 0;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}),
            Mends{"sysctl -w net/ipv4/conf/all/arp_ignore=1 net/ipv4/conf/all/arp_announce=2"});
  facts.v4_on_loopback = false;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}), Mends{});
}

TEST(AgentChecks, TheListOfHopsNeedsRoom) {
  BackendFacts facts = sound_facts();
  facts.mtu = facts.routes[0].mtu = 1552;
  facts.routes[0].advmss = 1460;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}, true), Mends{});
  facts.mtu = facts.routes[0].mtu = 1551;
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}), Mends{}) << "not asked: ipip";
  EXPECT_EQ(mends(facts, {"10.0.0.0/24"}, true),
            Mends{"ip route change $(ip route show default | head -n 1) advmss 1459"});
}

TEST(AgentChecks, SegmentsThatDoNotFitTheTunnel) {
  struct {
    unsigned mtu;
    const char* allow;
    bool v4;
    unsigned advmss;
    int fits;  // -1: nothing to say
  } const cases[] = {
      {1500, "10.0.0.0/24", true, 0, 1440},  {1500, "fd00::/64", true, 0, 1420},
      {1500, "10.0.0.0/24", false, 0, 1420}, {1500, "fd00::/64", false, 0, 1400},
      {1500, "10.0.0.0/24", true, 1440, -1}, {1500, "10.0.0.0/24", true, 1441, 1440},
      {1500, "fd00::/64", true, 1440, 1420}, {1500, "fd00::/64", true, 1400, -1},
      {1519, "10.0.0.0/24", true, 0, 1459},  {1520, "10.0.0.0/24", true, 0, -1},
      {1520, "fd00::/64", true, 0, 1440},    {1540, "fd00::/64", true, 0, -1},
      {9000, "fd00::/64", false, 0, -1},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::to_string(c.mtu) + " " + c.allow + " " + std::to_string(c.advmss));
    BackendFacts facts = sound_facts();
    facts.rp_filter = 0;
    facts.mtu = c.mtu;
    facts.routes = {{.v4 = c.v4, .interface_index = 2, .mtu = c.mtu, .advmss = c.advmss}};
    std::string ip = c.v4 ? "ip" : "ip -6";
    Mends want;
    if (c.fits >= 0)
      want = {ip + " route change $(" + ip + " route show default | head -n 1) advmss " +
              std::to_string(c.fits)};
    EXPECT_EQ(mends(facts, {c.allow}), want);
  }
}

TEST(AgentChecks, PrefixesThatHoldEverybody) {
  for (const char* wide : {"0.0.0.0/0", "8.0.0.0/7", "2000::/3"})
    EXPECT_EQ(mends(sound_facts(), {wide}).size(), 1u) << wide;
  for (const char* own : {"10.0.0.0/8", "192.168.0.0/16", "fd00::/16"})
    EXPECT_EQ(mends(sound_facts(), {own}), Mends{}) << own;
}

}  // namespace
}  // namespace guideway::cli
