// SPDX-License-Identifier: Apache-2.0
// What makes an intent a valid one, beyond the types of its fields. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

// Of all pools together: as many as GW_POOLS_MAX pools of the default size. It bounds the memory of
// the tables (two hops of 2 bytes per slot: 1 GiB).
inline constexpr uint64_t kSlotsTotalMax = 4096ull * 65537ull;

// 1 to 63 of [A-Za-z0-9_.-], a letter or digit first.
bool is_pool_name(std::string_view name);
bool is_prime(uint32_t number);

const char* family_name(const Address& address);  // "IPv4", "IPv6"

// Why this can be no backend or VIP; empty: it can. Only unicast addresses with a meaning beyond
// one host or link: not unspecified, multicast, broadcast, loopback or IPv6 link-local.
std::string address_problem(const Address& address);

// The whole intent: names, limits of abi.h, families, unknown pools. The error's field is the path
// in the document ("services.203.0.113.10:443/tcp.pool").
Result<void> check_intent(const Intent& intent);

}  // namespace guideway
