// SPDX-License-Identifier: Apache-2.0
// The boundary: bytes of a root or a table are checked here, once, before anything reads them.
// After success every offset and index in them may be followed without a check.
#pragma once

#include <cstdint>
#include <span>

#include "controlplane/result.h"
#include "dataplane/abi.h"

namespace guideway {

// A table's digest (its name) if the bytes are a table of layout GW_LAYOUT_TABLE.
// `bytes` must be 8-byte aligned, as every mapping is.
Result<uint64_t> validate_table(std::span<const uint8_t> bytes);

// Checks a root of layout GW_LAYOUT_OLDEST to GW_LAYOUT by itself. That its pools' tables are
// there, and have as many backends as the pool, is the image store's to check.
Result<void> validate_root(std::span<const uint8_t> bytes);

}  // namespace guideway
