// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_client.h"

#include <curl/urlapi.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "controlplane/curl_thread.h"
#include "controlplane/etcd_calls.h"
#include "controlplane/etcd_json.h"
#include "controlplane/etcd_range_read.h"
#include "controlplane/etcd_watches.h"

namespace guideway {
namespace {

constexpr size_t kBacklogMost = 32 << 20;  // events that wait for the loop
constexpr size_t kEventBytes = 128;        // beside its key and value
constexpr int kNotFound = 5;               // google.rpc.Code

// "http" or "https", if the URL is one of an endpoint.
Result<std::string> scheme_of(const std::string& url) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parts(curl_url(), curl_url_cleanup);
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    std::string out;
    if (curl_url_get(parts.get(), which, &text, 0) == CURLUE_OK) out = text;
    curl_free(text);
    return out;
  };
  const bool read = parts && curl_url_set(parts.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  const std::string scheme = read ? part(CURLUPART_SCHEME) : "";
  const bool bare = read && (part(CURLUPART_PATH) == "/" && !url.ends_with('/')) &&
                    part(CURLUPART_QUERY).empty() && part(CURLUPART_FRAGMENT).empty() &&
                    part(CURLUPART_USER).empty() && part(CURLUPART_PASSWORD).empty();
  if (bare && (scheme == "http" || scheme == "https") && !part(CURLUPART_PORT).empty())
    return scheme;
  return fail("endpoints", "'" + url.substr(0, 100) + "' is not one", "https://10.0.0.1:2379");
}

Result<void> check(const EtcdConfig& config) {
  if (config.endpoints.empty()) return fail("endpoints", "is empty", "https://10.0.0.1:2379");
  std::string scheme;
  for (const std::string& url : config.endpoints) {
    const auto its = scheme_of(url);
    if (!its) return tl::unexpected(its.error());
    if (!scheme.empty() && scheme != *its) return fail("endpoints", "are http and https mixed");
    scheme = *its;
  }
  if (scheme == "https" && config.ca_file.empty()) return fail("ca_file", "is needed for https");
  if (scheme == "http" && !(config.ca_file + config.cert_file + config.key_file).empty())
    return fail("endpoints", "are http, but there are files for TLS", "https://...");
  if (config.cert_file.empty() != config.key_file.empty())
    return fail("cert_file", "and key_file go together");
  for (const std::string& file : {config.ca_file, config.cert_file, config.key_file})
    if (!file.empty() && access(file.c_str(), R_OK) != 0) return fail(file, "cannot be read");
  if (config.user.empty() && !config.password.empty()) return fail("user", "is empty");
  return {};
}

size_t bytes_of(const std::vector<EtcdRevision>& revisions) {
  size_t out = 0;
  for (const EtcdRevision& revision : revisions)
    for (const EtcdEvent& event : revision.events)
      out += kEventBytes + event.kv.key.size() + event.kv.value.size();
  return out;
}

}  // namespace

// What lives in the loop's thread: who is to be called. The other thread knows numbers only.
struct Front {
  std::map<uint64_t, std::function<void(void*)>> waiting;  // the EtcdResult<T>* of its type
  std::unordered_map<uint64_t, std::shared_ptr<EtcdClient::WatchCallbacks>> watches;
  uint64_t next_id = 1;
  bool closed = false;
};

class EtcdClient::Impl {
 public:
  Impl(EventLoop& loop, const EtcdConfig& config, std::unique_ptr<CurlThread> thread)
      : loop_(loop),
        thread_(std::move(thread)),
        calls_(*thread_, config),
        watches_(*thread_, calls_, config, watch_out()) {}
  ~Impl() {
    front_->closed = true;
    front_->waiting.clear();
    front_->watches.clear();
    thread_.reset();  // its tasks know the rest
  }

