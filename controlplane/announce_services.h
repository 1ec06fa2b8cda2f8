// SPDX-License-Identifier: Apache-2.0
// What the announcer is told of the services: the intent, judged by what is known of the backends.
#pragma once

#include <functional>
#include <string>

#include "controlplane/announcer.h"
#include "controlplane/intent.h"
#include "controlplane/pool_state.h"

namespace guideway {

std::set<Address> vips_of(const Intent& intent);

// `state_of` a pool: null if there is none yet. `lone`: pools that this node is out of, and why.
Announcer::Services announce_services(
    const Intent& intent, const std::function<const PoolState*(const std::string&)>& state_of,
    const std::map<std::string, std::string>& lone);

}  // namespace guideway
