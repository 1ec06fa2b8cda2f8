// SPDX-License-Identifier: Apache-2.0
// Where the intent is kept, and the one way to change it: a file of this node alone
// (store_file.h), or etcd, shared by all nodes (store_etcd.h).
//
// Lives in the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "controlplane/intent.h"
#include "controlplane/intent_change.h"
#include "controlplane/result.h"

namespace guideway {

class Store {
 public:
  // Makes another intent of the present one. Pure, and may be called more than once: when another
  // node's change came first, it is applied again to what that made.
  using Change = std::function<ChangeResult(const Intent&)>;
  // The same intent twice: it asked for what is there.
  struct Changed {
    std::shared_ptr<const Intent> before, after;
  };
  using ChangeOutcome = tl::expected<Changed, RefusedChange>;
  using Done = std::function<void(ChangeOutcome)>;
  using OnIntent = std::function<void(std::shared_ptr<const Intent>)>;

  virtual ~Store() = default;

  // The newest. Never null. Immutable: it may be read in any thread.
  virtual std::shared_ptr<const Intent> intent() const = 0;

  // Whoever wants to hear of each new intent, this node's own changes included. It must not change
  // the store before it has returned.
  virtual void on_intent(OnIntent callback) = 0;

  // Calls `done` once: durable, and intent() shows it; or refused, and it is as before. (Over a
  // network there is a third: Refusal::unsure.) `who` and `what` are for the log. A store that ends
  // before drops `done` uncalled.
  virtual void change(Change change, std::string who, std::string what, Done done) = 0;
};

// The intent after the change: with the next revision and the plans of its pools brought up to what
// is wanted now. An equal intent keeps its revision.
ChangeResult next_intent(const Intent& before, const Store::Change& change);

}  // namespace guideway
