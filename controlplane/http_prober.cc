// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http_prober.h"

#include <curl/curl.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "controlplane/priority.h"

namespace guideway {
namespace {

constexpr size_t kBodyMost = 64 << 10;
constexpr size_t kHeaderMost = 64 << 10;
constexpr int kPollMs = 1000;
constexpr int kNice = -10;
constexpr uint64_t kMsNs = 1'000'000;
constexpr uint64_t kUsNs = 1'000;

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// One request under way; its address is curl's, so it does not move.
struct Call {
  ~Call() {
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
  HttpRequest request;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  uint64_t sent_ns = 0;
  size_t body_bytes = 0;
  size_t header_bytes = 0;
  bool enough = false;   // of the body
  bool held_up = false;  // this thread did not run for half of the time-out
  std::list<Call>::iterator self;
};

size_t take_body(char*, size_t size, size_t count, void* user) {
  Call& call = *static_cast<Call*>(user);
  call.body_bytes += size * count;
  call.enough = call.body_bytes >= kBodyMost;
  return call.enough ? 0 : size * count;  // 0 ends it
}

size_t take_header(char*, size_t size, size_t count, void* user) {
  Call& call = *static_cast<Call*>(user);
  call.header_bytes += size * count;
  return call.header_bytes > kHeaderMost ? 0 : size * count;
}

std::string authority_of(const Address& address, uint16_t port) {
  const std::string text = address.text();
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

bool prepare(Call& call) {
  const Probe& probe = call.request.probe;
  call.easy = curl_easy_init();
  if (!call.easy) return false;
  const std::string url = "http://" + authority_of(call.request.address, probe.port) + "/";
  CURLcode code = CURLE_OK;
  const auto set = [&](CURLoption option, auto value) {
    if (code == CURLE_OK) code = curl_easy_setopt(call.easy, option, value);
  };
  set(CURLOPT_URL, url.c_str());
  // As it is: neither shortened nor cut off at a '#'.
  set(CURLOPT_REQUEST_TARGET, probe.path.c_str());
  set(CURLOPT_USERAGENT, "guideway/" GW_VERSION);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_PROTOCOLS_STR, "http");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_FORBID_REUSE, 1L);
  set(CURLOPT_FRESH_CONNECT, 1L);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(probe.timeout_ms));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(probe.timeout_ms));
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&call));
  set(CURLOPT_HEADERFUNCTION, take_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&call));
  set(CURLOPT_PRIVATE, static_cast<void*>(&call));
  for (const std::string& line :
       {std::string("Connection: close"), probe.host.empty() ? "" : "Host: " + probe.host}) {
    if (line.empty()) continue;
    curl_slist* longer = curl_slist_append(call.headers, line.c_str());
    if (!longer) return false;
    call.headers = longer;
  }
  set(CURLOPT_HTTPHEADER, call.headers);
  return code == CURLE_OK;
}

// What curl's result says; of the kinds in http_prober.h.
class Verdict {
 public:
  Verdict(const Call& call, CURLcode code) : call_(call), code_(code) {
    curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &status_);
    curl_easy_getinfo(call.easy, CURLINFO_OS_ERRNO, &error_);
    curl_off_t connected = 0;
    curl_easy_getinfo(call.easy, CURLINFO_CONNECT_TIME_T, &connected);
    connected_ = connected > 0;
  }

  Outcome outcome() const {
    Outcome out{.kind = Outcome::Kind::bad,
                .sent_ns = call_.sent_ns,
                .decided_ns = now_ns(),
                .rtt_us = 0,
                .detail = {}};
    const bool whole = code_ == CURLE_OK || (code_ == CURLE_WRITE_ERROR && call_.enough);
    if (whole && status_ >= 200 && status_ < 400) {
      out.kind = Outcome::Kind::alive;
      out.rtt_us = static_cast<uint32_t>((out.decided_ns - out.sent_ns) / kUsNs);
      return out;
    }
    if (whole) {
      out.detail = get() + "status " + std::to_string(status_);
    } else if (call_.held_up) {
      out.kind = Outcome::Kind::unsure;
      out.detail = get() + "this machine was too busy";
    } else if (code_ == CURLE_COULDNT_CONNECT ||
               (code_ == CURLE_OPERATION_TIMEDOUT && !connected_)) {
      unconnected(out);
    } else {
      unanswered(out);
    }
    return out;
  }

 private:
  std::string get() const { return "GET " + call_.request.probe.path + ": "; }

  void unconnected(Outcome& out) const {
    const std::string reason = std::strerror(static_cast<int>(error_));
    if (code_ == CURLE_OPERATION_TIMEDOUT) {
      out.kind = Outcome::Kind::silent;
    } else if (error_ == ECONNREFUSED) {
      out.kind = Outcome::Kind::refused;
      out.detail = get() + "connection refused";
    } else if (error_ == EHOSTUNREACH || error_ == ETIMEDOUT) {
      out.kind = Outcome::Kind::silent;  // of no neighbour, in most cases
      out.detail = reason;
    } else {
      out.kind = Outcome::Kind::unsure;
      out.detail = get() + (error_ != 0 ? reason : std::string(curl_easy_strerror(code_)));
    }
  }

  void unanswered(Outcome& out) const {
    switch (code_) {
      case CURLE_OPERATION_TIMEDOUT:
        out.detail = get() + "connected, but " +
                     (status_ != 0 ? "status " + std::to_string(status_) + " and not the whole"
                                   : std::string("no")) +
                     " answer within " + std::to_string(call_.request.probe.timeout_ms) + " ms";
        break;
      case CURLE_WRITE_ERROR:
        out.detail = get() + "a header of more than 64 KiB";
        break;
      case CURLE_GOT_NOTHING:
        out.detail = get() + "closed without an answer";
        break;
      case CURLE_OUT_OF_MEMORY:
      case CURLE_FAILED_INIT:
      case CURLE_INTERFACE_FAILED:
        out.kind = Outcome::Kind::unsure;
        out.detail = get() + curl_easy_strerror(code_);
        break;
      default:
        out.detail = get() + "no HTTP: " + curl_easy_strerror(code_);
    }
  }

  const Call& call_;
  CURLcode code_;
  long status_ = 0;
  long error_ = 0;
  bool connected_ = false;
};

}  // namespace

