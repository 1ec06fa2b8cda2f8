// SPDX-License-Identifier: Apache-2.0
#include "controlplane/agent_protocol.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include <openssl/hmac.h>
#include <cstdio>
#include <fstream>

namespace guideway {
namespace {

const AgentKey kKey{std::string(32, 'k') + "1"};
const AgentKey kOther{std::string(32, 'k') + "2"};

AgentRequest some_request() {
  AgentRequest request;
  request.backend = *Address::parse("10.0.0.21");
  request.flow_seed = 0xfedcba9876543210;
  request.services = {*ServiceKey::parse("203.0.113.10:443/tcp"),
                      *ServiceKey::parse("[2001:db8::10]:80/tcp"),
                      *ServiceKey::parse("203.0.113.11/tcp")};
  request.ranges = {{0, 7}, {0x80000000, 0xffffffff}};
  return request;
}

AgentAnswer some_answer() {
  return {.sockets = 12, .second_chances = 34, .version = "1", .boot_id = "b", .started = 5};
}

// ---------------------------------------------------------------- the exchange

TEST(AgentProtocol, WhatIsSaidComesThrough) {
  const AgentChallenge challenge = AgentChallenge::fresh().value();
  EXPECT_EQ(AgentChallenge::parse(challenge.view()).value().bytes, challenge.bytes);
  const auto request = seal_request(kKey, challenge, write_agent_request(some_request()));
  ASSERT_TRUE(request);
  const AgentFrame asked = AgentFrame::of(request->bytes, kAgentRequestMax);
  ASSERT_TRUE(genuine_request(kKey, challenge, asked));
  EXPECT_EQ(asked.mac, request->mac);
  const AgentRequest read = read_agent_request(asked.request()).value();
  EXPECT_EQ(read.backend, some_request().backend);
  EXPECT_EQ(read.flow_seed, some_request().flow_seed);
  EXPECT_EQ(read.services, some_request().services);
  EXPECT_EQ(read.ranges, some_request().ranges);

  const auto answer = seal_answer(kKey, challenge, asked.mac, write_agent_answer(some_answer()));
  ASSERT_TRUE(answer);
  const AgentFrame told = AgentFrame::of(answer->bytes, kAgentAnswerMax);
  ASSERT_TRUE(genuine_answer(kKey, challenge, request->mac, told));
  const AgentAnswer heard = read_agent_answer(told.body).value();
  EXPECT_EQ(heard.sockets, 12u);
  EXPECT_EQ(heard.second_chances, 34u);
  EXPECT_EQ(heard.version, "1");
  EXPECT_EQ(heard.boot_id, "b");
  EXPECT_EQ(heard.started, 5);
}

// The layout in the header, byte by byte, so that it does not change without a new version.
TEST(AgentProtocol, TheLayoutIsAsWritten) {
  const AgentChallenge challenge = AgentChallenge::fresh().value();
  EXPECT_EQ(challenge.view().substr(0, 8), std::string_view("GWAG\0\2\0\0", 8));
  EXPECT_NE(challenge.bytes, AgentChallenge::fresh().value().bytes);
  const std::string sealed = seal_request(kKey, challenge, "{}")->bytes;
  ASSERT_EQ(sealed.size(), size_t{4 + 32 + 2 + 32});
  EXPECT_EQ(sealed.substr(0, 4), std::string("\0\0\0\x22", 4));
  EXPECT_EQ(sealed.substr(36, 2), "{}");
  EXPECT_NE(sealed.substr(4, 32), seal_request(kKey, challenge, "{}")->bytes.substr(4, 32));
  const std::string before = std::string(challenge.view()) + sealed.substr(0, 38);
  unsigned char mac[32];
  HMAC(EVP_sha256(), kKey.bytes.data(), static_cast<int>(kKey.bytes.size()),
       reinterpret_cast<const unsigned char*>(before.data()), before.size(), mac, nullptr);
  EXPECT_EQ(sealed.substr(38), std::string(mac, mac + 32));
}

TEST(AgentProtocol, WrongKeyReplayAndTamperingAreFound) {
  const AgentChallenge challenge = AgentChallenge::fresh().value();
  const AgentChallenge later = AgentChallenge::fresh().value();
  const auto request = seal_request(kKey, challenge, "{}");
  const AgentFrame frame = AgentFrame::of(request->bytes, kAgentRequestMax);
  EXPECT_TRUE(genuine_request(kKey, challenge, frame));
  EXPECT_FALSE(genuine_request(kOther, challenge, frame));
  EXPECT_FALSE(genuine_request(kKey, later, frame)) << "replayed";

  const auto answer = seal_answer(kKey, challenge, request->mac, "{}");
  const AgentFrame told = AgentFrame::of(answer->bytes, kAgentAnswerMax);
  EXPECT_TRUE(genuine_answer(kKey, challenge, request->mac, told));
  EXPECT_FALSE(genuine_answer(kOther, challenge, request->mac, told));
  EXPECT_FALSE(genuine_answer(kKey, later, request->mac, told));
  EXPECT_FALSE(genuine_answer(kKey, challenge, AgentMac{}, told)) << "of another request";
  // Somebody without the key says what an agent once said, its challenge included.
  const auto same = seal_request(kKey, challenge, "{}");
  EXPECT_FALSE(genuine_answer(kKey, challenge, same->mac, told)) << "replayed";
  EXPECT_FALSE(genuine_request(kKey, challenge, told)) << "turned round";
  EXPECT_FALSE(genuine_answer(kKey, challenge, request->mac, frame)) << "turned round";

  for (size_t i = 0; i < request->bytes.size() * 8; ++i) {
    std::string changed = request->bytes;
    changed[i / 8] = static_cast<char>(changed[i / 8] ^ (1 << (i % 8)));
    EXPECT_FALSE(genuine_request(kKey, challenge, AgentFrame::of(changed, kAgentRequestMax))) << i;
  }
}

TEST(AgentProtocol, FramesAreWholeAtTheirLastByteOnly) {
  const auto request = seal_request(kKey, {}, write_agent_request(some_request()));
  for (size_t length = 0; length < request->bytes.size(); ++length) {
    const AgentFrame part =
        AgentFrame::of(std::string_view(request->bytes).substr(0, length), kAgentRequestMax);
    EXPECT_EQ(part.state, AgentFrame::State::more) << length;
    EXPECT_FALSE(genuine_request(kKey, {}, part));
  }
  EXPECT_EQ(AgentFrame::of(request->bytes, kAgentRequestMax).state, AgentFrame::State::whole);
  EXPECT_EQ(AgentFrame::of(request->bytes + "x", kAgentRequestMax).state, AgentFrame::State::bad);
}

TEST(AgentProtocol, WhatIsTooLongIsKnownByItsLength) {
  EXPECT_EQ(AgentFrame::of(std::string("\0\x10\0\0", 4), kAgentRequestMax).state,
            AgentFrame::State::more);
  EXPECT_EQ(AgentFrame::of(std::string("\0\x10\0\1", 4), kAgentRequestMax).state,
            AgentFrame::State::bad);
  EXPECT_EQ(AgentFrame::of("\xff\xff\xff\xff", kAgentRequestMax).state, AgentFrame::State::bad);
  const size_t most = kAgentRequestMax - kAgentNonceBytes;
  EXPECT_TRUE(seal_request(kKey, {}, std::string(most, ' ')));
  EXPECT_FALSE(seal_request(kKey, {}, std::string(most + 1, ' ')));
  EXPECT_FALSE(seal_answer(kKey, {}, {}, std::string(kAgentAnswerMax + 1, ' ')));
}

TEST(AgentProtocol, TheLargestQuestionFits) {
  AgentRequest request = some_request();
  request.services.assign(
      GW_SERVICES_MAX, *ServiceKey::parse("[2001:1db8:1234:1234:1234:1234:1234:1234]:65535/tcp"));
  request.ranges.assign(kAgentRangesMax, {0xfffffffe, 0xffffffff});
  const std::string body = write_agent_request(request);
  EXPECT_LE(body.size(), kAgentRequestMax);
  EXPECT_TRUE(read_agent_request(body));
}

TEST(AgentProtocol, OtherVersionsAndStrangersAreTold) {
  std::string bytes(AgentChallenge::fresh().value().view());
  bytes[5] = 1;
  EXPECT_EQ(AgentChallenge::parse(bytes).error().text(),
            "the agent speaks version 1 of the protocol, this node version 2 (give both the same "
            "version of Guideway)");
  EXPECT_FALSE(AgentChallenge::parse("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"));
  EXPECT_FALSE(AgentChallenge::parse(std::string_view(bytes).substr(1)));
}

// ---------------------------------------------------------------- bodies

TEST(AgentProtocol, BadRequestsAreRefused) {
  const std::string head = R"({"backend":"10.0.0.21","flow_seed":1,)";
  const char* const bad[] = {
      "",
      "[]",
      "{",
      "{}",
      R"({"backend":7,"flow_seed":1,"services":[],"ranges":[]})",
      R"({"backend":"x","flow_seed":1,"services":[],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":-1,"services":[],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":18446744073709551616,"services":[],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":{},"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[1],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":["203.0.113.10"],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":["203.0.113.10:53/udp"],"ranges":[]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":[1]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":[2,1]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":[1,4294967296]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":[-1,1]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":["0","1"]})",
      R"({"backend":"10.0.0.21","flow_seed":1,"services":[],"ranges":[],"except":[]})",
      "\xff\xfe",
  };
  for (const char* body : bad) EXPECT_FALSE(read_agent_request(body)) << body;
  EXPECT_TRUE(read_agent_request(head + R"("services":[],"ranges":[]})"));

