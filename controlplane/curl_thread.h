// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 requests and timers in one thread of its own (libcurl). No redirect is followed, no
// proxy or environment used; TLS verifies peer and host. All callbacks come in that thread, never
// from within a call of these methods, and may call any of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "controlplane/result.h"

namespace guideway {

struct CurlTls {
  std::string ca_file, cert_file, key_file;  // empty: none
};

struct CurlRequest {
  std::string url;
  std::vector<std::string> headers;
  std::string body;  // POST
  std::chrono::milliseconds connect_timeout{500};
  std::chrono::milliseconds silence_timeout{0};  // without a byte; 0: none
  std::chrono::milliseconds timeout{0};          // all of it; 0: none
  size_t body_most = 0;                          // of the answer (not of a stream)
  // libcurl sends a request again when a kept connection turns out to be dead, though the server
  // may have acted on it. With this it is sent once at most.
  bool once = false;
  // A stream: the body comes by pieces, and waits (in TCP) while `ready` says no.
  std::function<void(std::string_view)> on_data;
  std::function<bool()> ready;
};

struct CurlAnswer {
  enum class End : uint8_t {
    whole,      // `status` and `body`
    not_sent,   // there was no connection
    broken,     // sent, perhaps in part, without a whole answer
    silent,     // the same, by a time-out
    too_large,  // more than body_most
  };
  End end = End::not_sent;
  long status = 0;
  std::string body;   // of a stream: its last piece
  std::string error;  // not `whole`: short
};

struct CurlCall;

class CurlThread {
 public:
  using Task = std::function<void()>;
  using Done = std::function<void(CurlAnswer)>;

  // Starts the thread, in the network namespace of the caller.
  static Result<std::unique_ptr<CurlThread>> create(CurlTls tls, const char* name);
  ~CurlThread();  // what is under way is dropped, without an answer
  CurlThread(const CurlThread&) = delete;
  CurlThread& operator=(const CurlThread&) = delete;

  // From any thread.
  void post(Task task);
  // From any thread: a stream's `ready` may say yes now.
  void look_again();

  // In the thread. Ids are never 0, never given twice.
  uint64_t start(CurlRequest request, Done done);
  void cancel(uint64_t id);  // no callback afterwards; does nothing if it has ended
  uint64_t after(std::chrono::milliseconds delay, Task task);
  void cancel_timer(uint64_t id);

 private:
  using Clock = std::chrono::steady_clock;
  CurlThread(CurlTls tls, void* multi);
  bool prepare(CurlCall& call);
  void run();
  void run_posted();
  void run_timers();
  void deliver();
  void finish();
  void end(uint64_t id, CurlAnswer answer);
  void end_silent();
  void wait();

  CurlTls tls_;
  void* multi_;  // CURLM
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::unique_ptr<CurlCall>> calls_;
  std::vector<std::pair<uint64_t, CurlAnswer>> failed_;  // before they began
  std::map<std::pair<Clock::time_point, uint64_t>, Task> timers_;
  std::map<uint64_t, Clock::time_point> timer_due_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards posted_
  std::vector<Task> posted_;
  std::thread thread_;
};

}  // namespace guideway
