// SPDX-License-Identifier: Apache-2.0
#include "controlplane/agent_key.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

constexpr size_t kBytesMin = 32;
constexpr size_t kBytesMax = 64;
constexpr size_t kDigitsMin = 2 * kBytesMin;
constexpr size_t kDigitsMax = 256;
constexpr size_t kFileMax = 4096;
constexpr const char* kMake = "(umask 077; guideway agent key >FILE)";

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return std::tolower(static_cast<unsigned char>(c)) - 'a' + 10;
}

bool is_hex(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isxdigit(c) != 0; });
}

Result<AgentKey> from_hex(std::string_view digits, const std::string& file) {
  if (digits.size() < kDigitsMin || digits.size() > kDigitsMax || digits.size() % 2 != 0) {
    return fail(file,
                "holds " + std::to_string(digits.size()) +
                    " hex digits; a key has 64 to 256, an even number",
                kMake);
  }
  AgentKey key;
  for (size_t i = 0; i < digits.size(); i += 2)
    key.bytes += static_cast<char>(digit_of(digits[i]) * 16 + digit_of(digits[i + 1]));
  return key;
}

Result<std::string> read_all(int fd, const std::string& path) {
  std::string content(kFileMax + 1, '\0');
  size_t got = 0;
  while (got < content.size()) {
    const ssize_t n = read(fd, content.data() + got, content.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(path, std::string("cannot be read: ") + std::strerror(errno));
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  content.resize(got);
  return content;
}

}  // namespace

Result<AgentKey> AgentKey::parse(std::string_view content, const std::string& file) {
  std::string_view text = content;
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.remove_suffix(1);
  Result<AgentKey> key = AgentKey{std::string(content)};
  if (is_hex(text)) {
    key = from_hex(text, file);
    if (!key) return key;
  } else if (content.size() < kBytesMin || content.size() > kBytesMax) {
    return fail(file,
                "holds " + std::to_string(content.size()) +
                    " bytes; a key is 64 and more hex digits, or 32 to 64 bytes",
                kMake);
  }
  const std::string& bytes = key->bytes;
  if (bytes.find_first_not_of(bytes.front()) == std::string::npos)
    return fail(file, "is one byte over and over: no key", kMake);
  return key;
}

Result<AgentKey> AgentKey::load(const std::string& path) {
  // Not blocking: of a FIFO nobody may ever write a key.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (!fd || fstat(fd.get(), &info) != 0)
    return fail(path, std::string("cannot be read: ") + std::strerror(errno), kMake);
  if (!S_ISREG(info.st_mode)) return fail(path, "is no regular file", kMake);
  if (info.st_uid != 0 && info.st_uid != geteuid())
    return fail(path, "belongs to another user, who can read the key", "chown root " + path);
  if ((info.st_mode & 077) != 0)
    return fail(path, "others may use the key: it is not its owner's alone", "chmod 600 " + path);
  Result<std::string> content = read_all(fd.get(), path);
  if (!content) return tl::unexpected(content.error());
  return parse(*content, path);
}

Result<std::string> fresh_agent_key() {
  std::array<uint8_t, kBytesMin> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return fail("random numbers", std::strerror(errno));
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace guideway