  AgentRequest many = some_request();
  many.ranges.assign(kAgentRangesMax + 1, {1, 2});
  EXPECT_FALSE(read_agent_request(write_agent_request(many)));
  const std::string whole = write_agent_request(some_request());
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(read_agent_request(whole.substr(0, length))) << length;
}

TEST(AgentProtocol, AnAnswerIsAnAnswerOrAnError) {
  EXPECT_EQ(
      read_agent_answer(write_agent_refusal({"sockets", "cannot be counted", ""})).error().text(),
      "it refused: sockets: cannot be counted");
  for (const char* body :
       {"", "{}", R"({"sockets":-1,"second_chances":1,"started":1})",
        R"({"sockets":"0","second_chances":1,"started":1})", R"({"second_chances":1,"started":1})"})
    EXPECT_FALSE(read_agent_answer(body)) << body;
  EXPECT_TRUE(read_agent_answer(R"({"sockets":0,"second_chances":1,"started":1,"more":[]})"));
}

// ---------------------------------------------------------------- keys

TEST(AgentKeyText, DigitsOrBytes) {
  const std::string digits = fresh_agent_key().value();
  EXPECT_EQ(digits.size(), 64u);
  EXPECT_NE(digits, fresh_agent_key().value());
  EXPECT_EQ(AgentKey::parse(digits + "\n", "k").value().bytes.size(), 32u);
  EXPECT_EQ(
      AgentKey::parse(std::string(31, '0') + std::string(31, '0') + "fF \r\n", "k").value().bytes,
      std::string(31, '\0') + "\xff");
  EXPECT_EQ(AgentKey::parse(digits + digits, "k").value().bytes.size(), 64u);
  std::string bytes = "0123456789 bytes of some key \x01\x80\n";
  bytes.resize(32, '\n');
  EXPECT_EQ(AgentKey::parse(bytes, "k").value().bytes, bytes) << "a line's end counts";
}

