// SPDX-License-Identifier: Apache-2.0
#include "controlplane/curl_thread.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "controlplane/priority.h"

namespace guideway {
namespace {

constexpr size_t kHeaderMost = 64 << 10;
constexpr size_t kWaitingMost = 256 << 10;  // of a stream, in this thread
constexpr long kPollMs = 1000;
constexpr long kReceiveBuffer = 128 << 10;
constexpr long kConnectionsKept = 16;
// A peer that is gone without a word is found within 5 + 3 * 2 s.
constexpr int kKeepAliveIdleS = 5;
constexpr int kKeepAliveIntervalS = 2;
constexpr int kKeepAliveProbes = 3;

}  // namespace

struct CurlCall {
  ~CurlCall() {
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
  uint64_t id = 0;
  CurlRequest request;
  CurlThread::Done done;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  char error[CURL_ERROR_SIZE] = {};
  std::string body;  // of a stream: what is to be delivered
  size_t header_bytes = 0;
  int times_sent = 0;
  bool too_large = false;
  bool paused = false;
  std::chrono::steady_clock::time_point last_byte = std::chrono::steady_clock::now();
};

namespace {

size_t take_body(char* data, size_t size, size_t count, void* user) {
  CurlCall& call = *static_cast<CurlCall*>(user);
  const size_t bytes = size * count;
  call.last_byte = std::chrono::steady_clock::now();
  if (call.request.on_data) {
    const bool full = !call.body.empty() && call.body.size() + bytes > kWaitingMost;
    if (full || (call.request.ready && !call.request.ready())) {
      call.paused = true;
      return CURL_WRITEFUNC_PAUSE;
    }
  } else if (call.body.size() + bytes > call.request.body_most) {
    call.too_large = true;
    return 0;
  }
  call.body.append(data, bytes);
  return bytes;
}

size_t take_header(char*, size_t size, size_t count, void* user) {
  CurlCall& call = *static_cast<CurlCall*>(user);
  call.last_byte = std::chrono::steady_clock::now();
  call.header_bytes += size * count;
  if (call.header_bytes <= kHeaderMost) return size * count;
  call.too_large = true;
  return 0;
}

int before_sending(void* user, char*, char*, int, int) {
  CurlCall& call = *static_cast<CurlCall*>(user);
  call.last_byte = std::chrono::steady_clock::now();
  if (call.times_sent > 0 && call.request.once) return CURL_PREREQFUNC_ABORT;
  ++call.times_sent;
  return CURL_PREREQFUNC_OK;
}

int on_socket(void*, curl_socket_t fd, curlsocktype) {
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kKeepAliveProbes, sizeof kKeepAliveProbes);
  return CURL_SOCKOPT_OK;
}

// Of what curl's result says, that which matters to who asked.
CurlAnswer answer_of(CurlCall& call, CURLcode code) {
  CurlAnswer answer;
  curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &answer.status);
  if (code == CURLE_OK || call.request.on_data) answer.body = std::move(call.body);
  if (code == CURLE_OK) {
    answer.end = CurlAnswer::End::whole;
    return answer;
  }
  long os_error = 0;
  curl_easy_getinfo(call.easy, CURLINFO_OS_ERRNO, &os_error);
  const bool sent = call.times_sent > 0;
  if (call.too_large) {
    answer.end = CurlAnswer::End::too_large;
    answer.error =
        "an answer of more than " + std::to_string(call.request.body_most >> 20) + " MiB";
  } else if (code == CURLE_OPERATION_TIMEDOUT) {
    answer.end = sent ? CurlAnswer::End::silent : CurlAnswer::End::not_sent;
    answer.error = sent ? "no answer in time" : "no connection in time";
  } else if (!sent && code == CURLE_COULDNT_CONNECT && os_error != 0) {
    answer.error = std::strerror(static_cast<int>(os_error));
  } else {
    answer.end = sent ? CurlAnswer::End::broken : CurlAnswer::End::not_sent;
    const char* text = call.error[0] != '\0' && code != CURLE_ABORTED_BY_CALLBACK
                           ? call.error
                           : curl_easy_strerror(code);
    if (code == CURLE_ABORTED_BY_CALLBACK) text = "the connection broke before the answer";
    answer.error = text;
  }
  return answer;
}

}  // namespace

