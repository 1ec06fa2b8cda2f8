// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_range_read.h"

#include <algorithm>
#include <utility>

namespace guideway {
namespace {

constexpr int kOutOfRange = 11;  // google.rpc.Code: the revision is compacted by now
constexpr int kBegunMost = 3;
constexpr int64_t kFewer = 8;

}  // namespace

void EtcdRangeRead::start(EtcdCalls& calls, std::string prefix, Done done) {
  std::shared_ptr<EtcdRangeRead> read(new EtcdRangeRead(calls, std::move(prefix), std::move(done)));
  read->begin();
}

void EtcdRangeRead::begin() {
  ++begun_;
  range_ = {};
  bytes_ = 0;
  from_ = prefix_.empty() ? std::string(1, '\0') : prefix_;
  ask();
}

void EtcdRangeRead::ask() {
  auto page = std::make_shared<EtcdPage>();
  EtcdRequest request;
  request.path = "/v3/kv/range";
  request.what = "range";
  request.body = etcd_range_text(from_, prefix_end(prefix_), page_keys_, range_.revision);
  request.answer_most = kPageMost;
  request.take = [self = shared_from_this(), page](std::string_view text) -> Result<void> {
    auto read = read_etcd_page(text);
    if (!read) return tl::unexpected(std::move(read.error()));
    // What is not in order might never end.
    std::string_view last;
    for (const EtcdKeyValue& kv : read->entries) {
      const bool follows = kv.key >= self->from_ && kv.key > last;
      if (!follows || !kv.key.starts_with(self->prefix_)) return fail("kvs", "not in order");
      last = kv.key;
    }
    if (read->more && read->entries.empty()) return fail("more", "of nothing");
    *page = std::move(*read);
    return {};
  };
  calls_.call(std::move(request),
              [self = shared_from_this(), page](std::optional<EtcdCallError> error) {
                if (error)
                  self->take_error(std::move(*error));
                else
                  self->take(std::move(*page));
              });
}

void EtcdRangeRead::take(EtcdPage page) {
  if (range_.revision == 0) range_.revision = page.revision;
  for (EtcdKeyValue& kv : page.entries) {
    bytes_ += kv.key.size() + kv.value.size();
    range_.entries.push_back(std::move(kv));
  }
  if (bytes_ > kRangeMost) {
    done_(tl::unexpected(EtcdError{
        EtcdFailure::refused,
        "range: more than " + std::to_string(kRangeMost >> 20) + " MiB below this prefix"}));
  } else if (page.more) {
    from_ = range_.entries.back().key + '\0';
    ask();
  } else {
    done_(std::move(range_));
  }
}

void EtcdRangeRead::take_error(EtcdCallError error) {
  if (error.too_large && page_keys_ > 1) {
    page_keys_ = std::max<int64_t>(page_keys_ / kFewer, 1);
    ask();
  } else if (error.code == kOutOfRange && range_.revision != 0 && begun_ < kBegunMost) {
    begin();
  } else {
    done_(tl::unexpected(EtcdError(std::move(error))));
  }
}

}  // namespace guideway