class HttpProber::Impl {
 public:
  Impl(OnAnswer on_answer, CURLM* multi) : on_answer_(std::move(on_answer)), multi_(multi) {
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 1L);
    thread_ = std::thread([this] { run(); });
  }
  ~Impl() {
    stopping_.store(true);
    curl_multi_wakeup(multi_);
    thread_.join();
    for (Call& call : calls_) curl_multi_remove_handle(multi_, call.easy);
    calls_.clear();
    curl_multi_cleanup(multi_);
  }

  void start(HttpRequest request) {
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(std::move(request));
    }
    curl_multi_wakeup(multi_);
  }

 private:
  void run() {
    pthread_setname_np(pthread_self(), "http-prober");
    set_thread_nice(kNice);
    while (!stopping_.load()) {
      begin_asked();
      int running = 0;
      curl_multi_perform(multi_, &running);
      finish();
      wait();
    }
  }

  void begin_asked() {
    std::vector<HttpRequest> asked;
    {
      const std::lock_guard lock(mutex_);
      asked.swap(asked_);
    }
    for (HttpRequest& request : asked) {
      Call& call = calls_.emplace_back();
      call.self = std::prev(calls_.end());
      call.request = std::move(request);
      call.sent_ns = now_ns();
      if (prepare(call) && curl_multi_add_handle(multi_, call.easy) == CURLM_OK) continue;
      on_answer_({call.request.id, call.request.token,
                  Outcome{.kind = Outcome::Kind::unsure,
                          .sent_ns = call.sent_ns,
                          .decided_ns = call.sent_ns,
                          .rtt_us = 0,
                          .detail = "http: out of memory"}});
      calls_.pop_back();
    }
  }

  void finish() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* easy = message->easy_handle;
      const CURLcode code = message->data.result;
      Call* call = nullptr;
      curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call);
      curl_multi_remove_handle(multi_, easy);  // `message` is gone with it
      HttpAnswer answer{call->request.id, call->request.token, Verdict(*call, code).outcome()};
      calls_.erase(call->self);
      on_answer_(std::move(answer));
    }
  }

  // curl looks at its clock before its sockets, so a thread that had no CPU finds time-outs where
  // there are answers.
  void wait() {
    long limit_ms = -1;
    curl_multi_timeout(multi_, &limit_ms);
    const long wait_ms = limit_ms < 0 ? kPollMs : std::min<long>(limit_ms, kPollMs);
    const uint64_t before = now_ns();
    int events = 0;
    curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait_ms), &events);
    const uint64_t expected = before + static_cast<uint64_t>(wait_ms) * kMsNs;
    const uint64_t now = now_ns();
    if (now <= expected) return;
    for (Call& call : calls_)
      call.held_up |= now - expected > uint64_t{call.request.probe.timeout_ms} * kMsNs / 2;
  }

  OnAnswer on_answer_;
  CURLM* multi_;
  std::list<Call> calls_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards asked_
  std::vector<HttpRequest> asked_;
  std::thread thread_;
};

Result<std::unique_ptr<HttpProber>> HttpProber::create(OnAnswer on_answer) {
  // Once, and before other threads use it (libcurl-thread(3)).
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return fail("http prober", curl_easy_strerror(ready));
  CURLM* multi = curl_multi_init();
  if (!multi) return fail("http prober", "out of memory");
  return std::unique_ptr<HttpProber>(
      new HttpProber(std::make_unique<Impl>(std::move(on_answer), multi)));
}

HttpProber::HttpProber(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpProber::~HttpProber() = default;

void HttpProber::start(HttpRequest request) {
  impl_->start(std::move(request));
}

}  // namespace guideway
