// SPDX-License-Identifier: Apache-2.0
// Intent as JSON: the bodies of the control socket and the stored file. Strict both ways: unknown
// fields, duplicate keys, wrong types and numbers out of range are errors whose field is the path
// in the whole document ("pools.web.backends.10.0.0.7.weight"), wherever the body begins.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "controlplane/intent.h"
#include "controlplane/intent_change.h"
#include "controlplane/result.h"

namespace guideway {

// Bodies. An empty body is `{}`; an intent must have pools or services (or both).
Result<WantedIntent> read_wanted_intent(std::string_view body);
Result<WantedPool> read_wanted_pool(std::string_view body, const std::string& name);
Result<std::optional<uint32_t>> read_wanted_backend(std::string_view body, const std::string& pool,
                                                    const Address& address);
Result<Service> read_wanted_service(std::string_view body, const ServiceKey& key);

// `{"revision":12,"flow_seed":"<16 hex digits>","pools":{...},"services":{...}}` on one line, every
// field written out. The seed is text: numbers over 2^53 do not survive every JSON tool.
std::string write_intent(const Intent& intent);

// What a store keeps, with the flow seed as a number.
std::string write_stored_intent(const Intent& intent);
// Checked as a whole: a stored intent that breaks the rules is an error.
Result<Intent> read_stored_intent(std::string_view text);

}  // namespace guideway
