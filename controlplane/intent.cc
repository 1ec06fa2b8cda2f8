// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent.h"

#include <netinet/in.h>

#include <optional>

namespace guideway {
namespace {

constexpr size_t kShownMax = 64;
constexpr const char* kLike =
    "like 203.0.113.10:443/tcp, [2001:db8::10]:443/tcp or 203.0.113.10/udp";

// 1 to 65535 in decimal, without leading zeros: one spelling for one port.
std::optional<uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || text.front() == '0') return {};
  uint32_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return {};
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  if (value > 65535) return {};
  return static_cast<uint16_t>(value);
}

}  // namespace

Result<ServiceKey> ServiceKey::parse(std::string_view text) {
  std::string shown(text.substr(0, kShownMax));
  ServiceKey key;
  size_t slash = text.rfind('/');
  std::string_view protocol =
      slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
  if (protocol == "tcp") {
    key.protocol = IPPROTO_TCP;
  } else if (protocol == "udp") {
    key.protocol = IPPROTO_UDP;
  } else {
    return fail(shown, "a service ends in /tcp or /udp", kLike);
  }
  std::string_view where = text.substr(0, slash);
  std::string_view host = where;
  std::optional<std::string_view> port;
  bool bracketed = !where.empty() && where.front() == '[';
  if (bracketed) {
    size_t close = where.find(']');
    if (close == std::string_view::npos) return fail(shown, "']' is missing", kLike);
    host = where.substr(1, close - 1);
    std::string_view rest = where.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') {
      return fail(shown, "after ']' comes ':' and a port, or '/'", kLike);
    }
    if (!rest.empty()) port = rest.substr(1);
  } else if (size_t colon = where.find(':'); colon != std::string_view::npos) {
    if (where.find(':', colon + 1) != std::string_view::npos) {
      return fail(shown, "an IPv6 address goes in brackets", kLike);
    }
    host = where.substr(0, colon);
    port = where.substr(colon + 1);
  }
  std::optional<Address> vip = Address::parse(host);
  if (!vip || vip->is_v4() == bracketed) {
    return fail(shown,
                "'" + std::string(host.substr(0, kShownMax)) + "' is no " +
                    (bracketed ? "IPv6" : "IPv4") + " address",
                kLike);
  }
  key.vip = *vip;
  if (port) {
    std::optional<uint16_t> number = parse_port(*port);
    if (!number) {
      return fail(
          shown,
          "the port must be 1 to 65535, got '" + std::string(port->substr(0, kShownMax)) + "'",
          "without a port, a service has all of them: " + key.text());
    }
    key.port = *number;
  }
  return key;
}

std::string ServiceKey::text() const {
  std::string out = vip.is_v4() ? vip.text() : "[" + vip.text() + "]";
  if (port != 0) out += ":" + std::to_string(port);
  return out + (protocol == IPPROTO_TCP ? "/tcp" : "/udp");
}

}  // namespace guideway
