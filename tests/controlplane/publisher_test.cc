// SPDX-License-Identifier: Apache-2.0
// The publisher against a fake dataplane over a real socket.
#include "controlplane/publisher.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>

#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

gw_message hello_message() {
  gw_message hello{};
  hello.magic = GW_MAGIC_MESSAGE;
  hello.type = GW_HELLO;
  hello.generation = 5;
  hello.revision = 3;
  hello.layout_oldest = hello.layout_newest = GW_LAYOUT;
  hello.pid = 77;
  hello.workers = 2;
  hello.ports = 2;
  std::strcpy(hello.port[0].interface, "eth1");
  std::memset(hello.port[1].interface, 'x', sizeof hello.port[1].interface);  // no NUL
  return hello;
}

gw_message ack_message(uint64_t generation, uint32_t status, const char* text = "") {
  gw_message ack{};
  ack.magic = GW_MAGIC_MESSAGE;
  ack.type = GW_ACK;
  ack.generation = generation;
  ack.status = status;
  std::strncpy(ack.text, text, sizeof ack.text - 1);
  return ack;
}

// The dataplane's end; used by the test's own thread, blocking.
class FakeDataplane {
 public:
  explicit FakeDataplane(const std::string& path) : path_(path) {
    unlink(path.c_str());
    listener_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 4), 0);
  }
  ~FakeDataplane() { unlink(path_.c_str()); }

  void accept() {
    peer_.reset(::accept(listener_.get(), nullptr, nullptr));
    EXPECT_TRUE(static_cast<bool>(peer_));
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(peer_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  void send_bytes(const void* bytes, size_t count, std::vector<int> fds = {}) {
    iovec io{const_cast<void*>(bytes), count};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 4)] = {};
    msghdr header{};
    header.msg_iov = &io;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    EXPECT_EQ(sendmsg(peer_.get(), &header, MSG_NOSIGNAL), static_cast<ssize_t>(count));
  }
  void send(const gw_message& message, std::vector<int> fds = {}) {
    send_bytes(&message, sizeof message, std::move(fds));
  }
  // The next message, with the size of what its descriptor names (0: none). Type 0: closed.
  std::pair<gw_message, size_t> receive() {
    gw_message message{};
    iovec io{&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &io;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(peer_.get(), &header, 0);
    EXPECT_GE(n, 0) << std::strerror(errno);
    if (n <= 0) return {gw_message{}, 0};
    EXPECT_EQ(n, static_cast<ssize_t>(sizeof message));
    EXPECT_EQ(message.magic, GW_MAGIC_MESSAGE);
    struct stat status {};
    if (cmsghdr* c = CMSG_FIRSTHDR(&header)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
      EXPECT_EQ(fstat(fd, &status), 0);
      close(fd);
    }
    return {message, static_cast<size_t>(status.st_size)};
  }
  void hang_up() { peer_.reset(); }
  bool silent() {
    char c;
    return recv(peer_.get(), &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

 private:
  std::string path_;
  UniqueFd listener_;
  UniqueFd peer_;
};

class PublisherTest : public ::testing::Test {
 protected:
  PublisherTest() {
    char name[] = "/tmp/guideway-publisher-XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/dataplane.sock";
  }
  ~PublisherTest() override {
    if (publisher_) loop_([&] { publisher_.reset(); });
    loop_.stop();
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }

  void start() {
    loop_([&] {
      Publisher::Callbacks callbacks;
      callbacks.on_connected = [this](const DataplaneInfo& info, UniqueFd counters) {
        log_.push_back("connected " + std::to_string(info.pid) +
                       (counters ? " with counters" : " without counters"));
      };
      callbacks.on_ack = [this](uint64_t generation, uint64_t revision, bool adopted,
                                const std::string& reason) {
        log_.push_back((adopted ? "adopted " : "refused ") + std::to_string(generation) + " r" +
                       std::to_string(revision) + reason);
      };
      callbacks.on_disconnected = [this](const std::string& why) {
        log_.push_back("disconnected: " + why);
      };
      publisher_ =
          std::make_unique<Publisher>(loop_.loop(), path_, callbacks, std::chrono::milliseconds(5));
      publisher_->start();
    });
  }
  bool logged(const std::string& line) {
    return loop_.eventually(
        [&] { return std::find(log_.begin(), log_.end(), line) != log_.end(); });
  }
  std::string problem() {
    return loop_([&] { return publisher_->problem(); });
  }
  // A pool, and so a table, for each of `pools`.
  std::shared_ptr<const SealedImage> image(uint64_t generation, std::vector<uint32_t> pools) {
    Intent intent;
    intent.revision = generation * 10;
    for (const uint32_t number : pools) {
      Pool pool;
      pool.forwarding = Forwarding::l2;
      pool.table_slots = 509;
      const uint8_t address[4] = {10, 1, static_cast<uint8_t>(number >> 8),
                                  static_cast<uint8_t>(number)};
      pool.backends[Address::from_v4(address)] = {100};
      pool.backends[*Address::parse("10.0.0.2")] = {100};
      intent.pools["p" + std::to_string(number)] = pool;
    }
    tables_ = *build_tables(intent, tables_);
    ImageNode node;
    node.generation = generation;
    node.ports = {"eth1"};
    static const NextHopState kNone;
    node.next_hop = [](const Address&) -> const NextHopState& { return kNone; };
    node.service_counter = [](const ServiceKey&) { return 0u; };
    node.backend_counter = [](const std::string&, const Address&) { return 0u; };
    return *SealedImage::build(intent, tables_, node);
  }
  bool publish(std::shared_ptr<const SealedImage> image) {
    return loop_([&] { return publisher_->publish(image); });
  }
  void expect_table(FakeDataplane& dataplane, uint32_t number) {
    const auto [message, bytes] = dataplane.receive();
    const auto& table = tables_.at("p" + std::to_string(number)).table;
    EXPECT_EQ(message.type, uint32_t{GW_TABLE});
    EXPECT_EQ(message.digest, table->digest());
    EXPECT_EQ(bytes, table->bytes().size());
  }
  void expect_root(FakeDataplane& dataplane, uint64_t generation) {
    const auto [message, bytes] = dataplane.receive();
    EXPECT_EQ(message.type, uint32_t{GW_ROOT});
    EXPECT_EQ(message.generation, generation);
    EXPECT_GT(bytes, 0u);
  }

  std::string directory_;
  std::string path_;
  LoopThread loop_;
  std::unique_ptr<Publisher> publisher_;
  std::vector<std::string> log_;
  TableMap tables_;
};

TEST_F(PublisherTest, ConnectsWhenTheDataplaneComes) {
  start();
  EXPECT_EQ(problem(), "the dataplane is not running: " + path_ + ": No such file or directory");
  EXPECT_FALSE(publish(image(1, {1})));
  FakeDataplane dataplane(path_);
  dataplane.accept();
  UniqueFd counters(memfd_create("counters", 0));
  dataplane.send(hello_message(), {counters.get()});
  ASSERT_TRUE(logged("connected 77 with counters"));
  loop_([&] {
    EXPECT_TRUE(publisher_->connected());
    EXPECT_EQ(publisher_->info()->generation, 5u);
    EXPECT_EQ(publisher_->info()->revision, 3u);
    EXPECT_EQ(publisher_->info()->workers, 2u);
    EXPECT_EQ(publisher_->info()->ports, (std::vector<std::string>{"eth1", "xxxxxxxxxxxxxxxx"}));
  });
  EXPECT_EQ(problem(), "");
}

TEST_F(PublisherTest, SendsOnlyTheTablesThatAreNew) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  EXPECT_TRUE(publish(image(6, {1, 2})));
  expect_table(dataplane, 1);
  expect_table(dataplane, 2);
  expect_root(dataplane, 6);
  dataplane.send(ack_message(6, GW_ADOPTED));
  ASSERT_TRUE(logged("adopted 6 r60"));

  EXPECT_TRUE(publish(image(7, {2, 3})));
  expect_table(dataplane, 3);
  expect_root(dataplane, 7);
  dataplane.send(ack_message(7, GW_ADOPTED));
  ASSERT_TRUE(logged("adopted 7 r70"));

  // Table 1 is not held any more: the dataplane keeps those of the root it runs.
  EXPECT_TRUE(publish(image(8, {1, 2})));
  expect_table(dataplane, 1);
  expect_root(dataplane, 8);
}

TEST_F(PublisherTest, ARefusalIsToldAndItsTablesAreSentAgain) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  publish(image(6, {1}));
  expect_table(dataplane, 1);
  expect_root(dataplane, 6);
  dataplane.send(ack_message(6, GW_REFUSED, ": no memory"));
  ASSERT_TRUE(logged("refused 6 r60: no memory"));
  EXPECT_EQ(loop_([&] { return publisher_->adopted(); }), nullptr);
  publish(image(7, {1}));
  expect_table(dataplane, 1);
  expect_root(dataplane, 7);
}

