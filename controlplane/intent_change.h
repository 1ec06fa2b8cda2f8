// SPDX-License-Identifier: Apache-2.0
// Changes of an intent, as pure functions: the intent before and what is asked give the intent
// after, checked as a whole (intent_rules.h), or the reason why not. The revision is kept: counting
// is the daemon's, and only when the intent really changed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

enum class Refusal : uint8_t {
  invalid,      // what is asked contradicts the rules
  not_found,    // there is no such pool, backend or service
  conflict,     // it fits no more to the state it meets: still in use, another revision
  not_stored,   // the store failed; the intent is as before
  unavailable,  // the store cannot be reached; the intent is as before
  unsure,       // the store did not answer: the change may be made, now or in a moment
};

struct RefusedChange {
  Refusal refusal = Refusal::invalid;
  Error error;
};

using ChangeResult = tl::expected<Intent, RefusedChange>;

// What is said about one backend.
struct WantedBackend {
  std::optional<uint32_t> weight;
  std::optional<BackendMode> mode;
  std::optional<int64_t> drain_until;  // as Backend's; only with mode draining
  // Of a drain that begins, if drain_until is absent; that of one under way stays.
  int64_t default_drain_until = 0;
};

// What is said about one pool. A new pool needs `forwarding`.
struct WantedPool {
  std::optional<Forwarding> forwarding;
  std::optional<uint32_t> table_slots;
  std::optional<Probe> probe;
  std::optional<uint32_t> slow_start_ms;
  std::optional<uint32_t> hold_s;
  std::optional<std::map<Address, WantedBackend>> backends;  // the whole set
};

// What the document of PUT /v1/intent says.
struct WantedIntent {
  // Refused unless the present one is this, or nothing would change.
  std::optional<uint64_t> revision;
  // Taken by a node that never had an intent, whatever `revision` says: so a backup is restored.
  // Refused by any other unless it is the present one.
  std::optional<uint64_t> flow_seed;
  std::map<std::string, WantedPool> pools;
  std::map<ServiceKey, Service> services;
};

// A setting that is absent gets its default. But the mode of a backend is an order and no setting:
// absent, it is as it was, so that a document that knows nothing of a drain does not end it. The
// same for drain_until of one that is draining.
ChangeResult replace_intent(const Intent& before, const WantedIntent& wanted);
// A setting that is absent is as it was. Of a backend in `backends` as for replace_intent().
ChangeResult put_pool(const Intent& before, const std::string& name, const WantedPool& wanted);
ChangeResult remove_pool(const Intent& before, const std::string& name);
// What is absent is as it was; for a new backend, the default. A backend that is not there cannot
// be drained.
ChangeResult put_backend(const Intent& before, const std::string& pool, const Address& address,
                         const WantedBackend& wanted);
ChangeResult remove_backend(const Intent& before, const std::string& pool, const Address& address);
ChangeResult put_service(const Intent& before, const ServiceKey& key, const Service& service);
ChangeResult remove_service(const Intent& before, const ServiceKey& key);

// "l2", "ipip", "gue"; and back.
const char* forwarding_name(Forwarding forwarding);
std::optional<Forwarding> forwarding_of(std::string_view name);
// "enabled", "draining", "disabled".
const char* mode_name(BackendMode mode);
std::optional<BackendMode> mode_of(std::string_view name);
// "none", "tcp", "icmp", "udp", "http".
const char* probe_kind_name(ProbeKind kind);
std::optional<ProbeKind> probe_kind_of(std::string_view name);
// "dns", "echo".
const char* udp_query_name(UdpQuery query);
std::optional<UdpQuery> udp_query_of(std::string_view name);

// "tcp:443 every 100 ms, time-out 100 ms, fall 3, rise 2"; "none".
std::string probe_text(const Probe& probe);

struct Difference {
  enum class Op : uint8_t { add, remove, change };
  Op op = Op::add;
  // "pool web", "pool web probe", "backend web 10.0.0.21", "service 203.0.113.10:443/tcp"
  std::string what;
  std::optional<std::string> from;  // none: was not there
  std::optional<std::string> to;    // none: is no more
  bool operator==(const Difference&) const = default;
};

const char* op_name(Difference::Op op);

// Pools with their backends by name, then services. A pool that is new or goes is one difference,
// its backends are counted in it. Weight and mode of a backend are two.
std::vector<Difference> differences(const Intent& before, const Intent& after);

}  // namespace guideway
