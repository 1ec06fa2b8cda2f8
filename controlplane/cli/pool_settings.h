// SPDX-License-Identifier: Apache-2.0
// What `guideway pool add` and `pool set` give a pool: from options to the body of a PUT.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "controlplane/result.h"

namespace guideway::cli {

inline constexpr const char* kProbeForms = "none, icmp, tcp:PORT, udp:PORT or http:PORT[/PATH]";

// As typed; absent: as it is.
struct PoolSettings {
  std::string forwarding;
  std::optional<int64_t> table_slots;
  std::optional<uint64_t> slow_start_ms;
  std::optional<uint64_t> hold_ms;
  std::string probe;  // one of kProbeForms
  std::optional<uint64_t> probe_interval_ms, probe_timeout_ms;
  std::optional<int64_t> fall, rise;
  std::string probe_query;
  std::optional<std::string> probe_host;

  bool probe_details() const {  // any that says how, and not what
    return probe_interval_ms || probe_timeout_ms || fall || rise || !probe_query.empty() ||
           probe_host;
  }
  bool empty() const {
    return forwarding.empty() && !table_slots && !slow_start_ms && !hold_ms && probe.empty() &&
           !probe_details();
  }
};

// Whether it is one of kProbeForms; the error's field is empty. Whether there is such a port is the
// server's business.
Result<void> check_probe_form(const std::string& text);

// The body of PUT /v1/pools/NAME. With `probe` a new probe begins, and what is not said has its
// default; details alone change the probe of `before` (the pool as the API gives it; null if it is
// not there), and it is an error if there is none.
Result<nlohmann::json> pool_body(const PoolSettings& settings, const nlohmann::json& before,
                                 const std::string& name);

// "forwarding l2 -> ipip, probe none -> tcp:443 every ...": what `body` changes in `before`. Empty
// if nothing.
std::string pool_changes(const nlohmann::json& before, const nlohmann::json& body);

}  // namespace guideway::cli
