// SPDX-License-Identifier: Apache-2.0
// Where the intent is kept. One implementation now (store_file.h); one on etcd can stand behind the
// same two calls.
#pragma once

#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

class Store {
 public:
  virtual ~Store() = default;

  // The intent as last saved. A store that was never written gives an empty intent at revision 0
  // with a new flow seed, which is durable already. What cannot be read, or is of a newer format,
  // is an error, and is left as it is.
  virtual Result<Intent> load() = 0;

  // Durable when it returns. After an error the store may hold either of the two intents.
  virtual Result<void> save(const Intent& intent) = 0;
};

}  // namespace guideway
