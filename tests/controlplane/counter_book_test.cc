// SPDX-License-Identifier: Apache-2.0
#include "controlplane/counter_book.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <fstream>

#include "tests/controlplane/counters_file.h"

namespace guideway {
namespace {

Address backend(unsigned i) {
  const uint8_t bytes[4] = {10, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                            static_cast<uint8_t>(i)};
  return Address::from_v4(bytes);
}

ServiceKey service(uint16_t port) {
  return {*Address::parse("203.0.113.10"), IPPROTO_TCP, port};
}

Intent intent_of(std::initializer_list<unsigned> backends,
                 std::initializer_list<uint16_t> services = {}) {
  Intent intent;
  for (const unsigned i : backends) intent.pools["web"].backends[backend(i)] = {};
  for (const uint16_t port : services) intent.services[service(port)] = {"web"};
  return intent;
}

class CounterBookTest : public ::testing::Test {
 protected:
  CounterBookTest() : counters_(std::move(*Counters::open(file_.path()))) {
    file_.worker(0).received = 1;
  }
  uint32_t index(unsigned i) const { return book_.backend_index("web", backend(i)); }
  void count(unsigned i, uint64_t packets) {
    auto& traffic = file_.backend(0, index(i));
    traffic.packets += packets;
    traffic.bytes += packets * 60;
  }
  uint64_t total(unsigned i) const {
    return book_.backend("web", backend(i), *counters_).value_or(Traffic{999999, 0}).packets;
  }

