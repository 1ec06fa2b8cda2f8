// SPDX-License-Identifier: Apache-2.0
// BPF object files: where they are, and loading one into the kernel.
#pragma once

#include <bpf/libbpf.h>

#include <memory>
#include <string>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"

namespace guideway {

// $GUIDEWAY_BPF_DIR, else where they were installed (PREFIX/lib/guideway/bpf).
std::string default_bpf_dir();

inline constexpr const char* kEdgeObject = "edge.bpf.o";
inline constexpr const char* kRedirectObject = "redirect.bpf.o";

// A loaded object; its programs and maps live as long as it, or as something in the kernel that
// uses them.
class BpfObject {
 public:
  // Errors name the file and carry the last complaint of libbpf or the verifier.
  static Result<BpfObject> load(const std::string& path);

  Result<int> program_fd(const std::string& name) const;    // owned by the object
  Result<UniqueFd> program(const std::string& name) const;  // a descriptor that outlives the object
  Result<int> map_fd(const std::string& name) const;

 private:
  struct Close {
    void operator()(bpf_object* object) const { bpf_object__close(object); }
  };
  std::string path_;
  std::unique_ptr<bpf_object, Close> object_;
};

}  // namespace guideway
