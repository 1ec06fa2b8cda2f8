// SPDX-License-Identifier: Apache-2.0
// Any text as what the control plane reads: request bodies, the stored intent, node.toml, names.
// What is accepted must come back the same from what is written of it.
#include <cstdlib>
#include <string_view>

#include "controlplane/intent_json.h"
#include "dataplane/node_config.h"

using namespace guideway;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)NodeConfig::parse(text, "node.toml");
  (void)read_wanted_intent(text);
  (void)read_wanted_pool(text, "web");
  (void)read_wanted_backend(text, "web", Address{}, 0);
  (void)read_wanted_service(text, ServiceKey{});
  if (const auto key = ServiceKey::parse(text)) {
    const auto again = ServiceKey::parse(key->text());
    if (!again || *again != *key) std::abort();
  }
  if (const auto intent = read_stored_intent(text)) {
    const auto again = read_stored_intent(write_stored_intent(*intent));
    if (!again || *again != *intent) std::abort();
  }
  return 0;
}
