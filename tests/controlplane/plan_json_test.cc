// SPDX-License-Identifier: Apache-2.0
#include "controlplane/plan_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "controlplane/pool_plan.h"

namespace guideway {
namespace {

using nlohmann::json;

Address address(const char* text) {
  return Address::parse(text).value();
}

// With everything that a plan can have.
ChangePlan busy_plan() {
  ChangePlan plan = first_plan({251, {{address("10.0.0.1"), 100}, {address("10.0.0.2"), 7}}}, 5);
  PoolHistory& history = plan.history;
  history.earlier = {history.current};
  history.current.number = 2;
  history.current.members.push_back({address("10.0.0.3"), 0});
  history.current.kept_stand_ins[address("10.0.0.2")] = {3, 77, 250};
  history.earlier[0].stand_ins = false;
  history.incoming = history.current;
  history.incoming->number = 3;
  history.incoming->members[2].weight = 9;
  plan.forced = true;
  return plan;
}

Result<ChangePlan> read(const std::string& text) {
  return read_plan(json::parse(text), "pools.web.plan");
}

TEST(PlanJson, WhatIsWrittenIsReadAgain) {
  ChangePlan plan = busy_plan();
  auto again = read(write_plan(plan));
  ASSERT_TRUE(again) << again.error().text();
  plan.wanted = {};  // not written
  EXPECT_EQ(*again, plan);
  EXPECT_TRUE(check_plan(*again));
}

TEST(PlanJson, SaysWhereItIsWrong) {
  const json good = json::parse(write_plan(busy_plan()));
  const auto error_with = [&](const char* pointer, const json& value) {
    json bad = good;
    bad[json::json_pointer(pointer)] = value;
    auto plan = read_plan(bad, "plan");
    return plan ? std::string("read") : plan.error().field;
  };
  EXPECT_EQ(error_with("/revision", -1), "plan.revision");
  EXPECT_EQ(error_with("/forced", 1), "plan.forced");
  EXPECT_EQ(error_with("/current/slots", "many"), "plan.current.slots");
  EXPECT_EQ(error_with("/current/members", json::array()), "plan.current.members");
  EXPECT_EQ(error_with("/current/members/10.0.0.1", 5'000'000'000),
            "plan.current.members.10.0.0.1");
  EXPECT_EQ(error_with("/current/members/host", 5), "plan.current.members.host");
  EXPECT_EQ(error_with("/incoming/stand_ins", nullptr), "plan.incoming.stand_ins");
  EXPECT_EQ(error_with("/earlier/0/kept_stand_ins", 3), "plan.earlier.0.kept_stand_ins");
  EXPECT_EQ(error_with("/earlier", json::object()), "plan.earlier");
  EXPECT_EQ(error_with("/extra", 1), "plan.extra");
  for (const char* field : {"revision", "forced", "current", "incoming", "earlier"}) {
    json bad = good;
    bad.erase(field);
    auto plan = read_plan(bad, "plan");
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().field, std::string("plan.") + field);
  }
}

// Whatever a store may hold, it is read or refused, and what passes can be built.
TEST(PlanJson, ContradictionsAreFound) {
  const auto field = [](auto change) {
    ChangePlan plan = busy_plan();
    change(plan.history);
    auto valid = check_plan(plan);
    return valid ? std::string("valid") : valid.error().field;
  };
  EXPECT_EQ(field([](PoolHistory&) {}), "valid");
  EXPECT_EQ(field([](PoolHistory& h) { h.current.slots = 256; }), "current.slots");
  EXPECT_EQ(field([](PoolHistory& h) { h.current.fill_slots = 509; }), "current.fill_slots");
  EXPECT_EQ(field([](PoolHistory& h) { h.earlier[0].number = 2; }), "earlier.0.number");
  EXPECT_EQ(field([](PoolHistory& h) { h.incoming->members[0].weight = 70'000; }),
            "incoming.members.10.0.0.1");
  EXPECT_EQ(field([](PoolHistory& h) { h.current.members[0].address = address("224.0.0.1"); }),
            "current.members.224.0.0.1");
  EXPECT_EQ(field([](PoolHistory& h) { h.current.kept_stand_ins[address("10.0.0.2")] = {251}; }),
            "current.kept_stand_ins.10.0.0.2");
  EXPECT_EQ(field([](PoolHistory& h) {
              h.current.kept_stand_ins[address("10.0.0.2")] = {9, 9};
            }),
            "current.kept_stand_ins.10.0.0.2");
  EXPECT_EQ(field([](PoolHistory& h) { h.current.kept_stand_ins[address("10.0.0.9")] = {9}; }),
            "current.kept_stand_ins.10.0.0.9");
  EXPECT_EQ(field([](PoolHistory& h) {
              for (uint8_t i = 0; i < 6; ++i) {
                Epoch epoch = h.earlier[0];
                epoch.number = 10u + i;
                epoch.members[0].address = address(("10.0.1." + std::to_string(i + 1)).c_str());
                h.earlier.push_back(epoch);
              }
            }),
            "history");
}

}  // namespace
}  // namespace guideway
