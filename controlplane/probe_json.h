// SPDX-License-Identifier: Apache-2.0
// Reading a pool's probe from JSON; for writing see intent_json.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

// `null` and `{"kind":"none"}` are no probe. What is absent gets the default of its kind; a field
// that does not belong to the kind is an error. Texts (path, host) are checked by check_intent().
// `path` is the probe's own: "pools.web.probe".
Result<Probe> read_probe(const nlohmann::json& value, const std::string& path);

}  // namespace guideway
