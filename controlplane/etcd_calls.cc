// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_calls.h"

#include <algorithm>
#include <array>
#include <utility>

namespace guideway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRoundPause{150};
constexpr int kTimeoutFactor = 10;    // of the whole answer, in request_timeouts
constexpr size_t kRedactedLeast = 4;  // shorter ones are in any text
constexpr const char* kAuthenticate = "/v3/auth/authenticate";

// gRPC's status codes (google.rpc.Code) that leave it open whether the request was carried out.
constexpr std::array kOpenCodes{1, 2, 4, 10, 13, 14, 15};
constexpr int kInvalidArgument = 3;
constexpr int kPermissionDenied = 7;
constexpr int kUnavailable = 14;
constexpr int kUnauthenticated = 16;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

// etcd's interceptor says these before it looks at the request (etcdserver/api/v3rpc).
bool surely_not_done(const EtcdSaid& said) {
  return said.message == "etcdserver: no leader" || said.message == "etcdserver: not capable" ||
         said.message == "etcdserver: rpc not supported for learner";
}

bool left_open(const EtcdSaid& said, long status) {
  if (said.code == 0) return status < 400 || status >= 500;
  // The member that finds the space exceeded has carried the request out.
  if (has(said.message, "space exceeded")) return true;
  return std::find(kOpenCodes.begin(), kOpenCodes.end(), said.code) != kOpenCodes.end();
}

bool wants_token(const EtcdSaid& said, long status) {
  return status == 401 || said.code == kUnauthenticated ||
         has(said.message, "invalid auth token") || has(said.message, "user name is empty") ||
         has(said.message, "revision of auth store is old") ||
         has(said.message, "revision in header is old");
}

std::string text_of(const EtcdSaid& said, long status) {
  const std::string http = "HTTP status " + std::to_string(status);
  if (said.code == 0) return http + (said.message.empty() ? "" : ": " + said.message);
  return said.message.empty() ? "gRPC code " + std::to_string(said.code) : said.message;
}

}  // namespace

struct EtcdCalls::Attempt {
  EtcdRequest request;
  Done done;
  size_t endpoint = 0;
  size_t left = 1;          // endpoints of this round
  bool only_here = false;   // call_at
  bool renewed = false;     // the token, at this endpoint
  bool leaderless = false;  // somebody answered, and may do better soon
  std::string token;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::vector<std::string> errors;
};

EtcdCalls::EtcdCalls(CurlThread& thread, EtcdConfig config)
    : thread_(thread), config_(std::move(config)) {
  for (const std::string& url : config_.endpoints) endpoints_.emplace_back().url = url;
  status_.endpoint = endpoints_.front().url;
}

EtcdCalls::Status EtcdCalls::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void EtcdCalls::set_problem(std::string problem) {
  const std::lock_guard lock(mutex_);
  status_.problem = std::move(problem);
}

void EtcdCalls::prefer(size_t endpoint) {
  current_ = endpoint;
}

void EtcdCalls::drop_token(size_t endpoint) {
  endpoints_[endpoint].token.clear();
  endpoints_[endpoint].no_auth = false;
}

// One line, of this endpoint, without secrets whatever the other side has put into it.
std::string EtcdCalls::shown(size_t endpoint, std::string text) const {
  for (const std::string& secret : {config_.password, endpoints_[endpoint].token}) {
    if (secret.size() < kRedactedLeast) continue;
    for (size_t at = text.find(secret); at != text.npos; at = text.find(secret, at))
      text.replace(at, secret.size(), "***");
  }
  return endpoints_[endpoint].url + ": " + text;
}

CurlRequest EtcdCalls::request_to(const Endpoint& endpoint, const char* path,
                                  std::string body) const {
  CurlRequest out;
  out.url = endpoint.url + path;
  // A member that knows of no leader says so at once, and ends a stream when it has lost it.
  out.headers = {"Content-Type: application/json", "Grpc-Metadata-hasleader: true"};
  if (!endpoint.token.empty()) out.headers.push_back("Authorization: " + endpoint.token);
  out.body = std::move(body);
  out.connect_timeout = config_.connect_timeout;
  return out;
}

