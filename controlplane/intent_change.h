// SPDX-License-Identifier: Apache-2.0
// Changes of an intent, as pure functions: the intent before and what is asked give the intent
// after, checked as a whole (intent_rules.h), or the reason why not. The revision is kept: counting
// is the daemon's, and only when the intent really changed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

enum class Refusal : uint8_t {
  invalid,    // what is asked contradicts the rules
  not_found,  // there is no such pool, backend or service
  conflict,   // it fits no more to the state it meets: still in use, another revision
};

struct RefusedChange {
  Refusal refusal = Refusal::invalid;
  Error error;
};

using ChangeResult = tl::expected<Intent, RefusedChange>;

// What the document of PUT /v1/intent says.
struct WantedIntent {
  // Refused unless the present one is this, or nothing would change.
  std::optional<uint64_t> revision;
  // Taken by a node that never had an intent, whatever `revision` says: so a backup is restored.
  // Refused by any other unless it is the present one.
  std::optional<uint64_t> flow_seed;
  std::map<std::string, Pool> pools;
  std::map<ServiceKey, Service> services;
};

// What a PUT of one pool says; absent: as it is. A new pool needs `forwarding`.
struct WantedPool {
  std::optional<Forwarding> forwarding;
  std::optional<uint32_t> table_slots;
  std::optional<std::map<Address, Backend>> backends;  // replaces the whole set
};

ChangeResult replace_intent(const Intent& before, const WantedIntent& wanted);
ChangeResult put_pool(const Intent& before, const std::string& name, const WantedPool& wanted);
ChangeResult remove_pool(const Intent& before, const std::string& name);
// Without weight: the default for a new backend, as it is for an old one.
ChangeResult put_backend(const Intent& before, const std::string& pool, const Address& address,
                         std::optional<uint32_t> weight);
ChangeResult remove_backend(const Intent& before, const std::string& pool, const Address& address);
ChangeResult put_service(const Intent& before, const ServiceKey& key, const Service& service);
ChangeResult remove_service(const Intent& before, const ServiceKey& key);

// "l2", "ipip"; and back.
const char* forwarding_name(Forwarding forwarding);
std::optional<Forwarding> forwarding_of(std::string_view name);

struct Difference {
  enum class Op : uint8_t { add, remove, change };
  Op op = Op::add;
  std::string what;  // "pool web", "backend web 10.0.0.21", "service 203.0.113.10:443/tcp"
  std::optional<std::string> from;  // none: was not there
  std::optional<std::string> to;    // none: is no more
  bool operator==(const Difference&) const = default;
};

const char* op_name(Difference::Op op);

// Pools with their backends by name, then services. A pool that is new or goes is one difference,
// its backends are counted in it.
std::vector<Difference> differences(const Intent& before, const Intent& after);

}  // namespace guideway
