// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/client.h"

#include <httplib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "controlplane/cli/table.h"

namespace guideway::cli {
namespace {

constexpr int kConnectTimeout = 5;  // seconds
constexpr int kAnswerTimeout = 60;  // seconds; a change that waits for adoption takes up to 5

// httplib keeps no errno, and the reason decides what the operator should do.
int connect_errno(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int problem = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return problem;
}

std::string hint_for(int problem, const std::string& socket) {
  switch (problem) {
    case ENOENT:
      return "is the daemon started? `systemctl status guideway-controlplane`; another socket: "
             "--socket or GUIDEWAY_SOCKET";
    case ECONNREFUSED:
      return "the daemon that made this socket is gone: `systemctl restart guideway-controlplane`, "
             "its last words: `journalctl -u guideway-controlplane -n 50`";
    case EACCES:
    case EPERM:
      return "become root, or join the group that owns it: `ls -l " + socket + "`";
    case EAGAIN:
      return "the daemon does not take new clients: `journalctl -u guideway-controlplane -n 50`";
    default:
      return "`systemctl status guideway-controlplane`";
  }
}

std::string text_of(const nlohmann::json& object, const char* key) {
  auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

Failure refused(int status, const std::string& body) {
  Failure failure{kRefused, status, {}, body};
  nlohmann::json answer = nlohmann::json::parse(body, nullptr, false);
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    const nlohmann::json& error = answer["error"];
    failure.error = {text_of(error, "field"), text_of(error, "message"), text_of(error, "hint")};
  }
  if (failure.error.message.empty()) {
    failure.error.message = "the control plane answered HTTP " + std::to_string(status);
  }
  return failure;
}

httplib::Result exchange(httplib::Client& http, const std::string& method, const std::string& path,
                         const std::string& body) {
  if (method == "PUT") return http.Put(path, body, "application/json");
  if (method == "DELETE") return http.Delete(path);
  return http.Get(path);
}

}  // namespace

Failure Client::unreachable(const std::string& problem) const {
  Failure failure{kUnreachable, 0, {}, ""};
  if (int number = connect_errno(socket_); number != 0) {
    failure.error = {"", "cannot reach the control plane at " + socket_ + ": " + strerror(number),
                     hint_for(number, socket_)};
  } else {
    failure.error = {
        "", "no complete answer from the control plane at " + socket_ + ": " + problem,
        "whether a change was made is not known, `guideway status` tells; the daemon's "
        "last words: `journalctl -u guideway-controlplane -n 50`"};
  }
  return failure;
}

Answer Client::send(const std::string& method, const std::string& path,
                    const std::string& body) const {
  try {
    sockaddr_un limit;
    if (socket_.size() >= sizeof limit.sun_path) return tl::unexpected(unreachable(""));
    // The port is not used, but httplib wants one that is valid.
    httplib::Client http(socket_, 80);
    http.set_address_family(AF_UNIX);
    http.set_default_headers({{"Host", "guideway"}});
    http.set_connection_timeout(kConnectTimeout);
    http.set_read_timeout(kAnswerTimeout);
    http.set_write_timeout(kAnswerTimeout);
    httplib::Result result = exchange(http, method, path, body);
    if (!result) {
      std::string problem = result.error() == httplib::Error::Read
                                ? "closed, or silent for " + std::to_string(kAnswerTimeout) + " s"
                                : httplib::to_string(result.error());
      return tl::unexpected(unreachable(problem));
    }
    if (result->status < 200 || result->status > 299) {
      return tl::unexpected(refused(result->status, result->body));
    }
    return result->body;
  } catch (const std::exception& problem) {
    return tl::unexpected(unreachable(problem.what()));
  }
}

std::string escaped(std::string_view segment) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (char c : segment) {
    auto byte = static_cast<unsigned char>(c);
    bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                 (byte >= '0' && byte <= '9') || std::strchr("-._~:", byte) != nullptr;
    if (plain && byte != 0) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

int report(const Context& context, const Failure& failure) {
  const Error& error = failure.error;
  if (context.json) {
    if (!failure.body.empty()) {
      context.out << failure.body << '\n';
    } else {
      nlohmann::json object = {
          {"error", {{"field", error.field}, {"message", error.message}, {"hint", error.hint}}}};
      context.out << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    }
  }
  // Parts of it may be what a file or a client said.
  context.err << "guideway: " << printable(error.field.empty() ? "" : error.field + ": ")
              << printable(error.message) << '\n';
  if (!error.hint.empty()) context.err << "  hint: " << printable(error.hint) << '\n';
  return failure.code;
}

}  // namespace guideway::cli
