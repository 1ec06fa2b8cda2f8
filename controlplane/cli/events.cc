// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/events.h"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "controlplane/cli/answer.h"

namespace guideway::cli {
namespace {

constexpr std::chrono::milliseconds kLook{500};
constexpr uint64_t kLimit = 100;
constexpr uint64_t kLimitMax = 10'000;  // that the server takes
constexpr uint64_t kLimitToFollow = 10;

std::string path(uint64_t since, uint64_t limit) {
  return "/v1/events?since=" + std::to_string(since) + "&limit=" + std::to_string(limit);
}

// Milliseconds are enough for people: "2026-11-23T01:02:03.456Z".
std::string short_time(const std::string& time) {
  constexpr size_t kMilliseconds = 23;
  if (time.size() <= kMilliseconds + 1 || time.back() != 'Z') return time;
  return time.substr(0, kMilliseconds) + "Z";
}

// How long after it was noticed the dataplane forwarded accordingly.
std::string in_force(const Json& event) {
  const Json& ms = field(event, "adopted_ms");
  if (!ms.is_number()) return number(event, "generation") == 0 ? "" : "not yet";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f ms", ms.get<double>());
  return buffer;
}

Table table_of(const Json& events) {
  // Of one width from one look to the next, unless a name is very long.
  Table table({{"NUMBER", true},
               {"TIME", false, false, 24},
               {"POOL", false, false, 8},
               {"BACKEND", false, false, 15},
               {"CHANGE", false, false, 23},
               {"IN FORCE", true, false, 8},
               {"REASON"}});
  for (const Json& event : events) {
    const std::string backend = text(event, "backend"), to = text(event, "to");
    table.add({std::to_string(number(event, "number")),
               short_time(text(event, "time")),
               text(event, "pool"),
               backend.empty() ? "the pool" : backend,
               {text(event, "from") + " -> " + to, colour_of(to)},
               in_force(event),
               text(event, "reason")});
  }
  return table;
}

void print_json_lines(const Context& context, const Json& events) {
  for (const Json& event : events) {
    context.out << event.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
}

class Follower {
 public:
  Follower(const Context& context, uint64_t since) : context_(context), since_(since) {}

  int run(uint64_t limit) {
    for (bool first = true;; first = false, limit = kLimitMax) {
      Answer answer = Client(context_.socket).get(path(since_, limit));
      const bool away = !answer && answer.error().code == kUnreachable;
      if (away && !first) {
        if (!away_) context_.err << "guideway: no answer from the control plane, waiting for it\n";
        away_ = true;
      } else {
        int exit_code = kOk;
        auto json = parsed(context_, answer, exit_code);
        if (!json) return exit_code;
        take(*json, first);
        if (!context_.out.flush()) return kRefused;
      }
      std::this_thread::sleep_for(kLook);
    }
  }

 private:
  void take(const Json& answer, bool first) {
    away_ = false;
    const uint64_t next = number(answer, "next");
    if (next < since_ && !first) {
      context_.err << "guideway: the control plane was started anew, its events begin again\n";
      since_ = 0;  // the next look has them all
      return;
    }
    const Json& events = list(field(answer, "events"), "events");
    if (!events.empty() && !first && since_ != 0) {
      const uint64_t begin = number(events.front(), "number");
      if (begin > since_) {
        const uint64_t gone = begin - since_;
        context_.err << "guideway: " << counted(gone, "event") << " came too fast and "
                     << (gone == 1 ? "is" : "are") << " left out\n";
      }
    }
    if (context_.json) {
      print_json_lines(context_, events);
    } else if (first || !events.empty()) {
      table_of(events).print(context_.out, context_.colour, 0, first);
    }
    since_ = next;
  }

  const Context& context_;
  uint64_t since_;
  bool away_ = false;
};

}  // namespace

int events(const Context& context, const EventsWanted& wanted) {
  const uint64_t since = wanted.since.value_or(0);
  const uint64_t limit = wanted.limit.value_or(wanted.follow ? kLimitToFollow : kLimit);
  if (wanted.follow) return Follower(context, since).run(limit);
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get(path(since, limit)), exit_code);
  if (!answer) return exit_code;
  const Json& items = list(field(*answer, "events"), "events");
  if (items.empty()) {
    context.out << (since == 0 ? "no events since the control plane was started\n"
                               : "no events since number " + std::to_string(since) + "\n");
    return kOk;
  }
  table_of(items).print(context.out, context.colour);
  if (items.size() == limit && limit < kLimitMax && number(items.front(), "number") > since + 1) {
    context.out << "(the newest " << limit << "; more: --limit N, up to " << kLimitMax << ")\n";
  }
  return kOk;
}

}  // namespace guideway::cli
