// SPDX-License-Identifier: Apache-2.0
#include "dataplane/image_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

class ImageStoreTest : public testing::Test {
 protected:
  ImageStoreTest() {
    char name[] = "/tmp/gw-image-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~ImageStoreTest() override { std::filesystem::remove_all(directory_); }

  ImageStore store(const char* port = "eth1") {
    return {directory_ + "/image", {port}, [this](const Image* image) { current_ = image; }};
  }
  std::string adopt(ImageStore& s, const RootSpec& spec) {
    auto ok = s.adopt(spec.generation, memfd_of(root_bytes(spec)).get());
    return ok ? "adopted" : ok.error().text();
  }
  std::string add(ImageStore& s, uint64_t digest, int fd) {
    auto ok = s.add_table(digest, fd);
    return ok ? "taken" : ok.error().text();
  }
  size_t files() const {
    size_t n = 0;
    for ([[maybe_unused]] const auto& f :
         std::filesystem::directory_iterator(directory_ + "/image"))
      ++n;
    return n;
  }

  std::string directory_;
  const Image* current_ = nullptr;
  Bytes table_ = round_robin_table(7, 3);
  uint64_t digest_ = digest_of(table_);
};

TEST_F(ImageStoreTest, AdoptsATableAndItsRoot) {
  ImageStore s = store();
  EXPECT_EQ(add(s, digest_, memfd_of(table_).get()), "taken");
  EXPECT_EQ(adopt(s, three_backends(34, digest_)), "adopted");
  ASSERT_EQ(current_, s.running());
  EXPECT_EQ(current_->pools()[0].slots, 7u);
}

// From a control plane, or a dataplane, of before: what runs, and what is saved, is of now.
TEST_F(ImageStoreTest, ARootOfTheLayoutBeforeIsRewritten) {
  RootSpec spec = three_backends(62, digest_);
  const Bytes now = root_bytes(spec);
  spec.layout = GW_LAYOUT_OLDEST;
  {
    ImageStore s = store();
    add(s, digest_, memfd_of(table_).get());
    EXPECT_EQ(adopt(s, spec), "adopted");
    EXPECT_TRUE(std::ranges::equal(s.running()->bytes().bytes(), now));
    ASSERT_TRUE(s.save());
  }
  for (const Bytes& copy : {now, root_bytes(spec)}) {
    std::ofstream(directory_ + "/image/root", std::ios::binary)
        .write(reinterpret_cast<const char*>(copy.data()),
               static_cast<std::streamsize>(copy.size()));
    ImageStore s = store();
    ASSERT_TRUE(s.load());
    EXPECT_TRUE(std::ranges::equal(s.running()->bytes().bytes(), now));
  }
}

TEST_F(ImageStoreTest, KnowsWhetherATableIsOnDisk) {
  ImageStore s = store();
  EXPECT_FALSE(s.has_unsaved_table()) << "nothing runs";
  add(s, digest_, memfd_of(table_).get());
  RootSpec spec = three_backends(34, digest_);
  adopt(s, spec);
  EXPECT_TRUE(s.has_unsaved_table());
  ASSERT_TRUE(s.save());
  EXPECT_FALSE(s.has_unsaved_table());
  ++spec.generation;
  EXPECT_EQ(adopt(s, spec), "adopted");
  EXPECT_FALSE(s.has_unsaved_table()) << "a root alone";
}

TEST_F(ImageStoreTest, RefusalsLeaveTheRunningImage) {
  ImageStore s = store();
  add(s, digest_, memfd_of(table_).get());
  adopt(s, three_backends(34, digest_));
  const Image* running = s.running();

  RootSpec next = three_backends(34, 0xabc);
  next.generation = 2;
  EXPECT_EQ(adopt(s, next), "pools[0].table_digest: table 0000000000000abc was not sent");
  next = three_backends(34, digest_);
  EXPECT_EQ(adopt(s, next), "generation: is 1, already running 1");
  next.generation = 2;
  next.ports = 2;
  EXPECT_EQ(adopt(s, next), "ports: made for 2 ports, this dataplane has 1");
  next.ports = 1;
  next.backends.pop_back();
  next.pools[0].backends = 2;
  EXPECT_EQ(
      adopt(s, next), "pools[0].table_digest: table " + [&] {
        char t[17];
        std::snprintf(t, sizeof t, "%016lx", digest_);
        return std::string(t);
      }() + " is for 3 backends, the pool has 2");
  EXPECT_FALSE(s.adopt(7, memfd_of(root_bytes(three_backends(34, digest_))).get()));
  EXPECT_EQ(s.running(), running);
  EXPECT_EQ(current_, running);
}

// Its indices would send packets out of another NIC.
TEST_F(ImageStoreTest, AnImageMadeForOtherPortsIsRefused) {
  ImageStore s = store("eth2");
  add(s, digest_, memfd_of(table_).get());
  EXPECT_EQ(adopt(s, three_backends(34, digest_)), "port[0]: made for eth1, here it is eth2");
}

TEST_F(ImageStoreTest, ADamagedTableOfTheCopyIsWrittenAgain) {
  const auto run = [&](ImageStore& s) {
    add(s, digest_, memfd_of(table_).get());
    EXPECT_EQ(adopt(s, three_backends(34, digest_)), "adopted");
    ASSERT_TRUE(s.save());
  };
  {
    ImageStore s = store();
    run(s);
  }
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/image")) {
    if (entry.path().extension() == ".table") std::filesystem::resize_file(entry.path(), 70);
  }
  {
    ImageStore s = store();
    EXPECT_FALSE(s.load());
    run(s);
  }
  ImageStore s = store();
  EXPECT_TRUE(s.load().value());
}

