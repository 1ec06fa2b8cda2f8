// SPDX-License-Identifier: Apache-2.0
#include "controlplane/table_builder.h"

#include "controlplane/priority.h"

#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace guideway {

TableBuilder::TableBuilder(EventLoop& loop, Done done) : loop_(loop), done_(std::move(done)) {}

TableBuilder::~TableBuilder() {
  if (thread_.joinable()) thread_.join();
}

void TableBuilder::start(std::shared_ptr<const Intent> intent, TableMap before) {
  busy_ = true;
  if (thread_.joinable()) thread_.join();
  auto finish = [this, intent](std::shared_ptr<Result<TableMap>> tables) {
    loop_.post([this, intent, tables = std::move(tables)] {
      busy_ = false;
      done_(intent, std::move(*tables));
    });
  };
  try {
    thread_ = std::thread([intent, finish, before = std::move(before)] {
      set_thread_nice(kBuilderNice);
      auto tables = std::make_shared<Result<TableMap>>();
      try {
        *tables = build_tables(*intent, before);
      } catch (const std::bad_alloc&) {
        *tables = fail("pools", "no memory left for the lookup tables");
      } catch (const std::system_error& error) {
        *tables = fail("pools", std::string("no thread to build a table: ") + error.what());
      }
      finish(std::move(tables));
    });
  } catch (const std::system_error& error) {
    finish(std::make_shared<Result<TableMap>>(
        fail("pools", std::string("no thread to build the tables: ") + error.what())));
  }
}

}  // namespace guideway
