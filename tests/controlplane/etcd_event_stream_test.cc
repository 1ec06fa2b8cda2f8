// SPDX-License-Identifier: Apache-2.0
// A watch's body in pieces of any kind.
// (No json.hpp here: its code would be linked from this file, unoptimised.)
#include "controlplane/etcd_event_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace guideway {
namespace {

using State = EtcdEventStream::State;

std::string event(int64_t revision, const std::string& key, const std::string& value = "v") {
  return R"({"kv":{"key":")" + base64_of(key) + R"(","create_revision":"1","mod_revision":")" +
         std::to_string(revision) + R"(","value":")" + base64_of(value) + R"("}})";
}
std::string message(const std::string& fields, int64_t revision = 90) {
  return R"({"result":{"header":{"revision":")" + std::to_string(revision) + "\"}" +
         (fields.empty() ? "" : "," + fields) + "}}\n";
}
const std::string kCreated = message(R"("created":true)");

std::vector<std::pair<int64_t, size_t>> sizes(const std::vector<EtcdRevision>& revisions) {
  std::vector<std::pair<int64_t, size_t>> out;
  for (const EtcdRevision& one : revisions) out.emplace_back(one.revision, one.events.size());
  return out;
}
using Sizes = std::vector<std::pair<int64_t, size_t>>;

TEST(EtcdEventStream, RevisionsAreWhole) {
  EtcdEventStream stream("k", 5);
  EXPECT_TRUE(stream.take(kCreated).empty());
  EXPECT_EQ(stream.state(), State::created);
  EXPECT_EQ(stream.next_revision(), 5);
  EXPECT_EQ(sizes(stream.take(message(R"("events":[)" + event(5, "k1") + "," + event(5, "k2") +
                                      "," + event(8, "k1") + "]"))),
            (Sizes{{5, 2}, {8, 1}}));
  EXPECT_EQ(stream.next_revision(), 9);
  // In fragments: 9 is complete when 11 begins, 11 with the last one.
  EXPECT_TRUE(stream.take(message(R"("fragment":true,"events":[)" + event(9, "k1") + "]")).empty());
  EXPECT_EQ(stream.next_revision(), 9);
  EXPECT_EQ(sizes(stream.take(message(R"("fragment":true,"events":[)" + event(9, "k2") + "," +
                                      event(11, "k1") + "]"))),
            (Sizes{{9, 2}}));
  EXPECT_EQ(stream.next_revision(), 10);
  EXPECT_EQ(sizes(stream.take(message(R"("events":[)" + event(11, "k2") + "]"))), (Sizes{{11, 2}}));
  EXPECT_EQ(stream.next_revision(), 12);
}

TEST(EtcdEventStream, PiecesOfAnySizeSayTheSame) {
  std::string text = kCreated;
  for (int revision = 5; revision < 60; revision += 3)
    text += message((revision % 2 == 0 ? R"("fragment":true,"events":[)" : R"("events":[)") +
                    event(revision, "k", std::string(static_cast<size_t>(revision), 'x')) + "]");
  text += message("", 100);
  EtcdEventStream whole("k", 5);
  const auto expected = whole.take(text);
  ASSERT_EQ(expected.size(), 19U);
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    EtcdEventStream stream("k", 5);
    std::vector<EtcdRevision> got;
    for (size_t at = 0; at < text.size();) {
      const size_t n = random() % (round + 1) + 1;
      for (auto& one : stream.take(std::string_view(text).substr(at, n))) got.push_back(one);
      at += n;
    }
    ASSERT_EQ(sizes(got), sizes(expected));
    ASSERT_EQ(stream.next_revision(), whole.next_revision());
  }
}

TEST(EtcdEventStream, AProgressNoticeMovesOnOnlyWhenNothingIsHeld) {
  EtcdEventStream stream("k", 5);
  stream.take(kCreated);
  EXPECT_EQ(stream.next_revision(), 5);  // taken on at revision 90: that says nothing of events
  stream.take(message("", 70));
  EXPECT_EQ(stream.next_revision(), 71);
  stream.take(message("", 20));
  EXPECT_EQ(stream.next_revision(), 71);
  stream.take(message(R"("fragment":true,"events":[)" + event(72, "k") + "]"));
  EXPECT_EQ(sizes(stream.take(message("", 80))), (Sizes{{72, 1}}));
  EXPECT_EQ(stream.next_revision(), 73);
}

TEST(EtcdEventStream, Compacted) {
  EtcdEventStream stream("k", 5);
  stream.take(kCreated + message(R"("canceled":true,"compact_revision":"40")"));
  EXPECT_EQ(stream.state(), State::compacted);
  EXPECT_EQ(stream.compact_revision(), 40);
  EXPECT_TRUE(stream.take(message(R"("events":[)" + event(50, "k") + "]")).empty());
}

TEST(EtcdEventStream, WhatContradictsItselfEndsIt) {
  for (const int64_t late : {4, 8}) {
    EtcdEventStream stream("k", 5);
    stream.take(kCreated + message(R"("events":[)" + event(8, "k") + "]"));
    EXPECT_TRUE(stream.take(message(R"("events":[)" + event(late, "k") + "]")).empty());
    EXPECT_EQ(stream.state(), State::compacted);
    EXPECT_EQ(stream.compact_revision(), 0);
  }
}

TEST(EtcdEventStream, WhyItEnded) {
  const auto why = [](const std::string& text) {
    EtcdEventStream stream("k", 5);
    stream.take(text);
    stream.finish();
    return stream.state() == State::ended ? stream.why() : "goes on";
  };
  EXPECT_EQ(why(""), "goes on");
  EXPECT_EQ(why(R"({"error":{"grpc_code":14,"message":"etcdserver: no leader"}})"),
            "etcdserver: no leader");
  EXPECT_EQ(why(message(R"("created":true,"canceled":true,"cancel_reason":"tired")")),
            "etcd has canceled the watch: tired");
  EXPECT_EQ(why(kCreated + message(R"("events":[)" + event(6, "other") + "]")),
            "an event of a key that is not watched");
  EXPECT_NE(why("Not Found\n").find("none of etcd's"), std::string::npos);
  EXPECT_NE(why(kCreated + R"({"result")").find("none of etcd's"), std::string::npos);
  EtcdEventStream stream("k", 5);
  stream.take(R"({"error":"etcdserver: invalid auth token","message":"m","code":16})");
  stream.finish();
  EXPECT_TRUE(stream.wants_token());
}

TEST(EtcdEventStream, MemoryIsBounded) {
  EtcdEventStream endless("k", 5);
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 17 && endless.state() == State::opening; ++i) endless.take(piece);
  EXPECT_EQ(endless.why(), "a watch message of more than 16 MiB");
  EtcdEventStream fragments("k", 5);
  fragments.take(kCreated);
  const std::string fragment =
      message(R"("fragment":true,"events":[)" + event(6, "k", piece) + "]");
  int taken = 0;
  for (; taken < 70 && fragments.state() == State::created; ++taken) fragments.take(fragment);
  EXPECT_EQ(taken, 64);
  EXPECT_EQ(fragments.why(), "a revision of more than 64 MiB");
}

}  // namespace
}  // namespace guideway
