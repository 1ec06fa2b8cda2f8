// SPDX-License-Identifier: Apache-2.0
// What the announcer is told of the services: the intent, judged by what is known of the backends.
#pragma once

#include <functional>

#include "controlplane/announcer.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"

namespace guideway {

std::set<Address> vips_of(const Intent& intent);

Announcer::Services announce_services(
    const Intent& intent, const std::function<const NextHopState&(const Address&)>& next_hop);

}  // namespace guideway
