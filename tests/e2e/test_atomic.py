# SPDX-License-Identifier: Apache-2.0
"""Changes under load: no packet of an untouched service sees them, and every packet is counted."""
import itertools

import pytest

from lab import service_path
from traffic import VIP, Wrk, backend_addresses, base_intent, service


def changes(family):
    """Endless (method, path, body): weights, services and backends of other pools, round and round."""
    other, vip = f"ipip{family}", "203.0.113.50"
    address = backend_addresses(family)[1]
    extra = "10.0.0.77"
    for i in itertools.count():
        yield "PUT", f"/v1/pools/{other}/backends/{address}", {"weight": 1 + i % 1000}
        yield "PUT", service_path(service(vip, 1000 + i % 5000)), {"pool": other}
        yield "PUT", f"/v1/pools/{other}/backends/{extra}", {"weight": 10}
        yield "DELETE", service_path(service(vip, 1000 + i % 5000)), None
        yield "DELETE", f"/v1/pools/{other}/backends/{extra}", None


@pytest.mark.parametrize("family", [4, 6])
def test_1000_changes_under_load(lab, family, quick):
    wanted = 200 if quick else 1000
    first = lab.status()["dataplane"]["generation"]
    with Wrk(lab, VIP[family], 300) as load:
        for method, path, body in itertools.islice(changes(family), wanted):
            answer = lab.api().must(method, path + "?wait=adopted", body)
            assert answer["changed"] and answer["adopted"], (method, path, answer)
        assert load.running()
        load.stop().must_be_clean()
    lab.apply(base_intent())
    assert lab.status()["dataplane"]["generation"] - first >= wanted
    lab.counters()  # add up, or this fails


def test_a_change_that_changes_nothing_publishes_nothing(lab):
    before = lab.status()
    answer = lab.api().must("PUT", "/v1/intent?wait=adopted", base_intent())
    assert not answer["changed"] and answer["revision"] == before["revision"]
    assert lab.status()["dataplane"]["generation"] == before["dataplane"]["generation"]
