// SPDX-License-Identifier: Apache-2.0
// BPF maps of a loaded program, from user space: used as sets, and as counters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/layout.h"
#include "bpf/prefix.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/address.h"

namespace guideway {

// The map called `name` (the kernel keeps 15 bytes) of the program.
Result<UniqueFd> map_of_program(int program_fd, const std::string& name);

// Maps whose keys are a set (gw_address_key, gw_prefix_key) and whose value is a __u8 1.
// Duplicates in `wanted` are one. A member of both the old and the new set is never missing in
// between; nor, with prefixes, is an address that both sets cover: additions come first, so the
// map needs room for old and new together.
// One writer at a time. After an error part of the change may have been made; calling again mends.
Result<void> set_addresses(int map_fd, std::span<const Address> wanted);
Result<void> set_prefixes(int map_fd, std::span<const Prefix> wanted);
Result<std::set<Address>> addresses_in(int map_fd);
Result<std::set<Prefix>> prefixes_in(int map_fd);

struct BpfCounterText {
  std::string_view name;
  std::string_view meaning;
};

// The counters of a per-CPU array of __u64, each summed over all CPUs.
Result<std::vector<uint64_t>> sum_counters(int map_fd, size_t count);

}  // namespace guideway
