// SPDX-License-Identifier: Apache-2.0
// Who has which counter index. The dataplane counts by index and knows no names; the book gives
// each name ("web/10.0.0.21", "203.0.113.10:443/tcp") an index of its own, and gives an index to
// another name only after a generation without the first was adopted and the last value was read.
// That value is the next name's base, so its totals start at 0.
//
// Kept in RUN/counter-book.json (replaced atomically), next to the counters, so that a restarted
// control plane goes on with the same names, indices and bases. Lives in the loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/counters.h"
#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

std::string backend_counter_name(const std::string& pool, const Address& backend);

class CounterBook {
 public:
  // Reads the book; an absent file is an empty book. A book that cannot be read is an error, and
  // the caller may go on with CounterBook(path): all names then start anew.
  static Result<CounterBook> load(const std::string& path);
  explicit CounterBook(std::string path);

  // The names of the intent from `generation` on (the one about to be built): new ones get an
  // index, absent ones are released with that generation, one that comes back before its index was
  // given away has it again. Saves the book if it changed; publish only after that. A name for
  // which there is no free index shares the last one and has no totals until a later claim. If the
  // book cannot be saved, so do all new names, and the others may be published.
  // `counters`: the present ones, if there are any.
  Result<void> claim(const Intent& intent, uint64_t generation, const Counters* counters = nullptr);

  // What the name counts by; the shared index if it has none of its own.
  uint32_t service_index(const ServiceKey& service) const;
  uint32_t backend_index(const std::string& pool, const Address& backend) const;

  // Its totals; nothing if it has no index of its own.
  std::optional<Traffic> service(const ServiceKey& service, const Counters& counters) const;
  std::optional<Traffic> backend(const std::string& pool, const Address& backend,
                                 const Counters& counters) const;

  // All workers run `generation`: what was released with it, or before, is read for the last time
  // and free. Call it for each ACK and for the generation of HELLO. True: names that share an index
  // can now have their own by another claim.
  bool adopted(uint64_t generation, const Counters& counters);

  // Call it for each region of counters that is opened: one that began anew (its file was lost)
  // has no past that a base could stand for.
  void opened(const Counters& counters);

  // The highest generation claimed that the book remembers (it is saved with changes of names
  // only); the next must be above it, above HELLO's and above Counters::generation().
  uint64_t last_generation() const { return last_generation_; }

 private:
  using Read = Traffic (Counters::*)(uint32_t index) const;
  struct Entry {
    uint32_t index = 0;
    Traffic base;
    uint64_t released = 0;  // the first generation without it; 0: in use
  };
  struct Book {
    uint32_t limit = 0;  // indices below it are given out
    std::map<std::string, Entry> entries;
    std::map<uint32_t, Traffic> free;  // used before; with the base of the next user
    uint32_t fresh = 0;                // indices from here on were never used
    bool shared = false;               // names of the last claim got none of their own
  };

  static bool release(Book& book, const std::set<std::string>& names, uint64_t generation);
  static std::vector<std::string> add(Book& book, const std::set<std::string>& names,
                                      const Counters* counters, Read read);
  static void take_back(Book& book, const std::vector<std::string>& names);
  static std::optional<Entry> take(Book& book, const Counters* counters, Read read);
  static void set_bases(Book& book, const Counters* counters, Read read);
  static uint32_t index_of(const Book& book, const std::string& name);
  static std::optional<Traffic> total(const Book& book, const std::string& name,
                                      const Counters& counters, Read read);
  static void free_released(Book& book, uint64_t generation, const Counters& counters, Read read);
  static nlohmann::json to_json(const Book& book);
  static Result<void> from_json(const nlohmann::json& json, Book& book);
  Result<void> save() const;

  std::string path_;
  Book services_;
  Book backends_;
  uint64_t last_generation_ = 0;
  uint64_t epoch_ = 0;  // of the counters when they were opened last
  uint64_t file_ = 0;   // their Counters::file(); 0: not known
  // A book without a past: until its first generation is adopted, indices may still count for the
  // names of a book that is lost.
  bool is_new_ = true;
  uint64_t begins_ = 0;  // that first generation; 0: none yet, or adopted
  bool dirty_ = false;   // something is not saved yet
};

}  // namespace guideway
