// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announce.h"

#include <gtest/gtest.h>

#include <tuple>

namespace guideway {
namespace {

ServiceFacts service(ServiceHealth health, uint32_t healthy = 3, const char* name = "a:80/tcp") {
  return {name, "web", health, healthy, ""};
}

VipFacts vip(std::vector<ServiceFacts> services, bool adopted = true) {
  return {std::move(services), adopted};
}

NodeFacts alive(NodeMode mode = NodeMode::normal, bool lapsing = false) {
  return {DataplaneLife::alive, mode, lapsing};
}

Decision judged(const VipFacts& facts, const NodeFacts& node = alive(),
                const AnnounceRules& rules = {}, Announcement before = Announcement::withdrawn) {
  return decide(facts, node, rules, before);
}

const ServiceFacts kReady = service(ServiceHealth::ready);
const ServiceFacts kDown = service(ServiceHealth::down, 0, "b:80/tcp");
const ServiceFacts kPanic = service(ServiceHealth::panic, 0, "c:80/tcp");

TEST(Announce, AllReadyIsNormal) {
  EXPECT_EQ(judged(vip({kReady, kReady})), (Decision{Announcement::normal, "", false}));
  EXPECT_EQ(judged(vip({service(ServiceHealth::degraded, 1)})).announcement, Announcement::normal);
}

TEST(Announce, SomeNotReadyIsReducedAndNoneWithdrawn) {
  EXPECT_EQ(judged(vip({kReady, kDown})),
            (Decision{Announcement::reduced, "1 of 2 services not ready, for one: b:80/tcp is down",
                      true}));
  EXPECT_EQ(judged(vip({kDown})), (Decision{Announcement::withdrawn, "b:80/tcp is down", true}));
  EXPECT_EQ(judged(vip({kDown, kDown})).reason, "no service is ready, for one: b:80/tcp is down");
}

TEST(Announce, FewerBackendsThanMinHealthyAreNotReady) {
  const AnnounceRules two{2, false};
  EXPECT_EQ(judged(vip({service(ServiceHealth::degraded, 2)}), alive(), two).announcement,
            Announcement::normal);
  EXPECT_EQ(judged(vip({service(ServiceHealth::degraded, 1)}), alive(), two),
            (Decision{Announcement::withdrawn,
                      "a:80/tcp: pool web has 1 healthy backends and needs 2", true}));
}

TEST(Announce, PanicReducesOrWithdraws) {
  EXPECT_EQ(judged(vip({kReady, kPanic})),
            (Decision{Announcement::reduced, "pool web is in panic", true}));
  EXPECT_EQ(judged(vip({kPanic})).announcement, Announcement::reduced);
  EXPECT_EQ(judged(vip({kReady, kPanic}), alive(), {1, true}),
            (Decision{Announcement::withdrawn, "pool web is in panic", true}));
}

TEST(Announce, WhatOthersReachAndThisNodeDoesNotIsWithdrawn) {
  for (ServiceHealth health :
       {ServiceHealth::ready, ServiceHealth::degraded, ServiceHealth::down, ServiceHealth::panic}) {
    ServiceFacts lone = service(health, 1);
    lone.lone = "it is alone";
    const Decision withdrawn{Announcement::withdrawn, "it is alone", false};
    EXPECT_EQ(judged(vip({lone})), withdrawn);
    EXPECT_EQ(judged(vip({kReady, lone})), withdrawn) << "a VIP is announced as a whole";
    EXPECT_EQ(judged(vip({lone}), alive(NodeMode::draining)), withdrawn);
    // As with all that services say, not before the dataplane is known to forward.
    EXPECT_EQ(judged(vip({lone}), NodeFacts{}, {}, Announcement::normal).announcement,
              Announcement::normal);
  }
}

TEST(Announce, TheNodeCountsForAllVips) {
  EXPECT_EQ(judged(vip({kReady}), alive(NodeMode::draining)),
            (Decision{Announcement::reduced, "the node is draining", false}));
  EXPECT_EQ(judged(vip({kReady}), alive(NodeMode::drained)),
            (Decision{Announcement::withdrawn, "the node is drained", false}));
  EXPECT_EQ(
      judged(vip({kReady}), alive(NodeMode::normal, true)),
      (Decision{Announcement::reduced,
                "the node may be behind its cluster: its lease lapses, or it catches up", false}));
}

TEST(Announce, WithoutADataplaneOrAnImageNothingIsAnnounced) {
  NodeFacts dead{DataplaneLife::dead, NodeMode::normal, false};
  for (Announcement before : {Announcement::normal, Announcement::withdrawn}) {
    EXPECT_EQ(judged(vip({kReady}), dead, {}, before),
              (Decision{Announcement::withdrawn, "the dataplane is dead", false}));
  }
  EXPECT_EQ(
      judged(vip({kReady}, false)),
      (Decision{Announcement::withdrawn, "the dataplane has adopted no image with it yet", false}));
}

TEST(Announce, WhatIsNotKnownChangesNothing) {
  NodeFacts unsure;
  for (Announcement before :
       {Announcement::normal, Announcement::reduced, Announcement::withdrawn}) {
    for (const ServiceFacts& facts : {kReady, kDown, kPanic}) {
      for (bool adopted : {false, true}) {
        EXPECT_EQ(judged(vip({facts}, adopted), unsure, {}, before).announcement, before);
      }
    }
  }
}

TEST(Announce, WhatTheOperatorWantsHoldsEvenThen) {
  NodeFacts unsure;
  unsure.mode = NodeMode::drained;
  EXPECT_EQ(judged(vip({kReady}), unsure, {}, Announcement::normal).announcement,
            Announcement::withdrawn);
  unsure.mode = NodeMode::draining;
  EXPECT_EQ(judged(vip({kReady}), unsure, {}, Announcement::normal).announcement,
            Announcement::reduced);
  EXPECT_EQ(judged(vip({kReady}), unsure, {}, Announcement::withdrawn).announcement,
            Announcement::withdrawn);
}

// The table of docs/bgp.md, read row by row, for every state of two services and of the node.
Announcement by_the_table(const VipFacts& facts, const NodeFacts& node, const AnnounceRules& rules,
                          Announcement before) {
  unsigned ready = 0, panics = 0;
  for (const ServiceFacts& one : facts.services) {
    const bool runs = one.health == ServiceHealth::ready || one.health == ServiceHealth::degraded;
    ready += runs && one.healthy >= rules.min_healthy ? 1 : 0;
    panics += one.health == ServiceHealth::panic ? 1 : 0;
  }
  const bool known = node.dataplane == DataplaneLife::alive;
  if (node.dataplane == DataplaneLife::dead || node.mode == NodeMode::drained)
    return Announcement::withdrawn;
  if (known && !facts.adopted) return Announcement::withdrawn;
  if (known && panics > 0 && rules.panic_withdraws) return Announcement::withdrawn;
  if (known && ready + panics == 0) return Announcement::withdrawn;
  if (!known && before == Announcement::withdrawn) return Announcement::withdrawn;
  if (node.mode == NodeMode::draining || node.lease_lapsing) return Announcement::reduced;
  if (!known) return before;
  return ready == facts.services.size() ? Announcement::normal : Announcement::reduced;
}

TEST(Announce, AgreesWithTheTable) {
  using enum ServiceHealth;
  size_t cases = 0;
  const auto check = [&](const VipFacts& facts, const NodeFacts& node) {
    for (uint32_t least : {1u, 2u}) {
      for (bool withdraws : {false, true}) {
        for (Announcement before :
             {Announcement::normal, Announcement::reduced, Announcement::withdrawn}) {
          const AnnounceRules rules{least, withdraws};
          const Decision decision = decide(facts, node, rules, before);
          ASSERT_EQ(decision.announcement, by_the_table(facts, node, rules, before))
              << decision.reason;
          ASSERT_TRUE(decision.announcement == Announcement::normal || !decision.reason.empty());
          ++cases;
        }
      }
    }
  };
  for (ServiceHealth a : {ready, degraded, down, panic}) {
    for (ServiceHealth b : {ready, degraded, down, panic}) {
      for (uint32_t healthy : {0u, 1u, 2u}) {
        for (bool adopted : {false, true}) {
          for (auto life : {DataplaneLife::alive, DataplaneLife::dead, DataplaneLife::unsure}) {
            for (auto mode : {NodeMode::normal, NodeMode::draining, NodeMode::drained}) {
              for (bool lapsing : {false, true}) {
                check(vip({service(a, healthy), service(b, 2)}, adopted), {life, mode, lapsing});
              }
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(cases, 16u * 3 * 2 * 3 * 3 * 2 * 12);
}

}  // namespace
}  // namespace guideway
