// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "dataplane/daemon.h"

namespace {

constexpr std::string_view kUsage =
    "usage: guideway-dataplane [--config FILE] [--bpf-dir DIR]\n"
    "  --config FILE   this node's settings (default: /etc/guideway/node.toml)\n"
    "  --bpf-dir DIR   where edge.bpf.o is (default: " GW_BPF_DIR
    ")\n"
    "  --version\n";

int complain(const std::string& what) {
  std::fprintf(stderr, "guideway-dataplane: %s\n", what.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string config_path = guideway::kNodeConfigPath;
  std::string bpf_dir = GW_BPF_DIR;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::fputs(kUsage.data(), stdout);
      return 0;
    }
    if (argument == "--version") {
      std::puts("guideway-dataplane " GW_VERSION);
      return 0;
    }
    if ((argument == "--config" || argument == "--bpf-dir") && i + 1 < argc) {
      (argument == "--config" ? config_path : bpf_dir) = argv[++i];
      continue;
    }
    std::fputs(kUsage.data(), stderr);
    return 2;
  }

  auto config = guideway::NodeConfig::load(config_path);
  if (!config) return complain(config.error().text());
  spdlog::set_default_logger(spdlog::stderr_color_mt("dataplane"));
  spdlog::set_level(spdlog::level::from_str(config->log_level));

  // Blocked before any thread starts, so that only the main thread hears of them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  guideway::DataplaneDaemon daemon(std::move(*config), bpf_dir);
  if (auto ok = daemon.start(); !ok) return complain(ok.error().text());
  if (auto ok = daemon.serve(); !ok) return complain(ok.error().text());
  return 0;
}
