// SPDX-License-Identifier: Apache-2.0
#include "bpf/edge.h"

#include <algorithm>

namespace guideway {

static_assert(std::size(kEdgeCounters) == GW_EDGE_COUNTERS_END);

Result<void> Edge::clear_stale(const std::string& name) {
  Result<Interface> interface = Interface::find(name);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> stale = xdp_attachment_of(*interface, GW_EDGE_PROGRAM);
  if (!stale) return tl::unexpected(stale.error());
  if (!*stale) return {};
  return xdp_detach(*interface, **stale);
}

Result<Edge> Edge::find(const std::string& name) {
  Result<Interface> interface = Interface::find(name);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> attachment = xdp_attachment_of(*interface, GW_EDGE_PROGRAM);
  if (!attachment) return tl::unexpected(attachment.error());
  if (!*attachment) return fail(name, "the edge program is not attached");

  Edge edge;
  edge.interface_ = *interface;
  edge.attachment_ = std::move(**attachment);
  Result<UniqueFd> vips = map_of_program(edge.attachment_.fd.get(), "vips");
  if (!vips) return tl::unexpected(vips.error());
  Result<UniqueFd> counters = map_of_program(edge.attachment_.fd.get(), "edge_counters");
  if (!counters) return tl::unexpected(counters.error());
  edge.vips_ = std::move(*vips);
  edge.counters_ = std::move(*counters);
  return edge;
}

Result<void> Edge::set_vips(std::span<const Address> wanted) {
  if (wanted.size() > GW_EDGE_VIPS_MAX)
    return fail(interface_.name, std::to_string(wanted.size()) + " VIPs, at most " +
                                     std::to_string(GW_EDGE_VIPS_MAX) + " fit");
  return set_addresses(vips_.get(), wanted);
}

Result<EdgeCounters> Edge::counters() const {
  return sum_counters(counters_.get(), GW_EDGE_COUNTERS_END)
      .map([](const std::vector<uint64_t>& sums) {
        EdgeCounters counters{};
        std::copy(sums.begin(), sums.end(), counters.begin());
        return counters;
      });
}

Result<bool> Edge::attached() const {
  return xdp_is_attached(interface_, attachment_.program_id);
}

Result<void> Edge::detach() {
  return xdp_detach(interface_, attachment_);
}

}  // namespace guideway
