// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/agent.h"

#include <linux/rtnetlink.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/epoll.h>

#include <memory>
#include <optional>

#include "bpf/object.h"
#include "bpf/redirect.h"
#include "controlplane/agent_key.h"
#include "controlplane/cli/agent_checks.h"
#include "controlplane/cli/agent_server.h"
#include "controlplane/cli/agent_sockets.h"
#include "controlplane/event_loop.h"
#include "controlplane/netlink.h"

namespace guideway::cli {

namespace {

constexpr auto kLookAfter = std::chrono::seconds(10);
constexpr auto kLogCounters = std::chrono::minutes(1);

Result<std::vector<Prefix>> parse_prefixes(const std::vector<std::string>& texts) {
  if (texts.empty()) return fail("--allow", "at least one prefix is needed");
  std::vector<Prefix> prefixes;
  for (const std::string& text : texts) {
    Result<Prefix> prefix = Prefix::parse(text);
    if (!prefix) return tl::unexpected(prefix.error());
    prefixes.push_back(*prefix);
  }
  return prefixes;
}

// Who asks the agent, where, and by which key.
struct Asked {
  AgentKey key;
  AgentListen listen;
};

Result<AgentListen> parse_listen(const AgentOptions& options) {
  if (!options.key.empty() && options.once)
    return fail("--key", "is of no use with --once: nobody is there to answer");
  if (options.listen.empty()) return AgentListen{};
  if (options.key.empty()) return fail("--listen", "needs --key");
  return AgentListen::parse(options.listen);
}

class Agent {
 public:
  Agent(const Context& context, const AgentOptions& options, std::vector<Prefix> allowed,
        std::optional<Asked> asked)
      : options_(options),
        allowed_(std::move(allowed)),
        asked_(std::move(asked)),
        log_("agent", std::make_shared<spdlog::sinks::ostream_sink_mt>(context.err, true)) {}

  int run() {
    Result<void> started = options_.once ? Result<void>{} : listen();
    if (started && loop_) started = serve();
    if (started) started = attach();
    if (started) warn();
    if (started && loop_) started = follow();
    if (!started) {
      log_.error(started.error().text());
      return kRefused;
    }
    if (loop_) loop_->run();
    return exit_code_;
  }

 private:
  Result<void> listen();
  Result<void> serve();
  uint64_t second_chances();
  Result<void> attach();
  void warn();
  Result<void> follow();
  void refresh_local();
  void look_after();
  void log_counters();
  void log_asked();
  void give_up(const Error& error);