Result<std::unique_ptr<CurlThread>> CurlThread::create(CurlTls tls, const char* name) {
  // Once, and before other threads use it (libcurl-thread(3)).
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return fail(name, curl_easy_strerror(ready));
  CURLM* multi = curl_multi_init();
  if (!multi) return fail(name, "out of memory");
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, kConnectionsKept);
  std::unique_ptr<CurlThread> thread(new CurlThread(std::move(tls), multi));
  pthread_setname_np(thread->thread_.native_handle(), name);
  return thread;
}

CurlThread::CurlThread(CurlTls tls, void* multi) : tls_(std::move(tls)), multi_(multi) {
  thread_ = std::thread([this] { run(); });
}

CurlThread::~CurlThread() {
  stopping_.store(true);
  look_again();
  thread_.join();
  for (auto& [id, call] : calls_) curl_multi_remove_handle(multi_, call->easy);
  calls_.clear();
  curl_multi_cleanup(multi_);
}

void CurlThread::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  look_again();
}

void CurlThread::look_again() {
  curl_multi_wakeup(multi_);
}

bool CurlThread::prepare(CurlCall& call) {
  call.easy = curl_easy_init();
  if (!call.easy) return false;
  const CurlRequest& request = call.request;
  CURLcode code = CURLE_OK;
  const auto set = [&](CURLoption option, auto value) {
    if (code == CURLE_OK) code = curl_easy_setopt(call.easy, option, value);
  };
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_USERAGENT, "guideway/" GW_VERSION);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_ERRORBUFFER, call.error);
  set(CURLOPT_BUFFERSIZE, kReceiveBuffer);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count()));
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_TCP_KEEPIDLE, static_cast<long>(kKeepAliveIdleS));
  set(CURLOPT_TCP_KEEPINTVL, static_cast<long>(kKeepAliveIntervalS));
  set(CURLOPT_SOCKOPTFUNCTION, &on_socket);
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  if (!tls_.ca_file.empty()) {
    set(CURLOPT_CAINFO, tls_.ca_file.c_str());
    set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
  }
  if (!tls_.cert_file.empty()) {
    set(CURLOPT_SSLCERT, tls_.cert_file.c_str());
    set(CURLOPT_SSLKEY, tls_.key_file.c_str());
  }
  set(CURLOPT_WRITEFUNCTION, &take_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&call));
  set(CURLOPT_HEADERFUNCTION, &take_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&call));
  set(CURLOPT_PREREQFUNCTION, &before_sending);
  set(CURLOPT_PREREQDATA, static_cast<void*>(&call));
  set(CURLOPT_PRIVATE, static_cast<void*>(&call));
  set(CURLOPT_POST, 1L);
  set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  set(CURLOPT_POSTFIELDS, request.body.data());
  std::vector<std::string> lines = request.headers;
  lines.push_back("Expect:");  // no pause of a second before a long body
  for (const std::string& line : lines) {
    curl_slist* longer = curl_slist_append(call.headers, line.c_str());
    if (!longer) return false;
    call.headers = longer;
  }
  set(CURLOPT_HTTPHEADER, call.headers);
  return code == CURLE_OK;
}

uint64_t CurlThread::start(CurlRequest request, Done done) {
  const uint64_t id = next_id_++;
  auto call = std::make_unique<CurlCall>();
  call->id = id;
  call->request = std::move(request);
  call->done = std::move(done);
  const bool ready = prepare(*call);
  CurlCall& kept = *(calls_[id] = std::move(call));
  if (!ready || curl_multi_add_handle(multi_, kept.easy) != CURLM_OK)
    failed_.emplace_back(
        id,
        CurlAnswer{
            .end = CurlAnswer::End::not_sent, .status = 0, .body = {}, .error = "out of memory"});
  return id;
}