TEST_F(PublisherTest, OneRootAtATimeAndOnlyTheNewestWaits) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  publish(image(6, {1}));
  for (uint64_t generation = 7; generation <= 20; ++generation) publish(image(generation, {1}));
  expect_table(dataplane, 1);
  expect_root(dataplane, 6);
  loop_([] {});
  EXPECT_TRUE(dataplane.silent());
  dataplane.send(ack_message(6, GW_ADOPTED));
  expect_root(dataplane, 20);
  dataplane.send(ack_message(20, GW_ADOPTED));
  ASSERT_TRUE(logged("adopted 20 r200"));
  EXPECT_EQ(loop_([&] { return log_.size(); }), 3u);
}

// More messages than a socket takes at once, to a peer that does not read.
TEST_F(PublisherTest, ASlowPeerDoesNotBlockTheLoop) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  std::vector<uint32_t> pools(800);
  for (uint32_t i = 0; i < pools.size(); ++i) pools[i] = i + 1;
  const auto big = image(6, pools);
  ASSERT_GT(big->tables().size(), 500u);  // a few happen to be alike
  publish(big);
  for (int i = 0; i < 100; ++i) loop_([] {});
  size_t tables = 0;
  while (dataplane.receive().first.type == GW_TABLE) ++tables;
  EXPECT_EQ(tables, big->tables().size());
  dataplane.send(ack_message(6, GW_ADOPTED));
  ASSERT_TRUE(logged("adopted 6 r60"));
}

