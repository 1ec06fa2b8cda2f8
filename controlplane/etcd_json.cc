// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_json.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

using nlohmann::json;

constexpr size_t kSaidMost = 200;
constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> make_values() {
  std::array<int8_t, 256> out{};
  for (auto& value : out) value = -1;
  for (size_t i = 0; i < kDigits.size(); ++i)
    out[static_cast<unsigned char>(kDigits[i])] = static_cast<int8_t>(i);
  return out;
}
constexpr auto kValues = make_values();

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The fields of one object. The first that is not what it must be is kept in error().
class Fields {
 public:
  Fields(const json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object_.is_object()) refuse("", json_wrong_type("an object", object_));
  }

  template <typename T>
  T number(const char* name) {
    T out = 0;
    const json* value = find(name);
    if (!value) return out;
    std::string text;
    if (value->is_string()) text = value->get_ref<const std::string&>();
    if (value->is_number_integer()) text = value->dump();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (!text.empty() && error == std::errc{} && end == text.data() + text.size()) return out;
    refuse(name, "must be a whole number of 64 bits, got " + json_shown(*value));
    return 0;
  }
  bool flag(const char* name) {
    const json* value = find(name);
    if (!value) return false;
    if (value->is_boolean()) return value->get<bool>();
    refuse(name, json_wrong_type("a boolean", *value));
    return false;
  }
  std::string text(const char* name) {
    const json* value = find(name);
    if (!value) return {};
    if (value->is_string()) return value->get<std::string>();
    refuse(name, json_wrong_type("a string", *value));
    return {};
  }
  std::string bytes(const char* name) {
    const json* value = find(name);
    if (!value) return {};
    if (value->is_string()) {
      if (auto out = bytes_of_base64(value->get_ref<const std::string&>())) return std::move(*out);
    }
    refuse(name, "must be base64");
    return {};
  }
  const json& object(const char* name) {
    static const json nothing = json::object();
    const json* value = find(name);
    if (!value) return nothing;
    if (value->is_object()) return *value;
    refuse(name, json_wrong_type("an object", *value));
    return nothing;
  }
  const json& array(const char* name) {
    static const json nothing = json::array();
    const json* value = find(name);
    if (!value) return nothing;
    if (value->is_array()) return *value;
    refuse(name, json_wrong_type("an array", *value));
    return nothing;
  }

  void refuse(const char* name, std::string message) {
    if (error_) return;
    error_ = Error{*name == '\0' ? path_ : json_path(path_, name), std::move(message), {}};
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const json* find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  const json& object_;
  std::string path_;
  std::optional<Error> error_;
};

struct Header {
  int64_t revision = 0;
  uint64_t cluster_id = 0;
};

Result<Header> read_header(Fields& fields, bool revision_needed) {
  Fields header(fields.object("header"), "header");
  Header out{header.number<int64_t>("revision"), header.number<uint64_t>("cluster_id")};
  if (out.revision < 0 || (revision_needed && out.revision == 0))
    header.refuse("revision", "must be more than 0");
  if (header.error()) return tl::unexpected(*header.error());
  return out;
}

