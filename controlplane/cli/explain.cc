// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/explain.h"

#include "controlplane/cli/answer.h"

namespace guideway::cli {

int explain(const Context& context, const std::string& client, const std::string& service) {
  int exit_code = kOk;
  auto answer =
      shown(context,
            Client(context.socket)
                .get("/v1/explain?client=" + escaped(client) + "&service=" + escaped(service)),
            exit_code);
  if (!answer) return exit_code;

  const Json& it = *answer;
  std::string backend = text(it, "backend");
  std::ostream& out = context.out;
  out << text(it, "client") << " to " << service << ": "
      << painted(backend.empty() ? "no backend" : backend,
                 backend.empty() ? Colour::bad : Colour::good, context.colour)
      << '\n';
  if (std::string why = text(it, "why"); !why.empty()) out << "  because " << why << '\n';
  out << '\n'
      << "service   " << text(it, "service") << '\n'
      << "pool      " << text(it, "pool") << ", " << text(it, "forwarding") << '\n'
      << "slot      " << number(it, "slot") << " of " << number(it, "slots") << ", hash "
      << text(it, "hash") << '\n'
      << "next hop  " << next_hop(field(it, "next_hop")) << '\n'
      << "image     generation " << number(it, "generation") << ", revision "
      << number(it, "revision") << '\n'
      << '\n';

  Table hops({{"HOP", true}, {"BACKEND"}, {"ROLE"}, {"STATE"}, {"TAKES IT"}, {"REASON"}});
  size_t place = 0;
  for (const Json& hop : list(field(it, "hops"), "hops")) {
    std::string state = text(hop, "state");
    bool takes = truth(hop, "takes");
    hops.add({std::to_string(place++),
              text(hop, "address"),
              text(hop, "role"),
              {state, colour_of(state)},
              {takes ? "yes" : "no", takes ? Colour::good : Colour::none},
              text(hop, "reason")});
  }
  if (!hops.empty()) hops.print(out, context.colour);
  return kOk;
}

}  // namespace guideway::cli