void EtcdCalls::call(EtcdRequest request, Done done) {
  auto attempt = std::make_shared<Attempt>();
  attempt->request = std::move(request);
  attempt->done = std::move(done);
  attempt->endpoint = current_;
  attempt->left = endpoints_.size();
  try_now(attempt);
}

void EtcdCalls::call_at(size_t endpoint, EtcdRequest request, Done done) {
  auto attempt = std::make_shared<Attempt>();
  attempt->request = std::move(request);
  attempt->done = std::move(done);
  attempt->endpoint = endpoint;
  attempt->only_here = true;
  try_now(attempt);
}

void EtcdCalls::try_now(const AttemptPtr& attempt) {
  with_token(attempt->endpoint, [this, attempt](std::optional<EtcdCallError> error) {
    if (!error) {
      send(attempt);
    } else if (error->kind == EtcdFailure::refused) {
      finish(attempt, std::move(*error));
    } else {
      attempt->leaderless |= error->code == kUnavailable;
      next(attempt, false, error->text);
    }
  });
}

void EtcdCalls::with_token(size_t endpoint,
                           std::function<void(std::optional<EtcdCallError>)> then) {
  Endpoint& at = endpoints_[endpoint];
  if (config_.user.empty() || !at.token.empty() || at.no_auth) {
    then(std::nullopt);
    return;
  }
  at.waiting.push_back(std::move(then));
  if (!std::exchange(at.fetching, true)) fetch_token(endpoint);
}

void EtcdCalls::fetch_token(size_t endpoint) {
  CurlRequest request = request_to(endpoints_[endpoint], kAuthenticate,
                                   etcd_authenticate_text(config_.user, config_.password));
  request.silence_timeout = config_.request_timeout;
  request.timeout = config_.request_timeout * kTimeoutFactor;
  request.body_most = 64 << 10;
  thread_.start(std::move(request),
                [this, endpoint](CurlAnswer answer) { take_token(endpoint, answer); });
}

void EtcdCalls::take_token(size_t endpoint, const CurlAnswer& answer) {
  Endpoint& at = endpoints_[endpoint];
  at.fetching = false;
  std::optional<EtcdCallError> error;
  const auto failed = [&](EtcdFailure kind, const std::string& text, int code) {
    error.emplace();
    error->kind = kind;
    error->code = code;
    error->text = shown(endpoint, "authentication as " + config_.user + ": " + text);
  };
  if (answer.end != CurlAnswer::End::whole) {
    error.emplace();
    error->text = shown(endpoint, answer.error);
  } else if (answer.status == 200) {
    auto token = read_etcd_token(answer.body);
    if (token)
      at.token = std::move(*token);
    else
      failed(EtcdFailure::unreachable, token.error().text(), 0);
  } else {
    const EtcdSaid said = read_etcd_error(answer.body);
    if (said.message == "etcdserver: authentication is not enabled")
      at.no_auth = true;
    else if (said.code == kInvalidArgument || said.code == kPermissionDenied)
      failed(EtcdFailure::refused, said.message, said.code);
    else
      failed(EtcdFailure::unreachable, text_of(said, answer.status), said.code);
  }
  for (const auto& then : std::exchange(at.waiting, {})) then(error);
}

void EtcdCalls::send(const AttemptPtr& attempt) {
  const Endpoint& at = endpoints_[attempt->endpoint];
  attempt->token = at.token;
  CurlRequest request = request_to(at, attempt->request.path, attempt->request.body);
  request.silence_timeout = config_.request_timeout;
  request.timeout = config_.request_timeout * kTimeoutFactor;
  request.body_most = attempt->request.answer_most;
  request.once = !attempt->request.repeatable;
  thread_.start(std::move(request),
                [this, attempt](CurlAnswer answer) { take_answer(attempt, answer); });
}

