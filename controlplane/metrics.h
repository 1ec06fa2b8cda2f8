// SPDX-License-Identifier: Apache-2.0
// The status in the Prometheus text format (version 0.0.4). Names: guideway_*; totals count since
// the counters were made and survive restarts of both daemons.
#pragma once

#include <string>

#include "controlplane/status.h"

namespace guideway {

inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

std::string write_metrics(const Status& status);

}  // namespace guideway
