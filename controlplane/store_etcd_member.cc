// SPDX-License-Identifier: Apache-2.0
// Of which cluster this node is a member: STATE/cluster.json, joining and leaving.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/durable_file.h"
#include "controlplane/json_text.h"
#include "controlplane/sealed_text.h"
#include "controlplane/store_etcd.h"

namespace guideway {
namespace {

constexpr size_t kMemberFileMax = 4096;

}  // namespace

Result<void> EtcdStore::read_member_file() {
  auto text = read_file(config_.member_file, kMemberFileMax);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return {};
  const auto damaged = [this](const std::string& why) {
    return fail(config_.member_file, "is damaged: " + why,
                "remove it: the node then joins the cluster if its intent is the same");
  };
  auto line = unseal(**text, "member");
  if (!line) return fail(config_.member_file, line.error().why);
  auto object = parse_json(*line, "");
  if (!object) return damaged(object.error().text());
  left_ = object->contains("left");
  if (const auto id = object->find("cluster"); id != object->end() && id->is_number_unsigned())
    cluster_ = id->get<uint64_t>();
  if (!left_ && cluster_ == 0) return damaged("it names no cluster");
  if (left_) {
    membership_ = Membership::alone;
    problem_.clear();
  }
  struct stat info = {};
  if (cluster_ != 0 && stat(config_.member_file.c_str(), &info) == 0)
    last_contact_ = int64_t{info.st_mtim.tv_sec};
  return {};
}

Result<void> EtcdStore::write_member_file() {
  const std::string line =
      left_ ? "{\"left\":true}" : "{\"cluster\":" + std::to_string(cluster_) + "}";
  return replace_file(config_.member_file, seal(line, "member"));
}

void EtcdStore::join(std::function<void(Result<void>)> done) {
  if (membership_ == Membership::member) return done({});
  if (joining_) return done(fail("cluster", "the node is joining already"));
  joining_ = std::move(done);
  load();
}

Result<void> EtcdStore::leave() {
  if (auto saved = copy_->save(*intent_); !saved) return saved;
  const bool was_left = std::exchange(left_, true);
  const uint64_t was_cluster = std::exchange(cluster_, 0);
  if (auto written = write_member_file(); !written) {
    left_ = was_left;
    cluster_ = was_cluster;
    return written;
  }
  if (watch_ != 0) client_.unwatch(std::exchange(watch_, 0));
  loop_.cancel(std::exchange(unfinished_, 0));
  membership_ = Membership::alone;
  current_ = false;
  problem_.clear();
  refused_.clear();
  answer_all({Refusal::unavailable, {"cluster", "the node has left the cluster", ""}});
  spdlog::info("left the cluster; revision={} stays", intent_->revision);
  told();
  return {};
}

}  // namespace guideway