Result<EtcdKeyValue> read_key_value(const json& value, const char* path) {
  Fields fields(value, path);
  EtcdKeyValue out;
  out.key = fields.bytes("key");
  out.value = fields.bytes("value");
  out.create_revision = fields.number<int64_t>("create_revision");
  out.mod_revision = fields.number<int64_t>("mod_revision");
  out.lease = fields.number<int64_t>("lease");
  if (out.key.empty()) fields.refuse("key", "is missing");
  if (out.mod_revision <= 0) fields.refuse("mod_revision", "must be more than 0");
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

Result<EtcdEvent> read_event(const json& value) {
  Fields fields(value, "events");
  const std::string type = fields.text("type");
  if (!type.empty() && type != "PUT" && type != "DELETE")
    fields.refuse("type", "must be PUT or DELETE");
  const json& pair = fields.object("kv");
  if (fields.error()) return tl::unexpected(*fields.error());
  auto kv = read_key_value(pair, "events.kv");
  if (!kv) return tl::unexpected(std::move(kv.error()));
  return EtcdEvent{type == "DELETE" ? EtcdEvent::Kind::remove : EtcdEvent::Kind::put,
                   std::move(*kv)};
}

Result<EtcdWatchMessage> read_message(const json& result) {
  Fields fields(result, "result");
  EtcdWatchMessage out;
  const auto header = read_header(fields, false);
  if (!header) return tl::unexpected(header.error());
  out.revision = header->revision;
  out.created = fields.flag("created");
  out.canceled = fields.flag("canceled");
  out.fragment = fields.flag("fragment");
  out.compact_revision = fields.number<int64_t>("compact_revision");
  out.cancel_reason = fields.text("cancel_reason");
  for (const json& value : fields.array("events")) {
    auto event = read_event(value);
    if (!event) return tl::unexpected(std::move(event.error()));
    out.events.push_back(std::move(*event));
  }
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

std::string said_shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kSaidMost)) out += c < 0x20 || c > 0x7e ? '?' : c;
  return text.size() > kSaidMost ? out + "..." : out;
}

// `fields` of an error: the code has one name in an answer and another in a stream.
EtcdSaid read_said(const json& value) {
  Fields fields(value, "error");
  EtcdSaid out;
  std::string message = fields.text("message");
  if (message.empty()) message = fields.text("error");
  int64_t code = fields.number<int64_t>("code");
  if (code == 0) code = fields.number<int64_t>("grpc_code");
  if (fields.error() || code <= 0 || code > 1000) return {};
  out.code = static_cast<int>(code);
  out.message = said_shown(message);
  return out;
}

}  // namespace

std::string base64_of(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k)
      word = word << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (size_t k = 0; k < 4; ++k) out += k <= n ? kDigits[word >> (18 - 6 * k) & 0x3f] : '=';
  }
  return out;
}

std::optional<std::string> bytes_of_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t digits = text.size();
  for (int k = 0; k < 2 && digits > 0 && text[digits - 1] == '='; ++k) --digits;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t word = 0;
  int bits = 0;
  for (const char c : text.substr(0, digits)) {
    const int8_t value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    word = (word << 6 | static_cast<uint32_t>(value)) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out += static_cast<char>(word >> bits & 0xff);
  }
  if ((word & ((1U << bits) - 1)) != 0) return std::nullopt;  // two texts for the same bytes
  return out;
}

std::string prefix_end(std::string_view prefix) {
  std::string out(prefix);
  while (!out.empty() && out.back() == '\xff') out.pop_back();
  if (out.empty()) return std::string(1, '\0');
  out.back() = static_cast<char>(out.back() + 1);
  return out;
}

std::string etcd_range_text(std::string_view key, std::string_view range_end, int64_t limit,
                            int64_t revision) {
  json out{{"key", base64_of(key)}};
  if (!range_end.empty()) out["range_end"] = base64_of(range_end);
  if (limit != 0) out["limit"] = std::to_string(limit);
  if (revision != 0) out["revision"] = std::to_string(revision);
  return dumped(out);
}

std::string etcd_txn_text(const EtcdTxn& txn) {
  json out = json::object();
  for (const EtcdCompare& compare : txn.compares) {
    out["compare"].push_back({{"key", base64_of(compare.key)},
                              {"target", "MOD"},
                              {"result", "EQUAL"},
                              {"mod_revision", std::to_string(compare.mod_revision)}});
  }
  for (const EtcdOp& op : txn.ops) {
    json body{{"key", base64_of(op.key)}};
    if (op.kind == EtcdOp::Kind::put) {
      body["value"] = base64_of(op.value);
      if (op.lease != 0) body["lease"] = std::to_string(op.lease);
      out["success"].push_back({{"request_put", std::move(body)}});
      continue;
    }
    if (op.kind == EtcdOp::Kind::remove_prefix) {
      if (op.key.empty()) body["key"] = base64_of(std::string_view("\0", 1));
      body["range_end"] = base64_of(prefix_end(op.key));
    }
    out["success"].push_back({{"request_delete_range", std::move(body)}});
  }
  return dumped(out);
}

