// SPDX-License-Identifier: Apache-2.0
#include "dataplane/older_layout.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <vector>

#include "dataplane/abi.h"
#include "dataplane/outer_sum.h"

namespace guideway {

Result<Mapping> in_current_layout(Mapping root) {
  if (reinterpret_cast<const gw_image_header*>(root.data())->layout == GW_LAYOUT) return root;
  std::vector<uint8_t> bytes(root.data(), root.data() + root.size());
  auto& head = *reinterpret_cast<gw_root*>(bytes.data());
  auto* backends = reinterpret_cast<gw_backend*>(bytes.data() + head.backends_offset);
  for (uint32_t i = 0; i < head.backends; ++i) set_sums(backends[i]);
  head.header.layout = GW_LAYOUT;
  head.header.checksum =
      XXH3_64bits(bytes.data() + sizeof head.header, bytes.size() - sizeof head.header);
  return Mapping::from_bytes(bytes);
}

}  // namespace guideway
