// SPDX-License-Identifier: Apache-2.0
// Reading the server's JSON. A field that is absent, null or of another type reads as empty: an
// older or newer control plane must not make the CLI useless at the moment it is needed.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "controlplane/cli/client.h"
#include "controlplane/cli/table.h"

namespace guideway::cli {

using Json = nlohmann::json;

// The JSON of a 2xx answer. Without it: reported, nothing returned, `exit_code` set. With --json
// the body is printed as it came, nothing returned and `exit_code` is kOk.
std::optional<Json> shown(const Context& context, const Answer& answer, int& exit_code);

// As shown(), but prints nothing except errors.
std::optional<Json> parsed(const Context& context, const Answer& answer, int& exit_code);

const Json& field(const Json& object, const char* key);  // null if there is none
std::string text(const Json& object, const char* key);
uint64_t number(const Json& object, const char* key);
bool truth(const Json& object, const char* key);
// Member `key` if it is an array; `object` itself if it is one; else an empty array.
const Json& list(const Json& object, const char* key);

// "1 backend", "3 backends".
std::string counted(uint64_t count, const char* singular);
std::string share(const Json& object);  // "33.3 %"
// How long ago a time (RFC 3339) is: "12s", "3m", "5h", "9d"; and how far ahead. Empty if it is no
// time. The clock is this machine's.
std::string age(const std::string& time);
std::string time_left(const std::string& time);
std::string microseconds(uint64_t us);  // "212 us", "1.3 ms", "45 ms"
std::string next_hop(const Json& hop);  // "eth1 via 10.0.0.1, 02:..., MTU 1500"; "-" if unknown

// The colour of the state of a backend, a service or a pool.
Colour colour_of(const std::string& state);

}  // namespace guideway::cli
