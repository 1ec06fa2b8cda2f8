// SPDX-License-Identifier: Apache-2.0
// differences() of intent_change.h.
#include <utility>

#include "controlplane/intent_change.h"
#include "controlplane/time_text.h"

namespace guideway {
namespace {

std::string pool_text(const Pool& pool) {
  size_t count = pool.backends.size();
  return std::string(forwarding_name(pool.forwarding)) + ", " + std::to_string(pool.table_slots) +
         " slots, " + std::to_string(count) + (count == 1 ? " backend" : " backends");
}

std::string pool_probe_text(const Pool& pool) {
  return probe_text(pool.probe);
}

std::string hold_text(const Pool& pool) {
  return pool.hold_s == 0 ? "for ever" : duration_text(pool.hold_s * uint64_t{1000});
}

std::string slow_start_text(const Pool& pool) {
  return pool.slow_start_ms == 0 ? "none" : duration_text(pool.slow_start_ms);
}

// Of one that is new or goes.
std::string whole_pool_text(const Pool& pool) {
  std::string out = pool_text(pool);
  if (pool.probe.kind != ProbeKind::none) out += ", probe " + pool_probe_text(pool);
  if (pool.slow_start_ms != 0) out += ", slow start " + slow_start_text(pool);
  return out;
}

std::string weight_text(const Backend& backend) {
  return "weight " + std::to_string(backend.weight);
}

std::string mode_text(const Backend& backend) {
  std::string out = mode_name(backend.mode);
  if (backend.drain_until != 0) out += " until " + utc_text(backend.drain_until);
  return out;
}

std::string whole_backend_text(const Backend& backend) {
  std::string out = weight_text(backend);
  if (backend.mode != BackendMode::enabled) out += ", " + mode_text(backend);
  return out;
}

// Walks two maps by key: `one` has (key, before or null, after or null) for each that differs.
template <typename Map, typename One>
void walk(const Map& before, const Map& after, One one) {
  auto b = before.begin();
  auto a = after.begin();
  while (b != before.end() || a != after.end()) {
    if (a == after.end() || (b != before.end() && b->first < a->first)) {
      one(b->first, &b->second, nullptr);
      ++b;
    } else if (b == before.end() || a->first < b->first) {
      one(a->first, nullptr, &a->second);
      ++a;
    } else {
      if (!(b->second == a->second)) one(b->first, &b->second, &a->second);
      ++b;
      ++a;
    }
  }
}

template <typename Value, typename Text>
Difference difference(std::string what, const Value* before, const Value* after, Text text) {
  Difference out;
  out.op = before == nullptr  ? Difference::Op::add
           : after == nullptr ? Difference::Op::remove
                              : Difference::Op::change;
  out.what = std::move(what);
  if (before != nullptr) out.from = text(*before);
  if (after != nullptr) out.to = text(*after);
  return out;
}

// Each setting that is another than before.
void pool_differences(const std::string& name, const Pool& from, const Pool& to,
                      std::vector<Difference>& out) {
  const std::string what = "pool " + name;
  if (from.forwarding != to.forwarding || from.table_slots != to.table_slots) {
    out.push_back(difference(what, &from, &to, pool_text));
  }
  if (!(from.probe == to.probe)) {
    out.push_back(difference(what + " probe", &from, &to, pool_probe_text));
  }
  if (from.slow_start_ms != to.slow_start_ms) {
    out.push_back(difference(what + " slow start", &from, &to, slow_start_text));
  }
  if (from.hold_s != to.hold_s) {
    out.push_back(difference(what + " hold", &from, &to, hold_text));
  }
  walk(from.backends, to.backends,
       [&](const Address& address, const Backend* old, const Backend* now) {
         const std::string backend = "backend " + name + " " + address.text();
         if (old == nullptr || now == nullptr) {
           out.push_back(difference(backend, old, now, whole_backend_text));
           return;
         }
         if (old->weight != now->weight) {
           out.push_back(difference(backend, old, now, weight_text));
         }
         if (old->mode != now->mode || old->drain_until != now->drain_until) {
           out.push_back(difference(backend, old, now, mode_text));
         }
       });
}

}  // namespace

const char* op_name(Difference::Op op) {
  switch (op) {
    case Difference::Op::add:
      return "add";
    case Difference::Op::remove:
      return "remove";
    case Difference::Op::change:
      break;
  }
  return "change";
}

std::vector<Difference> differences(const Intent& before, const Intent& after) {
  std::vector<Difference> out;
  walk(before.pools, after.pools, [&](const std::string& name, const Pool* from, const Pool* to) {
    if (from != nullptr && to != nullptr) {
      pool_differences(name, *from, *to, out);
    } else {
      out.push_back(difference("pool " + name, from, to, whole_pool_text));
    }
  });
  walk(before.services, after.services,
       [&](const ServiceKey& key, const Service* from, const Service* to) {
         out.push_back(difference("service " + key.text(), from, to,
                                  [](const Service& service) { return "pool " + service.pool; }));
       });
  return out;
}

}  // namespace guideway
