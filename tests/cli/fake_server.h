// SPDX-License-Identifier: Apache-2.0
// A control plane that knows only what a test told it: an HTTP server on a Unix socket with canned
// answers, which keeps what it was asked.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace guideway::test {

class FakeServer {
 public:
  FakeServer();  // listens when it returns
  ~FakeServer();

  // `request`: method and target as sent, "PUT /v1/pools/web?wait=adopted", percent-encoding
  // included. Anything not told is answered 404.
  void answer(const std::string& request, int status, const std::string& body);
  // The answer after those told before, when it is asked again; the last one stays.
  void then(const std::string& request, int status, const std::string& body);
  // Requests so far, with their bodies: "PUT /v1/pools/web {...}".
  std::vector<std::string> requests() const;
  const std::string& socket() const;
  const std::string& folder() const;  // a temporary one, removed at the end

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace guideway::test
