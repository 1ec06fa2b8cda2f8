// SPDX-License-Identifier: Apache-2.0
#include "controlplane/agent_protocol.h"

#include <netinet/in.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "dataplane/byteorder.h"

namespace guideway {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMagic = "GWAG";
constexpr size_t kVersionAt = 4;
constexpr size_t kZeroAt = 6;
constexpr size_t kNonceAt = 8;
constexpr size_t kLengthBytes = 4;
constexpr size_t kTextMax = 256;  // of what an agent says about itself

std::string_view text_of(const AgentMac& mac) {
  return {reinterpret_cast<const char*>(mac.data()), mac.size()};
}

std::string length_text(size_t length) {
  const be32 value(static_cast<uint32_t>(length));
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// `before`: what the other end has shown of this connection.
std::optional<AgentMac> mac_of(const AgentKey& key, std::string_view before,
                               std::string_view body) {
  std::string signed_text;
  signed_text.reserve(before.size() + kLengthBytes + body.size());
  signed_text.append(before).append(length_text(body.size())).append(body);
  AgentMac mac;
  unsigned length = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), key.bytes.data(), static_cast<int>(key.bytes.size()),
           reinterpret_cast<const unsigned char*>(signed_text.data()), signed_text.size(),
           mac.data(), &length);
  if (made == nullptr || length != mac.size()) return {};
  return mac;
}

bool genuine(const AgentKey& key, std::string_view before, const AgentFrame& frame) {
  if (frame.state != AgentFrame::State::whole) return false;
  const std::optional<AgentMac> right = mac_of(key, before, frame.body);
  return right && CRYPTO_memcmp(right->data(), frame.mac.data(), right->size()) == 0;
}

std::optional<AgentMessage> seal(const AgentKey& key, std::string_view before,
                                 std::string_view body, size_t body_max) {
  if (body.size() > body_max) return {};
  const std::optional<AgentMac> mac = mac_of(key, before, body);
  if (!mac) return {};
  AgentMessage message;
  message.mac = *mac;
  message.bytes.append(length_text(body.size())).append(body).append(text_of(*mac));
  return message;
}

std::string answer_before(const AgentChallenge& challenge, const AgentMac& request) {
  return std::string(challenge.view()).append(text_of(request));
}

tl::unexpected<Error> bad(std::string member, std::string what) {
  return fail("request: " + std::move(member), std::move(what));
}

Result<void> read_services(const Json& list, std::vector<ServiceKey>& out) {
  if (!list.is_array() || list.size() > GW_SERVICES_MAX) return bad("services", "is no short list");
  for (const Json& item : list) {
    if (!item.is_string()) return bad("services", "holds what is no text");
    Result<ServiceKey> key = ServiceKey::parse(item.get_ref<const std::string&>());
    if (!key) return bad("services", key.error().text());
    if (key->protocol != IPPROTO_TCP) return bad("services", key->text() + " is not TCP");
    out.push_back(*key);
  }
  return {};
}

Result<void> read_ranges(const Json& list, std::vector<HashRange>& out) {
  if (!list.is_array() || list.size() % 2 != 0 || list.size() / 2 > kAgentRangesMax)
    return bad("ranges", "is no list of pairs, or too long");
  const auto is_hash = [](const Json& item) {
    return item.is_number_unsigned() &&
           item.get<uint64_t>() <= std::numeric_limits<uint32_t>::max();
  };
  for (size_t i = 0; i < list.size(); i += 2) {
    if (!is_hash(list[i]) || !is_hash(list[i + 1])) return bad("ranges", "holds no 32-bit number");
    const HashRange range{list[i].get<uint32_t>(), list[i + 1].get<uint32_t>()};
    if (range.first > range.last) return bad("ranges", "one ends before it begins");
    out.push_back(range);
  }
  return {};
}

Result<Json> object_of(std::string_view body, const char* what) {
  Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return fail(what, "is no JSON object");
  return json;
}

std::string text_member(const Json& json, const char* name) {
  const auto it = json.find(name);
  return it != json.end() && it->is_string() ? it->get<std::string>().substr(0, kTextMax) : "";
}

}  // namespace

Result<AgentChallenge> AgentChallenge::fresh() {
  AgentChallenge out;
  std::copy(kMagic.begin(), kMagic.end(), out.bytes.begin());
  const be16 version(kAgentProtocol);
  std::memcpy(&out.bytes[kVersionAt], &version, sizeof version);
  // So few bytes come in one piece, or not at all (getrandom(2)).
  if (getrandom(&out.bytes[kNonceAt], kAgentNonceBytes, 0) != ssize_t{kAgentNonceBytes})
    return fail("random numbers", std::strerror(errno));
  return out;
}

