// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_event_stream.h"

#include <algorithm>
#include <utility>

namespace guideway {
namespace {

constexpr int kPermissionDenied = 7;
constexpr int kUnauthenticated = 16;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

std::string mib(size_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

}  // namespace

std::vector<EtcdRevision> EtcdEventStream::take(std::string_view data) {
  Revisions out;
  while (!data.empty() && !over()) {
    const size_t end = data.find('\n');
    if (rest_.size() + std::min(end, data.size()) > kMessageMost) {
      this->end("a watch message of more than " + mib(kMessageMost));
    } else if (end == data.npos) {
      rest_.append(data);
      break;
    } else if (rest_.empty()) {
      take_line(data.substr(0, end), out);
    } else {
      rest_.append(data.substr(0, end));
      take_line(std::exchange(rest_, {}), out);
    }
    if (end == data.npos) break;
    data.remove_prefix(end + 1);
  }
  return out;
}

std::vector<EtcdRevision> EtcdEventStream::finish() {
  Revisions out;
  if (!rest_.empty() && !over()) take_line(std::exchange(rest_, {}), out);
  return out;
}

void EtcdEventStream::end(std::string why) {
  state_ = State::ended;
  why_ = std::move(why);
  rest_ = {};
  held_ = {};
}

void EtcdEventStream::take_line(std::string_view line, Revisions& out) {
  if (line.empty()) return;
  auto read = read_etcd_watch(line);
  if (!read) {
    end("a watch message is none of etcd's: " + read.error().text());
  } else if (read->said) {
    wants_token_ = read->said->code == kPermissionDenied || read->said->code == kUnauthenticated;
    end(read->said->message);
  } else {
    take_message(std::move(read->message), out);
  }
}

void EtcdEventStream::take_message(EtcdWatchMessage message, Revisions& out) {
  if (message.canceled && message.compact_revision != 0) {
    state_ = State::compacted;
    compact_revision_ = message.compact_revision;
    return;
  }
  if (message.canceled) {
    // etcd says so too when the token is no longer good (3.4: watch.go, isWatchPermitted).
    wants_token_ =
        has(message.cancel_reason, "permission denied") || has(message.cancel_reason, "auth token");
    end("etcd has canceled the watch: " + message.cancel_reason.substr(0, 200));
    return;
  }
  if (message.created) state_ = State::created;
  const bool quiet = message.events.empty() && held_.events.empty() && !message.fragment;
  if (quiet && !message.created) {
    // A progress notice: all up to that revision has been sent.
    next_ = std::max(next_, message.revision + 1);
    return;
  }
  take_events(message, out);
  if (!over() && !message.fragment) complete(out);
}

void EtcdEventStream::take_events(EtcdWatchMessage& message, Revisions& out) {
  for (EtcdEvent& event : message.events) {
    const int64_t revision = event.kv.mod_revision;
    if (!held_.events.empty() && revision > held_.revision) complete(out);
    // One that was complete, or before it: to go on would be to lose events.
    if (revision < std::max(next_, held_.revision)) {
      state_ = State::compacted;
      return;
    }
    held_bytes_ += event.kv.key.size() + event.kv.value.size();
    if (!event.kv.key.starts_with(prefix_)) {
      end("an event of a key that is not watched");
      return;
    }
    if (held_bytes_ > kRevisionMost) {
      end("a revision of more than " + mib(kRevisionMost));
      return;
    }
    held_.revision = revision;
    held_.events.push_back(std::move(event));
  }
}

void EtcdEventStream::complete(Revisions& out) {
  held_bytes_ = 0;
  if (held_.events.empty()) return;
  next_ = held_.revision + 1;
  out.push_back(std::exchange(held_, {}));
}

}  // namespace guideway
