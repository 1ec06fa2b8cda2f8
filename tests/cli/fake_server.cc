// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/fake_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "tests/cli/program.h"

namespace guideway::test {

struct FakeServer::Parts {
  TemporaryFolder folder;
  std::string socket = folder.path + "/control.sock";
  httplib::Server http;
  std::thread thread;
  mutable std::mutex mutex;
  std::map<std::string, std::deque<std::pair<int, std::string>>> answers;
  std::vector<std::string> requests;
};

FakeServer::FakeServer() : parts_(std::make_unique<Parts>()) {
  Parts* parts = parts_.get();
  auto handle = [parts](const httplib::Request& request, httplib::Response& response) {
    std::lock_guard lock(parts->mutex);
    std::string asked = request.method + " " + request.target;
    parts->requests.push_back(asked + (request.body.empty() ? "" : " " + request.body));
    auto known = parts->answers.find(asked);
    if (known == parts->answers.end()) {
      response.status = 404;
      response.set_content(R"({"error":{"field":"","message":"not told","hint":""}})",
                           "application/json");
      return;
    }
    auto& answers = known->second;
    response.status = answers.front().first;
    response.set_content(answers.front().second, "application/json");
    if (answers.size() > 1) answers.pop_front();
  };
  parts->http.Get(".*", handle);
  parts->http.Put(".*", handle);
  parts->http.Delete(".*", handle);
  parts->http.set_address_family(AF_UNIX);
  parts->http.bind_to_port(parts->socket, 80);  // listens already; clients wait in its queue
  parts->thread = std::thread([parts] { parts->http.listen_after_bind(); });
  while (!parts->http.is_running()) std::this_thread::yield();
}

FakeServer::~FakeServer() {
  parts_->http.stop();
  parts_->thread.join();
}

void FakeServer::answer(const std::string& request, int status, const std::string& body) {
  std::lock_guard lock(parts_->mutex);
  parts_->answers[request] = {{status, body}};
}

void FakeServer::then(const std::string& request, int status, const std::string& body) {
  std::lock_guard lock(parts_->mutex);
  parts_->answers[request].emplace_back(status, body);
}

std::vector<std::string> FakeServer::requests() const {
  std::lock_guard lock(parts_->mutex);
  return parts_->requests;
}

const std::string& FakeServer::socket() const {
  return parts_->socket;
}
const std::string& FakeServer::folder() const {
  return parts_->folder.path;
}

}  // namespace guideway::test