TEST_F(ImageStoreTest, OnlySealedMemoryIsTaken) {
  ImageStore s = store();
  EXPECT_NE(add(s, digest_, memfd_of(table_, false).get()).find("is not a sealed memfd"),
            std::string::npos);
  EXPECT_NE(add(s, digest_, -1).find("is not a sealed memfd"), std::string::npos);
  EXPECT_NE(add(s, digest_ + 1, memfd_of(table_).get()).find("its digest is"), std::string::npos);
}

TEST_F(ImageStoreTest, TablesThatNoRootUsesAreForgotten) {
  ImageStore s = store();
  const Bytes other = round_robin_table(11, 3);
  add(s, digest_, memfd_of(table_).get());
  add(s, digest_of(other), memfd_of(other).get());
  EXPECT_EQ(adopt(s, three_backends(34, digest_)), "adopted");
  RootSpec next = three_backends(34, digest_of(other));
  next.generation = 2;
  EXPECT_NE(adopt(s, next).find("was not sent"), std::string::npos);
}

TEST_F(ImageStoreTest, ARestartedDataplaneTakesTheCopy) {
  {
    ImageStore s = store();
    add(s, digest_, memfd_of(table_).get());
    RootSpec spec = three_backends(34, digest_);
    spec.generation = 17;
    adopt(s, spec);
    ASSERT_TRUE(s.save());
    EXPECT_EQ(files(), 2u);
  }
  ImageStore s = store();
  EXPECT_TRUE(s.load().value());
  EXPECT_EQ(s.running()->root().generation, 17u);
  EXPECT_EQ(current_, s.running());
}

// Many images in a row share a copy; what health says of the backends is in it.
TEST_F(ImageStoreTest, ACopyMayLeaveImagesOut) {
  {
    ImageStore s = store();
    add(s, digest_, memfd_of(table_).get());
    RootSpec spec = three_backends(34, digest_);
    for (spec.generation = 1; spec.generation < 9; ++spec.generation) {
      if (spec.generation % 2) set_draining(spec.backends[0]);
      if (spec.generation % 2 == 0) set_up(spec.backends[0], 77);
      spec.backends[0].weight = static_cast<uint16_t>(spec.generation);
      EXPECT_EQ(adopt(s, spec), "adopted");
      if (spec.generation % 4 == 0) {
        ASSERT_TRUE(s.save());
      }
    }
  }
  ImageStore s = store();
  ASSERT_TRUE(s.load().value());
  EXPECT_EQ(s.running()->root().generation, 8u);
  const gw_backend& b = s.running()->backends()[0];
  EXPECT_EQ(b.share, 77u);
  EXPECT_EQ(b.flags, GW_HOLDS);
  EXPECT_EQ(b.weight, 8u);
  EXPECT_EQ(s.running()->backend_named(static_cast<uint16_t>(b.counter)), &b);
  EXPECT_EQ(s.running()->backend_named(999), nullptr);
}

TEST_F(ImageStoreTest, TheCopyKeepsOnlyWhatTheRootUses) {
  ImageStore s = store();
  const Bytes other = round_robin_table(11, 3);
  add(s, digest_, memfd_of(table_).get());
  adopt(s, three_backends(34, digest_));
  ASSERT_TRUE(s.save());
  add(s, digest_of(other), memfd_of(other).get());
  RootSpec next = three_backends(34, digest_of(other));
  next.generation = 2;
  EXPECT_EQ(adopt(s, next), "adopted");
  ASSERT_TRUE(s.save());
  EXPECT_EQ(files(), 2u);
}

TEST_F(ImageStoreTest, ADamagedCopyIsRefusedWithItsName) {
  {
    ImageStore s = store();
    EXPECT_FALSE(s.load().value());
    add(s, digest_, memfd_of(table_).get());
    adopt(s, three_backends(34, digest_));
    ASSERT_TRUE(s.save());
  }
  const std::string root = directory_ + "/image/root";
  const auto damage = [&](const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(60);
    file.put('\x55');
  };
  damage(root);
  ImageStore s = store();
  auto loaded = s.load();
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().text(), root + ": checksum: does not match the content");
  EXPECT_EQ(s.running(), nullptr);

  std::filesystem::remove(root);
  std::filesystem::create_directory(root);
  EXPECT_FALSE(s.load());
}

}  // namespace
}  // namespace guideway
