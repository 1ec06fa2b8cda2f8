// SPDX-License-Identifier: Apache-2.0
#include "bpf/map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <numeric>

namespace guideway {

namespace {

enum class First { removals, additions };

tl::unexpected<Error> map_error(const std::string& what) {
  return fail("", what + ": " + std::strerror(errno), errno == EPERM ? "run it as root" : "");
}

gw_address_key to_key(const Address& address) {
  gw_address_key key;
  std::memcpy(key.bytes, address.bytes.data(), sizeof key.bytes);
  return key;
}
gw_prefix_key to_key(const Prefix& prefix) {
  gw_prefix_key key;
  key.bits = prefix.bits;
  std::memcpy(key.bytes, prefix.address.bytes.data(), sizeof key.bytes);
  return key;
}
Address from_key(const gw_address_key& key) {
  return Address::from_v6(key.bytes);
}
Prefix from_key(const gw_prefix_key& key) {
  return {Address::from_v6(key.bytes), key.bits};
}

template <typename Member>
Result<std::set<Member>> members_in(int map_fd) {
  using Key = decltype(to_key(Member{}));
  std::set<Member> members;
  Key key;
  Key* previous = nullptr;
  while (bpf_map_get_next_key(map_fd, previous, &key) == 0) {
    members.insert(from_key(key));
    previous = &key;
  }
  if (errno != ENOENT) return map_error("reading a BPF map");
  return members;
}

template <typename Member>
Result<void> add(int map_fd, const std::vector<Member>& members) {
  for (const Member& member : members) {
    auto key = to_key(member);
    uint8_t value = 1;
    if (bpf_map_update_elem(map_fd, &key, &value, BPF_ANY) != 0)
      return map_error("adding " + member.text() + " to a BPF map");
  }
  return {};
}

template <typename Member>
Result<void> remove(int map_fd, const std::vector<Member>& members) {
  for (const Member& member : members) {
    auto key = to_key(member);
    if (bpf_map_delete_elem(map_fd, &key) != 0 && errno != ENOENT)
      return map_error("removing " + member.text() + " from a BPF map");
  }
  return {};
}

template <typename Member>
Result<void> set_members(int map_fd, std::span<const Member> wanted_list, First first) {
  Result<std::set<Member>> present = members_in<Member>(map_fd);
  if (!present) return tl::unexpected(present.error());
  std::set<Member> wanted(wanted_list.begin(), wanted_list.end());

  std::vector<Member> additions, removals;
  std::set_difference(wanted.begin(), wanted.end(), present->begin(), present->end(),
                      std::back_inserter(additions));
  std::set_difference(present->begin(), present->end(), wanted.begin(), wanted.end(),
                      std::back_inserter(removals));
  if (first == First::removals)
    return remove(map_fd, removals).and_then([&] { return add(map_fd, additions); });
  return add(map_fd, additions).and_then([&] { return remove(map_fd, removals); });
}

}  // namespace

Result<UniqueFd> map_of_program(int program_fd, const std::string& name) {
  uint32_t ids[16];
  bpf_prog_info program{};
  program.map_ids = reinterpret_cast<uintptr_t>(ids);
  program.nr_map_ids = std::size(ids);
  uint32_t size = sizeof program;
  if (bpf_obj_get_info_by_fd(program_fd, &program, &size) != 0) return map_error("BPF program");

  for (uint32_t i = 0; i < std::min<uint32_t>(program.nr_map_ids, std::size(ids)); ++i) {
    UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
    if (!map) return map_error("BPF map " + std::to_string(ids[i]));
    bpf_map_info info{};
    size = sizeof info;
    if (bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0) return map_error("BPF map");
    if (name == info.name) return map;
  }
  return fail("", "BPF program '" + std::string(program.name) + "' has no map '" + name + "'",
              "it is from another version of Guideway: detach it");
}

// An exact key overlaps no other, and the map may be full.
Result<void> set_addresses(int map_fd, std::span<const Address> wanted) {
  return set_members(map_fd, wanted, First::removals);
}

// 10.0.0.0/24 may make way for 10.0.0.0/16, which holds it: no sender may be refused in between.
Result<void> set_prefixes(int map_fd, std::span<const Prefix> wanted) {
  return set_members(map_fd, wanted, First::additions);
}

Result<std::set<Address>> addresses_in(int map_fd) {
  return members_in<Address>(map_fd);
}
Result<std::set<Prefix>> prefixes_in(int map_fd) {
  return members_in<Prefix>(map_fd);
}

Result<std::vector<uint64_t>> sum_counters(int map_fd, size_t count) {
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return fail("", "counting CPUs: " + std::string(std::strerror(-cpus)));
  std::vector<uint64_t> per_cpu(static_cast<size_t>(cpus));
  std::vector<uint64_t> sums;
  for (uint32_t index = 0; index < count; ++index) {
    if (bpf_map_lookup_elem(map_fd, &index, per_cpu.data()) != 0)
      return map_error("reading BPF counters");
    sums.push_back(std::accumulate(per_cpu.begin(), per_cpu.end(), uint64_t{0}));
  }
  return sums;
}

}  // namespace guideway
