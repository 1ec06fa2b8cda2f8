// SPDX-License-Identifier: Apache-2.0
// The intent as small keys of a key-value store, and back. Pure. Keys, below a prefix that only the
// caller knows:
//
//   head            {"revision":12,"flow_seed":"<hex>","cluster":"<hex>","by":"edge-1"}
//   pools/web       the settings
//   backends/web    the backends, a set
//   plans/web       gue: the plan (change_plan.h)
//   services/203.0.113.10:443/tcp
//                   {"pool":"web"}
//   writes/edge-1   {"mark":"<hex>"}: which write of this node was its last (store_etcd.h); no part
//                   of the intent
//
// Each value is sealed with its key (sealed_text.h). Every change writes the head.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

struct IntentHead {
  uint64_t revision = 0;
  uint64_t flow_seed = 0;
  uint64_t cluster = 0;  // made at random when the first node wrote its intent
  std::string by;        // the node that wrote it
  bool part = false;     // a change too big for one transaction: more is to come
  bool operator==(const IntentHead&) const = default;
};

inline constexpr const char* kHeadKey = "head";
// What any reader of JSON keeps exactly; a head with more is not read.
inline constexpr uint64_t kRevisionMost = uint64_t{1} << 53;

std::string write_head(const IntentHead& head);  // sealed
Result<IntentHead> read_head(std::string_view value);

struct KeyWrite {
  std::string key;
  std::string value;  // empty: the key goes
  bool operator==(const KeyWrite&) const = default;
};

// What has to be written so that the keys of `before` become those of `after`, but for the head. In
// an order in which any number of the first ones makes a valid intent.
std::vector<KeyWrite> key_writes(const Intent& before, const Intent& after);

// What a store holds, as it comes in. What cannot be read, or contradicts the rest, is left out,
// object by object: that pool, that service stays as it was.
class IntentKeys {
 public:
  void set(const std::string& key, std::string value);
  void remove(const std::string& key);
  // Nothing is held any more, and all of `last` may be gone.
  void restart(const Intent& last);

  bool has_head() const { return values_.count(kHeadKey) != 0; }
  Result<IntentHead> head() const;

  // The intent of these keys; `last` is the one from the call before, or what is known from before.
  // Fails if the head cannot be read.
  Result<Intent> intent(const Intent& last);

  // Of the last intent(): keys that are left out, and why.
  const std::map<std::string, std::string>& refused() const { return refused_; }
  // Of these, those of a newer version: not to be written over.
  bool is_newer(const std::string& key) const { return newer_.count(key) != 0; }
  // One of the object that the key belongs to; empty: none.
  std::string newer_beside(const std::string& key) const;
  // What makes `now` of that which is left out, but for that of a newer version. Only of what was
  // good since restart(), so that what is known is the newest, and of what `writes` change anyway:
  // a node that knows less than the others takes nothing back.
  std::vector<KeyWrite> repairs(const Intent& now, const std::vector<KeyWrite>& writes) const;

 private:
  struct Object {  // a pool or a service
    bool is_pool;
    std::string name;
    auto operator<=>(const Object&) const = default;
  };

  static std::vector<std::string> keys_of(const Object& object);
  static Intent only(const Object& object, const Intent& all);
  static std::optional<Object> object_of(const std::string& key);
  void touch(const std::string& key);
  Result<void> take(const Object& object, Intent& into);
  Result<void> take_pool(const std::string& name, Intent& into);
  Result<void> take_service(const std::string& name, Intent& into);
  Result<std::string_view> value(const std::string& key);
  void refuse(const Object& object, const Error& error);

  std::map<std::string, std::string> values_;
  std::set<Object> dirty_;  // changed since, or left out before
  std::set<Object> seen_;   // good since restart()
  std::map<std::string, std::string> refused_;
  std::set<std::string> newer_;
};

}  // namespace guideway
