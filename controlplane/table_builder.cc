// SPDX-License-Identifier: Apache-2.0
#include "controlplane/table_builder.h"

#include <new>
#include <utility>

namespace guideway {

TableBuilder::TableBuilder(EventLoop& loop, Done done) : loop_(loop), done_(std::move(done)) {}

TableBuilder::~TableBuilder() {
  if (thread_.joinable()) thread_.join();
}

void TableBuilder::start(std::shared_ptr<const Intent> intent, TableMap before) {
  busy_ = true;
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this, intent = std::move(intent), before = std::move(before)] {
    auto tables = std::make_shared<Result<TableMap>>();
    try {
      *tables = build_tables(*intent, before);
    } catch (const std::bad_alloc&) {
      *tables = fail("pools", "no memory left for the lookup tables");
    }
    loop_.post([this, intent, tables] {
      busy_ = false;
      done_(intent, std::move(*tables));
    });
  });
}

}  // namespace guideway
