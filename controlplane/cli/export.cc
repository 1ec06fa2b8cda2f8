// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/export.h"

#include "controlplane/cli/answer.h"
#include "controlplane/cli/intent_file.h"

namespace guideway::cli {

int export_intent(const Context& context) {
  int exit_code = kOk;
  const Answer answer = Client(context.socket).get("/v1/intent");
  auto intent = shown(context, answer, exit_code);
  if (!intent) return exit_code;
  auto toml = write_intent_file(*answer);
  if (!toml) return report(context, {kRefused, 0, toml.error(), ""});
  context.out << "# the intent at revision " << number(*intent, "revision")
              << ", by guideway export: guideway apply makes it so again\n"
              << "# flow_seed: for a node that never had an intent, so that flows stay where they "
                 "are; any other\n# node with another one refuses it: leave it out there\n"
              << *toml;
  return kOk;
}

}  // namespace guideway::cli
