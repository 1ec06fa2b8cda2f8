// SPDX-License-Identifier: Apache-2.0
// Requests to etcd: which endpoint, with which token, sent again or not, and what its errors mean.
// Lives in the CurlThread; status() may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/curl_thread.h"
#include "controlplane/etcd_json.h"
#include "controlplane/etcd_types.h"
#include "controlplane/result.h"

namespace guideway {

struct EtcdRequest {
  const char* path = "";  // "/v3/kv/range"
  const char* what = "";  // "range": named in errors
  std::string body;
  bool repeatable = true;
  size_t answer_most = 1 << 20;
  // Reads the answer; fails if it is not what etcd says. Called at most once with success.
  std::function<Result<void>(std::string_view)> take;
};

struct EtcdCallError : EtcdError {
  int code = 0;  // gRPC's, if etcd said one
  bool too_large = false;
};

class EtcdCalls {
 public:
  using Done = std::function<void(std::optional<EtcdCallError>)>;  // nothing: it went well

  EtcdCalls(CurlThread& thread, EtcdConfig config);

  void call(EtcdRequest request, Done done);
  // At this endpoint only, once. Its failure is nobody's problem yet.
  void call_at(size_t endpoint, EtcdRequest request, Done done);

  // A stream at this endpoint, with the token that a call there has left. `done` gets the end of
  // it: "10.0.0.1: why" and the last piece.
  struct Stream {
    const char* path = "";
    std::string body;
    std::function<void(std::string_view)> on_data;
    std::function<bool()> ready;
    std::function<void(std::string why, std::string last_piece)> done;
  };
  uint64_t open(size_t endpoint, Stream stream);
  void drop_token(size_t endpoint);

  size_t current() const { return current_; }
  void prefer(size_t endpoint);
  const std::string& url(size_t endpoint) const { return endpoints_[endpoint].url; }
  size_t size() const { return endpoints_.size(); }
  void set_problem(std::string problem);

  struct Status {
    std::string endpoint;
    std::string problem;
  };
  Status status() const;

 private:
  struct Endpoint {
    std::string url;
    std::string token;
    bool no_auth = false;  // it does not ask for a token
    bool fetching = false;
    std::vector<std::function<void(std::optional<EtcdCallError>)>> waiting;
  };
  struct Attempt;
  using AttemptPtr = std::shared_ptr<Attempt>;

  CurlRequest request_to(const Endpoint& endpoint, const char* path, std::string body) const;
  void with_token(size_t endpoint, std::function<void(std::optional<EtcdCallError>)> then);
  void fetch_token(size_t endpoint);
  void take_token(size_t endpoint, const CurlAnswer& answer);
  void try_now(const AttemptPtr& attempt);
  void send(const AttemptPtr& attempt);
  void take_answer(const AttemptPtr& attempt, const CurlAnswer& answer);
  void take_refusal(const AttemptPtr& attempt, const CurlAnswer& answer);
  void next(const AttemptPtr& attempt, bool perhaps_done, const std::string& text);
  void succeed(const AttemptPtr& attempt);
  void finish(const AttemptPtr& attempt, EtcdCallError error);
  std::string shown(size_t endpoint, std::string text) const;

  CurlThread& thread_;
  const EtcdConfig config_;
  std::vector<Endpoint> endpoints_;
  size_t current_ = 0;
  mutable std::mutex mutex_;  // guards status_
  Status status_;
};

}  // namespace guideway
