// SPDX-License-Identifier: Apache-2.0
// The dice of a simulation: the same numbers from the same seed on every machine and with every
// standard library (SplitMix64; Steele, Lea, Flood 2014).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace guideway {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t below(size_t end) { return static_cast<size_t>(next() % end); }
  bool one_in(size_t odds) { return below(odds) == 0; }

  template <typename T>
  T& of(std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  uint64_t state_;
};

}  // namespace guideway
