// SPDX-License-Identifier: Apache-2.0
// Of which cluster this node is a member: STATE/cluster.json, joining and leaving.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/durable_file.h"
#include "controlplane/json_text.h"
#include "controlplane/random_number.h"
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
  founding_ = object->contains("founding");
  if (const auto id = object->find("cluster"); id != object->end() && id->is_number_unsigned())
    cluster_ = id->get<uint64_t>();
  if (!left_ && cluster_ == 0) return damaged("it names no cluster");
  if (left_) {
    membership_ = Membership::alone;
    problem_.clear();
  }
  struct stat info = {};
  if (cluster_ != 0 && !founding_ && stat(config_.member_file.c_str(), &info) == 0)
    last_contact_ = int64_t{info.st_mtim.tv_sec};
  return {};
}

Result<void> EtcdStore::write_member_file() {
  const std::string id = "{\"cluster\":" + std::to_string(cluster_);
  const std::string line =
      left_ ? "{\"left\":true}" : id + (founding_ ? ",\"founding\":true}" : "}");
  return replace_file(config_.member_file, seal(line, "member"));
}

void EtcdStore::keep_member_file() {
  auto written = write_member_file();
  const std::string before = std::exchange(member_problem_, written ? "" : written.error().text());
  if (!written && before != member_problem_) spdlog::error("{}", member_problem_);
}

// The first node makes its intent the cluster's. Which cluster that is, it notes before: should it
// be cut off in the midst, it goes on where it was.
void EtcdStore::found() {
  if (!std::exchange(founding_, true)) cluster_ = random_number();
  if (auto written = write_member_file(); !written) {
    lose(written.error().text());
    return load_later();
  }
  found(Intent{}, 0);
}

// `there`: what etcd holds of it.
void EtcdStore::found(const Intent& there, int64_t head) {
  Flight flight;
  flight.before = std::make_shared<const Intent>(there);
  flight.after = *intent_;
  flight.after.revision = intent_->revision + 1;
  flight.writes = key_writes(there, flight.after);
  flight.cluster = cluster_;
  flight.head = head;
  start_founding(std::move(flight));
}

void EtcdStore::bump(uint64_t revision) {
  if (revision > kRevisionMost) {
    return lose("the copy's revision " + std::to_string(intent_->revision) +
                " is none that a cluster can have; remove STATE/intent.json and start again");
  }
  Flight flight;
  flight.before = intent_;
  flight.after = *intent_;
  flight.after.revision = revision;
  flight.cluster = keys_.head()->cluster;
  flight.after.flow_seed = keys_.head()->flow_seed;
  flight.head = head_revision_;
  start_founding(std::move(flight));
}

void EtcdStore::start_founding(Flight flight) {
  if (flight_) return load_later();
  flight.founds = true;
  flight_ = std::move(flight);
  write_next();
}

// A change that its writer does not finish is taken as it is, under a revision of its own: should
// the writer be only slow, its next part is refused, and the change is made anew.
void EtcdStore::claim() {
  unfinished_ = 0;
  const auto head = keys_.head();
  if (flight_ || !head || !head->part) return;
  spdlog::warn("a change of {} was left unfinished", json_path("", head->by));
  bump(head->revision + 1);
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
  const bool was_founding = std::exchange(founding_, false);
  if (auto written = write_member_file(); !written) {
    left_ = was_left;
    cluster_ = was_cluster;
    founding_ = was_founding;
    return written;
  }
  member_problem_.clear();
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
