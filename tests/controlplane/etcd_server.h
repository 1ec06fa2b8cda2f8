// SPDX-License-Identifier: Apache-2.0
// Real etcd processes for tests: on loopback, at ports that the kernel gave, with their data in a
// temporary directory. They end with the object, or with this process.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/unique_fd.h"

namespace guideway {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "guideway-etcd-XXXXXX";
    path = mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string path;
};

// Held until release(), so that it is not given twice.
class FreePort {
 public:
  FreePort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(fd_.get(), generic, size) == 0 && getsockname(fd_.get(), generic, &size) == 0)
      number = ntohs(address.sin_port);
  }
  void release() { fd_.reset(); }
  uint16_t number = 0;

 private:
  UniqueFd fd_;
};

class EtcdCluster {
 public:
  struct Tls {
    std::string ca_file, cert_file, key_file;  // of the members; clients must have one as well
  };

  explicit EtcdCluster(int members, Tls tls = {}) : tls_(std::move(tls)) {
    for (int i = 0; i < members; ++i) members_.push_back(std::make_unique<Member>());
    for (int i = 0; i < members; ++i) start(i);
  }
  ~EtcdCluster() {
    for (size_t i = 0; i < members_.size(); ++i) end(static_cast<int>(i));
  }

  std::string url(int i) const {
    return scheme() +
           "127.0.0.1:" + std::to_string(members_[static_cast<size_t>(i)]->client.number);
  }
  std::vector<std::string> urls() const {
    std::vector<std::string> out;
    for (int i = 0; i < static_cast<int>(members_.size()); ++i) out.push_back(url(i));
    return out;
  }

  // With the data it had.
  void start(int i) {
    Member& member = *members_[static_cast<size_t>(i)];
    member.client.release();
    member.peer.release();
    const std::vector<std::string> words = command(i);
    const std::string log = directory_.path + "/" + std::to_string(i) + ".log";
    member.pid = fork();
    if (member.pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  // SIGKILL.
  void end(int i) {
    Member& member = *members_[static_cast<size_t>(i)];
    if (member.pid <= 0) return;
    kill(member.pid, SIGKILL);
    kill(member.pid, SIGCONT);
    waitpid(member.pid, nullptr, 0);
    member.pid = -1;
  }
  // A backup of the data of a member that has ended, and back to it.
  void keep(int i) { std::filesystem::copy(data(i), data(i) + ".kept", kAll); }
  void restore(int i) {
    forget(i);
    std::filesystem::copy(data(i) + ".kept", data(i), kAll);
  }
  // As before its first start.
  void forget(int i) { std::filesystem::remove_all(data(i)); }
  void stop(int i) { kill(members_[static_cast<size_t>(i)]->pid, SIGSTOP); }
  void go_on(int i) { kill(members_[static_cast<size_t>(i)]->pid, SIGCONT); }

  // For failure messages.
  std::string log(int i) const {
    std::ifstream in(directory_.path + "/" + std::to_string(i) + ".log");
    std::ostringstream out;
    out << in.rdbuf();
    const std::string text = out.str();
    return text.size() > 2000 ? text.substr(text.size() - 2000) : text;
  }

 private:
  struct Member {
    FreePort client, peer;
    pid_t pid = -1;
  };

  static constexpr auto kAll = std::filesystem::copy_options::recursive;

  std::string scheme() const { return tls_.ca_file.empty() ? "http://" : "https://"; }
  std::string data(int i) const { return directory_.path + "/" + std::to_string(i); }
  std::string peer_url(int i) const {
    return "http://127.0.0.1:" + std::to_string(members_[static_cast<size_t>(i)]->peer.number);
  }
  std::vector<std::string> command(int i) const {
    std::string all;
    for (int k = 0; k < static_cast<int>(members_.size()); ++k)
      all += (k == 0 ? "m" : ",m") + std::to_string(k) + "=" + peer_url(k);
    std::vector<std::string> out{
        "etcd", "--name", "m" + std::to_string(i), "--data-dir", data(i), "--listen-client-urls",
        url(i), "--advertise-client-urls", url(i), "--listen-peer-urls", peer_url(i),
        "--initial-advertise-peer-urls", peer_url(i), "--initial-cluster", all,
        "--heartbeat-interval", "100", "--election-timeout", "1000",
        // The token is the cluster's id: another directory is another cluster.
        "--initial-cluster-token", directory_.path};
    if (!tls_.ca_file.empty()) {
      for (const std::string& word :
           {std::string("--cert-file"), tls_.cert_file, std::string("--key-file"), tls_.key_file,
            std::string("--trusted-ca-file"), tls_.ca_file, std::string("--client-cert-auth")})
        out.push_back(word);
    }
    return out;
  }

  Tls tls_;
  TemporaryDirectory directory_;
  std::vector<std::unique_ptr<Member>> members_;
};

}  // namespace guideway
