// SPDX-License-Identifier: Apache-2.0
// Intent as JSON: the bodies of the control socket and the stored file. Strict both ways: unknown
// fields, duplicate keys, wrong types and numbers out of range are errors whose field is the path
// in the whole document ("pools.web.backends.10.0.0.7.weight"), wherever the body begins.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "controlplane/intent.h"
#include "controlplane/intent_change.h"
#include "controlplane/result.h"

namespace guideway {

inline constexpr uint32_t kDrainDeadline = 600;         // seconds
inline constexpr uint32_t kDrainDeadlineMax = 604'800;  // a week

// Bodies. An empty body is `{}`; an intent must have pools or services (or both).
Result<WantedIntent> read_wanted_intent(std::string_view body);
Result<WantedPool> read_wanted_pool(std::string_view body, const std::string& name);
// What is ordered of one backend: `{"weight":100,"mode":"draining","deadline_s":600}`. `now`, in
// seconds since 1970, is when the deadline begins; 0 is none, and without one it is
// kDrainDeadline.
Result<WantedBackend> read_wanted_backend(std::string_view body, const std::string& pool,
                                          const Address& address, int64_t now);
Result<Service> read_wanted_service(std::string_view body, const ServiceKey& key);

// `{"revision":12,"flow_seed":"<16 hex digits>","pools":{...},"services":{...}}` on one line, every
// field written out. The seed is text: numbers over 2^53 do not survive every JSON tool.
std::string write_intent(const Intent& intent);

// All fields that belong to the probe's kind; "null" for none.
std::string write_probe(const Probe& probe);

// The parts of a pool that a store may keep apart; the third is write_plan().
std::string write_settings(const Pool& pool);  // all but the backends
std::string write_backends(const Pool& pool);
// Each as written; no plan: "". `name` is one by is_pool_name().
Result<Pool> read_stored_pool(const std::string& name, std::string_view settings,
                              std::string_view backends, std::string_view plan);

// What a store keeps, with the flow seed as a number.
std::string write_stored_intent(const Intent& intent);
// Checked as a whole: a stored intent that breaks the rules is an error.
Result<Intent> read_stored_intent(std::string_view text);

}  // namespace guideway
