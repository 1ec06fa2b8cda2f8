// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/node.h"

#include <chrono>
#include <functional>
#include <thread>

#include "controlplane/cli/answer.h"

namespace guideway::cli {
namespace {

constexpr std::chrono::milliseconds kPoll{200};

// Why it is not there yet; empty when it is.
using Missing = std::function<std::string(const Json&)>;

std::string missing_of_drain(const Json& node) {
  if (text(node, "state") != "drained") return "the node is " + text(node, "state");
  return truth(node, "quiet") ? "" : "traffic still comes";
}

std::string missing_of_enable(const Json& status) {
  for (const Json& vip : list(field(status, "vips"), "vips")) {
    if (text(vip, "announce") == "normal") continue;
    std::string line = "VIP " + text(vip, "vip") + " is " + text(vip, "announce");
    return line += ": " + text(vip, "reason");
  }
  return "";
}

int wait_until(const Context& context, const char* path, int64_t timeout_s,
               const Missing& missing) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  while (true) {
    int exit_code = kOk;
    Context quiet = context;
    quiet.json = false;
    auto answer = parsed(quiet, Client(context.socket).get(path), exit_code);
    if (!answer) return exit_code;
    const std::string why_not = missing(*answer);
    if (why_not.empty()) return kOk;
    if (std::chrono::steady_clock::now() >= deadline) {
      context.err << "guideway: not within " << timeout_s << " s: " << printable(why_not) << '\n';
      return kRefused;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

// Asks for the mode; prints the answer with --json, and nothing else.
int put_mode(const Context& context, const char* mode) {
  int exit_code = kOk;
  shown(context, Client(context.socket).put("/v1/node", std::string("{\"mode\":\"") + mode + "\"}"),
        exit_code);
  return exit_code;
}

}  // namespace

int node_drain(const Context& context, bool wait, int64_t timeout_s) {
  if (int failed = put_mode(context, "drained"); failed != kOk) return failed;
  if (wait) {
    int failed = wait_until(context, "/v1/node", timeout_s, missing_of_drain);
    if (failed != kOk) return failed;
  }
  if (!context.json) {
    context.out << (wait ? "node drained: nothing is announced, and no traffic comes\n"
                         : "node is draining: `guideway status` says when it is drained\n");
  }
  return kOk;
}

int node_enable(const Context& context, bool wait, int64_t timeout_s) {
  if (int failed = put_mode(context, "normal"); failed != kOk) return failed;
  if (wait) {
    int failed = wait_until(context, "/v1/status", timeout_s, missing_of_enable);
    if (failed != kOk) return failed;
  }
  if (!context.json) {
    context.out << (wait ? "node enabled: all VIPs are announced\n" : "node enabled\n");
  }
  return kOk;
}

}  // namespace guideway::cli
