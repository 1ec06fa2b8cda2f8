// SPDX-License-Identifier: Apache-2.0
#include "controlplane/sealed_text.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr uint64_t kFormat = 1;

std::string checksum(std::string_view line, std::string_view name) {
  const uint64_t seed = name.empty() ? 0 : XXH3_64bits(name.data(), name.size());
  char buffer[17];
  std::snprintf(
      buffer, sizeof buffer, "%016llx",
      static_cast<unsigned long long>(XXH3_64bits_withSeed(line.data(), line.size(), seed)));
  return buffer;
}

tl::unexpected<Unsealable> damaged(const std::string& how) {
  return tl::unexpected(Unsealable{"is damaged: " + how});
}

}  // namespace

std::string seal(std::string_view line, std::string_view name) {
  return "{\"format\":" + std::to_string(kFormat) + ",\"checksum\":\"" + checksum(line, name) +
         "\"}\n" + std::string(line) + "\n";
}

tl::expected<std::string_view, Unsealable> unseal(std::string_view text, std::string_view name) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return damaged("its first line ends nowhere");
  auto head = parse_json(text.substr(0, end), "");
  if (!head) return damaged(head.error().text());
  auto format = head->find("format");
  if (format == head->end() || !format->is_number_unsigned())
    return damaged("its first line names no format");
  if (const auto number = format->get<uint64_t>(); number != kFormat) {
    return tl::unexpected(Unsealable{"has format " + std::to_string(number) +
                                         ", and this Guideway reads format " +
                                         std::to_string(kFormat),
                                     number > kFormat});
  }
  std::string_view line = text.substr(end + 1);
  if (line.empty() || line.back() != '\n') return damaged("it is cut short");
  line.remove_suffix(1);
  auto sum = head->find("checksum");
  if (sum == head->end() || !sum->is_string() ||
      sum->get_ref<const std::string&>() != checksum(line, name)) {
    return damaged("its checksum is wrong");
  }
  return line;
}

}  // namespace guideway
