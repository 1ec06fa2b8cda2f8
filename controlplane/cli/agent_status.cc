// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <set>

#include "bpf/redirect.h"
#include "controlplane/cli/agent.h"
#include "controlplane/cli/table.h"

namespace guideway::cli {

namespace {

using Json = nlohmann::ordered_json;

int refused(const Context& context, const Error& error) {
  context.err << "guideway: " << error.text() << '\n';
  return kRefused;
}

// One interface, or all of them.
Result<std::vector<Redirect>> chosen(const std::string& interface) {
  if (interface.empty()) return Redirect::find_all();
  Result<std::optional<Redirect>> one = Redirect::find(interface);
  if (!one) return tl::unexpected(one.error());
  std::vector<Redirect> list;
  if (*one) list.push_back(std::move(**one));
  return list;
}

struct State {
  std::set<Prefix> allowed;
  std::set<Address> local;
  RedirectCounters counters{};
  bool sends_on = false;
};

Result<State> state_of(const Redirect& redirect) {
  Result<std::set<Prefix>> allowed = redirect.allowed();
  if (!allowed) return tl::unexpected(allowed.error());
  Result<std::set<Address>> local = redirect.local();
  if (!local) return tl::unexpected(local.error());
  Result<RedirectCounters> counters = redirect.counters();
  if (!counters) return tl::unexpected(counters.error());
  Result<bool> sends_on = redirect.sends_on();
  if (!sends_on) return tl::unexpected(sends_on.error());
  return State{std::move(*allowed), std::move(*local), *counters, *sends_on};
}

template <typename Members>
Json texts(const Members& members) {
  Json list = Json::array();
  for (const auto& member : members) list.push_back(member.text());
  return list;
}

template <typename Members>
std::string joined(const Members& members) {
  std::string line;
  for (const auto& member : members) line += (line.empty() ? "" : ", ") + member.text();
  return line.empty() ? "none" : line;
}

Json as_json(const Redirect& redirect, const State& state) {
  Json counters = Json::object();
  for (size_t i = 0; i < state.counters.size(); ++i)
    counters[std::string(kRedirectCounters[i].name)] = state.counters[i];
  return {{"interface", redirect.interface()},
          {"mode", xdp_mode_name(redirect.mode())},
          {"program_id", redirect.program_id()},
          {"allowed", texts(state.allowed)},
          {"local", texts(state.local)},
          {"sends_on", state.sends_on},
          {"counters", counters}};
}

void print(const Context& context, const Redirect& redirect, const State& state) {
  context.out << painted(redirect.interface(), Colour::heading, context.colour)
              << ": redirect is attached, " << xdp_mode_name(redirect.mode())
              << " mode, program id " << redirect.program_id() << '\n'
              << "  takes tunnel packets from  " << joined(state.allowed) << '\n'
              << "  to                         " << joined(state.local) << '\n';
  if (!state.sends_on)
    context.out
        << "  gives no second chance: its tc half was taken off (guideway agent run puts it "
           "back)\n";
  Table table({{"PACKETS"}, {"COUNT", true}, {"MEANING"}});
  for (size_t i = 0; i < state.counters.size(); ++i)
    table.add({std::string(kRedirectCounters[i].name), std::to_string(state.counters[i]),
               std::string(kRedirectCounters[i].meaning)});
  table.print(context.out, context.colour, 2);
}

}  // namespace

int agent_status(const Context& context, const AgentOptions& options) {
  Result<std::vector<Redirect>> list = chosen(options.interface);
  if (!list) return refused(context, list.error());
  Json answer = Json::array();
  for (const Redirect& redirect : *list) {
    Result<State> state = state_of(redirect);
    if (!state) return refused(context, state.error());
    if (context.json)
      answer.push_back(as_json(redirect, *state));
    else
      print(context, redirect, *state);
  }
  if (context.json) context.out << Json({{"interfaces", answer}}).dump() << '\n';
  if (!list->empty()) return kOk;
  std::string where = options.interface.empty() ? "any interface" : options.interface;
  return refused(context, {"", "redirect is not attached to " + where,
                           "guideway agent run --interface IF --allow PREFIX"});
}

int agent_detach(const Context& context, const AgentOptions& options) {
  Result<std::vector<Redirect>> list = chosen(options.interface);
  if (!list) return refused(context, list.error());
  Json detached = Json::array();
  for (Redirect& redirect : *list) {
    if (Result<void> gone = redirect.detach(); !gone) return refused(context, gone.error());
    detached.push_back(redirect.interface());
    if (!context.json) context.out << "detached from " << redirect.interface() << '\n';
  }
  if (context.json) context.out << Json({{"detached", detached}}).dump() << '\n';
  if (list->empty() && !context.json) context.out << "nothing to detach\n";
  return kOk;
}

}  // namespace guideway::cli
