// SPDX-License-Identifier: Apache-2.0
// Running the real `guideway` as a user would, and temporary folders to do it in.
#pragma once

#include <string>
#include <vector>

namespace guideway::test {

struct TemporaryFolder {
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  // Makes the folders on the way; `name` is relative.
  std::string write(const std::string& name, const std::string& text) const;

  std::string path;
};

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

// Runs `arguments` (the first is the program) with this environment added and `input` on its
// standard input, and keeps its output and errors.
Outcome run(const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment = {}, const std::string& input = "");

// Path of the `guideway` under test (GUIDEWAY_CLI).
std::string guideway();

}  // namespace guideway::test
