// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_rules.h"

#include <algorithm>
#include <set>

#include "controlplane/intent_change.h"
#include "controlplane/pool_plan.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

constexpr size_t kHttpTextMax = 255;

std::string over_limit(const char* what, uint64_t count, uint64_t most) {
  return "at most " + std::to_string(most) + " " + what + ", got " + std::to_string(count);
}

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<void> check_range(const std::string& path, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return {};
  return fail(path, "must be " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                        std::to_string(value));
}

// What goes into a request line: no blank could end it, no line break add a header.
Result<void> check_http(const Probe& probe, const std::string& path) {
  const bool good = !probe.path.empty() && probe.path.front() == '/' &&
                    probe.path.size() <= kHttpTextMax &&
                    std::all_of(probe.path.begin(), probe.path.end(),
                                [](char c) { return c > ' ' && c < 0x7f && c != '#'; });
  if (!good) {
    return fail(path + ".path",
                "must be a slash and at most " + std::to_string(kHttpTextMax - 1) +
                    " more characters of printable ASCII, without blanks and '#'",
                "like \"/healthz\"");
  }
  const std::string_view others = ".-_:[]";
  const bool host_good = probe.host.size() <= kHttpTextMax &&
                         std::all_of(probe.host.begin(), probe.host.end(), [&](char c) {
                           return is_alphanumeric(c) || others.find(c) != std::string_view::npos;
                         });
  if (!host_good) {
    return fail(path + ".host",
                "must be a name or an address, perhaps with a port: at most " +
                    std::to_string(kHttpTextMax) + " of A-Z a-z 0-9 . - _ : [ ]",
                "like \"www.example.net\"; empty: the backend's address");
  }
  return {};
}

Result<void> check_probe(const Probe& probe, const std::string& path) {
  if (probe.kind == ProbeKind::none) return {};
  if (probe.kind != ProbeKind::icmp) {
    if (auto port = check_range(path + ".port", probe.port, 1, 65535); !port) return port;
  }
  if (probe.kind == ProbeKind::http) {
    if (auto http = check_http(probe, path); !http) return http;
  }
  const struct {
    const char* name;
    uint32_t value, most;
  } numbers[] = {{".interval_ms", probe.interval_ms, kProbeIntervalMax},
                 {".timeout_ms", probe.timeout_ms, kProbeIntervalMax},
                 {".fall", probe.fall, kProbeCountMax},
                 {".rise", probe.rise, kProbeCountMax}};
  for (const auto& number : numbers) {
    auto checked = check_range(path + number.name, number.value, 1, number.most);
    if (!checked) return checked;
  }
  return {};
}

// l2 patches no address; a gue packet's list is of the outer header's family, and has backends of
// before.
Result<void> check_one_family(const std::string& path, const Pool& pool) {
  const std::vector<Address> all = table_addresses(pool);
  std::vector<Address> addresses;
  for (const auto& [address, backend] : pool.backends) addresses.push_back(address);
  addresses.insert(addresses.end(), all.begin(), all.end());
  if (addresses.empty()) return {};
  const Address& first = addresses.front();
  // In order of address all IPv4 (::ffff:0:0/96) need not be together; look at each.
  const auto other = std::find_if(addresses.begin(), addresses.end(), [&](const Address& address) {
    return address.is_v4() != first.is_v4();
  });
  if (other == addresses.end()) return {};
  const bool was = pool.backends.count(*other) == 0;
  return fail(path + ".backends",
              std::string(forwarding_name(pool.forwarding)) + " forwards one address family, but " +
                  first.text() + " is " + family_name(first) + " and " + other->text() +
                  (was ? ", which may still have connections, is " : " is ") + family_name(*other),
              "use two pools, or forwarding ipip");
}

Result<void> check_pool(const std::string& name, const Pool& pool) {
  const std::string path = "pools." + name;
  if (!is_pool_name(name)) {
    return fail(path, "a pool name is 1 to 63 of A-Z a-z 0-9 _ . -, a letter or digit first");
  }
  auto slots =
      check_range(path + ".table_slots", pool.table_slots, kTableSlotsMin, GW_TABLE_SLOTS_MAX);
  if (!slots) return slots;
  if (!is_prime(pool.table_slots)) {
    return fail(path + ".table_slots", "must be a prime, got " + std::to_string(pool.table_slots),
                "65537 suits up to some hundred backends");
  }
  if (auto probe = check_probe(pool.probe, path + ".probe"); !probe) return probe;
  auto slow_start = check_range(path + ".slow_start_ms", pool.slow_start_ms, 0, kSlowStartMax);
  if (!slow_start) return slow_start;
  auto hold = check_range(path + ".hold_s", pool.hold_s, 0, kHoldMax);
  if (!hold) return hold;
  if (pool.backends.size() > GW_POOL_BACKENDS_MAX) {
    return fail(path + ".backends",
                over_limit("backends in one pool", pool.backends.size(), GW_POOL_BACKENDS_MAX));
  }
  for (const auto& [address, backend] : pool.backends) {
    const std::string backend_path = path + ".backends." + address.text();
    if (std::string problem = address_problem(address); !problem.empty()) {
      return fail(backend_path, problem);
    }
    auto weight = check_range(backend_path + ".weight", backend.weight, 0, kWeightMax);
    if (!weight) return weight;
  }
  return pool.forwarding == Forwarding::ipip ? Result<void>{} : check_one_family(path, pool);
}

