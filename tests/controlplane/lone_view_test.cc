// SPDX-License-Identifier: Apache-2.0
#include "controlplane/lone_view.h"

#include <gtest/gtest.h>

#include <random>

namespace guideway {
namespace {

using namespace std::chrono_literals;
using Views = LoneView::Views;
using Time = LoneView::Time;

// "uuudbn?": a pool of so many backends; up, down, blind, no way, unknown.
PoolOutlook outlook(const std::string& states) {
  PoolOutlook out;
  for (size_t i = 0; i < states.size(); ++i) {
    const Address address = *Address::parse("10.0.0." + std::to_string(i + 1));
    ++out.of;
    if (states[i] == 'u') ++out.up;
    if (states[i] == 'd') out.not_up[address] = Sight::down;
    if (states[i] == 'b') out.not_up[address] = Sight::blind;
    if (states[i] == 'n') out.not_up[address] = Sight::no_way;
    if (states[i] == '?') out.not_up[address] = Sight::unknown;
  }
  return out;
}

HealthView view(const std::string& states) {
  HealthView out;
  out.serves = true;
  out.pools["web"] = outlook(states);
  return out;
}

struct Row {
  const char* own;
  std::vector<const char*> others;
  bool alone, mended;
};

TEST(LoneView, ComparesByThisTable) {
  const Row rows[] = {
      {"uuuu", {"uuuu"}, false, true},
      {"dddd", {"uuuu"}, true, false},
      {"bbbb", {"uuuu", "uuuu"}, true, false},
      {"nnnn", {"uuuu"}, true, false},
      {"dddu", {"uuuu"}, true, false},
      {"dduu", {"uuuu"}, false, false},  // half is not most, but no reason to return either
      {"duuu", {"uuuu"}, false, true},   // a quarter
      {"????", {"uuuu"}, false, true},   // has just started
      {"d", {"u"}, true, false},
      // Nobody else, or nobody who can say.
      {"dddd", {}, false, true},
      {"dddd", {"uuu"}, false, true},  // another revision
      // Not alone: all see it so, or one other does.
      {"dddd", {"dddd"}, false, true},
      {"dddd", {"uuuu", "dddd"}, false, true},
      {"dddd", {"uuuu", "dduu"}, false, true},  // it does not see it well
      {"dddd", {"uuuu", "duuu"}, true, false},  // it does
      {"dddd", {"uuuu", "????"}, false, true},  // it does not know
      // What is down for the others as well does not count.
      {"dduuuuuu", {"dduuuuuu"}, false, true},
      {"dddduu", {"dduuuu"}, false, false},
      {"ddddd", {"dduuu"}, true, false},
      {"uddud", {"duuuu"}, true, false},   // three of the four that are up there
      {"udduu", {"duuuu"}, false, false},  // two of them
  };
  for (const Row& row : rows) {
    Views others;
    std::string names;
    for (const char* states : row.others) {
      others["n" + std::to_string(others.size() + 2)] = view(states);
      names += std::string(" ") + states;
    }
    const auto seen = LoneView::compare("web", outlook(row.own), others);
    EXPECT_EQ(seen.alone, row.alone) << row.own << " beside" << names;
    EXPECT_EQ(seen.mended, row.mended) << row.own << " beside" << names;
  }
  Views cut{{"n2", view("uuud")}};
  cut["n2"].pools["web"].cut = true;
  EXPECT_FALSE(LoneView::compare("web", outlook("dddd"), cut).alone)
      << "it has more down than it can say";
}

// Nodes that read each other's views after a while that is given for each pair.
class Nodes {
 public:
  explicit Nodes(unsigned count) {
    for (unsigned i = 1; i <= count; ++i) {
      const std::string name = "n" + std::to_string(i);
      nodes_.emplace(name, Node{LoneView(1000 * i), {}, {}, {}, true, true});
    }
  }
  void sees(const std::string& name, const std::string& states, const std::string& pool = "web") {
    nodes_.at(name).pools[pool] = outlook(states);
  }
  void all_see(const std::string& states) {
    for (auto& [name, node] : nodes_) node.pools["web"] = outlook(states);
  }
  void connected(const std::string& name, bool is) { nodes_.at(name).connected = is; }
  void drained(const std::string& name, bool is) { nodes_.at(name).wanted = !is; }
  // One node: what it knows of the others now is what they have written until now.
  void reads(const std::string& name) {
    Node& node = nodes_.at(name);
    if (!node.connected) return;
    for (const auto& [other, from] : nodes_)
      if (other != name) node.known[other] = from.written;
  }
  void step(const std::string& name) {
    Node& node = nodes_.at(name);
    HealthView own;
    own.pools = node.pools;
    std::map<std::string, Time> holds;
    for (const auto& [pool, outlook] : node.pools) holds[pool] = LoneView::kHoldsLeast;
    const bool current = node.connected && !is_cut_off_;
    node.lone.step({name, current, own, node.known, holds}, now_);
    own.doubt = node.lone.question();
    own.serves = node.wanted && node.lone.out().empty();
    for (const auto& [other, known] : node.known)
      if (known.doubt != 0) own.answers[other] = known.doubt;
    if (node.connected) node.written = own;
  }
  void pass(Time time) {
    for (const Time until = now_ + time; now_ < until; now_ += 100ms) {
      for (const auto& [name, node] : nodes_) reads(name);
      for (const auto& [name, node] : nodes_) step(name);
    }
  }
  void tick() { now_ += 100ms; }
  void without_etcd(bool is) { is_cut_off_ = is; }
  bool is_out(const std::string& name, const std::string& pool = "web") const {
    return nodes_.at(name).lone.out().contains(pool);
  }
  std::string reason(const std::string& name) const { return nodes_.at(name).lone.out().at("web"); }

