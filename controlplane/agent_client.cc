// SPDX-License-Identifier: Apache-2.0
#include "controlplane/agent_client.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "controlplane/priority.h"
#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

constexpr size_t kReadAtOnce = size_t{16} << 10;

// What one ask() waits for.
struct Round {
  uint64_t flow_seed = 0;
  std::vector<ServiceKey> services;
  AgentClient::Answers answers;
  size_t left = 0;
  AgentClient::Done done;
};

// One backend's part of a round.
struct Call {
  enum class Stage { connecting, challenge, sending, answer };

  std::shared_ptr<Round> round;
  Address backend;
  std::vector<HashRange> ranges;
  size_t asked = 0;   // of the ranges: by connections before this one
  size_t asking = 0;  // by this one
  AgentAnswer sum;

  UniqueFd fd;
  Stage stage = Stage::connecting;
  AgentChallenge challenge;
  AgentMessage request;
  size_t sent = 0;
  std::string in;
  EventLoop::TimerId timer = 0;
};

int connect_to(const UniqueFd& fd, const Address& address, uint16_t port) {
  sockaddr_in v4 = {};
  sockaddr_in6 v6 = {};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(port);
  std::memcpy(&v4.sin_addr, address.v4(), 4);
  std::memcpy(&v6.sin6_addr, address.v6(), 16);
  const int result = address.is_v4()
                         ? connect(fd.get(), reinterpret_cast<const sockaddr*>(&v4), sizeof v4)
                         : connect(fd.get(), reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  return result == 0 || errno == EINPROGRESS ? 0 : errno;
}

Error refused(int error) {
  if (error == ECONNREFUSED)
    return {"", "connection refused", "is `guideway agent run --key FILE` running there?"};
  return {"", std::string("cannot be reached: ") + std::strerror(error), ""};
}

Error other_key(std::string message) {
  return {"", std::move(message), "[agents] key_file and the agent's --key must be the same"};
}

}  // namespace

class AgentClient::Impl {
 public:
  Impl(EventLoop& loop, std::unique_ptr<EventLoop> worker, AgentKey key, uint16_t port,
       AgentClientLimits limits)
      : loop_(loop),
        worker_(std::move(worker)),
        key_(std::move(key)),
        port_(port),
        limits_(limits),
        thread_([this] {
          pthread_setname_np(pthread_self(), "agent-client");
          set_thread_nice(kBuilderNice);
          worker_->run();
        }) {}
  ~Impl() {
    *alive_ = false;
    worker_->stop();
    thread_.join();
  }

  void ask(std::shared_ptr<Round> round, std::map<Address, std::vector<HashRange>> questions) {
    round->left = questions.size();
    if (questions.empty()) return finish(std::move(round));
    worker_->post([this, round = std::move(round), questions = std::move(questions)] {
      for (const auto& [backend, ranges] : questions) {
        auto call = std::make_unique<Call>();
        call->round = round;
        call->backend = backend;
        call->ranges = ranges;
        waiting_.push_back(std::move(call));
      }
      begin_waiting();
    });
  }

 private:
  void finish(std::shared_ptr<Round> round);
  void begin_waiting();
  void begin(std::unique_ptr<Call> call);
  void handle(int fd);
  void connected(Call& call);
  void receive(Call& call);
  void take_challenge(Call& call);
  void take_answer(Call& call);
  void send_rest(Call& call);
  void closed(Call& call, int error);
  void timed_out(Call& call);
  void watch(Call& call, uint32_t events);
  std::unique_ptr<Call> remove(Call& call);
  void fails(Call& call, Error error);
  void ends(const Call& call, Result<AgentAnswer> answer);

  EventLoop& loop_;
  const std::unique_ptr<EventLoop> worker_;
  const AgentKey key_;
  const uint16_t port_;
  const AgentClientLimits limits_;
  // Read and written in the loop's thread.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // The worker's.
  std::map<int, std::unique_ptr<Call>> calls_;  // by descriptor
  std::deque<std::unique_ptr<Call>> waiting_;
  std::thread thread_;
};

