// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/apply.h"

#include "controlplane/cli/answer.h"
#include "controlplane/cli/change.h"
#include "controlplane/cli/intent_file.h"

namespace guideway::cli {
namespace {

// A value as the server gave it: text as it is, anything else as JSON.
std::string value(const Json& difference, const char* key) {
  const Json& it = field(difference, key);
  if (it.is_null()) return "";
  return it.is_string() ? it.get<std::string>() : it.dump();
}

void print(const Context& context, const Json& difference) {
  std::string op = text(difference, "op");
  std::string from = value(difference, "from"), to = value(difference, "to");
  std::string line = op == "add" ? "+ " : op == "remove" ? "- " : "~ ";
  line += text(difference, "what");
  if (op == "add") {
    if (!to.empty()) line += ": " + to;
  } else if (op == "remove") {
    if (!from.empty()) line += ": " + from;
  } else {
    line += ": " + from + " -> " + to;
  }
  Colour colour = op == "add" ? Colour::good : op == "remove" ? Colour::bad : Colour::warning;
  context.out << painted(line, colour, context.colour) << '\n';
}

}  // namespace

int apply(const Context& context, const std::string& file, bool dry_run) {
  Result<IntentFile> intent = IntentFile::load(file);
  if (!intent) return report(context, {kRefused, 0, intent.error(), ""});

  std::string path = "/v1/intent" + (dry_run ? "?dry_run=1" : wait_query(context));
  Answer answer = Client(context.socket).put(path, intent->json);
  if (!answer && answer.error().status != 0) {
    Failure failure = answer.error();
    std::string name = file == "-" ? "standard input" : file;
    std::string place = intent->place(failure.error.field, name);
    failure.error.field = failure.error.field.empty() ? place : place + ": " + failure.error.field;
    return report(context, failure);
  }
  int exit_code = kOk;
  std::optional<Json> json = shown(context, answer, exit_code);
  if (!json) {
    if (answer && context.json && context.wait && !dry_run) adoption(context, *answer);
    return exit_code;
  }
  const Json& differences = list(field(*json, "differences"), "differences");
  for (const Json& difference : differences) print(context, difference);
  if (dry_run) {
    context.out << (differences.empty() ? "nothing changes"
                                        : counted(differences.size(), "difference") +
                                              "; dry run, nothing was changed")
                << '\n';
    return kOk;
  }
  std::string running = adoption(context, *answer);
  context.out << (differences.empty() ? "nothing changes"
                                      : counted(differences.size(), "difference") + " applied")
              << running << '\n';
  return kOk;
}

}  // namespace guideway::cli