 private:
  struct Node {
    LoneView lone;
    std::map<std::string, PoolOutlook> pools;
    HealthView written;
    Views known;
    bool connected, wanted;
  };
  std::map<std::string, Node> nodes_;
  bool is_cut_off_ = false;
  Time now_{1'000'000};
};

TEST(LoneView, TheNodeThatIsAloneGoesAndComesBack) {
  Nodes nodes(3);
  nodes.all_see("uuu");
  nodes.pass(10s);
  nodes.sees("n3", "ddd");
  nodes.pass(1900ms);
  EXPECT_FALSE(nodes.is_out("n3")) << "it must last";
  nodes.pass(1s);
  EXPECT_TRUE(nodes.is_out("n3"));
  EXPECT_EQ(nodes.reason("n3"),
            "pool web: 3 of 3 backends cannot be reached from this node alone, and are up on n1, "
            "n2");
  nodes.pass(60s);
  EXPECT_TRUE(nodes.is_out("n3"));
  EXPECT_FALSE(nodes.is_out("n1") || nodes.is_out("n2"));
  nodes.sees("n3", "uuu");
  nodes.pass(4900ms);
  EXPECT_TRUE(nodes.is_out("n3")) << "it must last";
  nodes.pass(300ms);
  EXPECT_FALSE(nodes.is_out("n3"));
}

TEST(LoneView, OneThatFlapsStaysAsItIs) {
  Nodes nodes(2);
  nodes.all_see("uuu");
  for (int i = 0; i < 20; ++i) {
    nodes.sees("n2", i % 2 == 0 ? "ddd" : "uuu");
    nodes.pass(1500ms);
    EXPECT_FALSE(nodes.is_out("n2"));
  }
  nodes.sees("n2", "ddd");
  nodes.pass(3s);
  ASSERT_TRUE(nodes.is_out("n2"));
  for (int i = 0; i < 20; ++i) {
    nodes.sees("n2", i % 2 == 0 ? "uuu" : "ddd");
    nodes.pass(4s);
    EXPECT_TRUE(nodes.is_out("n2"));
  }
}

TEST(LoneView, WhatAllSeeTakesNobodyOut) {
  Nodes nodes(3);
  nodes.all_see("ddd");
  nodes.pass(60s);
  for (const char* name : {"n1", "n2", "n3"}) EXPECT_FALSE(nodes.is_out(name));
  // Nor a node that is one of two.
  nodes.sees("n1", "uuu");
  nodes.pass(60s);
  for (const char* name : {"n1", "n2", "n3"}) EXPECT_FALSE(nodes.is_out(name));
}

TEST(LoneView, ASingleNodeStays) {
  Nodes nodes(1);
  nodes.all_see("ddd");
  nodes.pass(60s);
  EXPECT_FALSE(nodes.is_out("n1"));
}

TEST(LoneView, AnOldViewIsNoWitness) {
  Nodes nodes(2);
  nodes.all_see("uuu");
  nodes.pass(5s);
  nodes.connected("n2", false);  // cut off, or dead: its view stays for a while
  nodes.sees("n1", "ddd");
  nodes.pass(20s);
  EXPECT_FALSE(nodes.is_out("n1")) << "n2 may see the same";
  nodes.connected("n2", true);
  nodes.pass(1s);
  EXPECT_TRUE(nodes.is_out("n1")) << "it does not, and says so";
}

TEST(LoneView, AnAnswerToAnEarlierQuestionIsNone) {
  Nodes nodes(2);
  nodes.all_see("uuu");
  nodes.drained("n2", true);
  nodes.sees("n1", "ddd");
  nodes.pass(5s);  // n1 has asked, and n2 answered
  nodes.drained("n2", false);
  nodes.step("n2");  // the last that it writes: it serves, and the answer
  nodes.connected("n2", false);
  nodes.sees("n1", "uuu");
  nodes.pass(5s);
  nodes.sees("n1", "ddd");
  nodes.pass(20s);
  EXPECT_FALSE(nodes.is_out("n1"));
}

TEST(LoneView, WithoutEtcdNobodyIsOut) {
  Nodes nodes(2);
  nodes.all_see("uuu");
  nodes.without_etcd(true);
  nodes.sees("n1", "ddd");
  nodes.pass(20s);
  EXPECT_FALSE(nodes.is_out("n1"));
  nodes.without_etcd(false);
  nodes.pass(5s);
  ASSERT_TRUE(nodes.is_out("n1"));
  nodes.without_etcd(true);
  nodes.pass(100ms);
  EXPECT_FALSE(nodes.is_out("n1"));
}

TEST(LoneView, OneThatDoesNotServeIsNoReasonToGo) {
  Nodes nodes(2);
  nodes.all_see("uuu");
  nodes.drained("n2", true);
  nodes.pass(1s);
  nodes.sees("n1", "ddd");
  nodes.pass(20s);
  EXPECT_FALSE(nodes.is_out("n1"));
  nodes.drained("n2", false);
  nodes.pass(1s);
  EXPECT_TRUE(nodes.is_out("n1"));
  nodes.drained("n2", true);  // by its operator, although n1 is out
  nodes.pass(200ms);
  EXPECT_FALSE(nodes.is_out("n1"));
}

TEST(LoneView, OfTwoThatDisagreeOneStays) {
  Nodes nodes(2);
  for (const char* pool : {"web", "api"})
    for (const char* name : {"n1", "n2"}) nodes.sees(name, "uuu", pool);
  nodes.pass(1s);
  nodes.sees("n1", "ddd", "web");
  nodes.sees("n2", "ddd", "api");
  nodes.pass(60s);
  EXPECT_TRUE(nodes.is_out("n1", "web")) << "the name that comes first goes first";
  EXPECT_FALSE(nodes.is_out("n2", "api"));
}

TEST(LoneView, NeverAreAllOutWhateverTheOrderOfNews) {
  unsigned went = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    const unsigned count = 2 + seed % 3;
    Nodes nodes(count);
    const auto name = [&] { return "n" + std::to_string(random() % count + 1); };
    for (unsigned i = 1; i <= count; ++i)
      for (const char* pool : {"web", "api"}) nodes.sees("n" + std::to_string(i), "uuu", pool);
    nodes.pass(300ms);
    for (int i = 0; i < 400; ++i) {
      if (random() % 40 == 0)
        nodes.sees(name(), random() % 2 ? "uuu" : "ddd", random() % 2 ? "web" : "api");
      // Any node may be the only one that reads, or that decides and writes, for a while.
      for (unsigned k = 0; k < count; ++k) {
        const std::string one = name();
        if (random() % 2) nodes.reads(one);
        if (random() % 2) nodes.step(one);
      }
      nodes.tick();
      unsigned out = 0;
      for (unsigned k = 1; k <= count; ++k)
        out += nodes.is_out("n" + std::to_string(k), "web") ||
               nodes.is_out("n" + std::to_string(k), "api");
      went += out;
      ASSERT_LT(out, count) << "seed " << seed << ": a VIP of both pools would be nobody's";
    }
  }
  EXPECT_GT(went, 1000u) << "or nothing was tried";
}

}  // namespace
}  // namespace guideway