void AgentClient::Impl::finish(std::shared_ptr<Round> round) {
  loop_.post([round = std::move(round), alive = alive_] {
    // What `done` holds is the loop's: the worker may have the round for longer.
    const Done done = std::move(round->done);
    if (*alive) done(std::move(round->answers));
  });
}

void AgentClient::Impl::begin_waiting() {
  while (!waiting_.empty() && calls_.size() < limits_.connections) {
    std::unique_ptr<Call> call = std::move(waiting_.front());
    waiting_.pop_front();
    begin(std::move(call));
  }
}

void AgentClient::Impl::begin(std::unique_ptr<Call> call) {
  call->fd.reset(socket(call->backend.is_v4() ? AF_INET : AF_INET6,
                        SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int error = call->fd ? connect_to(call->fd, call->backend, port_) : errno;
  if (error != 0) return ends(*call, tl::unexpected(refused(error)));
  call->stage = Call::Stage::connecting;
  call->sent = 0;
  call->in.clear();
  const int fd = call->fd.get();
  Call& kept = *(calls_[fd] = std::move(call));
  kept.timer = worker_->after(limits_.timeout, [this, fd] { timed_out(*calls_.at(fd)); });
  watch(kept, EPOLLOUT);
}

void AgentClient::Impl::watch(Call& call, uint32_t events) {
  const int fd = call.fd.get();
  if (Result<void> watched = worker_->watch(fd, events, [this, fd](uint32_t) { handle(fd); });
      !watched)
    fails(call, watched.error());
}

void AgentClient::Impl::handle(int fd) {
  const auto it = calls_.find(fd);
  if (it == calls_.end()) return;
  Call& call = *it->second;
  switch (call.stage) {
    case Call::Stage::connecting:
      return connected(call);
    case Call::Stage::sending:
      return send_rest(call);
    case Call::Stage::challenge:
    case Call::Stage::answer:
      return receive(call);
  }
}

void AgentClient::Impl::connected(Call& call) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(call.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) return fails(call, refused(error));
  call.stage = Call::Stage::challenge;
  watch(call, EPOLLIN);
}

void AgentClient::Impl::receive(Call& call) {
  char buffer[kReadAtOnce];
  // Of a challenge not more than that: what comes after it is for a later stage to judge.
  const size_t room =
      call.stage == Call::Stage::challenge ? kAgentChallengeBytes - call.in.size() : sizeof buffer;
  const ssize_t n = recv(call.fd.get(), buffer, room, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return closed(call, n == 0 ? 0 : errno);
  call.in.append(buffer, static_cast<size_t>(n));
  if (call.stage == Call::Stage::answer) return take_answer(call);
  if (call.in.size() == kAgentChallengeBytes) take_challenge(call);
}

void AgentClient::Impl::take_challenge(Call& call) {
  Result<AgentChallenge> challenge = AgentChallenge::parse(call.in);
  if (!challenge) return fails(call, challenge.error());
  call.challenge = *challenge;
  call.in.clear();
  call.asking = std::min(call.ranges.size() - call.asked, kAgentRangesMax);
  const auto first = call.ranges.begin() + static_cast<ptrdiff_t>(call.asked);
  AgentRequest request{.backend = call.backend,
                       .flow_seed = call.round->flow_seed,
                       .services = call.round->services,
                       .ranges = {first, first + static_cast<ptrdiff_t>(call.asking)}};
  auto message = seal_request(key_, call.challenge, write_agent_request(request));
  if (!message)
    return fails(
        call,
        {"", "the request is over 1 MiB (too many services), or there are no random numbers", ""});
  call.request = std::move(*message);
  call.stage = Call::Stage::sending;
  send_rest(call);
}

void AgentClient::Impl::send_rest(Call& call) {
  const std::string& bytes = call.request.bytes;
  const ssize_t n =
      send(call.fd.get(), bytes.data() + call.sent, bytes.size() - call.sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN && errno != EINTR) return closed(call, errno);
  if (n > 0) call.sent += static_cast<size_t>(n);
  if (call.sent < bytes.size()) return watch(call, EPOLLOUT);
  call.stage = Call::Stage::answer;
  watch(call, EPOLLIN);
}

void AgentClient::Impl::take_answer(Call& call) {
  const AgentFrame frame = AgentFrame::of(call.in, kAgentAnswerMax);
  if (frame.state == AgentFrame::State::more) return;
  if (!genuine_answer(key_, call.challenge, call.request.mac, frame))
    return fails(call, other_key("the answer is not signed with this node's key"));
  Result<AgentAnswer> answer = read_agent_answer(frame.body);
  if (!answer) return fails(call, answer.error());
  const uint64_t before = call.sum.sockets;
  call.sum = std::move(*answer);
  call.sum.sockets += before;
  call.asked += call.asking;
  const std::unique_ptr<Call> done = remove(call);
  if (done->asked == done->ranges.size()) return ends(*done, done->sum);
  done->fd.reset();
  // Before others: its answers so far are of now.
  waiting_.push_front(std::make_unique<Call>(std::move(*done)));
  begin_waiting();
}

void AgentClient::Impl::closed(Call& call, int error) {
  const std::string how = error == 0 ? "closed" : std::strerror(error);
  switch (call.stage) {
    case Call::Stage::connecting:
    case Call::Stage::challenge:
      return fails(call,
                   {"", "no challenge: " + how, "it has too many connections, or is no agent"});
    case Call::Stage::sending:
      return fails(call, {"", "the request was not taken: " + how, ""});
    case Call::Stage::answer:
      if (!call.in.empty()) return fails(call, {"", "half an answer: " + how, ""});
      return fails(call, other_key("wrong key: no answer to our request: " + how));
  }
}

void AgentClient::Impl::timed_out(Call& call) {
  const char* what =
      call.stage == Call::Stage::connecting ? "no connection" : "connected, but no answer";
  fails(call, {"",
               "timed out: " + std::string(what) + " within " +
                   std::to_string(limits_.timeout.count()) + " ms",
               ""});
}

std::unique_ptr<Call> AgentClient::Impl::remove(Call& call) {
  worker_->cancel(call.timer);
  worker_->unwatch(call.fd.get());
  auto node = calls_.extract(call.fd.get());
  return std::move(node.mapped());
}

void AgentClient::Impl::fails(Call& call, Error error) {
  const std::unique_ptr<Call> failed = remove(call);
  ends(*failed, tl::unexpected(std::move(error)));
}

void AgentClient::Impl::ends(const Call& call, Result<AgentAnswer> answer) {
  if (!answer) {
    std::string& field = answer.error().field;
    field = "agent " + call.backend.text() + (field.empty() ? "" : ": " + field);
  }
  Round& round = *call.round;
  round.answers.emplace(call.backend, std::move(answer));
  if (--round.left == 0) finish(call.round);
  // Not from here: a thousand refusals one after another would nest as deep.
  worker_->post([this] { begin_waiting(); });
}

AgentClient::AgentClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AgentClient::~AgentClient() = default;

Result<std::unique_ptr<AgentClient>> AgentClient::create(EventLoop& loop, AgentKey key,
                                                         uint16_t port, AgentClientLimits limits) {
  Result<std::unique_ptr<EventLoop>> worker = EventLoop::create();
  if (!worker) return tl::unexpected(worker.error());
  return std::unique_ptr<AgentClient>(new AgentClient(
      std::make_unique<Impl>(loop, std::move(*worker), std::move(key), port, limits)));
}

void AgentClient::ask(uint64_t flow_seed, std::vector<ServiceKey> services,
                      std::vector<AgentQuestion> questions, Done done) {
  auto round = std::make_shared<Round>();
  round->flow_seed = flow_seed;
  std::erase_if(services, [](const ServiceKey& key) { return key.protocol != IPPROTO_TCP; });
  round->services = std::move(services);
  round->done = std::move(done);
  std::map<Address, std::vector<HashRange>> by_backend;
  for (AgentQuestion& question : questions) {
    std::vector<HashRange>& ranges = by_backend[question.backend];
    ranges.insert(ranges.end(), question.ranges.begin(), question.ranges.end());
  }
  impl_->ask(std::move(round), std::move(by_backend));
}

}  // namespace guideway
