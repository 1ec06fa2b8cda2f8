// SPDX-License-Identifier: Apache-2.0
// The images of this dataplane: takes tables and roots, validates each once, adopts by a swap that
// the caller provides, keeps a copy under RUN/image so that a restarted dataplane forwards again
// without the control plane. Used by the main thread only; never by a worker.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/result.h"
#include "dataplane/image.h"

namespace guideway {

class ImageStore {
 public:
  // Makes every worker use `image` and returns when none can still be using the one before.
  using Swap = std::function<void(const Image* image)>;

  // `directory`: of the copy; made if missing. `ports`: the interfaces of this dataplane's ports,
  // in order; an image made for others is refused, for its indices would mean something else.
  ImageStore(std::string directory, std::vector<std::string> ports, Swap swap);

  // Takes a table ahead of the root that needs it. One that is already here is not looked at again.
  Result<void> add_table(uint64_t digest, int fd);

  // Validates, swaps, forgets the tables that the new root does not use. On error the image that
  // ran goes on. The copy is not written yet: see save(), and copy_timer.h for when.
  Result<void> adopt(uint64_t generation, int fd);

  // Writes the running image's copy (the new tables, then the root, then removes what is unused),
  // so that at every moment the files on disk are one whole image; images since the last save() are
  // left out. Errors do not disturb forwarding.
  Result<void> save();

  // The running image has a table that no copy has.
  bool has_unsaved_table() const;

  // Adopts the saved copy. Ok(false): there is none.
  Result<bool> load();

  const Image* running() const { return running_.get(); }

 private:
  Result<void> adopt_root(Mapping sent, uint64_t generation);
  Result<void> check_ports(const gw_root& root) const;
  std::string table_path(uint64_t digest) const;
  std::string root_path() const { return directory_ + "/root"; }

  std::string directory_;
  std::vector<std::string> ports_;
  Swap swap_;
  std::map<uint64_t, std::shared_ptr<const Table>> tables_;
  std::unique_ptr<const Image> running_;
};

// Upper bounds of what is mapped.
inline constexpr size_t kTableBytesMax =
    sizeof(gw_table) + size_t{GW_TABLE_SLOTS_MAX} * GW_HOPS_MAX * sizeof(uint16_t) + 4096;
inline constexpr size_t kRootBytesMax =
    sizeof(gw_root) + size_t{GW_SERVICES_MAX} * sizeof(gw_service) +
    size_t{GW_POOLS_MAX} * sizeof(gw_pool) + size_t{GW_BACKENDS_MAX} * sizeof(gw_backend) + 4096;

}  // namespace guideway
