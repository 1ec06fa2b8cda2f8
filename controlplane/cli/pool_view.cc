// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/pool_view.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "controlplane/cli/answer.h"
#include "controlplane/intent_change.h"
#include "controlplane/probe_json.h"
#include "controlplane/time_text.h"

namespace guideway::cli {
namespace {

// Of a backend: of its slots, how many it takes new flows for now; 1 if nothing is said.
double share_now(const Json& backend) {
  const Json& value = field(backend, "share_now");
  return value.is_number() ? value.get<double>() : 1;
}

std::string percent(double part) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.0f %%", part * 100);
  return buffer;
}

constexpr size_t kNodesShown = 4;

std::string with(const std::string& text, const std::string& more) {
  return text.empty() || more.empty() ? text + more : text + "; " + more;
}

std::string drain_end(const Json& backend) {
  std::string until = text(backend, "drain_until");
  return until.empty() ? "without a deadline" : "disabled in " + time_left(until) + ", at " + until;
}

// What the state of a backend does not say: where packets to it go, or why none do.
std::string detail(const Json& backend) {
  const std::string state = text(backend, "state");
  const std::string reason = text(backend, "reason");
  std::string out = where_down(backend);
  if (state == "up") {
    if (share_now(backend) < 1)
      out = with(out, "slow start: " + percent(share_now(backend)) + " of its slots");
    out = with(out, next_hop(field(backend, "next_hop")));
  } else {
    out = with(out, reason);
    const uint64_t needed = number(backend, "successes_needed");
    if (state == "down" && needed != 0) {
      out = with(out, std::to_string(number(backend, "successes")) + " of " +
                          std::to_string(needed) + " answers in a row to be up");
    }
    if (state == "down" && field(backend, "share_now").is_number() && share_now(backend) > 0) {
      out = with(out, "keeps its slots in the panic");
    }
    if (out.empty()) out = next_hop(field(backend, "next_hop"));
  }
  if (text(backend, "mode") == "draining") {
    out = with(state == "draining" ? "" : with(out, "draining"), drain_end(backend));
  }
  return truth(backend, "blind") ? with(out, "blind: judged as before") : out;
}

void print_condition(const Context& context, const Json& pool) {
  std::string name = alarm(pool);
  if (name.empty()) return;
  const Json& health = field(pool, "health");
  std::string since = age(text(health, "since"));
  std::string line = name + (since.empty() ? "" : " for " + since) + ": ";
  context.out << "  " << painted(line + text(health, "reason"), Colour::bad, context.colour)
              << '\n';
}

void print_probe(const Context& context, const Json& pool) {
  if (!pool.is_object() || !pool.contains("probe")) return;  // of an older control plane
  context.out << "  probe " << printable(probe_words(field(pool, "probe")));
  if (uint64_t ms = number(pool, "slow_start_ms"); ms != 0) {
    context.out << "; slow start " << duration_text(ms);
  }
  context.out << '\n';
}

// "epoch 12; 13 is prepared; 10, 11 may still have connections; waits: ..."
void print_change(const Context& context, const Json& pool) {
  const Json& change = field(pool, "change");
  if (!change.is_object()) return;
  const uint64_t incoming = number(change, "incoming");
  const Json& earlier = field(change, "earlier");
  if (incoming == 0 && earlier.empty() && !truth(change, "wanted")) return;
  std::string line = "epoch " + std::to_string(number(change, "epoch"));
  if (incoming != 0) {
    line += "; " + std::to_string(incoming) + " is prepared";
  } else if (truth(change, "wanted")) {
    line += "; another is wanted";
  }
  std::string numbers;
  for (const Json& epoch : earlier) numbers += (numbers.empty() ? "" : ", ") + epoch.dump();
  if (!numbers.empty()) line += "; connections of " + numbers + " may still be there";
  if (const std::string waits = text(change, "waits"); !waits.empty()) line += "; waits: " + waits;
  context.out << "  change: " << printable(line) << '\n';
}

}  // namespace

std::string names(const Json& list, size_t shown) {
  std::string out;
  for (size_t i = 0; i < std::min(list.size(), shown); ++i)
    out += (i > 0 ? ", " : "") + (list[i].is_string() ? list[i].get<std::string>() : "");
  if (list.size() > shown) out += " and " + std::to_string(list.size() - shown) + " more";
  return printable(out);
}

