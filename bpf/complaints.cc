// SPDX-License-Identifier: Apache-2.0
#include "bpf/complaints.h"

#include <cstdarg>
#include <cstdio>
#include <string_view>

namespace guideway {

namespace {

std::string complaint;

__attribute__((format(printf, 2, 0))) int keep_first(libbpf_print_level level, const char* format,
                                                     va_list arguments) {
  if (level != LIBBPF_WARN || !complaint.empty()) return 0;
  char line[512];
  vsnprintf(line, sizeof line, format, arguments);
  complaint = line;
  for (std::string_view noise : {"libbpf: ", "Kernel error message: "})
    if (complaint.starts_with(noise)) complaint.erase(0, noise.size());
  while (!complaint.empty() && complaint.back() == '\n') complaint.pop_back();
  return 0;
}

}  // namespace

Complaints::Complaints() : before_(libbpf_set_print(keep_first)) {
  complaint.clear();
}

const std::string& Complaints::first() const {
  return complaint;
}

}  // namespace guideway
