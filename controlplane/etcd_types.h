// SPDX-License-Identifier: Apache-2.0
// What is asked of etcd, and what it answers (etcd's API v3: rpc.proto, kv.proto).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace guideway {

struct EtcdConfig {
  // "https://10.0.0.1:2379": all with http or all with https, nothing behind the port.
  std::vector<std::string> endpoints;
  // PEM files. https needs the first, and verifies peer and host always; the other two go together
  // (client certificate). With authentication etcd's gateway refuses client certificates that have
  // a CommonName: their subject must be another, such as /O=guideway.
  std::string ca_file, cert_file, key_file;
  std::string user, password;                       // empty: no authentication
  std::chrono::milliseconds request_timeout{2000};  // without a byte of an answer
  std::chrono::milliseconds connect_timeout{500};   // TLS included
  // How often the member that serves the watches is asked whether it still has its quorum.
  std::chrono::milliseconds check_period{1000};
  // A watch that tells nothing for so long while the store goes on is opened anew.
  std::chrono::milliseconds silence_most{5000};
};

// Whether what was asked took place. A request that can be repeated without harm (range,
// keep_alive, revoke) is never `unknown`: repeat it.
enum class EtcdFailure : uint8_t {
  unreachable,  // no: no endpoint could be asked, or none of them has its quorum
  refused,      // no: etcd said so
  unknown,      // perhaps: it was sent, and no answer (or one that tells nothing) came back
};

struct EtcdError {
  EtcdFailure kind = EtcdFailure::unreachable;
  std::string text;  // short; names the endpoint and what etcd said; no password, no token
};

template <typename T>
using EtcdResult = tl::expected<T, EtcdError>;

struct EtcdKeyValue {
  std::string key, value;
  int64_t create_revision = 0, mod_revision = 0, lease = 0;
  bool operator==(const EtcdKeyValue&) const = default;
};

struct EtcdRange {
  std::vector<EtcdKeyValue> entries;  // by key
  int64_t revision = 0;               // of the store that they show
};

// The key's mod_revision is this; 0: there is no such key.
struct EtcdCompare {
  std::string key;
  int64_t mod_revision = 0;
};

struct EtcdOp {
  enum class Kind : uint8_t { put, remove, remove_prefix };
  Kind kind = Kind::put;
  std::string key, value;
  int64_t lease = 0;  // 0: none

  static EtcdOp put(std::string key, std::string value, int64_t lease = 0) {
    return {Kind::put, std::move(key), std::move(value), lease};
  }
  static EtcdOp remove(std::string key) { return {Kind::remove, std::move(key), {}, 0}; }
  static EtcdOp remove_prefix(std::string prefix) {
    return {Kind::remove_prefix, std::move(prefix), {}, 0};
  }
};

// If all compares hold, all ops take place, in one revision. etcd refuses more than 128 ops, two
// that write the same key, and more than 1.5 MiB (its defaults).
struct EtcdTxn {
  std::vector<EtcdCompare> compares;
  std::vector<EtcdOp> ops;
};

struct EtcdTxnResult {
  bool succeeded = false;  // false: a compare did not hold, nothing took place
  int64_t revision = 0;    // of the store: what the ops made, or what the compares saw
};

struct EtcdEvent {
  enum class Kind : uint8_t { put, remove };
  Kind kind = Kind::put;
  EtcdKeyValue kv;  // remove: key and mod_revision alone
};

}  // namespace guideway