void CurlThread::cancel(uint64_t id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  curl_multi_remove_handle(multi_, it->second->easy);
  calls_.erase(it);
}

uint64_t CurlThread::after(std::chrono::milliseconds delay, Task task) {
  const uint64_t id = next_id_++;
  const auto due = Clock::now() + delay;
  timers_.emplace(std::pair{due, id}, std::move(task));
  timer_due_[id] = due;
  return id;
}

void CurlThread::cancel_timer(uint64_t id) {
  const auto it = timer_due_.find(id);
  if (it == timer_due_.end()) return;
  timers_.erase({it->second, id});
  timer_due_.erase(it);
}

void CurlThread::run() {
  set_thread_nice(kLoopNice);
  while (!stopping_.load()) {
    run_posted();
    run_timers();
    int running = 0;
    curl_multi_perform(multi_, &running);
    deliver();
    finish();
    end_silent();
    wait();
  }
}

void CurlThread::run_posted() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) task();
}

void CurlThread::run_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const auto node = timers_.extract(timers_.begin());
    timer_due_.erase(node.key().second);
    node.mapped()();
  }
}

void CurlThread::deliver() {
  std::vector<uint64_t> ids;
  for (const auto& [id, call] : calls_)
    if (call->request.on_data && (!call->body.empty() || call->paused)) ids.push_back(id);
  for (const uint64_t id : ids) {
    auto it = calls_.find(id);
    if (it == calls_.end()) continue;
    const std::string data = std::exchange(it->second->body, {});
    // It may be cancelled by what it says, and its function gone with it.
    const auto on_data = it->second->request.on_data;
    if (!data.empty()) on_data(data);
    it = calls_.find(id);
    if (it == calls_.end() || !it->second->paused) continue;
    CurlCall& call = *it->second;
    if (call.request.ready && !call.request.ready()) continue;
    call.paused = false;
    curl_easy_pause(call.easy, CURLPAUSE_CONT);
  }
}

void CurlThread::finish() {
  auto ended = std::exchange(failed_, {});
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    CurlCall* call = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
    ended.emplace_back(call->id, answer_of(*call, message->data.result));
  }
  for (auto& [id, answer] : ended) end(id, std::move(answer));
}

void CurlThread::end(uint64_t id, CurlAnswer answer) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  const Done done = std::move(it->second->done);
  cancel(id);
  done(std::move(answer));
}

// After curl has read what there was: a thread that had no CPU does not take itself for silence.
void CurlThread::end_silent() {
  const auto now = Clock::now();
  std::vector<uint64_t> silent;
  for (const auto& [id, call] : calls_) {
    const auto most = call->request.silence_timeout;
    if (most.count() > 0 && call->times_sent > 0 && now - call->last_byte >= most)
      silent.push_back(id);
  }
  for (const uint64_t id : silent) {
    const auto it = calls_.find(id);
    if (it != calls_.end()) end(id, answer_of(*it->second, CURLE_OPERATION_TIMEDOUT));
  }
}

void CurlThread::wait() {
  auto until = Clock::now() + std::chrono::milliseconds(kPollMs);
  if (!timers_.empty()) until = std::min(until, timers_.begin()->first.first);
  for (const auto& [id, call] : calls_) {
    if (call->request.silence_timeout.count() > 0 && call->times_sent > 0)
      until = std::min(until, call->last_byte + call->request.silence_timeout);
  }
  long limit_ms = -1;
  curl_multi_timeout(multi_, &limit_ms);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  long wait_ms = std::clamp<long>(left, 0, kPollMs);
  if (limit_ms >= 0) wait_ms = std::min(wait_ms, limit_ms);
  if (!failed_.empty()) wait_ms = 0;
  curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait_ms), nullptr);
}

}  // namespace guideway
