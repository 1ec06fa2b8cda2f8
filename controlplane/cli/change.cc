// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/change.h"

#include "controlplane/cli/answer.h"

namespace guideway::cli {

std::string wait_query(const Context& context) {
  std::string out = context.wait ? "?wait=adopted" : "";
  if (context.force) out += out.empty() ? "?force=1" : "&force=1";
  return out;
}

std::string adoption(const Context& context, const std::string& answer) {
  Json json = Json::parse(answer, nullptr, false);
  std::string revision = "revision " + std::to_string(number(json, "revision"));
  uint64_t generation = number(json, "generation");
  if (truth(json, "adopted")) {
    return " (" + revision + ", running as generation " + std::to_string(generation) + ")";
  }
  if (!context.wait) return " (" + revision + ", not waited for)";
  context.err << "guideway: warning: " << revision
              << " is stored, but the dataplane has not adopted it in time; it runs "
              << (generation == 0 ? "no image" : "generation " + std::to_string(generation))
              << "\n  hint: `guideway status` says why\n";
  return " (" + revision + ", not adopted yet)";
}

int make(const Context& context, const Change& change) {
  Client client(context.socket);
  std::string path = change.path + wait_query(context);
  Answer answer = client.send(change.method, path, change.body);
  int exit_code = kOk;
  std::optional<Json> json = shown(context, answer, exit_code);
  if (!json) {
    // --json has said everything on `out`; the warning is for whoever reads `err`.
    if (answer && context.json && context.wait) adoption(context, *answer);
    return exit_code;
  }
  const std::string& done = truth(*json, "changed") ? change.done : "unchanged";
  std::string running = adoption(context, *answer);
  context.out << change.subject << ' ' << done << running << '\n';
  return kOk;
}

}  // namespace guideway::cli
