// SPDX-License-Identifier: Apache-2.0
// The messages of etcd's v3 JSON gateway (3.4), written and read. Pure. Keys and values are base64,
// 64-bit numbers are strings, a field that is zero is left out. Whatever comes in: a value or an
// error that names the field, never more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/etcd_types.h"
#include "controlplane/result.h"

namespace guideway {

// RFC 4648 section 4, padded; nothing but that is read.
std::string base64_of(std::string_view bytes);
std::optional<std::string> bytes_of_base64(std::string_view text);

// The first key behind all that have the prefix; "\0" (etcd: to the end) if there is none.
std::string prefix_end(std::string_view prefix);

// Requests: bodies of /v3/kv/range, ...
std::string etcd_range_text(std::string_view key, std::string_view range_end, int64_t limit,
                            int64_t revision);  // 0: none, newest
std::string etcd_txn_text(const EtcdTxn& txn);
std::string etcd_grant_text(int64_t ttl_s);
std::string etcd_lease_text(int64_t lease);  // keepalive and revoke
std::string etcd_authenticate_text(std::string_view user, std::string_view password);
std::string etcd_watch_text(std::string_view prefix, int64_t start_revision);

struct EtcdPage {
  std::vector<EtcdKeyValue> entries;
  int64_t revision = 0;
  uint64_t cluster_id = 0;
  bool more = false;
};

struct EtcdWatchMessage {
  int64_t revision = 0;  // of the store when it was made; 0: not said
  bool created = false;
  bool canceled = false;
  bool fragment = false;         // the next message goes on with the same revision
  int64_t compact_revision = 0;  // not 0: why it was canceled
  std::string cancel_reason;
  std::vector<EtcdEvent> events;
};

// An error as the gateway writes it: of a request, or in a stream.
struct EtcdSaid {
  int code = 0;         // gRPC's; 0 if it is no message of the gateway's
  std::string message;  // printable, at most 200 bytes; the first line if it is none
};

// Answers.
Result<EtcdPage> read_etcd_page(std::string_view text);
Result<EtcdTxnResult> read_etcd_txn(std::string_view text);
Result<int64_t> read_etcd_grant(std::string_view text);
Result<int64_t> read_etcd_keep_alive(std::string_view text);  // seconds left, 0: gone
Result<bool> read_etcd_revoke(std::string_view text);         // true
Result<std::string> read_etcd_token(std::string_view text);
EtcdSaid read_etcd_error(std::string_view text);

// One line of a watch's stream. `said` is set, and the rest is not, if the stream ends with it.
struct EtcdWatchLine {
  EtcdWatchMessage message;
  std::optional<EtcdSaid> said;
};
Result<EtcdWatchLine> read_etcd_watch(std::string_view text);

}  // namespace guideway
