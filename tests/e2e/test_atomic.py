# SPDX-License-Identifier: Apache-2.0
"""Changes under load: no packet of an untouched service sees them, and every packet is counted."""
import itertools
import re

import pytest

from lab import eventually, service_path
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


def tables_sent(lab, change):
    """How many tables went to the dataplane by a change, all images that it led to taken together."""
    log_from, before = len(lab.log("controlplane")), lab.status()["dataplane"]["generation"]
    change()
    eventually(lambda: lab.status()["dataplane"]["generation"] > before)
    return sum(int(n) for n in re.findall(r"published .*tables_sent=(\d+)",
                                          lab.log("controlplane")[log_from:]))


@pytest.mark.parametrize("family", [4, 6])
def test_only_new_tables_are_copied(lab, family):
    address = backend_addresses(family)[2]
    backend = f"/v1/pools/l2{family}/backends/{address}?wait=adopted"
    name = service_path(service(VIP[family], 7777)) + "?wait=adopted"

    def mac(last):
        lab.run("n1", "ip", "neighbour", "replace", address, "lladdr", f"02:00:00:00:02:{last}",
                "dev", "eth1", "nud", "reachable")
    assert tables_sent(lab, lambda: lab.api().must("PUT", backend, {"weight": 7})) == 1
    assert tables_sent(lab, lambda: lab.api().must("PUT", name, {"pool": f"l2{family}"})) == 0
    assert tables_sent(lab, lambda: lab.api().must("DELETE", name)) == 0
    try:
        assert tables_sent(lab, lambda: mac("33")) == 0
    finally:
        mac("03")
    lab.ready()
