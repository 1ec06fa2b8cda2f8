// SPDX-License-Identifier: Apache-2.0
// The announcer's part of a status.
#include "controlplane/json_text.h"
#include "controlplane/status.h"

namespace guideway {

std::string write_node_mode_fields(const NodeModeStatus& mode) {
  const char* wanted =
      node_mode_name(mode.mode == NodeMode::normal ? NodeMode::normal : NodeMode::drained);
  return std::string("\"mode\":\"") + wanted + "\",\"state\":\"" + node_mode_name(mode.mode) +
         "\",\"quiet\":" + (mode.quiet ? "true" : "false");
}

std::string write_vips(const std::vector<VipStatus>& vips) {
  std::string out = "[";
  for (const VipStatus& vip : vips) {
    if (out.size() > 1) out += ',';
    out += "{\"vip\":\"" + vip.vip.text() + "\",\"announce\":\"" +
           announcement_name(vip.announcement) + "\",\"reason\":" + json_quoted(vip.reason) + "}";
  }
  return out + "]";
}

}  // namespace guideway