  AgentOptions options_;
  std::vector<Prefix> allowed_;
  std::optional<Asked> asked_;
  spdlog::logger log_;
  std::optional<Redirect> redirect_;
  RedirectCounters logged_{};
  NetlinkSocket changes_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<AgentServer> server_;
  AgentServerCounters logged_asked_;
  uint64_t second_chances_ = 0;
  int exit_code_ = kOk;
};

// Before attaching: from then on a signal must find us able to say what stays.
Result<void> Agent::listen() {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  if (!loop) return tl::unexpected(loop.error());
  loop_ = std::move(*loop);
  return loop_->on_signals([this](int) {
    log_counters();
    log_.info("stopped; redirect stays attached (guideway agent detach --interface {})",
              options_.interface);
    loop_->stop();
  });
}

// Before attaching too: an agent that cannot be asked as it was told to changes nothing.
Result<void> Agent::serve() {
  if (!asked_) {
    log_.info("nodes cannot ask this agent: no --key");
    return {};
  }
  // What the kernel lacks is to be known now, and not when a change waits for an answer.
  AgentRequest trial;
  trial.services = {{.vip = {}, .protocol = IPPROTO_TCP, .port = 1}};
  trial.ranges = {{0, 0}};
  if (Result<uint64_t> counted = count_sockets(trial); !counted)
    return tl::unexpected(counted.error());
  const AgentHost host{.sockets = count_sockets,
                       .second_chances = [this] { return second_chances(); }};
  Result<std::unique_ptr<AgentServer>> server =
      AgentServer::create(*loop_, std::move(asked_->key), asked_->listen, host, {});
  if (!server) return tl::unexpected(server.error());
  server_ = std::move(*server);
  log_.info("nodes with the key of {} can ask at {}", options_.key, asked_->listen.text());
  return {};
}

uint64_t Agent::second_chances() {
  const Result<RedirectCounters> now = redirect_->counters();
  if (!now) return second_chances_;  // while it is put back: the last that was known
  second_chances_ = 0;
  for (int i = GW_REDIRECT_forwarded_1; i <= GW_REDIRECT_forwarded_4; ++i)
    second_chances_ += (*now)[static_cast<size_t>(i)];
  return second_chances_;
}

Result<void> Agent::attach() {
  Result<std::set<Address>> local = host_addresses();
  if (!local) return tl::unexpected(local.error());
  std::string folder = options_.bpf_dir.empty() ? default_bpf_dir() : options_.bpf_dir;
  Result<Redirect> made =
      Redirect::attach(options_.interface, folder + "/" + kRedirectObject, allowed_,
                       std::vector<Address>(local->begin(), local->end()));
  if (!made) return tl::unexpected(made.error());
  redirect_ = std::move(*made);

  const char* how = redirect_->how() == Redirect::How::adopted    ? "was attached already; adopted"
                    : redirect_->how() == Redirect::How::replaced ? "replaced an older version"
                                                                  : "attached";
  log_.info("{}: redirect {}, {} mode, program id {}", options_.interface, how,
            xdp_mode_name(redirect_->mode()), redirect_->program_id());
  if (!redirect_->why_generic().empty())
    log_.warn("{}: the driver refused native mode: {}; generic mode is slower", options_.interface,
              redirect_->why_generic());
  return {};
}

void Agent::warn() {
  Result<BackendFacts> facts = backend_facts(options_.interface);
  if (!facts) return log_.warn("not all could be checked: {}", facts.error().text());
  for (const Warning& warning : backend_warnings(*facts, allowed_, !options_.key.empty()))
    log_.warn("{}; mend it: {}", warning.what, warning.mend);
}

Result<void> Agent::follow() {
  Result<NetlinkSocket> changes =
      NetlinkSocket::open({RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK});
  if (!changes) return tl::unexpected(changes.error());
  changes_ = std::move(*changes);
  Result<void> watched = loop_->watch(changes_.fd(), EPOLLIN, [this](uint32_t) {
    if (changes_.read([](const nlmsghdr*) {}) == NetlinkSocket::Read::broken)
      return give_up({"", "netlink socket broke", ""});
    look_after();
  });
  if (!watched) return watched;
  // What changed between attaching and subscribing.
  loop_->after({}, [this] { look_after(); });
  loop_->every(kLookAfter, [this] { look_after(); });
  loop_->every(kLogCounters, [this] { log_counters(); });
  return {};
}

// Somebody's `ip link set xdp off`, or a new interface of that name, must not end the service.
void Agent::look_after() {
  Result<bool> there = redirect_->attached();
  if (there && *there) return refresh_local();
  log_.warn("{}: redirect was taken off; attaching it again", options_.interface);
  logged_ = {};
  if (Result<void> again = attach(); !again) give_up(again.error());
}

void Agent::refresh_local() {
  Result<std::set<Address>> wanted = host_addresses();
  Result<std::set<Address>> present = redirect_->local();
  if (!wanted || !present) return log_.warn((wanted ? present : wanted).error().text());
  if (*wanted == *present) return;
  std::vector<Address> list(wanted->begin(), wanted->end());
  if (Result<void> set = redirect_->set_local(list); !set) return log_.warn(set.error().text());
  log_.info("this host's addresses changed: {} now", list.size());
}

void Agent::log_counters() {
  Result<RedirectCounters> now = redirect_->counters();
  if (!now) return log_.warn(now.error().text());
  std::string line;
  for (size_t i = 0; i < now->size(); ++i) {
    if (i == GW_REDIRECT_other || (*now)[i] == logged_[i]) continue;
    line += " " + std::string(kRedirectCounters[i].name) + "=" + std::to_string((*now)[i]);
  }
  logged_ = *now;
  if (!line.empty()) log_.info("{}:{}", options_.interface, line);
  log_asked();
}

void Agent::log_asked() {
  if (!server_ || server_->counters() == logged_asked_) return;
  const AgentServerCounters& now = logged_asked_ = server_->counters();
  const std::string line = fmt::format(
      "asked: answered={} refused={} wrong_key={} broken={} timed_out={} crowded_out={}",
      now.answered, now.refused, now.wrong_key, now.broken, now.timed_out, now.crowded_out);
  log_.info(line);
}

void Agent::give_up(const Error& error) {
  log_.error(error.text());
  exit_code_ = kRefused;
  loop_->stop();
}

}  // namespace

int agent_run(const Context& context, const AgentOptions& options) {
  Result<std::vector<Prefix>> allowed = parse_prefixes(options.allow);
  if (!allowed) {
    context.err << "guideway: " << allowed.error().text() << '\n';
    return kUsage;
  }
  Result<AgentListen> listen = parse_listen(options);
  if (!listen) {
    context.err << "guideway: " << listen.error().text() << '\n';
    return kUsage;
  }
  std::optional<Asked> asked;
  if (!options.key.empty()) {
    Result<AgentKey> key = AgentKey::load(options.key);
    if (!key) {
      context.err << "guideway: " << key.error().text() << '\n';
      return kRefused;
    }
    asked = Asked{std::move(*key), *listen};
  }
  return Agent(context, options, std::move(*allowed), std::move(asked)).run();
}

int agent_key(const Context& context, const AgentOptions&) {
  Result<std::string> key = fresh_agent_key();
  if (!key) {
    context.err << "guideway: " << key.error().text() << '\n';
    return kRefused;
  }
  if (context.json)
    context.out << "{\"key\":\"" << *key << "\"}\n";
  else
    context.out << *key << '\n';
  return kOk;
}

}  // namespace guideway::cli
