// SPDX-License-Identifier: Apache-2.0
#include "controlplane/counter_book.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "controlplane/pool_plan.h"
#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

constexpr int kFormat = 1;

// A dataplane whose counters began anew (the file was lost) is below the base.
uint64_t since(uint64_t value, uint64_t base) {
  return value >= base ? value - base : value;
}

Result<void> write_whole(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail("", n < 0 ? std::strerror(errno) : "no room");
    done += static_cast<size_t>(n);
  }
  return {};
}

}  // namespace

std::string backend_counter_name(const std::string& pool, const Address& backend) {
  return pool + "/" + backend.text();
}

// The last index of each kind is shared by the names that got none of their own.
CounterBook::CounterBook(std::string path) : path_(std::move(path)) {
  services_.limit = GW_SERVICES_MAX - 1;
  backends_.limit = GW_BACKENDS_MAX - 1;
}

Result<void> CounterBook::claim(const Intent& intent, uint64_t generation,
                                const Counters* counters) {
  std::set<std::string> services;
  std::set<std::string> backends;
  for (const auto& [key, service] : intent.services) services.insert(key.text());
  for (const auto& [name, pool] : intent.pools) {
    for (const Address& address : table_addresses(pool))
      backends.insert(backend_counter_name(name, address));
  }
  last_generation_ = std::max(last_generation_, generation);
  if (begins_ == 0 && is_new_) begins_ = generation;
  const bool released = release(services_, services, generation);
  dirty_ = release(backends_, backends, generation) || released || dirty_;
  const auto new_services = add(services_, services, counters, &Counters::service);
  const auto new_backends = add(backends_, backends, counters, &Counters::backend);
  if (!dirty_ && new_services.empty() && new_backends.empty()) return {};
  auto saved = save();
  dirty_ = !saved;
  if (saved) return {};
  // An index that the file does not know would be given to another name after a restart.
  take_back(services_, new_services);
  take_back(backends_, new_backends);
  return saved;
}

bool CounterBook::release(Book& book, const std::set<std::string>& names, uint64_t generation) {
  bool changed = false;
  for (auto& [name, entry] : book.entries) {
    const bool wanted = names.count(name) > 0;
    if (wanted == (entry.released == 0)) continue;
    entry.released = wanted ? 0 : generation;
    changed = true;
  }
  return changed;
}

std::vector<std::string> CounterBook::add(Book& book, const std::set<std::string>& names,
                                          const Counters* counters, Read read) {
  std::vector<std::string> added;
  book.shared = false;
  for (const std::string& name : names) {
    if (book.entries.count(name) > 0) continue;
    const auto entry = take(book, counters, read);
    if (!entry) {
      book.shared = true;
      break;
    }
    book.entries[name] = *entry;
    added.push_back(name);
  }
  return added;
}

void CounterBook::take_back(Book& book, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto it = book.entries.find(name);
    book.free[it->second.index] = it->second.base;
    book.entries.erase(it);
  }
}

std::optional<CounterBook::Entry> CounterBook::take(Book& book, const Counters* counters,
                                                    Read read) {
  Entry entry;
  if (!book.free.empty()) {
    const auto lowest = book.free.begin();
    entry.index = lowest->first;
    entry.base = lowest->second;
    book.free.erase(lowest);
    return entry;
  }
  if (book.fresh >= book.limit) return {};
  entry.index = book.fresh++;
  // Not 0 if a book that is lost gave this index to somebody.
  if (counters != nullptr) entry.base = (counters->*read)(entry.index);
  return entry;
}

uint32_t CounterBook::index_of(const Book& book, const std::string& name) {
  const auto it = book.entries.find(name);
  return it == book.entries.end() ? book.limit : it->second.index;
}

uint32_t CounterBook::service_index(const ServiceKey& service) const {
  return index_of(services_, service.text());
}

uint32_t CounterBook::backend_index(const std::string& pool, const Address& backend) const {
  return index_of(backends_, backend_counter_name(pool, backend));
}

std::optional<Traffic> CounterBook::total(const Book& book, const std::string& name,
                                          const Counters& counters, Read read) {
  const auto it = book.entries.find(name);
  if (it == book.entries.end()) return {};
  const Traffic value = (counters.*read)(it->second.index);
  const Traffic& base = it->second.base;
  return Traffic{since(value.packets, base.packets), since(value.bytes, base.bytes)};
}

std::optional<Traffic> CounterBook::service(const ServiceKey& service,
                                            const Counters& counters) const {
  return total(services_, service.text(), counters, &Counters::service);
}

std::optional<Traffic> CounterBook::backend(const std::string& pool, const Address& backend,
                                            const Counters& counters) const {
  return total(backends_, backend_counter_name(pool, backend), counters, &Counters::backend);
}

