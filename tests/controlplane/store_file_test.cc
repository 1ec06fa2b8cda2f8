// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace guideway {
namespace {

class FileStoreTest : public testing::Test {
 protected:
  FileStoreTest() {
    char name[] = "/tmp/guideway-store-XXXXXX";
    directory_ = mkdtemp(name);
    state_ = directory_ + "/state";
  }
  ~FileStoreTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<FileStore> open() {
    auto store = FileStore::open(state_, [] { return uint64_t{4711}; });
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  std::string file() const { return state_ + "/intent.json"; }
  std::string read() const {
    std::ifstream in(file(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void write(const std::string& text) const { std::ofstream(file(), std::ios::binary) << text; }

  static Intent sample() {
    Intent intent;
    intent.revision = 3;
    intent.flow_seed = 9;
    Pool& web = intent.pools["web"];
    web.backends[Address::parse("10.0.0.21").value()] = {7};
    web.backends[Address::parse("10.0.0.22").value()] = {7, BackendMode::draining, 1795435200};
    web.probe.kind = ProbeKind::http;
    web.probe.port = 8080;
    web.probe.path = "/healthz";
    web.slow_start_ms = 30000;
    intent.services[ServiceKey::parse("203.0.113.10:443/tcp").value()] = {"web"};
    return intent;
  }

  std::string directory_;
  std::string state_;
};

TEST_F(FileStoreTest, ANewStoreIsEmptyWithADurableSeed) {
  auto intent = open()->load();
  ASSERT_TRUE(intent) << intent.error().text();
  EXPECT_EQ(intent->revision, 0u);
  EXPECT_EQ(intent->flow_seed, 4711u);
  auto again = FileStore::open(state_, [] { return uint64_t{1}; });
  ASSERT_TRUE(again);
  EXPECT_EQ((*again)->load()->flow_seed, 4711u);
}

TEST_F(FileStoreTest, SeedsAreRandom) {
  auto one = FileStore::open(directory_ + "/one");
  auto two = FileStore::open(directory_ + "/two");
  EXPECT_NE((*one)->load()->flow_seed, (*two)->load()->flow_seed);
}

TEST_F(FileStoreTest, WhatWasSavedIsLoaded) {
  ASSERT_TRUE(open()->save(sample()));
  EXPECT_EQ(open()->load().value(), sample());
  struct stat info = {};
  ASSERT_EQ(stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_FALSE(std::filesystem::exists(file() + ".new"));
}

TEST_F(FileStoreTest, OneOwnerAtATime) {
  auto first = open();
  auto second = FileStore::open(state_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text(), state_ +
                                       ": is in use by another guideway-controlplane (a node has "
                                       "one control plane: stop that one first)");
  first.reset();
  EXPECT_TRUE(FileStore::open(state_));
}

TEST_F(FileStoreTest, LeftoversOfACrashDoNoHarm) {
  auto store = open();
  ASSERT_TRUE(store->save(sample()));
  std::ofstream(file() + ".new") << "half a fi";
  EXPECT_EQ(store->load().value(), sample());
  Intent next = sample();
  next.revision = 4;
  ASSERT_TRUE(store->save(next));
  EXPECT_EQ(store->load().value(), next);
}

// Whatever a byte is changed to, and wherever the file ends: an error that names the file, and the
// file stays as it is.
TEST_F(FileStoreTest, EveryDamageIsFound) {
  auto store = open();
  ASSERT_TRUE(store->save(sample()));
  const std::string good = read();
  auto expect_error = [&](const std::string& bad, const std::string& what) {
    write(bad);
    auto loaded = store->load();
    ASSERT_FALSE(loaded) << what;
    EXPECT_EQ(loaded.error().field, file()) << what;
    EXPECT_EQ(read(), bad) << what;
  };
  for (size_t length = 0; length < good.size(); ++length) {
    expect_error(good.substr(0, length), "cut to " + std::to_string(length));
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    expect_error(bad, "byte " + std::to_string(at));
  }
  write(good);
  EXPECT_EQ(store->load().value(), sample());
}

TEST_F(FileStoreTest, ExactMessages) {
  auto store = open();
  ASSERT_TRUE(store->save(sample()));
  const std::string good = read();
  const std::string hint = " (the file is left as it is: restore it from a copy, or move it away)";
  write("{\"format\":2,\"checksum\":\"\"}\n{}\n");
  EXPECT_EQ(store->load().error().text(),
            file() +
                ": has format 2, and this Guideway reads format 1 (it was written by another "
                "version: run that one)");
  write(good.substr(0, good.size() - 5));
  EXPECT_EQ(store->load().error().text(), file() + ": is damaged: it is cut short" + hint);
  write("");
  EXPECT_EQ(store->load().error().text(),
            file() + ": is damaged: its first line ends nowhere" + hint);
  std::string flipped = good;
  flipped[flipped.find("\"weight\":7") + 9] = '8';
  write(flipped);
  EXPECT_EQ(store->load().error().text(), file() + ": is damaged: its checksum is wrong" + hint);
}

TEST_F(FileStoreTest, AChangeIsCountedKeptAndTold) {
  auto store = open();
  ASSERT_TRUE(store->load());
  std::vector<uint64_t> told;
  store->on_intent([&](const auto& intent) { told.push_back(intent->revision); });
  const auto add = [](const Intent& before) -> ChangeResult {
    return put_service(before, ServiceKey::parse("203.0.113.10:443/tcp").value(), {"web"});
  };
  std::vector<Store::ChangeOutcome> outcomes;
  const auto keep = [&](Store::ChangeOutcome outcome) { outcomes.push_back(std::move(outcome)); };
  store->change(add, "test", "no such pool", keep);
  store->change([](const Intent&) -> ChangeResult { return sample(); }, "test", "sample", keep);
  store->change(add, "test", "is there", keep);
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_EQ(outcomes[0].error().refusal, Refusal::invalid);
  EXPECT_EQ(outcomes[1]->before->revision, 0u);
  EXPECT_EQ(outcomes[1]->after->revision, 1u);
  EXPECT_EQ(outcomes[2]->before, outcomes[2]->after);
  EXPECT_EQ(told, std::vector<uint64_t>{1});
  EXPECT_EQ(store->intent()->services.size(), 1u);
  store.reset();
  EXPECT_EQ(open()->load()->revision, 1u);
}

TEST_F(FileStoreTest, AChangeThatCannotBeKeptIsRefused) {
  auto store = open();
  ASSERT_TRUE(store->load());
  std::filesystem::remove_all(state_);
  Store::ChangeOutcome outcome;
  store->on_intent([](const auto&) { ADD_FAILURE(); });
  store->change([](const Intent&) -> ChangeResult { return sample(); }, "test", "sample",
                [&](Store::ChangeOutcome got) { outcome = std::move(got); });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().refusal, Refusal::not_stored);
  EXPECT_EQ(store->intent()->revision, 0u);
}

TEST_F(FileStoreTest, AStateDirectoryThatCannotBeIsAnError) {
  std::ofstream(directory_ + "/plain") << "x";
  auto store = FileStore::open(directory_ + "/plain/state");
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().field, directory_ + "/plain/state");
}

// kill -9 between any two saves, or within one: the last answered intent is there, or the one that
// was being saved.
TEST_F(FileStoreTest, SurvivesKillAtAnyMoment) {
  ASSERT_TRUE(open()->save(sample()));
  for (int round = 0; round < 20; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
      auto store = FileStore::open(state_);
      Intent intent = (*store)->load().value();
      for (;;) {
        ++intent.revision;
        if (!(*store)->save(intent)) _exit(1);
        if (::write(pipe_fds[1], &intent.revision, sizeof intent.revision) < 0) _exit(1);
      }
    }
    close(pipe_fds[1]);
    uint64_t answered = 0;
    for (int i = 0; i <= round; ++i) {
      ASSERT_EQ(::read(pipe_fds[0], &answered, sizeof answered),
                static_cast<ssize_t>(sizeof answered));
    }
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    while (::read(pipe_fds[0], &answered, sizeof answered) > 0) {
    }
    close(pipe_fds[0]);
    auto loaded = open()->load();
    ASSERT_TRUE(loaded) << loaded.error().text();
    EXPECT_GE(loaded->revision, answered);
    EXPECT_LE(loaded->revision, answered + 1);
  }
}

}  // namespace
}  // namespace guideway
