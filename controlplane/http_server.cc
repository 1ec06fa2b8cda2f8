// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http_server.h"

#include <httplib.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "controlplane/http_connection.h"
#include "controlplane/task_pool.h"
#include "controlplane/unix_listener.h"

namespace guideway {
namespace {

constexpr int kBacklog = 1024;
constexpr unsigned kRequestsMax = 1000;  // of one connection
constexpr size_t kTargetMax = 2048;

std::string peer_text(int fd) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "unknown";
  return "uid " + std::to_string(peer.uid) + ", pid " + std::to_string(peer.pid);
}

// What httplib reads and writes. It never sees the descriptor: it would refuse those above 1023,
// for it uses select().
class Stream : public httplib::Stream {
 public:
  Stream(HttpConnection& connection, std::string peer)
      : connection_(connection), peer_(std::move(peer)) {}

  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* out, size_t most) override { return connection_.read(out, most); }
  ssize_t write(const char* data, size_t size) override { return connection_.write(data, size); }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = peer_;
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  int socket() const override { return -1; }

 private:
  HttpConnection& connection_;
  std::string peer_;
};

// Set in the accepting thread, while it turns a client away.
thread_local bool overloaded = false;

// httplib owns and deletes its queue; the pool is ours.
class Queue : public httplib::TaskQueue {
 public:
  explicit Queue(TaskPool& pool) : pool_(pool) {}
  void enqueue(std::function<void()> task) override {
    if (pool_.submit(task)) return;
    // Run here, in the accepting thread, it only says that there are too many.
    overloaded = true;
    task();
    overloaded = false;
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  TaskPool& pool_;
};

}  // namespace

