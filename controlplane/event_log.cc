// SPDX-License-Identifier: Apache-2.0
#include "controlplane/event_log.h"

#include <cstdio>
#include <ctime>
#include <iterator>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

uint64_t now_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() {
  return now_of(CLOCK_MONOTONIC);
}

std::string wall_time(uint64_t monotonic) {
  const uint64_t wall = now_of(CLOCK_REALTIME) - (monotonic_ns() - monotonic);
  const auto seconds = static_cast<std::time_t>(wall / kSecond);
  std::tm parts = {};
  gmtime_r(&seconds, &parts);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
  char out[48];
  std::snprintf(out, sizeof out, "%s.%06luZ", date,
                static_cast<unsigned long>(wall % kSecond / 1000));
  return out;
}

void EventLog::add(const std::string& pool, const PoolTransition& transition, bool releases) {
  events_.push_back(
      {next_++, wall_time(transition.at_ns), pool, transition, releases, 0, std::nullopt});
  if (events_.size() > kEventsMax) events_.pop_front();
}

void EventLog::published(uint64_t generation) {
  for (auto event = events_.rbegin(); event != events_.rend() && event->generation == 0; ++event) {
    if (event->releases) event->generation = generation;
  }
}

void EventLog::adopted(uint64_t generation, uint64_t now_ns) {
  for (auto event = events_.rbegin(); event != events_.rend(); ++event) {
    if (event->generation == 0 || event->generation > generation) continue;
    if (event->adopted_ns) break;
    event->adopted_ns = now_ns;
  }
}

std::string EventLog::write(const Event& event) {
  const PoolTransition& what = event.transition;
  std::string adopted = "null";
  if (event.adopted_ns) {
    char ms[32];
    std::snprintf(ms, sizeof ms, "%.3f", static_cast<double>(*event.adopted_ns - what.at_ns) / 1e6);
    adopted = ms;
  }
  return "{\"number\":" + std::to_string(event.number) + ",\"time\":\"" + event.time +
         "\",\"pool\":" + json_quoted(event.pool) +
         ",\"backend\":" + (what.backend ? json_quoted(what.backend->text()) : "null") +
         ",\"from\":\"" + what.from + "\",\"to\":\"" + what.to +
         "\",\"reason\":" + json_quoted(what.reason) +
         ",\"generation\":" + (event.generation == 0 ? "null" : std::to_string(event.generation)) +
         ",\"adopted_ms\":" + adopted + "}";
}

std::string EventLog::json(uint64_t since, size_t limit) const {
  auto first = events_.end();
  for (size_t count = 0; first != events_.begin() && count < limit; ++count) {
    if (std::prev(first)->number < since) break;
    --first;
  }
  std::string out;
  for (; first != events_.end(); ++first) out += (out.empty() ? "" : ",") + write(*first);
  return "{\"events\":[" + out + "],\"next\":" + std::to_string(next_) + "}";
}

}  // namespace guideway
