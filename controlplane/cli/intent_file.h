// SPDX-License-Identifier: Apache-2.0
// A file for `guideway apply`: TOML of the same shape as the body of PUT /v1/intent. What its keys
// and values mean is the server's business; here it is only translated, and the places are kept, so
// that the server's complaint can be shown with a line.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway::cli {

struct IntentFile {
  std::string json;                           // the body of PUT /v1/intent
  std::map<std::string, std::string> places;  // "pools.web.forwarding" -> "edge.toml:2:14"

  // The place of the field, or of the nearest table or value that holds it; the file's name if
  // there is none.
  std::string place(const std::string& field, const std::string& name) const;

  // `name` is for messages. Errors: field "edge.toml:3:1" (line and column) and what is wrong. A
  // file with neither [pools] nor [services] is an error, too: it would remove everything.
  static Result<IntentFile> parse(std::string_view toml, const std::string& name);
  // "-" is the standard input.
  static Result<IntentFile> load(const std::string& path);
};

// The other way: the answer of GET /v1/intent as a file whose load gives the same intent again. All
// settings are written out, so that it does not depend on what it is applied to; the revision is
// left out, for it would be refused by any other.
Result<std::string> write_intent_file(const std::string& json);

}  // namespace guideway::cli
