// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 on a Unix socket, over cpp-httplib's parser. Each connection has a thread while it is
// served (kThreadsMax of them, started on demand), and deadlines: a client that is slow, half-open
// or silent holds a thread for a few seconds and nothing else.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "controlplane/result.h"

namespace guideway {

struct HttpRequest {
  std::string method;
  std::string path;                               // decoded, without the query
  std::multimap<std::string, std::string> query;  // decoded
  std::string body;
  std::string peer;  // "uid 0, pid 4711"
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string type = "application/json";
};

class HttpServer {
 public:
  struct Config {
    std::string path;
    unsigned mode = 0660;
    std::string group;  // empty: the process's own
    size_t body_max = size_t{8} << 20;
    unsigned threads_max = 512;
    unsigned waiting_max = 1024;  // connections waiting for a thread; more are answered 503
    std::chrono::milliseconds read_timeout{5000};   // from the first byte to the end of the body
    std::chrono::milliseconds write_timeout{5000};  // for the whole reply
    std::chrono::milliseconds idle_timeout{2000};   // between two requests of a connection
  };
  // Called in many threads at once. An exception is answered 500.
  using Handler = std::function<HttpReply(const HttpRequest&)>;
  // The body of a reply that never came to the handler: malformed HTTP, a body too big, ...
  using ErrorBody = std::function<std::string(int status)>;

  // Called in a thread of the server when it can accept no more: nobody can connect any longer.
  using Lost = std::function<void()>;

  // Listens when it returns. A socket file that nobody listens on is replaced; one that somebody
  // listens on, or that is no socket, is an error.
  static Result<std::unique_ptr<HttpServer>> start(const Config& config, Handler handler,
                                                   ErrorBody error_body, Lost lost = {});
  // Stops: closes all connections, waits for the handlers that run, removes the socket file.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guideway
