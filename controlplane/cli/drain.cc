// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/drain.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <optional>
#include <thread>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/backend.h"
#include "controlplane/cli/change.h"
#include "controlplane/cli/pool.h"
#include "controlplane/time_text.h"

namespace guideway::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kLook = 500ms;
constexpr auto kAwayMost = 60s;  // of the control plane: its restart is no end of a drain
constexpr auto kRateOver = 2s;   // of packets
const char* const kClearLine = "\r\033[K";

// The line on a terminal that says how far it is.
class Progress {
 public:
  Progress(const Context& context, std::string name) : context_(context), name_(std::move(name)) {}
  ~Progress() { clear(); }

  void show(const Json& backend) {
    if (!context_.err_terminal) return;
    const uint64_t packets = number(backend, "packets");
    const auto now = Clock::now();
    if (!since_ || packets < packets_) {
      since_ = now;
      packets_ = packets;
    } else if (now - *since_ >= kRateOver) {
      const std::chrono::duration<double> passed = now - *since_;
      rate_ = std::llround(static_cast<double>(packets - packets_) / passed.count());
      since_ = now;
      packets_ = packets;
    }
    std::string line = name_ + ": ";
    line += rate_ ? std::to_string(*rate_) + " packets/s still go to it" : "counting packets";
    const std::string left = time_left(text(backend, "drain_until"));
    line += left.empty() ? ", no deadline" : ", disabled in " + left;
    context_.err << kClearLine << printable(line) << std::flush;
    shown_ = true;
  }

  void clear() {
    if (shown_) context_.err << kClearLine << std::flush;
    shown_ = false;
  }

 private:
  const Context& context_;
  std::string name_;
  std::optional<Clock::time_point> since_;
  uint64_t packets_ = 0;
  std::optional<long long> rate_;
  bool shown_ = false;
};

int say(const Context& context, const std::string& what) {
  if (!context.json) context.out << what << '\n';
  return kOk;
}

// The backend drains no more.
int end(const Context& context, const std::string& name, const Json& backend, bool was_cut) {
  if (!backend.is_object()) return say(context, name + " is removed");
  if (text(backend, "mode") == "disabled") {
    return say(context, was_cut ? name +
                                      " is disabled: its time was over, and what connections it "
                                      "still had are cut"
                                : "drained " + name + ": it is disabled");
  }
  return report(context, {kRefused,
                          0,
                          {"", name + " is not drained: somebody enabled it again",
                           "`journalctl -u guideway-controlplane -n 50` says who"},
                          ""});
}

int follow(const Context& context, const std::string& pool, const std::string& address) {
  const std::string name = pool + " " + canonical(address);
  const Client client(context.socket);
  Progress progress(context, name);
  auto heard = Clock::now();
  std::string until;  // the deadline, as it was last
  for (;; std::this_thread::sleep_for(kLook)) {
    Answer answer = client.get(pool_path(pool));
    if (!answer && answer.error().code == kUnreachable && Clock::now() - heard < kAwayMost) {
      continue;
    }
    heard = Clock::now();
    if (!answer && answer.error().status == 404) answer = "{}";  // the pool went, and it too
    int exit_code = kOk;
    if (!answer) progress.clear();
    auto json = parsed(context, answer, exit_code);
    if (!json) return exit_code;
    const Json& backend = find_backend(*json, address);
    if (text(backend, "mode") == "draining") {
      until = text(backend, "drain_until");
      progress.show(backend);
      continue;
    }
    progress.clear();
    const auto deadline = utc_seconds(until);
    return end(context, name, backend, deadline && *deadline <= std::time(nullptr));
  }
}

std::string deadline_words(const Context& context, const std::string& pool,
                           const std::string& address, uint64_t deadline_s) {
  if (deadline_s == 0) return "it drains until it is enabled, disabled or removed";
  // When, by the clock that counts.
  std::string until;
  if (Answer answer = Client(context.socket).get(pool_path(pool))) {
    until = text(find_backend(Json::parse(*answer, nullptr, false), address), "drain_until");
  }
  return "disabled in " + duration_text(deadline_s * 1000) +
         (until.empty() ? "" : ", at " + until) + ", unless enabled before";
}

}  // namespace

int backend_drain(const Context& context, const std::string& pool, const std::string& address,
                  uint64_t deadline_ms, bool wait) {
  int exit_code = kOk;
  if (!need_backend(context, pool, address, exit_code)) return exit_code;
  const uint64_t deadline_s = deadline_ms / 1000 + (deadline_ms % 1000 == 0 ? 0 : 1);
  const Json body = {{"mode", "draining"}, {"deadline_s", deadline_s}};
  Answer answer =
      Client(context.socket).put(backend_path(pool, address) + wait_query(context), body.dump());
  const bool done = answer.has_value();
  auto json = shown(context, answer, exit_code);
  if (!done || exit_code != kOk) return exit_code;
  const std::string running = context.json && !context.wait ? "" : adoption(context, *answer);
  if (json) {
    context.out << "draining " << pool << ' ' << canonical(address) << ": new flows go elsewhere; "
                << deadline_words(context, pool, address, deadline_s) << running << '\n';
    warn_if_nobody_is_left(context, pool);
  }
  if (!wait) return kOk;
  context.out.flush();
  return follow(context, pool, address);
}

}  // namespace guideway::cli