Result<void> check_service(const Intent& intent, const ServiceKey& key, const Service& service,
                           const std::set<Address>& backends) {
  const std::string path = "services." + key.text();
  if (std::string problem = address_problem(key.vip); !problem.empty()) {
    return fail(path, problem);
  }
  auto pool = intent.pools.find(service.pool);
  if (pool == intent.pools.end()) {
    return fail(path + ".pool", "there is no pool '" + service.pool + "'");
  }
  if (backends.count(key.vip) != 0) {
    return fail(path, key.vip.text() + " is also the address of a backend",
                "a backend is reached by an address of its own");
  }
  if (pool->second.forwarding == Forwarding::l2 && !pool->second.backends.empty()) {
    const Address& backend = pool->second.backends.begin()->first;
    if (backend.is_v4() != key.vip.is_v4()) {
      return fail(path + ".pool",
                  "the VIP is " + std::string(family_name(key.vip)) + ", but pool '" +
                      service.pool + "' forwards by l2 to " + family_name(backend) + " backends (" +
                      backend.text() + ")",
                  "use a pool of that family, or forwarding ipip");
    }
  }
  return {};
}

}  // namespace

bool is_pool_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && is_alphanumeric(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_prime(uint32_t number) {
  if (number < 4) return number > 1;
  if (number % 2 == 0) return false;
  for (uint64_t i = 3; i * i <= number; i += 2) {
    if (number % i == 0) return false;
  }
  return true;
}

const char* family_name(const Address& address) {
  return address.is_v4() ? "IPv4" : "IPv6";
}

std::string address_problem(const Address& address) {
  const char* kind = nullptr;
  if (address.is_v4()) {
    const uint8_t* b = address.v4();
    if (b[0] == 0) kind = "in 0.0.0.0/8";
    if (b[0] == 127) kind = "a loopback address";
    if (b[0] >= 224) kind = b[0] < 240 ? "a multicast address" : "in 240.0.0.0/4";
  } else {
    const uint8_t* b = address.v6();
    bool zeros = std::all_of(b, b + 15, [](uint8_t byte) { return byte == 0; });
    if (zeros && b[15] == 0) kind = "the unspecified address";
    if (zeros && b[15] == 1) kind = "the loopback address";
    if (b[0] == 0xff) kind = "a multicast address";
    if (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) kind = "a link-local address";
  }
  if (kind == nullptr) return {};
  return "must be a unicast address that other hosts can reach, but " + address.text() + " is " +
         kind;
}

Result<void> check_intent(const Intent& intent) {
  if (intent.pools.size() > GW_POOLS_MAX) {
    return fail("pools", over_limit("pools", intent.pools.size(), GW_POOLS_MAX));
  }
  if (intent.services.size() > GW_SERVICES_MAX) {
    return fail("services", over_limit("services", intent.services.size(), GW_SERVICES_MAX));
  }
  uint64_t backends = 0;
  uint64_t slots = 0;
  std::set<Address> vips;
  for (const auto& [key, service] : intent.services) vips.insert(key.vip);
  std::set<Address> shared;  // both VIP and backend
  for (const auto& [name, pool] : intent.pools) {
    if (auto checked = check_pool(name, pool); !checked) return checked;
    backends += std::max(pool.backends.size(), table_addresses(pool).size());
    slots += pool.table_slots;
    for (const auto& [address, backend] : pool.backends) {
      if (vips.count(address) != 0) shared.insert(address);
    }
  }
  if (backends > GW_BACKENDS_MAX) {
    return fail("pools", over_limit("backends over all pools", backends, GW_BACKENDS_MAX));
  }
  if (slots > kSlotsTotalMax) {
    return fail("pools", over_limit("table slots over all pools", slots, kSlotsTotalMax),
                "lower table_slots of some pools");
  }
  for (const auto& [key, service] : intent.services) {
    if (auto checked = check_service(intent, key, service, shared); !checked) return checked;
  }
  return {};
}

}  // namespace guideway