TEST_F(PublisherTest, ConnectsAgainAndSendsEverythingAgain) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  publish(image(6, {1}));
  expect_table(dataplane, 1);
  expect_root(dataplane, 6);
  dataplane.send(ack_message(6, GW_ADOPTED));
  ASSERT_TRUE(logged("adopted 6 r60"));
  dataplane.hang_up();
  ASSERT_TRUE(logged("disconnected: the dataplane closed the connection"));
  dataplane.accept();
  gw_message hello = hello_message();
  hello.pid = 78;
  dataplane.send(hello);
  ASSERT_TRUE(logged("connected 78 without counters"));
  publish(image(7, {1}));
  expect_table(dataplane, 1);
  expect_root(dataplane, 7);
}

// Of its hello nothing but the head can be known, nor its size.
TEST_F(PublisherTest, AnotherLayoutIsAClearProblemWhateverTheSize) {
  const auto other = [this] {
    return loop_([this] { return publisher_->forwards_by_another_layout(); });
  };
  const std::string expected =
      "the dataplane accepts image layouts 5 to 6, this control plane writes 3 to 4: upgrade "
      "guideway-controlplane and restart it; until then changes wait, packets go by the image that "
      "runs, and what is announced is held";
  FakeDataplane dataplane(path_);
  start();
  for (const size_t size : {offsetof(gw_message, pid), sizeof(gw_message), size_t{1000}}) {
    SCOPED_TRACE(size);
    dataplane.accept();
    gw_message hello = hello_message();
    hello.layout_oldest = GW_LAYOUT + 1;
    hello.layout_newest = GW_LAYOUT + 2;
    std::vector<char> bytes(std::max(size, sizeof hello));
    std::memcpy(bytes.data(), &hello, sizeof hello);
    dataplane.send_bytes(bytes.data(), size);
    EXPECT_TRUE(loop_.eventually([&] { return publisher_->problem() == expected; })) << problem();
    EXPECT_TRUE(other());
    EXPECT_FALSE(publish(image(6, {1})));
    EXPECT_TRUE(dataplane.silent());
    dataplane.hang_up();
  }
  dataplane.accept();
  EXPECT_TRUE(other()) << "it listens, and may say the same again";
  dataplane.send(hello_message());
  ASSERT_TRUE(logged("connected 77 without counters"));
  EXPECT_FALSE(other());
  EXPECT_EQ(problem(), "");
}