void CounterBook::free_released(Book& book, uint64_t generation, const Counters& counters,
                                Read read) {
  for (auto it = book.entries.begin(); it != book.entries.end();) {
    const Entry& entry = it->second;
    if (entry.released == 0 || entry.released > generation) {
      ++it;
      continue;
    }
    book.free[entry.index] = (counters.*read)(entry.index);
    it = book.entries.erase(it);
  }
}

// Not saved here: if this is lost, the names are released still, and are freed again.
bool CounterBook::adopted(uint64_t generation, const Counters& counters) {
  free_released(services_, generation, counters, &Counters::service);
  free_released(backends_, generation, counters, &Counters::backend);
  if (begins_ != 0 && generation >= begins_) {
    begins_ = 0;
    is_new_ = false;
    set_bases(services_, &counters, &Counters::service);
    set_bases(backends_, &counters, &Counters::backend);
    dirty_ = true;
  }
  const auto room = [](const Book& book) { return book.shared && !book.free.empty(); };
  return room(services_) || room(backends_);
}

void CounterBook::opened(const Counters& counters) {
  const uint64_t epoch = counters.epoch();
  const uint64_t file = counters.file();
  const bool lost = epoch < epoch_ || (file_ != 0 && file != file_);
  if (epoch != epoch_ || file != file_) dirty_ = true;
  epoch_ = epoch;
  file_ = file;
  if (!lost) return;
  set_bases(services_, nullptr, &Counters::service);
  set_bases(backends_, nullptr, &Counters::backend);
}

// Without counters: 0.
void CounterBook::set_bases(Book& book, const Counters* counters, Read read) {
  const auto base = [&](uint32_t index) {
    return counters == nullptr ? Traffic{} : (counters->*read)(index);
  };
  for (auto& [name, entry] : book.entries) entry.base = base(entry.index);
  for (auto& [index, value] : book.free) value = base(index);
}

nlohmann::json CounterBook::to_json(const Book& book) {
  auto entries = nlohmann::json::object();
  for (const auto& [name, e] : book.entries)
    entries[name] = {e.index, e.base.packets, e.base.bytes, e.released};
  auto free = nlohmann::json::array();
  for (const auto& [index, base] : book.free) free.push_back({index, base.packets, base.bytes});
  return {{"fresh", book.fresh}, {"entries", entries}, {"free", free}};
}

Result<void> CounterBook::from_json(const nlohmann::json& json, Book& book) {
  std::set<uint32_t> used;
  const auto take_index = [&](const nlohmann::json& value) {
    const auto index = value.get<uint32_t>();
    if (index >= book.fresh || !used.insert(index).second) return false;
    return true;
  };
  book.fresh = json.at("fresh").get<uint32_t>();
  if (book.fresh > book.limit) return fail("fresh", "out of range");
  for (const auto& [name, e] : json.at("entries").items()) {
    if (!take_index(e.at(0))) return fail(name, "index out of range or given twice");
    book.entries[name] = {e.at(0), {e.at(1), e.at(2)}, e.at(3)};
  }
  for (const auto& f : json.at("free")) {
    if (!take_index(f.at(0))) return fail("free", "index out of range or given twice");
    book.free[f.at(0)] = {f.at(1), f.at(2)};
  }
  return {};
}

Result<void> CounterBook::save() const {
  const nlohmann::json json = {
      {"format", kFormat}, {"last_generation", last_generation_}, {"epoch", epoch_},
      {"file", file_},     {"services", to_json(services_)},      {"backends", to_json(backends_)}};
  const std::string temporary = path_ + ".new";
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return fail(path_, std::string("cannot be written: ") + std::strerror(errno));
  if (auto ok = write_whole(fd.get(), json.dump()); !ok)
    return fail(path_, "cannot be written: " + ok.error().message);
  if (rename(temporary.c_str(), path_.c_str()) != 0)
    return fail(path_, std::string("cannot be replaced: ") + std::strerror(errno));
  return {};
}

Result<CounterBook> CounterBook::load(const std::string& path) {
  CounterBook book(path);
  std::ifstream file(path);
  if (!file && errno == ENOENT) return book;
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return fail(path, std::string("cannot be read: ") + std::strerror(errno));
  try {
    const auto json = nlohmann::json::parse(text.str());
    if (json.at("format") != kFormat) return fail(path, "is of another format");
    book.last_generation_ = json.at("last_generation").get<uint64_t>();
    book.epoch_ = json.value("epoch", uint64_t{0});
    book.file_ = json.value("file", uint64_t{0});
    book.is_new_ = false;
    for (auto [name, part] :
         {std::pair{"services", &book.services_}, {"backends", &book.backends_}}) {
      if (auto ok = from_json(json.at(name), *part); !ok)
        return fail(path, std::string(name) + ": " + ok.error().text());
    }
  } catch (const nlohmann::json::exception& e) {
    return fail(path, std::string("is damaged: ") + e.what());
  }
  return book;
}

}  // namespace guideway
