// SPDX-License-Identifier: Apache-2.0
// One request of the control socket on its way. A part of api.cc; nobody else needs it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/api.h"
#include "controlplane/control.h"
#include "controlplane/event_loop.h"
#include "controlplane/http_server.h"
#include "controlplane/intent_change.h"
#include "controlplane/store.h"

namespace guideway {

inline HttpReply refusal(int status, const Error& error) {
  return {status, Api::error_body(error)};
}
inline HttpReply invalid(const Error& error) {
  return refusal(400, error);
}
inline HttpReply ending() {
  return refusal(503, Error{"", "the control plane is ending", ""});
}

class ApiCall {
 public:
  ApiCall(EventLoop& loop, Control& control, const HttpRequest& request,
          std::chrono::milliseconds adoption_timeout, int64_t now)
      : loop_(loop),
        control_(control),
        request_(request),
        adoption_timeout_(adoption_timeout),
        now_(now) {}

  HttpReply answer();

 private:
  // What the loop did about a change.
  struct Outcome {
    std::optional<HttpReply> refused;
    uint64_t revision = 0;
    bool changed = false;
    std::vector<Difference> differences;
    Adoption adoption;
    std::future<void> adopted;
  };

  HttpReply pools(std::string_view rest);
  HttpReply one_pool(const std::string& name);
  HttpReply one_backend(const std::string& pool, std::string_view text);
  HttpReply one_service(const ServiceKey& key);
  HttpReply whole_intent();
  HttpReply explain();
  HttpReply events();
  HttpReply node();
  HttpReply cluster();

  std::optional<HttpReply> read_query(std::initializer_list<std::string_view> known);
  std::string query(const std::string& name) const;
  // A whole number in these bounds; `absent` if the parameter is.
  Result<uint64_t> query_number(const std::string& name, uint64_t least, uint64_t most,
                                uint64_t absent) const;
  bool is_get() const { return request_.method == "GET" || request_.method == "HEAD"; }
  bool wants(const char* method) const { return request_.method == method; }

  HttpReply with_status(const std::function<HttpReply(const Status&)>& write);
  HttpReply change(const std::string& what, const Store::Change& apply,
                   bool show_differences = false, bool dry_run = false);
  static ChangeResult forced(const Intent& before, const Store::Change& apply);
  Outcome try_change(const Store::Change& apply);
  std::optional<Outcome> order_change(const std::string& what, const Store::Change& apply,
                                      bool show_differences);
  Outcome outcome_of(const Store::ChangeOutcome& outcome, bool show_differences);
  std::optional<HttpReply> read_change_query(std::initializer_list<std::string_view> more = {});

  EventLoop& loop_;
  Control& control_;
  const HttpRequest& request_;
  std::chrono::milliseconds adoption_timeout_;
  int64_t now_;  // seconds since 1970
  bool wait_ = false;
  bool force_ = false;
};

}  // namespace guideway