std::string where_down(const Json& backend) {
  const Json& seen = field(backend, "seen");
  if (!seen.is_object()) return "";
  const Json& down = list(field(seen, "down_on"), "down_on");
  const Json& blind = list(field(seen, "blind_on"), "blind_on");
  std::string out;
  if (down.size() == number(seen, "nodes")) {
    out = "down on all nodes";
  } else if (!down.empty()) {
    out = "down on " + names(down, kNodesShown) + (down.size() == 1 ? " only" : "");
  }
  return with(out, blind.empty() ? "" : "blind on " + names(blind, kNodesShown));
}

std::string backend_summary(const Json& pool) {
  const Json& backends = list(field(pool, "backends"), "backends");
  std::map<std::string, size_t> states;
  for (const Json& backend : backends) ++states[text(backend, "state")];
  std::string out = counted(backends.size(), "backend");
  std::string separator = ": ";
  auto add = [&](const std::string& state, size_t count) {
    out += separator + std::to_string(count) + " " + state;
    separator = ", ";
  };
  if (auto up = states.find("up"); up != states.end()) add("up", up->second);
  for (const auto& [state, count] : states) {
    if (state != "up") add(state, count);
  }
  return out;
}

std::string probe_words(const Json& probe) {
  auto known = read_probe(probe, "probe");
  return known ? probe_text(*known) : probe.dump();  // of another version
}

std::string alarm(const Json& pool) {
  std::string state = text(field(pool, "health"), "state");
  if (state == "panic") return "PANIC";
  return state == "blind" ? "BLIND" : "";
}

void print_backends(const Context& context, const Json& pool, size_t backends_max,
                    unsigned indent) {
  const Json& backends = list(field(pool, "backends"), "backends");
  bool all = backends.size() <= backends_max;
  Table table({{"BACKEND"},
               {"WEIGHT", true},
               {"STATE"},
               {"SINCE", true, true},
               {"RTT", true, true},
               {"SHARE", true},
               {"SLOTS", true},
               {"PACKETS", true},
               {"BYTES", true},
               {"NEXT HOP, OR WHY NOT"}});
  size_t printed = 0, left_out = 0;
  for (const Json& backend : backends) {
    std::string state = text(backend, "state");
    const bool well = state == "up" && where_down(backend).empty();
    if (!all && well) continue;
    if (printed == backends_max) {
      ++left_out;
      continue;
    }
    ++printed;
    const Json& rtt = field(backend, "rtt_us");
    const std::string since = age(text(backend, "since"));
    table.add({text(backend, "address"),
               std::to_string(number(backend, "weight")),
               {state, state == "up" && !well ? Colour::warning : colour_of(state)},
               since.empty() ? "" : since + " ago",
               rtt.is_number() ? microseconds(number(backend, "rtt_us")) : "",
               share(backend),
               std::to_string(number(backend, "slots")),
               std::to_string(number(backend, "packets")),
               std::to_string(number(backend, "bytes")),
               detail(backend)});
  }
  if (!table.empty()) table.print(context.out, context.colour, indent);
  std::string blanks(indent, ' ');
  if (left_out != 0) {
    context.out << blanks << "... and " << left_out << " more that are not up\n";
  }
  if (!all) {
    context.out << blanks << "(the others are up: `guideway backend list " << text(pool, "name")
                << "`)\n";
  }
}

void print_pool(const Context& context, const Json& pool, size_t backends_max) {
  std::string digest = text(pool, "digest");
  context.out << painted("POOL " + text(pool, "name"), Colour::heading, context.colour) << "  "
              << text(pool, "forwarding") << ", " << number(pool, "table_slots") << " slots, "
              << counted(number(pool, "services"), "service") << ", " << backend_summary(pool);
  if (!digest.empty()) context.out << ", table " << digest;
  context.out << '\n';
  print_probe(context, pool);
  print_condition(context, pool);
  print_change(context, pool);
  print_backends(context, pool, backends_max, 2);
}

}  // namespace guideway::cli
