// SPDX-License-Identifier: Apache-2.0
// The `redirect` programs on a backend's interface (redirect.bpf.c): attached, adopted, updated,
// looked at, taken off. They are two, one in XDP and one in tc, and always together: if one of
// them is gone, attach() puts it back. Once attached they stay, whatever becomes of the process
// that did it; the next one finds it by interface and name and goes on from what its maps hold.
//
// One process at a time; needs root. Errors name the interface.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "bpf/attachment.h"
#include "bpf/layout.h"
#include "bpf/map.h"
#include "bpf/object.h"
#include "bpf/prefix.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/address.h"

namespace guideway {

inline constexpr BpfCounterText kRedirectCounters[] = {
#define GW_X(name, meaning) {#name, meaning},
    GW_REDIRECT_COUNTERS(GW_X)
#undef GW_X
};
using RedirectCounters =
    std::array<uint64_t, GW_REDIRECT_COUNTERS_END>;  // packets, by gw_redirect_counter

// Half of the map: old and new prefixes are in it together for a moment.
inline constexpr size_t kAllowedPrefixesMax = GW_REDIRECT_ALLOWED_MAX / 2;

class Redirect {
 public:
  enum class How {
    found,     // by find()
    attached,  // nothing was there
    adopted,   // the same program was there: its lists were brought up to date
    replaced,  // another version was there: changed in one step; counters start at 0
  };

  // What is attached in XDP, or nothing. Another program there is an error.
  static Result<std::optional<Redirect>> find(const std::string& interface);

  // Wherever it is attached on this host, in order of interface index. Other programs are no error.
  static Result<std::vector<Redirect>> find_all();

  // Makes the programs of `object_path` run on the interface with these lists. There is no moment
  // in which a packet that old and new lists both take is refused, nor one in which a packet that
  // is to be sent on is lost.
  static Result<Redirect> attach(const std::string& interface, const std::string& object_path,
                                 std::span<const Prefix> allowed, std::span<const Address> local);

  // Outer sources that are taken; outer destinations that are this host.
  Result<void> set_allowed(std::span<const Prefix> wanted);
  Result<void> set_local(std::span<const Address> wanted);
  Result<std::set<Prefix>> allowed() const;
  Result<std::set<Address>> local() const;

  Result<RedirectCounters> counters() const;
  Result<bool> attached() const;  // false if either half was taken off or replaced since
  Result<bool> sends_on() const;  // whether the half in tc is there: else no second chances
  Result<void> detach();          // no error if it is gone already

  const std::string& interface() const { return interface_.name; }
  unsigned program_id() const { return attachment_.program_id; }
  XdpMode mode() const { return attachment_.mode; }
  How how() const { return how_; }
  const std::string& why_generic() const { return why_generic_; }  // empty unless just attached so

 private:
  static Result<Redirect> of(const Interface& interface, Attachment attachment);
  Result<void> share_secret(const BpfObject& object, const std::optional<Attachment>& old);
  Result<void> attach_onward(const BpfObject& object);
  Result<void> set_lists(std::span<const Prefix> allowed, std::span<const Address> local);

  Interface interface_;
  Attachment attachment_;
  UniqueFd allowed_;
  UniqueFd local_;
  UniqueFd counters_;
  UniqueFd secret_;
  How how_ = How::found;
  std::string why_generic_;
};

// This host's own addresses of both families, or only those of one interface; loopback's
// 127.0.0.0/8 and ::1 left out.
Result<std::set<Address>> host_addresses(const std::string& interface = "");

}  // namespace guideway
