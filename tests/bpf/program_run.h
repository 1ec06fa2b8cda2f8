// SPDX-License-Identifier: Apache-2.0
// One frame through a loaded XDP program by BPF_PROG_TEST_RUN, without any interface.
#pragma once

#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bpf/map.h"
#include "bpf/object.h"
#include "tests/bpf/packet.h"

namespace guideway {

struct Outcome {
  unsigned action = XDP_ABORTED;
  packet::Bytes frame;  // as the program left it
};

// `frame`: at least an Ethernet header, which is all that the kernel ever hands to XDP.
inline Outcome run_program(int program_fd, const packet::Bytes& frame) {
  packet::Bytes in = frame, out(frame.size() + 256);
  bpf_test_run_opts options;
  std::memset(&options, 0, sizeof options);
  options.sz = sizeof options;
  options.data_in = in.data();
  options.data_size_in = static_cast<uint32_t>(in.size());
  options.data_out = out.data();
  options.data_size_out = static_cast<uint32_t>(out.size());
  options.repeat = 1;
  EXPECT_EQ(bpf_prog_test_run_opts(program_fd, &options), 0) << std::strerror(errno);
  out.resize(options.data_size_out);
  return {options.retval, out};
}

// What a frame costs on the average of many, without the way in and out.
inline uint32_t program_nanoseconds(int program_fd, const packet::Bytes& frame) {
  bpf_test_run_opts options;
  std::memset(&options, 0, sizeof options);
  options.sz = sizeof options;
  options.data_in = frame.data();
  options.data_size_in = static_cast<uint32_t>(frame.size());
  options.repeat = 200000;
  EXPECT_EQ(bpf_prog_test_run_opts(program_fd, &options), 0) << std::strerror(errno);
  return options.duration;
}

inline std::string object_path(const char* name) {
  const char* folder = std::getenv("GUIDEWAY_BPF_DIR");
  return std::string(folder ? folder : ".") + "/" + name;
}

// A freshly loaded program with its maps.
class LoadedProgram {
 public:
  LoadedProgram(const char* object, const char* program)
      : object_(BpfObject::load(object_path(object))) {
    if (!object_) {
      ADD_FAILURE() << object_.error().text();
      std::abort();
    }
    fd_ = object_->program_fd(program).value();
  }

  int fd() const { return fd_; }
  int map(const char* name) const { return object_->map_fd(name).value(); }
  Outcome run(const packet::Bytes& frame) const { return run_program(fd_, frame); }
  std::vector<uint64_t> counters(const char* map_name, size_t count) const {
    return sum_counters(map(map_name), count).value();
  }

 private:
  Result<BpfObject> object_;
  int fd_ = -1;
};

}  // namespace guideway