void EtcdCalls::take_answer(const AttemptPtr& attempt, const CurlAnswer& answer) {
  if (answer.end == CurlAnswer::End::whole && answer.status == 200) {
    const auto taken = attempt->request.take(answer.body);
    if (taken) {
      succeed(attempt);
      return;
    }
    next(attempt, true,
         shown(attempt->endpoint, std::string("the answer to ") + attempt->request.what +
                                      " is none of etcd's: " + taken.error().text()));
  } else if (answer.end == CurlAnswer::End::whole) {
    take_refusal(attempt, answer);
  } else if (answer.end == CurlAnswer::End::too_large) {
    EtcdCallError error;
    error.kind = attempt->request.repeatable ? EtcdFailure::refused : EtcdFailure::unknown;
    error.too_large = true;
    error.text = shown(attempt->endpoint, attempt->request.what + (": " + answer.error));
    finish(attempt, std::move(error));
  } else {
    next(attempt, answer.end != CurlAnswer::End::not_sent, shown(attempt->endpoint, answer.error));
  }
}

void EtcdCalls::take_refusal(const AttemptPtr& attempt, const CurlAnswer& answer) {
  const EtcdSaid said = read_etcd_error(answer.body);
  if (!config_.user.empty() && !attempt->renewed && wants_token(said, answer.status)) {
    attempt->renewed = true;
    // Another request may have fetched a new one by now.
    if (endpoints_[attempt->endpoint].token == attempt->token) drop_token(attempt->endpoint);
    try_now(attempt);
    return;
  }
  const std::string text = shown(attempt->endpoint, text_of(said, answer.status));
  attempt->leaderless |= said.code == kUnavailable;
  if (surely_not_done(said)) {
    next(attempt, false, text);
  } else if (left_open(said, answer.status) || (said.code == 0 && attempt->request.repeatable)) {
    next(attempt, true, text);
  } else {
    EtcdCallError error;
    error.kind = EtcdFailure::refused;
    error.code = said.code;
    error.text = text;
    finish(attempt, std::move(error));
  }
}

// This endpoint did not do it.
void EtcdCalls::next(const AttemptPtr& attempt, bool perhaps_done, const std::string& text) {
  attempt->errors.push_back(text);
  if (current_ == attempt->endpoint) current_ = (current_ + 1) % endpoints_.size();
  EtcdCallError error;
  error.text = text;
  if (perhaps_done && !attempt->request.repeatable) {
    error.kind = EtcdFailure::unknown;
    finish(attempt, std::move(error));
    return;
  }
  attempt->renewed = false;
  if (!attempt->only_here && --attempt->left > 0) {
    attempt->endpoint = (attempt->endpoint + 1) % endpoints_.size();
    try_now(attempt);
    return;
  }
  const auto waited = std::chrono::steady_clock::now() - attempt->started;
  if (!attempt->only_here && attempt->leaderless && waited < 2 * config_.request_timeout) {
    attempt->left = endpoints_.size();
    attempt->leaderless = false;
    attempt->errors.clear();
    attempt->endpoint = current_;
    thread_.after(kRoundPause, [this, attempt] { try_now(attempt); });
    return;
  }
  error.text.clear();
  for (const std::string& one : attempt->errors)
    error.text += (error.text.empty() ? "" : "; ") + one;
  finish(attempt, std::move(error));
}

void EtcdCalls::succeed(const AttemptPtr& attempt) {
  if (!attempt->only_here) current_ = attempt->endpoint;
  {
    const std::lock_guard lock(mutex_);
    status_.endpoint = endpoints_[attempt->endpoint].url;
    status_.problem.clear();
  }
  attempt->done(std::nullopt);
}

void EtcdCalls::finish(const AttemptPtr& attempt, EtcdCallError error) {
  // A server that refuses a request is there; one that refuses us is of no use.
  const bool of_no_use = error.kind != EtcdFailure::refused || error.code == kPermissionDenied ||
                         error.code == kUnauthenticated || has(error.text, "authentication");
  if (of_no_use && !attempt->only_here) set_problem(error.text);
  attempt->done(std::move(error));
}

uint64_t EtcdCalls::open(size_t endpoint, Stream stream) {
  CurlRequest request = request_to(endpoints_[endpoint], stream.path, std::move(stream.body));
  request.on_data = std::move(stream.on_data);
  request.ready = std::move(stream.ready);
  return thread_.start(std::move(request), [this, endpoint,
                                            done = std::move(stream.done)](CurlAnswer answer) {
    const bool whole = answer.end == CurlAnswer::End::whole;
    done(shown(endpoint, whole ? "it has ended the watch" : answer.error), std::move(answer.body));
  });
}

}  // namespace guideway
