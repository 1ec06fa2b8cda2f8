// SPDX-License-Identifier: Apache-2.0
// A change of intent: asks for it, waits until the dataplane runs it, and says what came of it.
#pragma once

#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

struct Change {
  std::string method;   // PUT or DELETE
  std::string path;     // of the API, without query
  std::string body;     // JSON; empty for DELETE
  std::string subject;  // "pool web: backend 10.0.0.7"
  std::string done;     // "added", "changed: weight 100 -> 50"; said if the revision changed
};

// Prints "SUBJECT DONE (revision 12, running as generation 17)", or "SUBJECT unchanged (...)".
// Stored but not adopted in time is a warning on `err` and kOk: the change is durable, and the
// dataplane takes it when it can.
int make(const Context& context, const Change& change);

// "?wait=adopted", or nothing with --no-wait; and "force=1" with --force.
std::string wait_query(const Context& context);

// For other commands whose answer is a change answer: " (revision 12, running as generation 17)"
// and, if waited for in vain, the warning on `err`. `answer` is its JSON.
std::string adoption(const Context& context, const std::string& answer);

}  // namespace guideway::cli
