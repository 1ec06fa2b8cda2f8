// SPDX-License-Identifier: Apache-2.0
#include "dataplane/older_layout.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <utility>

#include "dataplane/abi.h"
#include "dataplane/outer_sum.h"

namespace guideway {
namespace {

// 3 to 4: the sums. Its arrays do not overlap, so nothing else changes.
void rewrite(std::span<uint8_t> bytes) {
  auto& root = *reinterpret_cast<gw_root*>(bytes.data());
  auto* backends = reinterpret_cast<gw_backend*>(bytes.data() + root.backends_offset);
  for (uint32_t i = 0; i < root.backends; ++i) set_sums(backends[i]);
  root.header.layout = GW_LAYOUT;
  root.header.checksum =
      XXH3_64bits(bytes.data() + sizeof root.header, bytes.size() - sizeof root.header);
}

}  // namespace

Result<Mapping> in_current_layout(Mapping root) {
  if (reinterpret_cast<const gw_image_header*>(root.data())->layout == GW_LAYOUT) return root;
  return Mapping::from_bytes(root.bytes(), rewrite);
}

}  // namespace guideway
