// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/cluster.h"

#include "controlplane/cli/answer.h"
#include "controlplane/cli/pool_view.h"

namespace guideway::cli {
namespace {

// "n2 lags", "n2 does not answer": of a node that is not as it should be.
std::string state_of(const Json& node) {
  if (!text(node, "problem").empty()) return "unreadable";
  if (!truth(node, "alive")) return "gone";
  if (number(node, "generation") == 0) return "no dataplane";
  if (!list(field(node, "out"), "out").empty()) return "OUT";
  return number(node, "behind") == 0 ? "alive" : "behind";
}

// So many backends it does not see up.
std::string sees_down(const Json& node) {
  return field(node, "down").is_number() ? std::to_string(number(node, "down")) : "";
}

void print(const Context& context, const Json& cluster) {
  const std::string state = text(cluster, "state");
  const bool well = state == "member";
  context.out << painted("CLUSTER", Colour::heading, context.colour) << "    "
              << painted(state, well ? Colour::good : Colour::bad, context.colour);
  if (const std::string id = text(cluster, "id"); !id.empty()) context.out << " of " << id;
  context.out << ", etcd at " << text(cluster, "endpoint");
  if (!well && !text(cluster, "last_contact").empty())
    context.out << ", last contact " << age(text(cluster, "last_contact")) << " ago";
  context.out << '\n';
  Table table({{"NODE"},
               {"STATE"},
               {"REVISION", true},
               {"GENERATION", true},
               {"DIGEST"},
               {"SEES DOWN", true, true},
               {"VERSION"},
               {""}});
  for (const Json& node : list(field(cluster, "nodes"), "nodes")) {
    const std::string how = state_of(node);
    std::string notes = truth(node, "self") ? "this node" : "";
    if (text(cluster, "elected") == text(node, "name"))
      notes += notes.empty() ? "elected" : ", elected";
    table.add({text(node, "name"),
               {how, how == "alive" ? Colour::good
                     : how == "OUT" ? Colour::bad
                                    : Colour::warning},
               std::to_string(number(node, "revision")),
               std::to_string(number(node, "generation")),
               text(node, "digest"),
               sees_down(node),
               text(node, "version"),
               notes});
  }
  if (!table.empty()) table.print(context.out, context.colour, 2);
}

int put_member(const Context& context, bool member) {
  int exit_code = kOk;
  auto answer = shown(context,
                      Client(context.socket)
                          .put("/v1/cluster", member ? "{\"member\":true}" : "{\"member\":false}"),
                      exit_code);
  if (answer) {
    context.out << (member ? "this node is a member: its intent is the cluster's\n"
                           : "this node is alone: its intent stays as it is, and is its own\n");
  }
  return exit_code;
}

}  // namespace

void print_cluster(const Context& context, const Json& status) {
  const Json& cluster = field(status, "cluster");
  if (!cluster.is_object()) return;
  print(context, cluster);
  context.out << '\n';
}

void cluster_problems(const Json& status, std::vector<std::string>& out) {
  const Json& cluster = field(status, "cluster");
  if (!cluster.is_object()) return;
  const std::string state = text(cluster, "state"), why = text(cluster, "problem");
  if (state == "not a member") {
    out.push_back("cluster: " + why + " -> guideway cluster join (takes the cluster's), or leave");
  } else if (state == "cut off") {
    const std::string contact = text(cluster, "last_contact");
    out.push_back(
        "cluster: cut off: " + why + "; changes are refused, forwarding goes on by " +
        (contact.empty() ? "this node's own copy" : "the intent of " + age(contact) + " ago"));
  } else if (!why.empty()) {
    out.push_back("cluster: " + why);
  }
  const Json& refused = field(cluster, "refused");
  if (refused.is_object())
    for (const auto& [key, reason] : refused.items())
      out.push_back(
          "cluster: " + key + " " + (reason.is_string() ? reason.get<std::string>() : "") +
          (key.find("/live/") == std::string::npos ? ": left as it was" : ": left aside"));
  for (const Json& node : list(field(cluster, "nodes"), "nodes")) {
    const std::string name = "node " + text(node, "name");
    if (!text(node, "problem").empty()) out.push_back(name + ": " + text(node, "problem"));
    if (const Json& pools = list(field(node, "out"), "out"); !pools.empty())
      out.push_back(name + ": it alone cannot reach backends of " + names(pools, pools.size()) +
                    ", so it has withdrawn their VIPs -> look at its links");
    if (truth(node, "self")) continue;
    if (!truth(node, "alive")) out.push_back(name + ": gone without a word");
    for (const Json& other : list(field(cluster, "nodes"), "nodes")) {
      const bool self = truth(other, "self");
      if (self && number(node, "revision") == number(other, "revision") &&
          !text(node, "digest").empty() && !text(other, "digest").empty() &&
          text(node, "digest") != text(other, "digest"))
        out.push_back(name + ": has other tables than this node at revision " +
                      std::to_string(number(node, "revision")));
    }
  }
}

int cluster_status(const Context& context) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get("/v1/cluster"), exit_code);
  if (!answer) return exit_code;
  if (!answer->is_object()) {
    context.out << "this node is in no cluster: its node.toml has no [cluster]\n";
    return kOk;
  }
  Json status;
  status["cluster"] = *answer;
  std::vector<std::string> lines;
  cluster_problems(status, lines);
  for (const std::string& line : lines)
    context.out << "! " << painted(line, Colour::bad, context.colour) << '\n';
  print(context, *answer);
  return kOk;
}

int cluster_join(const Context& context) {
  return put_member(context, true);
}

int cluster_leave(const Context& context) {
  return put_member(context, false);
}

}  // namespace guideway::cli