TEST_F(PublisherTest, TheNewestLayoutThatBothKnow) {
  FakeDataplane dataplane(path_);
  start();
  for (const auto& [oldest, newest, expected] :
       {std::tuple{3u, 3u, 3u}, {3u, 4u, 4u}, {4u, 9u, 4u}}) {
    dataplane.accept();
    gw_message hello = hello_message();
    hello.layout_oldest = oldest;
    hello.layout_newest = newest;
    dataplane.send(hello);
    EXPECT_TRUE(loop_.eventually([&] { return publisher_->connected(); }));
    EXPECT_EQ(loop_([&] { return publisher_->info()->layout; }), expected);
    dataplane.hang_up();
    EXPECT_TRUE(loop_.eventually([&] { return !publisher_->connected(); }));
  }
}

TEST_F(PublisherTest, AnOlderDataplaneIsTheOneToUpgrade) {
  FakeDataplane dataplane(path_);
  start();
  dataplane.accept();
  gw_message hello = hello_message();
  hello.layout_oldest = hello.layout_newest = GW_LAYOUT_OLDEST - 1;
  hello.generation = 0;
  dataplane.send(hello);
  const std::string expected =
      "the dataplane accepts image layouts 2 to 2, this control plane writes 3 to 4: upgrade "
      "guideway-dataplane and restart it; until then nothing is forwarded: no image runs";
  EXPECT_TRUE(loop_.eventually([&] { return publisher_->problem() == expected; })) << problem();
  EXPECT_FALSE(loop_([&] { return publisher_->forwards_by_another_layout(); }));
}

// One that takes nothing from us may forward all the same.
TEST_F(PublisherTest, WhoeverListensIsPresent) {
  const auto present = [this] { return loop_([this] { return publisher_->present(); }); };
  start();
  EXPECT_FALSE(present());
  {
    FakeDataplane dataplane(path_);
    dataplane.accept();
    EXPECT_TRUE(present()) << "has said nothing";
    gw_message hello = hello_message();
    hello.layout_oldest = hello.layout_newest = GW_LAYOUT + 1;
    dataplane.send(hello);
    EXPECT_TRUE(loop_.eventually([&] { return publisher_->forwards_by_another_layout(); }));
    EXPECT_TRUE(present()) << "of another layout";
  }
  EXPECT_TRUE(loop_.eventually([&] { return !publisher_->present(); }));
  EXPECT_FALSE(loop_([&] { return publisher_->forwards_by_another_layout(); }));
}

TEST_F(PublisherTest, ABrokenPeerCostsTheConnectionOnly) {
  FakeDataplane dataplane(path_);
  start();
  gw_message wrong_magic = hello_message();
  wrong_magic.magic = 1;
  gw_message wrong_type = hello_message();
  wrong_type.type = 99;
  gw_message ports = hello_message();
  ports.ports = 1000000;
  const gw_message hello = hello_message();
  std::vector<char> large(sizeof(gw_message) + 100);
  std::memcpy(large.data(), &hello, sizeof hello);
  const std::vector<std::function<void()>> attacks = {
      [&] { dataplane.send(wrong_magic); },
      [&] { dataplane.send(wrong_type); },
      [&] { dataplane.send(ports); },
      [&] { dataplane.send_bytes("x", 1); },
      [&] { dataplane.send_bytes(large.data(), large.size()); },
      [&] { dataplane.send(ack_message(1, GW_ADOPTED)); },
      [&] {
        dataplane.send(hello);
        dataplane.send(hello);
      },
      [&] {
        dataplane.send(hello);
        dataplane.send(ack_message(1, GW_ADOPTED));
      },
      [&] { dataplane.send_bytes(&hello, sizeof hello - 1); },
  };
  for (const auto& attack : attacks) {
    dataplane.accept();
    attack();
    EXPECT_EQ(dataplane.receive().first.type, 0u);
    EXPECT_FALSE(loop_([&] { return publisher_->connected(); }));
    EXPECT_NE(problem(), "");
    dataplane.hang_up();
  }
  dataplane.accept();
  dataplane.send(hello, {0, 1, 2});  // too many descriptors: the first is taken, none leaks
  ASSERT_TRUE(logged("connected 77 with counters"));
}

TEST_F(PublisherTest, APathThatIsTooLong) {
  path_ = "/tmp/" + std::string(200, 'x');
  start();
  EXPECT_EQ(problem(), path_ + ": the path is too long for a socket");
}

}  // namespace
}  // namespace guideway
