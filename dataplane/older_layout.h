// SPDX-License-Identifier: Apache-2.0
// Roots of the layout before this dataplane's own, from a control plane that is yet to be upgraded
// or from the copy of a dataplane before: written anew, so that all else knows one layout only.
#pragma once

#include "controlplane/result.h"
#include "dataplane/mapping.h"

namespace guideway {

// `root` passed validate_root(). One of GW_LAYOUT comes back as it is, an older one as a copy in
// GW_LAYOUT that passes validate_root(), too. Fails when memory ends.
Result<Mapping> in_current_layout(Mapping root);

}  // namespace guideway