std::string etcd_grant_text(int64_t ttl_s) {
  return dumped({{"TTL", std::to_string(ttl_s)}});
}

std::string etcd_lease_text(int64_t lease) {
  return dumped({{"ID", std::to_string(lease)}});
}

std::string etcd_authenticate_text(std::string_view user, std::string_view password) {
  return dumped({{"name", user}, {"password", password}});
}

std::string etcd_watch_text(std::string_view prefix, int64_t start_revision) {
  const std::string_view first = prefix.empty() ? std::string_view("\0", 1) : prefix;
  return dumped({{"create_request",
                  {{"key", base64_of(first)},
                   {"range_end", base64_of(prefix_end(prefix))},
                   {"start_revision", std::to_string(start_revision)},
                   {"progress_notify", true},
                   {"fragment", true}}}});
}

Result<EtcdPage> read_etcd_page(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(tree.error());
  Fields fields(*tree, "");
  EtcdPage out;
  const auto header = read_header(fields, true);
  if (!header) return tl::unexpected(header.error());
  out.revision = header->revision;
  out.cluster_id = header->cluster_id;
  out.more = fields.flag("more");
  for (const json& value : fields.array("kvs")) {
    auto kv = read_key_value(value, "kvs");
    if (!kv) return tl::unexpected(std::move(kv.error()));
    out.entries.push_back(std::move(*kv));
  }
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

Result<EtcdTxnResult> read_etcd_txn(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(tree.error());
  Fields fields(*tree, "");
  const auto header = read_header(fields, true);
  if (!header) return tl::unexpected(header.error());
  const EtcdTxnResult out{fields.flag("succeeded"), header->revision};
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

Result<int64_t> read_etcd_grant(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(tree.error());
  Fields fields(*tree, "");
  const auto id = fields.number<int64_t>("ID");
  if (id == 0) fields.refuse("ID", "is missing");
  if (fields.error()) return tl::unexpected(*fields.error());
  return id;
}

Result<int64_t> read_etcd_keep_alive(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(tree.error());
  Fields outer(*tree, "");
  if (!tree->contains("result")) outer.refuse("result", "is missing");
  Fields fields(outer.object("result"), "result");
  const auto ttl = fields.number<int64_t>("TTL");
  if (fields.number<int64_t>("ID") == 0) fields.refuse("ID", "is missing");
  if (outer.error()) return tl::unexpected(*outer.error());
  if (fields.error()) return tl::unexpected(*fields.error());
  return std::max<int64_t>(ttl, 0);
}

Result<bool> read_etcd_revoke(std::string_view text) {
  return read_etcd_txn(text).map([](const EtcdTxnResult&) { return true; });
}

Result<std::string> read_etcd_token(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(Error{tree.error().field, "is not JSON", {}});
  Fields fields(*tree, "");
  std::string token = fields.text("token");
  // It becomes a header.
  bool printable = !token.empty();
  for (const char c : token) printable &= c > 0x20 && c < 0x7f;
  if (!printable || fields.error()) return fail("token", "must be printable text");
  return token;
}

EtcdSaid read_etcd_error(std::string_view text) {
  const auto tree = parse_json(text, "");
  EtcdSaid out;
  if (tree) {
    const auto inner = tree->find("error");
    out = read_said(inner != tree->end() && inner->is_object() ? *inner : *tree);
  }
  if (out.code == 0) out.message = said_shown(text.substr(0, text.find_first_of("\r\n")));
  return out;
}

Result<EtcdWatchLine> read_etcd_watch(std::string_view text) {
  const auto tree = parse_json(text, "");
  if (!tree) return tl::unexpected(tree.error());
  EtcdWatchLine out;
  if (tree->contains("error")) {
    out.said = read_etcd_error(text);
    return out;
  }
  if (!tree->contains("result")) return fail("result", "is missing");
  auto message = read_message((*tree)["result"]);
  if (!message) return tl::unexpected(std::move(message.error()));
  out.message = std::move(*message);
  return out;
}

}  // namespace guideway
