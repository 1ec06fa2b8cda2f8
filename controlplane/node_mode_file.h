// SPDX-License-Identifier: Apache-2.0
// STATE/node.json: what the operator wants of this node alone, `{"mode":"normal"}`. Not intent: the
// other nodes have their own. Replaced atomically and synced before a change is answered.
#pragma once

#include <string>

#include "controlplane/announce.h"
#include "controlplane/result.h"

namespace guideway {

class NodeModeFile {
 public:
  explicit NodeModeFile(std::string path) : path_(std::move(path)) {}

  // Normal if there is no such file. A damaged one is an error: a node that was taken out of
  // service must not come back by accident.
  Result<NodeMode> load() const;
  Result<void> save(NodeMode mode) const;

 private:
  std::string path_;
};

}  // namespace guideway
