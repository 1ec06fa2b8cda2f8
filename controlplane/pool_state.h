// SPDX-License-Identifier: Apache-2.0
// The state of a pool: which of its backends may take new flows, which may still have connections,
// and why. Pure steps, events and then `settle(now) -> transitions`: no clock, no sockets. What the
// intent says (mode, weight), what the probes say (judge.h) and whether there is a way (next hops)
// come in as events; out come releases, which are what the forwarding image says of a backend.
//
// - A backend that is new is `unknown`: it takes nothing until its first probe is answered, unless
//   nobody else is up. One that was here before its pool was probed counts as up until the probes
//   say otherwise; so does one that was here before the control plane started, for nobody knows
//   what connections it has (it is `unknown`, and presumed() up).
// - Panic: when of the enabled backends with weight none would remain up, those that fell within
//   `panic_grace` of the last one keep their slots: it is more likely that something they have in
//   common is broken than all of them. It ends with the first that is up. As long as one of them is
//   unknown, and can be reached, it may be the one that is up: no panic.
// - Leaving: a backend that was removed, and that the pool's table still names (pool_plan.h). It is
//   probed on, and counts as one of weight 0: it keeps what connections it has until it is down.
//   One that was down, or disabled, stays so: it must not stand in the way of those behind it.
// - Slow start: a backend that comes (back) gets its slots share by share (in the order of the
// slots'
//   hash), while others are up that can have the rest.
// - `gue`: a backend that is down is tried last for down_linger (others may still send it flows, or
//   it may be a mistake), and left out after; sooner when all nodes are known to see it down. One
//   that drains keeps its slots here: the plan takes them (pool_plan.h).
// - Blind: probing is broken on this side for at least one of its backends; verdicts are as they
//   were.
//
// Times are nanoseconds of CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/intent.h"
#include "controlplane/judge.h"
#include "dataplane/abi.h"
#include "dataplane/address.h"

namespace guideway {

enum class BackendState : uint8_t {
  up,
  down,      // the probes say so
  draining,  // no new flows; those it has stay
  disabled,
  unknown,  // new, no probe has been answered yet
  no_next_hop,
  no_weight,
};
const char* state_name(BackendState state);

enum class PoolCondition : uint8_t { normal, panic, blind };
const char* condition_name(PoolCondition condition);

// What the image says of a backend (gw_backend.share and GW_HOLDS).
struct Release {
  uint32_t share = GW_SHARE_ALL;
  bool holds = true;
  bool operator==(const Release&) const = default;
};

// What keeps a backend that is to take flows from being up.
enum class Sight : uint8_t {
  down,
  no_way,   // no next hop
  blind,    // its probes tell nothing; it is taken for what it was
  unknown,  // no probe has been answered yet
};
const char* sight_name(Sight sight);

// Of the backends that are to take flows (enabled, with weight).
struct PoolOutlook {
  uint32_t of = 0;  // so many there are
  uint32_t up = 0;
  bool cut = false;  // not_up does not hold all that are not up
  std::map<Address, Sight> not_up;
  bool operator==(const PoolOutlook&) const = default;
};

struct PoolTransition {
  std::optional<Address> backend;  // none: the pool as a whole
  std::string from, to;            // names of states or conditions
  std::string reason;
  uint64_t at_ns = 0;
};

class PoolState {
 public:
  using Transitions = std::vector<PoolTransition>;

  // Events; who is no member, nor leaving, is ignored. They take effect with the next settle().
  // What the intent says now. `trusted`: members that are new come without slow start (the control
  // plane has just started and knows nothing of before).
  void configure(const Pool& pool, bool trusted, uint64_t now_ns);
  // What the probes say of one member.
  void judged(const Address& backend, const Judge::Change& change, uint64_t now_ns);
  // Whether packets have a way to it; `reason` if not.
  void reachable(const Address& backend, bool is, const std::string& reason);

  // The backends that all living nodes of the cluster see down.
  void agreed_down(const std::set<Address>& backends);

  struct Settled {
    Transitions transitions;
    bool released = false;  // some release is another than before
  };
  // After events, and when next_settle_ns() says so.
  Settled settle(uint64_t now_ns);
  // When a slow start goes on, or a backend that is down is to be left out; 0: nothing is due.
  uint64_t next_settle_ns() const;

  // Its last verdict, if it has one, is that it is down.
  bool is_down(const Address& backend) const;
  // Unknown, and counts as up.
  bool is_presumed(const Address& backend) const;

  // A member, or leaving.
  bool has(const Address& backend) const { return backends_.contains(backend); }
  // ALL and holds for one that is neither.
  Release release(const Address& backend) const;

  struct View {
    BackendState state = BackendState::up;
    std::string reason;     // why it is so; may be empty for up
    uint64_t since_ns = 0;  // 0: from the beginning
    Release release;
  };
  // Nothing for one that is neither a member nor leaving.
  std::optional<View> view(const Address& backend) const;

  PoolOutlook outlook() const;

  PoolCondition condition() const { return condition_; }
  const std::string& condition_reason() const { return condition_reason_; }
  uint64_t condition_since_ns() const { return condition_since_; }

 private:
  struct Backend {
    uint32_t weight = 0;
    BackendMode mode = BackendMode::enabled;
    Seen seen = Seen::unknown;
    bool leaving = false;
    bool trusted = false;  // its next coming is no coming back
    bool blind = false;
    std::string seen_reason;
    std::string blind_reason;
    bool reachable = true;
    std::string unreachable_reason;
    uint64_t fell_ns = 0;                   // last verdict of down
    bool agreed = false;                    // down, and all nodes say so
    uint64_t slow_ns = 0;                   // when slow start began; 0: none
    bool in_panic = false;                  // keeps its slots although it is down
    BackendState state = BackendState::up;  // as it was last reported
    uint64_t since_ns = 0;
    Release release;
  };

  bool is_candidate(const Backend& backend) const;
  bool is_up(const Backend& backend) const;
  bool is_presumed(const Backend& backend) const;
  BackendState state_of(const Backend& backend) const;
  std::string reason_of(const Backend& backend) const;
  void leave(const Address& address);
  void begin_slow_start(Backend& backend, uint64_t now_ns) const;
  void settle_condition(uint64_t now_ns, Transitions& out);
  void choose_for_panic(uint64_t now_ns);
  bool set_releases(uint64_t now_ns);
  Release release_of(const Backend& backend, bool any_up, uint64_t now_ns) const;
  uint64_t linger_end(const Backend& backend) const;
  bool lingers(const Backend& backend, uint64_t now_ns) const;
  uint32_t slow_share(const Backend& backend, uint64_t now_ns) const;

  std::map<Address, Backend> backends_;
  bool configured_ = false;
  bool probed_ = false;
  bool gue_ = false;
  uint64_t slow_start_ns_ = 0;
  uint64_t panic_grace_ns_ = 0;
  PoolCondition condition_ = PoolCondition::normal;
  std::string condition_reason_;
  uint64_t condition_since_ = 0;
  uint64_t settled_ns_ = 0;
};

}  // namespace guideway
