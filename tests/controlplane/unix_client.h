// SPDX-License-Identifier: Apache-2.0
// A client of a Unix stream socket that sends exactly what a test says, well-formed or not.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <string_view>

#include "controlplane/unique_fd.h"

namespace guideway::test {

struct HttpAnswer {
  int status = 0;  // 0: no answer
  std::string body;
};

class UnixClient {
 public:
  explicit UnixClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    connected_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }
  int fd() const { return fd_.get(); }

  // False once the server has hung up.
  bool send(std::string_view text) {
    while (!text.empty()) {
      ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // One answer, by its Content-Length; status 0 if the connection ends before.
  HttpAnswer receive(bool head = false,
                     std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    size_t head_end = 0;
    while ((head_end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!more(patience)) return {};
    }
    HttpAnswer out;
    out.status = std::stoi(buffer_.substr(9, 3));
    size_t at = buffer_.find("Content-Length: ");
    size_t length = at < head_end ? std::stoul(buffer_.substr(at + 16)) : 0;
    if (head) length = 0;
    while (buffer_.size() < head_end + 4 + length) {
      if (!more(patience)) return {};
    }
    out.body = buffer_.substr(head_end + 4, length);
    buffer_.erase(0, head_end + 4 + length);
    return out;
  }

  // Whether the server hangs up, all it sends being dropped.
  bool hangs_up(std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    while (more(patience)) buffer_.clear();
    return ended_;
  }

 private:
  bool more(std::chrono::milliseconds patience) {
    pollfd item = {fd_.get(), POLLIN, 0};
    if (poll(&item, 1, static_cast<int>(patience.count())) <= 0) return false;
    char bytes[65536];
    ssize_t got = recv(fd_.get(), bytes, sizeof bytes, 0);
    ended_ = got <= 0;
    if (got > 0) buffer_.append(bytes, static_cast<size_t>(got));
    return got > 0;
  }

  UniqueFd fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string buffer_;
};

inline std::string http_text(const std::string& method, const std::string& target,
                             const std::string& body = "", const std::string& headers = "") {
  return method + " " + target + " HTTP/1.1\r\nHost: guideway\r\n" + headers +
         (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" +
         body;
}

inline HttpAnswer http(const std::string& path, const std::string& method,
                       const std::string& target, const std::string& body = "",
                       const std::string& headers = "") {
  UnixClient client(path);
  client.send(http_text(method, target, body, headers));
  return client.receive(method == "HEAD");
}

}  // namespace guideway::test
