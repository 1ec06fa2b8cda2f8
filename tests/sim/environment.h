// SPDX-License-Identifier: Apache-2.0
// What a simulation is told by the environment.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace guideway {

inline uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace guideway
