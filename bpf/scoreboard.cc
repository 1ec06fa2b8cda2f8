// SPDX-License-Identifier: Apache-2.0
#include "bpf/scoreboard.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "bpf/map.h"
#include "bpf/object.h"

namespace guideway {

namespace {

constexpr size_t kBytes = sizeof(gw_score) * GW_PROBE_TARGETS_MAX;

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

tl::unexpected<Error> in_field(const std::string& interface, Error error) {
  error.field = interface;
  return tl::unexpected(std::move(error));
}

// One of another layout would be read, and worse, written to, in the wrong places.
bool has_our_layout(int map_fd) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(map_fd, &info, &size) == 0 && info.type == BPF_MAP_TYPE_ARRAY &&
         info.value_size == sizeof(gw_score) && info.max_entries == GW_PROBE_TARGETS_MAX;
}

}  // namespace

Result<Scoreboard> Scoreboard::of(const Interface& interface, Attachment attachment,
                                  const gw_probe_secret& secret) {
  int program_fd = attachment.fd.get();
  Result<UniqueFd> scores = map_of_program(program_fd, "scoreboard");
  if (!scores) return in_field(interface.name, scores.error());
  Result<UniqueFd> secrets = map_of_program(program_fd, "probe_secret");
  if (!secrets) return in_field(interface.name, secrets.error());
  if (!has_our_layout(scores->get()))
    return fail(interface.name, "the scoreboard of its edge program is of another version",
                "restart guideway-dataplane");

  uint32_t only = 0;
  if (bpf_map_update_elem(secrets->get(), &only, &secret, BPF_ANY) != 0)
    return fail(interface.name, "setting the probes' secret: " + std::string(std::strerror(errno)));
  void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, scores->get(), 0);
  if (mapped == MAP_FAILED)
    return fail(interface.name, "mapping the scoreboard: " + std::string(std::strerror(errno)));

  Scoreboard board;
  board.interface_ = interface;
  board.attachment_ = std::move(attachment);
  board.scores_ = static_cast<gw_score*>(mapped);
  // What an earlier control plane awaited is nobody's business now.
  for (uint32_t target = 0; target < GW_PROBE_TARGETS_MAX; ++target) board.forget(target);
  return board;
}

Result<Scoreboard> Scoreboard::find(const std::string& name, const gw_probe_secret& secret) {
  Result<Interface> interface = Interface::find(name);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> there = xdp_attachment_of(*interface, GW_EDGE_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  if (!*there) return fail(name, "the edge program is not attached");
  return of(*interface, std::move(**there), secret);
}

Result<Scoreboard> Scoreboard::attach_tap(const std::string& tap, const std::string& object_path,
                                          const gw_probe_secret& secret) {
  Result<Interface> interface = Interface::find(tap);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> there = xdp_attachment_of(*interface, GW_EDGE_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  Result<BpfObject> object = BpfObject::load(object_path);
  if (!object) return tl::unexpected(object.error());
  Result<Attachment> fresh = object->program(GW_EDGE_PROGRAM).and_then(describe_program);
  if (!fresh) return tl::unexpected(fresh.error());
  Result<Scoreboard> board = of(*interface, std::move(*fresh), secret);
  if (!board) return board;

  int program_fd = board->attachment_.fd.get();
  if (*there) {
    board->attachment_.mode = (*there)->mode;
    Result<void> replaced = xdp_replace(*interface, **there, program_fd);
    if (!replaced) return tl::unexpected(replaced.error());
    return board;
  }
  Result<XdpMode> mode = xdp_attach(*interface, program_fd, nullptr);
  if (!mode) return tl::unexpected(mode.error());
  board->attachment_.mode = *mode;
  return board;
}

Scoreboard::Scoreboard(Scoreboard&& other) noexcept
    : interface_(std::move(other.interface_)),
      attachment_(std::move(other.attachment_)),
      scores_(std::exchange(other.scores_, nullptr)) {}

Scoreboard& Scoreboard::operator=(Scoreboard&& other) noexcept {
  std::swap(interface_, other.interface_);
  std::swap(attachment_, other.attachment_);
  std::swap(scores_, other.scores_);
  return *this;
}

Scoreboard::~Scoreboard() {
  if (scores_) munmap(scores_, kBytes);
}

Result<bool> Scoreboard::attached() const {
  return xdp_is_attached(interface_, attachment_.program_id);
}

void Scoreboard::expect(uint32_t target, uint32_t attempt, uint32_t awaited) {
  gw_score& score = scores_[target];
  const uint64_t now_awaited = gw_awaited(attempt, awaited);
  // What stands there under this very number is of a round of numbers ago, or of another backend;
  // what is not awaited any more must go before the numbers come round to it. A reply that `edge`
  // puts there at this moment is awaited, and stays.
  std::atomic_ref<__u64> place(score.reply[attempt % GW_SCORE_REPLIES]);
  if (__u64 word = place.load(std::memory_order_relaxed)) {
    uint32_t age = gw_attempt_age(now_awaited, gw_reply_attempt(word));
    if (age == 0 || age >= awaited) place.compare_exchange_strong(word, 0);
  }
  std::atomic_ref<__u64>(score.awaited).store(now_awaited, std::memory_order_release);
}

void Scoreboard::forget(uint32_t target) {
  std::atomic_ref<__u64>(scores_[target].awaited).store(0, std::memory_order_relaxed);
}

Scoreboard::Reply Scoreboard::read(uint32_t target, uint32_t attempt) const {
  std::atomic_ref<__u64> place(scores_[target].reply[attempt % GW_SCORE_REPLIES]);
  const uint64_t word = place.load(std::memory_order_acquire);
  if (word == 0 || gw_reply_attempt(word) != attempt % GW_PROBE_ATTEMPTS) return {};
  return {static_cast<gw_reply_kind>(gw_reply_kind_of(word)), gw_reply_received_ns(word, now_ns())};
}

}  // namespace guideway