  // A function for the other thread, which brings its result to `done` in the loop's.
  template <typename T>
  std::function<void(EtcdResult<T>)> answer_to(Done<T> done) {
    const uint64_t id = front_->next_id++;
    front_->waiting[id] = [done = std::move(done)](void* result) {
      if (done) done(std::move(*static_cast<EtcdResult<T>*>(result)));
    };
    return [this, id](EtcdResult<T> result) {
      auto kept = std::make_shared<EtcdResult<T>>(std::move(result));
      loop_.post([front = std::weak_ptr(front_), id, kept] {
        const auto there = front.lock();
        if (!there || there->closed) return;
        const auto node = there->waiting.extract(id);
        if (node) node.mapped()(kept.get());
      });
    };
  }

  template <typename T>
  struct Instead {
    int code = 0;  // of an error that is an answer
    T value{};
  };

  // One request, whose answer `read` makes a T of.
  template <typename T>
  void ask(EtcdRequest request, Result<T> (*read)(std::string_view),
           std::function<void(EtcdResult<T>)> answer, Instead<T> instead = {}) {
    auto value = std::make_shared<T>();
    request.take = [value, read](std::string_view text) -> Result<void> {
      auto got = read(text);
      if (!got) return tl::unexpected(std::move(got.error()));
      *value = std::move(*got);
      return {};
    };
    auto done = [value, answer = std::move(answer), instead](std::optional<EtcdCallError> error) {
      if (error && error->code != 0 && error->code == instead.code)
        answer(instead.value);
      else if (error)
        answer(tl::unexpected(EtcdError(std::move(*error))));
      else
        answer(std::move(*value));
    };
    thread_->post([this, request = std::move(request), done = std::move(done)]() mutable {
      calls_.call(std::move(request), std::move(done));
    });
  }

  void range(std::string prefix, std::function<void(EtcdResult<EtcdRange>)> answer) {
    thread_->post([this, prefix = std::move(prefix), answer = std::move(answer)] {
      EtcdRangeRead::start(calls_, prefix, answer);
    });
  }

  uint64_t watch(std::string prefix, int64_t start_revision, WatchCallbacks callbacks) {
    const uint64_t id = front_->next_id++;
    front_->watches[id] = std::make_shared<WatchCallbacks>(std::move(callbacks));
    thread_->post([this, id, prefix = std::move(prefix), start_revision] {
      watches_.add(id, prefix, start_revision);
    });
    return id;
  }
  void unwatch(uint64_t id) {
    if (front_->watches.erase(id) != 0) thread_->post([this, id] { watches_.remove(id); });
  }

  EtcdCalls::Status status() const { return calls_.status(); }

 private:
  using Tell = std::function<void(WatchCallbacks&)>;

  void post_to_watch(uint64_t id, Tell tell) {
    loop_.post([front = std::weak_ptr(front_), id, tell = std::move(tell)] {
      const auto there = front.lock();
      if (!there || there->closed) return;
      const auto it = there->watches.find(id);
      if (it == there->watches.end()) return;
      const auto callbacks = it->second;  // it may be unwatched by what it is told
      tell(*callbacks);
    });
  }

  void post_revisions(uint64_t id, std::vector<EtcdRevision> revisions) {
    const size_t bytes = bytes_of(revisions);
    backlog_ += bytes;
    auto kept = std::make_shared<std::vector<EtcdRevision>>(std::move(revisions));
    loop_.post([this, front = std::weak_ptr(front_), id, bytes, kept] {
      const auto there = front.lock();
      if (!there || there->closed) return;
      for (EtcdRevision& revision : *kept) {
        const auto it = there->watches.find(id);
        if (it == there->watches.end()) break;
        const auto callbacks = it->second;
        if (callbacks->on_events)
          callbacks->on_events(revision.revision, std::move(revision.events));
        if (there->closed) return;
      }
      if ((backlog_ -= bytes) < kBacklogMost) thread_->look_again();
    });
  }