  CountersFile file_;
  std::unique_ptr<Counters> counters_;
  CounterBook book_{file_.book_path()};
};

TEST_F(CounterBookTest, EachNameHasAnIndexOfItsOwn) {
  ASSERT_TRUE(book_.claim(intent_of({1, 2}, {80, 443}), 1));
  EXPECT_NE(index(1), index(2));
  EXPECT_NE(book_.service_index(service(80)), book_.service_index(service(443)));
  count(1, 5);
  EXPECT_EQ(total(1), 5u);
  EXPECT_EQ(total(2), 0u);
  EXPECT_EQ(book_.backend("web", backend(1), *counters_), (Traffic{5, 300}));
  const uint32_t before = index(1);
  ASSERT_TRUE(book_.claim(intent_of({1, 2, 3}, {80, 443}), 2));
  EXPECT_EQ(index(1), before);
  EXPECT_EQ(book_.service(service(9), *counters_), std::nullopt);
}

TEST_F(CounterBookTest, AnIndexIsGivenOnOnlyAfterItsLastValueWasRead) {
  ASSERT_TRUE(book_.claim(intent_of({1}), 1));
  count(1, 100);
  const uint32_t old = index(1);
  ASSERT_TRUE(book_.claim(intent_of({2}), 2));
  EXPECT_NE(index(2), old) << "generation 1 still runs";
  count(1, 7);  // so it still counts
  EXPECT_EQ(total(1), 107u);
  book_.adopted(1, *counters_);
  ASSERT_TRUE(book_.claim(intent_of({2, 3}), 3));
  EXPECT_NE(index(3), old) << "only generation 1 was adopted";
  book_.adopted(3, *counters_);
  EXPECT_EQ(total(1), 999999u) << "gone";
  ASSERT_TRUE(book_.claim(intent_of({2, 3, 4}), 4));
  EXPECT_EQ(index(4), old);
  EXPECT_EQ(total(4), 0u) << "starts at 0";
  count(4, 3);
  EXPECT_EQ(total(4), 3u);
}

TEST_F(CounterBookTest, ANameThatComesBackInTimeGoesOn) {
  ASSERT_TRUE(book_.claim(intent_of({1}), 1));
  book_.adopted(1, *counters_);
  count(1, 100);
  const uint32_t old = index(1);
  ASSERT_TRUE(book_.claim(intent_of({}), 2));
  ASSERT_TRUE(book_.claim(intent_of({1}), 3));
  book_.adopted(3, *counters_);
  EXPECT_EQ(index(1), old);
  EXPECT_EQ(total(1), 100u);
}

TEST_F(CounterBookTest, ARestartedControlPlaneKnowsAll) {
  ASSERT_TRUE(book_.claim(intent_of({1}, {80}), 1));
  count(1, 100);
  ASSERT_TRUE(book_.claim(intent_of({}, {80}), 2));
  book_.adopted(2, *counters_);
  ASSERT_TRUE(book_.claim(intent_of({2}, {80}), 3));  // base 100
  count(2, 5);
  ASSERT_TRUE(book_.claim(intent_of({3}, {80, 443}), 4));  // 2 is released, not free
  count(3, 9);

  auto loaded = CounterBook::load(file_.book_path());
  ASSERT_TRUE(loaded) << loaded.error().text();
  EXPECT_EQ(loaded->last_generation(), 4u);
  for (const unsigned i : {2u, 3u}) {
    EXPECT_EQ(loaded->backend_index("web", backend(i)), index(i));
    EXPECT_EQ(loaded->backend("web", backend(i), *counters_)->packets, i == 2 ? 5u : 9u);
  }
  EXPECT_EQ(loaded->service_index(service(443)), book_.service_index(service(443)));
  loaded->adopted(4, *counters_);
  EXPECT_EQ(loaded->backend("web", backend(2), *counters_), std::nullopt);
  ASSERT_TRUE(loaded->claim(intent_of({3, 5}, {80, 443}), 5));
  EXPECT_EQ(loaded->backend_index("web", backend(5)), index(2));
  EXPECT_EQ(loaded->backend("web", backend(5), *counters_)->packets, 0u);
}

TEST_F(CounterBookTest, CountersThatBeganAnewDoNotUnderflow) {
  ASSERT_TRUE(book_.claim(intent_of({1}), 1));
  count(1, 100);
  ASSERT_TRUE(book_.claim(intent_of({}), 2));
  book_.adopted(2, *counters_);
  ASSERT_TRUE(book_.claim(intent_of({2}), 3));
  file_.backend(0, index(2)) = {4, 240};  // the file was lost
  EXPECT_EQ(total(2), 4u);
}

TEST_F(CounterBookTest, WithoutAFreeIndexNamesShareTheLast) {
  Intent full;
  for (unsigned i = 0; i < GW_BACKENDS_MAX; ++i)
    full.pools["p" + std::to_string(i / GW_POOL_BACKENDS_MAX)].backends[backend(i)] = {};
  ASSERT_TRUE(book_.claim(full, 1));
  unsigned shared = 0;
  std::set<uint32_t> used;
  for (const auto& [name, pool] : full.pools) {
    for (const auto& [address, b] : pool.backends) {
      const uint32_t i = book_.backend_index(name, address);
      ASSERT_LT(i, GW_BACKENDS_MAX);
      if (i == GW_BACKENDS_MAX - 1) {
        ++shared;
        EXPECT_EQ(book_.backend(name, address, *counters_), std::nullopt);
      } else {
        EXPECT_TRUE(used.insert(i).second);
      }
    }
  }
  EXPECT_EQ(shared, 1u);
  // All others instead: nothing is free until the dataplane has moved on.
  ASSERT_TRUE(book_.claim(intent_of({1}), 2));
  EXPECT_EQ(index(1), GW_BACKENDS_MAX - 1);
  EXPECT_FALSE(book_.adopted(1, *counters_)) << "nothing was freed";
  EXPECT_TRUE(book_.adopted(2, *counters_)) << "there is room for it now";
  ASSERT_TRUE(book_.claim(intent_of({1}), 3));
  EXPECT_EQ(index(1), 0u);
  EXPECT_FALSE(book_.adopted(3, *counters_)) << "it has its own";
}

TEST_F(CounterBookTest, ANewBookOverOldCountersStartsAtZero) {
  for (unsigned i = 0; i < 4; ++i) file_.backend(0, i) = {1000, 60000};
  ASSERT_TRUE(book_.claim(intent_of({1, 2}), 8, counters_.get()));
  EXPECT_EQ(total(1), 0u);
  count(1, 7);  // for whoever had the index in the book that is lost
  book_.adopted(7, *counters_);
  EXPECT_EQ(total(1), 7u) << "the old image still runs";
  book_.adopted(8, *counters_);
  EXPECT_EQ(total(1), 0u);
  count(1, 3);
  book_.adopted(9, *counters_);
  EXPECT_EQ(total(1), 3u) << "once only";
  ASSERT_TRUE(book_.claim(intent_of({1, 2, 3}), 10, counters_.get()));
  EXPECT_EQ(total(3), 0u) << "an index that the lost book gave away";
}

TEST_F(CounterBookTest, LostCountersHaveNoBases) {
  file_.header().epoch = 5;
  book_.opened(*counters_);
  ASSERT_TRUE(book_.claim(intent_of({1}), 1));
  count(1, 100);
  ASSERT_TRUE(book_.claim(intent_of({}), 2));
  book_.adopted(2, *counters_);
  ASSERT_TRUE(book_.claim(intent_of({2}), 3));
  count(2, 5);
  auto loaded = CounterBook::load(file_.book_path());
  ASSERT_TRUE(loaded);
  file_.header().epoch = 6;  // a restart of the dataplane
  loaded->opened(*counters_);
  EXPECT_EQ(loaded->backend("web", backend(2), *counters_)->packets, 5u);
  file_.header().epoch = 1;
  file_.backend(0, index(2)) = {150, 9000};  // above the old base already
  loaded->opened(*counters_);
  EXPECT_EQ(loaded->backend("web", backend(2), *counters_)->packets, 150u);

  // The same epoch by chance, but another file.
  file_.header().epoch = 5;
  CountersFile other;
  other.header().epoch = 5;
  other.worker(0).received = 1;
  auto others = std::move(*Counters::open(other.path()));
  loaded = CounterBook::load(file_.book_path());
  ASSERT_TRUE(loaded);
  other.backend(0, index(2)) = {150, 9000};
  loaded->opened(*others);
  EXPECT_EQ(loaded->backend("web", backend(2), *others)->packets, 150u);
}

TEST_F(CounterBookTest, NoFileIsAnEmptyBook) {
  const auto book = CounterBook::load(file_.book_path());
  ASSERT_TRUE(book);
  EXPECT_EQ(book->last_generation(), 0u);
}

TEST_F(CounterBookTest, ADamagedFileIsAnError) {
  for (const char* text :
       {"", "{", "[]", "null", R"({"format":2})", R"({"format":1})",
        R"({"format":1,"last_generation":1,"services":{},"backends":{}})",
        R"({"format":1,"last_generation":1,"services":{"fresh":0,"entries":{},"free":[]},
            "backends":{"fresh":99999,"entries":{},"free":[]}})",
        R"({"format":1,"last_generation":1,"services":{"fresh":0,"entries":{},"free":[]},
            "backends":{"fresh":1,"entries":{"a":[0,0,0,0],"b":[0,0,0,0]},"free":[]}})",
        R"({"format":1,"last_generation":1,"services":{"fresh":0,"entries":{},"free":[]},
            "backends":{"fresh":1,"entries":{"a":[1,0,0,0]},"free":[]}})",
        R"({"format":1,"last_generation":1,"services":{"fresh":0,"entries":{},"free":[]},
            "backends":{"fresh":1,"entries":{"a":[0]},"free":[]}})"}) {
    std::ofstream(file_.book_path()) << text;
    const auto book = CounterBook::load(file_.book_path());
    EXPECT_FALSE(book) << text;
    if (!book) {
      EXPECT_EQ(book.error().field, file_.book_path());
    }
  }
}

