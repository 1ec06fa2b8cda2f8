// SPDX-License-Identifier: Apache-2.0
// While one lives, libbpf's warnings go here instead of to the standard error. libbpf has one
// callback per process: one at a time, and none while other threads use libbpf.
#pragma once

#include <bpf/libbpf.h>

#include <string>

namespace guideway {

class Complaints {
 public:
  Complaints();
  ~Complaints() { libbpf_set_print(before_); }
  Complaints(const Complaints&) = delete;
  Complaints& operator=(const Complaints&) = delete;

  // The first warning: mostly the cause of the others. Empty if there was none.
  const std::string& first() const;

 private:
  libbpf_print_fn_t before_;
};

}  // namespace guideway
