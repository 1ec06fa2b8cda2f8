// SPDX-License-Identifier: Apache-2.0
// guideway-controlplane: reads node.toml and runs the daemon.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <set>
#include <string>

#include "bpf/object.h"
#include "controlplane/announce_table.h"
#include "controlplane/daemon.h"
#include "controlplane/signal_routes.h"
#include "dataplane/node_config.h"

namespace {

// A client that connects costs a descriptor, and so does each table.
void raise_descriptor_limit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// For when the dataplane ended, whether a control plane is there or not, and whatever became of
// node.toml: by it, by what the last control plane left in the run folder, else by the defaults.
int withdraw(const guideway::Result<guideway::NodeConfig>& loaded) {
  const guideway::NodeConfig config = loaded ? *loaded : guideway::NodeConfig{};
  const auto remembered = guideway::remembered_announce_table(config.run_dir);
  std::set<unsigned> tables = {remembered.value_or(config.announce.table)};
  if (loaded) tables.insert(config.announce.table);
  size_t all = 0;
  for (const unsigned table : tables) {
    auto count = guideway::withdraw_signal_routes(table);
    if (!count) {
      std::fprintf(stderr, "guideway-controlplane: %s\n", count.error().text().c_str());
      return 1;
    }
    all += *count;
  }
  std::fprintf(stderr, "guideway-controlplane: %zu announcements withdrawn\n", all);
  return 0;
}

int run(const std::string& config_path, const std::string& bpf_dir, bool withdraws) {
  auto config = guideway::NodeConfig::load(config_path);
  if (!config) {
    std::fprintf(stderr, "guideway-controlplane: %s\n", config.error().text().c_str());
    if (!withdraws) return 1;
  }
  if (withdraws) return withdraw(config);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("controlplane"));
  spdlog::set_level(spdlog::level::from_str(config->log_level));
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  auto daemon = guideway::Daemon::start(*config, bpf_dir);
  if (!daemon) {
    std::fprintf(stderr, "guideway-controlplane: %s\n", daemon.error().text().c_str());
    return 1;
  }
  return (*daemon)->run() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The control plane of Guideway, a packet-level load balancer.",
               "guideway-controlplane");
  std::string config = guideway::kNodeConfigPath;
  app.add_option("--config", config, "The node's file")->capture_default_str();
  std::string bpf_dir = guideway::default_bpf_dir();
  app.add_option("--bpf-dir", bpf_dir, "Where the BPF objects are")->capture_default_str();
  bool withdraws = false;
  app.add_flag("--withdraw", withdraws,
               "Withdraw what is announced over BGP, and end: for after the end of the dataplane");
  app.set_version_flag("--version", GW_VERSION);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(config, bpf_dir, withdraws);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "guideway-controlplane: %s\n", error.what());
    return 1;
  }
}