  EtcdWatches::Out watch_out() {
    EtcdWatches::Out out;
    out.on_revisions = [this](uint64_t id, std::vector<EtcdRevision> revisions) {
      post_revisions(id, std::move(revisions));
    };
    out.on_compacted = [this](uint64_t id, int64_t revision) {
      post_to_watch(id, [front = std::weak_ptr(front_), id, revision](WatchCallbacks& callbacks) {
        if (const auto there = front.lock()) there->watches.erase(id);
        if (callbacks.on_compacted) callbacks.on_compacted(revision);
      });
    };
    out.on_state = [this](uint64_t id, bool connected, const std::string& why) {
      post_to_watch(id, [connected, why](WatchCallbacks& callbacks) {
        if (callbacks.on_state) callbacks.on_state(connected, why);
      });
    };
    out.ready = [this] { return backlog_ < kBacklogMost; };
    return out;
  }

  EventLoop& loop_;
  const std::shared_ptr<Front> front_ = std::make_shared<Front>();
  std::atomic<size_t> backlog_{0};
  std::unique_ptr<CurlThread> thread_;
  EtcdCalls calls_;
  EtcdWatches watches_;
};

Result<std::unique_ptr<EtcdClient>> EtcdClient::create(EventLoop& loop, Config config) {
  if (const auto ok = check(config); !ok) return tl::unexpected(ok.error());
  const bool is_local = config.endpoints.front().starts_with("http://127.0.0.1:") ||
                        config.endpoints.front().starts_with("http://[::1]:");
  if (config.endpoints.front().starts_with("http://") && !config.password.empty() && !is_local)
    spdlog::warn("etcd: user {}'s password goes over the network in clear: use https", config.user);
  auto thread = CurlThread::create({config.ca_file, config.cert_file, config.key_file}, "etcd");
  if (!thread) return tl::unexpected(thread.error());
  return std::unique_ptr<EtcdClient>(
      new EtcdClient(std::make_unique<Impl>(loop, config, std::move(*thread))));
}

EtcdClient::EtcdClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EtcdClient::~EtcdClient() = default;

void EtcdClient::range(std::string prefix, Done<Range> done) {
  impl_->range(std::move(prefix), impl_->answer_to(std::move(done)));
}

void EtcdClient::txn(Txn txn, Done<TxnResult> done) {
  EtcdRequest request;
  request.path = "/v3/kv/txn";
  request.what = "txn";
  request.body = etcd_txn_text(txn);
  request.repeatable = false;
  impl_->ask(std::move(request), read_etcd_txn, impl_->answer_to(std::move(done)));
}

void EtcdClient::grant(int64_t ttl_s, Done<int64_t> done) {
  EtcdRequest request;
  request.path = "/v3/lease/grant";
  request.what = "grant";
  request.body = etcd_grant_text(ttl_s);
  request.repeatable = false;
  impl_->ask(std::move(request), read_etcd_grant, impl_->answer_to(std::move(done)));
}

void EtcdClient::keep_alive(int64_t lease, Done<int64_t> done) {
  EtcdRequest request;
  request.path = "/v3/lease/keepalive";
  request.what = "keepalive";
  request.body = etcd_lease_text(lease);
  impl_->ask(std::move(request), read_etcd_keep_alive, impl_->answer_to(std::move(done)));
}

void EtcdClient::revoke(int64_t lease, Done<bool> done) {
  EtcdRequest request;
  request.path = "/v3/lease/revoke";
  request.what = "revoke";
  request.body = etcd_lease_text(lease);
  impl_->ask(std::move(request), read_etcd_revoke, impl_->answer_to(std::move(done)),
             {.code = kNotFound, .value = false});
}

uint64_t EtcdClient::watch(std::string prefix, int64_t start_revision, WatchCallbacks callbacks) {
  return impl_->watch(std::move(prefix), start_revision, std::move(callbacks));
}

void EtcdClient::unwatch(uint64_t id) {
  impl_->unwatch(id);
}

std::string EtcdClient::problem() const {
  return impl_->status().problem;
}

std::string EtcdClient::endpoint() const {
  return impl_->status().endpoint;
}

}  // namespace guideway