Result<AgentChallenge> AgentChallenge::parse(std::string_view bytes) {
  if (bytes.size() != kAgentChallengeBytes || bytes.substr(0, kMagic.size()) != kMagic)
    return fail("", "what answers there is no agent");
  AgentChallenge out;
  std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
  be16 version, zero;
  std::memcpy(&version, &out.bytes[kVersionAt], sizeof version);
  std::memcpy(&zero, &out.bytes[kZeroAt], sizeof zero);
  if (version.host() != kAgentProtocol || zero.host() != 0) {
    return fail("",
                "the agent speaks version " + std::to_string(version.host()) +
                    " of the protocol, this node version " + std::to_string(kAgentProtocol),
                "give both the same version of Guideway");
  }
  return out;
}

AgentFrame AgentFrame::of(std::string_view received, size_t body_max) {
  AgentFrame out;
  if (received.size() < kLengthBytes) return out;
  be32 length;
  std::memcpy(&length, received.data(), sizeof length);
  const size_t whole = kLengthBytes + length.host() + kAgentMacBytes;
  if (length.host() > body_max || received.size() > whole) {
    out.state = State::bad;
  } else if (received.size() == whole) {
    out.state = State::whole;
    out.body = received.substr(kLengthBytes, length.host());
    std::memcpy(out.mac.data(), received.data() + whole - kAgentMacBytes, kAgentMacBytes);
  }
  return out;
}

std::optional<AgentMessage> seal_request(const AgentKey& key, const AgentChallenge& challenge,
                                         std::string_view body) {
  if (body.size() > kAgentRequestMax - kAgentNonceBytes) return {};
  std::array<char, kAgentNonceBytes> nonce;
  if (getrandom(nonce.data(), nonce.size(), 0) != ssize_t{kAgentNonceBytes}) return {};
  const std::string whole = std::string(nonce.data(), nonce.size()).append(body);
  return seal(key, challenge.view(), whole, kAgentRequestMax);
}

std::optional<AgentMessage> seal_answer(const AgentKey& key, const AgentChallenge& challenge,
                                        const AgentMac& request, std::string_view body) {
  return seal(key, answer_before(challenge, request), body, kAgentAnswerMax);
}

bool genuine_request(const AgentKey& key, const AgentChallenge& challenge,
                     const AgentFrame& frame) {
  return genuine(key, challenge.view(), frame);
}

bool genuine_answer(const AgentKey& key, const AgentChallenge& challenge, const AgentMac& request,
                    const AgentFrame& frame) {
  return genuine(key, answer_before(challenge, request), frame);
}

std::string write_agent_request(const AgentRequest& request) {
  Json services = Json::array();
  for (const ServiceKey& service : request.services) services.push_back(service.text());
  Json ranges = Json::array();
  for (const HashRange& range : request.ranges) {
    ranges.push_back(range.first);
    ranges.push_back(range.last);
  }
  return Json{{"backend", request.backend.text()},
              {"flow_seed", request.flow_seed},
              {"services", std::move(services)},
              {"ranges", std::move(ranges)}}
      .dump();
}

Result<AgentRequest> read_agent_request(std::string_view body) {
  Result<Json> json = object_of(body, "request");
  if (!json) return tl::unexpected(json.error());
  AgentRequest out;
  for (const char* name : {"backend", "flow_seed", "services", "ranges"})
    if (!json->contains(name)) return bad(name, "is missing");
  for (const auto& [name, value] : json->items()) {
    Result<void> read;
    if (name == "backend") {
      const auto address =
          Address::parse(value.is_string() ? value.get_ref<const std::string&>() : std::string());
      if (!address) return bad(name, "is no address");
      out.backend = *address;
    } else if (name == "flow_seed") {
      if (!value.is_number_unsigned()) return bad(name, "is no 64-bit number");
      out.flow_seed = value.get<uint64_t>();
    } else if (name == "services") {
      read = read_services(value, out.services);
    } else if (name == "ranges") {
      read = read_ranges(value, out.ranges);
    } else {
      return bad(name.substr(0, kTextMax), "is not known to this agent");
    }
    if (!read) return tl::unexpected(read.error());
  }
  return out;
}

std::string write_agent_answer(const AgentAnswer& answer) {
  return Json{{"sockets", answer.sockets},
              {"second_chances", answer.second_chances},
              {"version", answer.version},
              {"boot_id", answer.boot_id},
              {"started", answer.started}}
      .dump();
}

std::string write_agent_refusal(const Error& error) {
  return Json{{"error", error.text()}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<AgentAnswer> read_agent_answer(std::string_view body) {
  Result<Json> json = object_of(body, "answer");
  if (!json) return tl::unexpected(json.error());
  if (json->contains("error")) return fail("", "it refused: " + text_member(*json, "error"));
  AgentAnswer out;
  const auto number = [&](const char* name, uint64_t& to) {
    const auto it = json->find(name);
    if (it == json->end() || !it->is_number_unsigned()) return false;
    to = it->get<uint64_t>();
    return true;
  };
  uint64_t started = 0;
  if (!number("sockets", out.sockets) || !number("second_chances", out.second_chances) ||
      !number("started", started))
    return fail("answer", "lacks a number");
  out.started = static_cast<int64_t>(started);
  out.version = text_member(*json, "version");
  out.boot_id = text_member(*json, "boot_id");
  return out;
}

}  // namespace guideway