TEST(AgentKeyText, WhatIsNoKey) {
  const auto error = [](const std::string& text) {
    const Result<AgentKey> key = AgentKey::parse(text, "k");
    return key ? "" : key.error().text();
  };
  const std::string hint = " ((umask 077; guideway agent key >FILE))";
  EXPECT_EQ(error(""),
            "k: holds 0 bytes; a key is 64 and more hex digits, or 32 to 64 bytes" + hint);
  EXPECT_EQ(error(std::string(31, 'x')),
            "k: holds 31 bytes; a key is 64 and more hex digits, or 32 to 64 bytes" + hint);
  EXPECT_NE(error(std::string(64, 'x') + "y"), "");
  EXPECT_EQ(error(std::string(32, 'a') + "\n"),
            "k: holds 32 hex digits; a key has 64 to 256, an even number" + hint);
  EXPECT_NE(error(std::string(64, 'a') + "b"), "");
  EXPECT_NE(error(std::string(256, 'a') + "bb"), "");
  EXPECT_EQ(error(std::string(32, '\0')), "k: is one byte over and over: no key" + hint);
  EXPECT_NE(error(std::string(64, '0')), "");
}

TEST(AgentKeyFile, IsItsOwnersAlone) {
  const std::string path = testing::TempDir() + "agent-key-" + std::to_string(getpid());
  std::ofstream(path) << fresh_agent_key().value() << '\n';
  for (const mode_t mode : {0644, 0640, 0604, 0620, 0602, 0601}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_EQ(
        AgentKey::load(path).error().text(),
        path + ": others may use the key: it is not its owner's alone (chmod 600 " + path + ")");
  }
  for (const mode_t mode : {0600, 0400}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_TRUE(AgentKey::load(path)) << mode;
  }
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path.c_str(), 12345, 0), 0);
    EXPECT_NE(AgentKey::load(path).error().text().find("belongs to another user"),
              std::string::npos);
  }
  std::remove(path.c_str());
  EXPECT_NE(AgentKey::load(path).error().text().find("cannot be read: No such file"),
            std::string::npos);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_NE(AgentKey::load(path).error().text().find("no regular file"), std::string::npos);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace guideway
