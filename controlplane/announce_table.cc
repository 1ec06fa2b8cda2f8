// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announce_table.h"

#include <charconv>

#include "controlplane/durable_file.h"
#include "controlplane/signal_routes.h"

namespace guideway {
namespace {

constexpr size_t kBytesMost = 16;

std::string path_in(const std::string& run_dir) {
  return run_dir + "/announce-table";
}

}  // namespace

std::optional<unsigned> remembered_announce_table(const std::string& run_dir) {
  const auto text = read_file(path_in(run_dir), kBytesMost);
  if (!text || !*text) return {};
  const std::string& digits = **text;
  unsigned table = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), table);
  if (error != std::errc() || *end != '\n' || table == 0) return {};
  return table;
}

Result<void> remember_announce_table(const std::string& run_dir, unsigned table) {
  const auto before = remembered_announce_table(run_dir);
  if (before == table) return {};
  if (before) {
    if (auto done = withdraw_signal_routes(*before); !done) return tl::unexpected(done.error());
  }
  return replace_file(path_in(run_dir), std::to_string(table) + "\n");
}

}  // namespace guideway