TEST_F(CounterBookTest, AClaimThatCannotBeSavedSaysSo) {
  CounterBook book("/nonexistent/counter-book.json");
  const auto ok = book.claim(intent_of({1}), 1);
  ASSERT_FALSE(ok);
  EXPECT_FALSE(book.claim(intent_of({1}), 2)) << "still not saved";
  EXPECT_EQ(book.backend_index("web", backend(1)), GW_BACKENDS_MAX - 1);
}

TEST_F(CounterBookTest, WithoutABookThatCanBeSavedOnlyNewNamesShare) {
  ASSERT_TRUE(book_.claim(intent_of({1}), 1));
  book_.adopted(1, *counters_);
  const uint32_t old = index(1);
  count(1, 9);
  const std::string in_the_way = file_.book_path() + ".new";
  ASSERT_EQ(mkdir(in_the_way.c_str(), 0700), 0);
  EXPECT_FALSE(book_.claim(intent_of({1, 2}), 2));
  EXPECT_EQ(index(1), old);
  EXPECT_EQ(total(1), 9u);
  EXPECT_EQ(index(2), GW_BACKENDS_MAX - 1);
  ASSERT_EQ(rmdir(in_the_way.c_str()), 0);
  EXPECT_TRUE(book_.claim(intent_of({1, 2}), 3));
  EXPECT_NE(index(2), GW_BACKENDS_MAX - 1);
  EXPECT_NE(index(2), old);
}

}  // namespace
}  // namespace guideway