class HttpServer::Impl : public httplib::Server {
 public:
  Impl(const Config& config, HttpServer::Handler handler, ErrorBody error_body, Lost lost)
      : config_(config),
        handler_(std::move(handler)),
        error_body_(std::move(error_body)),
        lost_(std::move(lost)),
        pool_(config.threads_max, config.waiting_max) {
    set_payload_max_length(config_.body_max);
    set_keep_alive_timeout(config_.idle_timeout.count() / 1000);
    new_task_queue = [this] { return new Queue(pool_); };
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      return before_routing(request, response);
    });
    auto plain = [this](const httplib::Request& request, httplib::Response& response) {
      answer(request, {}, response);
    };
    auto reading = [this](const httplib::Request& request, httplib::Response& response,
                          const httplib::ContentReader& reader) {
      read_and_answer(request, response, reader);
    };
    Get(".*", plain).Options(".*", plain);
    Put(".*", reading).Post(".*", reading).Patch(".*", reading).Delete(".*", reading);
    set_error_handler([this](const httplib::Request&, httplib::Response& response) {
      if (response.body.empty()) {
        response.set_content(error_body_(response.status), "application/json");
      }
    });
    set_expect_100_continue_handler(
        [this](const httplib::Request& request, httplib::Response& response) {
          if (content_length(request) <= config_.body_max) return 100;
          response.status = 413;
          return 413;
        });
    set_exception_handler([](const httplib::Request&, httplib::Response& response,
                             std::exception_ptr) { response.status = 500; });
  }

  Result<void> open() {
    auto fd = listen_unix(config_.path, config_.mode, config_.group, kBacklog);
    if (!fd) return tl::unexpected(fd.error());
    svr_sock_ = fd->release();
    acceptor_ = std::thread([this] {
      listen_after_bind();
      // httplib gives the socket up on an error that it does not know (ENFILE). A control plane
      // that nobody can talk to is of no use: better a new one.
      if (!stopping_) {
        spdlog::critical("the control socket is lost: {}; stopping", std::strerror(errno));
        if (lost_) lost_();
      }
      std::lock_guard lock(mutex_);
      ended_ = true;
    });
    return {};
  }

  void close() {
    if (!acceptor_.joinable()) return;
    stopping_ = true;
    ::unlink(config_.path.c_str());
    {
      std::lock_guard lock(mutex_);
      for (int fd : connections_) ::shutdown(fd, SHUT_RDWR);
    }
    stop_accepting();
    acceptor_.join();
  }

 private:
  // httplib's stop() does nothing before its loop has begun, so wait until it has, or is over.
  void stop_accepting() {
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        if (ended_) return;
      }
      if (is_running()) return stop();
      std::this_thread::yield();
    }
  }

  static uint64_t content_length(const httplib::Request& request) {
    return std::strtoull(request.get_header_value("Content-Length").c_str(), nullptr, 10);
  }

  static bool is_chunked(const httplib::Request& request) {
    return request.has_header("Transfer-Encoding");
  }

  static bool is_number(const std::string& text) {
    return !text.empty() && text.size() <= 18 &&
           text.find_first_not_of("0123456789") == std::string::npos;
  }

  void refuse(int status, httplib::Response& response) {
    response.status = status;
    response.set_content(error_body_(status), "application/json");
  }

  std::string raw_reply(int status) const {
    const std::string body = error_body_(status);
    return "HTTP/1.1 " + std::to_string(status) +
           " Error\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  HandlerResponse before_routing(const httplib::Request& request, httplib::Response& response) {
    const bool chunked = is_chunked(request);
    const size_t lengths = request.get_header_value_count("Content-Length");
    const bool plain_length =
        lengths == 0 || (lengths == 1 && is_number(request.get_header_value("Content-Length")));
    // Compressed and multipart bodies are refused because httplib would unpack them without bound.
    if (!plain_length || (chunked && lengths > 0) ||
        (chunked && request.get_header_value("Transfer-Encoding") != "chunked") ||
        request.has_header("Content-Encoding") || request.is_multipart_form_data()) {
      refuse(400, response);
      return HandlerResponse::Handled;
    }
    // httplib's match of the path recurses once per character.
    if (request.target.size() > kTargetMax) {
      refuse(414, response);
      return HandlerResponse::Handled;
    }
    // Without a length httplib would read a body until the client hangs up.
    if (!chunked && lengths == 0) {
      answer(request, {}, response);
      return HandlerResponse::Handled;
    }
    return HandlerResponse::Unhandled;
  }

  void read_and_answer(const httplib::Request& request, httplib::Response& response,
                       const httplib::ContentReader& reader) {
    std::string body;
    bool too_big = false;
    bool complete = reader([&](const char* data, size_t size) {
      // What is over the limit is read and dropped, so that the client gets to read the answer.
      too_big = too_big || body.size() + size > config_.body_max;
      if (!too_big) body.append(data, size);
      return true;
    });
    if (too_big) return refuse(413, response);
    if (!complete) return refuse(response.status == 413 ? 413 : 400, response);
    answer(request, std::move(body), response);
  }

  void answer(const httplib::Request& request, std::string body, httplib::Response& response) {
    HttpRequest in{request.method, request.path, request.params, std::move(body),
                   request.remote_addr};
    HttpReply out = handler_(in);
    response.status = out.status;
    response.set_content(out.body, out.type);
  }

  bool process_and_close_socket(int fd) override {
    if (overloaded) {
      const std::string reply = raw_reply(503);
      send(fd, reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      ::close(fd);
      return false;
    }
    {
      std::lock_guard lock(mutex_);
      connections_.insert(fd);
      if (stopping_) ::shutdown(fd, SHUT_RDWR);
    }
    try {
      serve(fd);
    } catch (const std::exception&) {
      // Out of memory at worst: the client sees its connection closed.
    }
    std::lock_guard lock(mutex_);
    connections_.erase(fd);
    ::shutdown(fd, SHUT_RDWR);
    ::close(fd);
    return true;
  }

  void serve(int fd) {
    HttpConnection connection(fd, config_.read_timeout, config_.write_timeout);
    Stream stream(connection, peer_text(fd));
    for (unsigned count = 1; count <= kRequestsMax && !stopping_; ++count) {
      if (!connection.wait_for_request(config_.idle_timeout)) return;
      bool closing = false;
      bool understood = false;
      bool chunked = false;
      uint64_t length = 0;
      uint64_t body_at = 0;
      bool answered =
          process_request(stream, count == kRequestsMax, closing, [&](httplib::Request& request) {
            understood = true;
            connection.end_of_head();
            // httplib cuts answers by what these say, unchecked.
            request.ranges.clear();
            request.headers.erase("Accept-Encoding");
            chunked = is_chunked(request);
            length = content_length(request);
            body_at = connection.consumed();
          });
      if (!answered && !connection.wrote()) {
        // httplib gives up without a word.
        int status = connection.failure() == HttpConnection::Failure::timeout    ? 408
                     : connection.failure() == HttpConnection::Failure::too_long ? 431
                                                                                 : 0;
        const std::string reply = status == 0 ? "" : raw_reply(status);
        if (!reply.empty()) connection.write(reply.data(), reply.size());
      }
      // Whatever was left unread would be taken for the next request.
      if (!answered || closing || !understood || chunked ||
          connection.consumed() - body_at != length) {
        return;
      }
    }
  }

  const Config config_;
  const HttpServer::Handler handler_;
  const ErrorBody error_body_;
  const Lost lost_;
  TaskPool pool_;
  std::atomic<bool> stopping_{false};
  std::thread acceptor_;
  std::mutex mutex_;  // guards what follows
  std::set<int> connections_;
  bool ended_ = false;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->close();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const Config& config, Handler handler,
                                                      ErrorBody error_body, Lost lost) {
  auto impl =
      std::make_unique<Impl>(config, std::move(handler), std::move(error_body), std::move(lost));
  if (auto opened = impl->open(); !opened) return tl::unexpected(opened.error());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

}  // namespace guideway
