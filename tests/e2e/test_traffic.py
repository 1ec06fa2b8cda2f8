# SPDX-License-Identifier: Apache-2.0
"""Real clients through the VIP to nginx: both families, every way of forwarding, both kinds of port."""
import hashlib
import math

import pytest

from lab import eventually
from traffic import (CLIENT, CROSS_VIP, NODE, TUNNEL_VIP, VIP, Wire, Wrk, addresses, ask_dns,
                     backend_role, base_intent, get, host, service, tally)

DOWNLOAD_SHA256 = "5f9ee105b3a89647aa6d455f68b57b9cb54e65aca4f9375f895fa12078ca0424"
WAYS = {"l2": VIP, "ipip": TUNNEL_VIP, "ipip-crossed": CROSS_VIP}

both_ports = pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
both_families = pytest.mark.parametrize("family", [4, 6])
every_way = pytest.mark.parametrize("way", WAYS)


@both_ports
@both_families
@every_way
def test_curl(lab, way, family):
    vip = WAYS[way][family]
    done = lab.run("client", "curl", "-sS", "--max-time", "5", f"http://{host(vip)}/")
    assert done.stdout.strip() in ("b1", "b2", "b3")


@both_ports
@both_families
@every_way
def test_download_of_100_MB_is_intact(lab, way, family):
    done = lab.run("client", "sh", "-c",
                   f"curl -sS --fail --max-time 60 http://{host(WAYS[way][family])}/100M | sha256sum")
    assert done.stdout.split()[0] == DOWNLOAD_SHA256


@both_ports
@both_families
@every_way
def test_udp_echo(lab, way, family):
    answers = {ask_dns(lab, WAYS[way][family], number) for number in range(60)}
    assert answers == {"b1", "b2", "b3"}


@both_families
def test_service_on_all_ports(lab, family):
    vip = "203.0.113.40" if family == 4 else "2001:db8:203::40"
    intent = base_intent()
    intent["services"][service(vip, 80).replace(":80/", "/")] = {"pool": f"l2{family}"}
    lab.apply(intent)
    assert get(lab, vip) in ("b1", "b2", "b3")
    body = b"guideway"
    done = lab.run("client", "curl", "-sS", "--data-binary", "@-",
                   f"http://{host(vip)}:8080/", stdin=body.decode())
    assert done.stdout.strip() == hashlib.sha256(body).hexdigest()


@both_ports
@both_families
@every_way
def test_wrk_without_a_failed_request(lab, way, family, quick):
    if way == "l2" and lab.port == "interface":
        seconds = 10 if quick else 30
    else:
        seconds = 2 if quick else 5
    before = lab.counters()
    Wrk(lab, WAYS[way][family], seconds).result().must_be_clean()
    after = lab.counters()
    assert after[0] > before[0]


@both_families
@every_way
def test_shares_follow_the_weights(lab, way, family, quick):
    weights = (100, 200, 50)
    lab.apply(base_intent(weights))
    connections = 1000 if quick else 3000
    seen = tally(lab, WAYS[way][family], connections)
    for i, weight in enumerate(weights):
        share = weight / sum(weights)
        # Six standard deviations of so many independent flows, and the table's own 1 %.
        slack = 6 * math.sqrt(share * (1 - share) / connections) + 0.01 * share
        assert seen[f"b{i + 1}"] / connections == pytest.approx(share, abs=slack), seen


@both_families
def test_weight_0_gets_no_new_flow(lab, family):
    lab.apply(base_intent((100, 0, 100)))
    assert set(tally(lab, VIP[family], 300)) == {"b1", "b3"}


@both_families
@every_way
def test_explain_tells_the_truth(lab, way, family):
    vip = WAYS[way][family]
    # Below the range that other clients' connections, open or in TIME_WAIT, take theirs from.
    for port in range(10000, 10100):
        client = f"{host(CLIENT[family])}:{port}"
        said = lab.api().must("GET", f"/v1/explain?client={client}&service={service(vip, 80)}")
        assert get(lab, vip, source_port=port) == backend_role(said["backend"]), said


@both_families
@every_way
def test_replies_go_straight_to_the_client(lab, way, family):
    vip = WAYS[way][family]
    with Wire(lab, "router", "n1") as node_wire, Wire(lab, "router", "client") as client_wire:
        get(lab, vip)
        to_node = [addresses(f) for f in node_wire.frames()]
        to_client = [addresses(f) for f in client_wire.frames()]
    assert (CLIENT[family], vip) in to_node
    assert (vip, CLIENT[family]) in to_client
    assert (vip, CLIENT[family]) not in to_node


@both_families
def test_tunnel_source_is_the_nodes(lab, family):
    backend_of = {4: "10.0.0.2", 6: "fd00:0:0:1::2"}[family]
    with Wire(lab, "router", "n1") as wire:
        get(lab, TUNNEL_VIP[family])
        outer = [a for a in map(addresses, wire.frames()) if a[1] and a[1].startswith(backend_of)]
    assert outer and {source for source, _ in outer} == {NODE[family]}


@both_ports
@both_families
def test_echo_request_to_a_vip_is_answered(lab, family):
    lab.run("client", "ping", f"-{family}", "-c3", "-i0.2", "-W2", VIP[family])
    before = lab.counters()
    lab.run("client", "ping", f"-{family}", "-c3", "-i0.2", "-W2", VIP[family])
    after = lab.counters()
    assert after[1]["echo_replied"] - before[1]["echo_replied"] == 3


@both_families
def test_a_backend_that_comes_to_life_is_used(lab, family):
    """A next hop that could not be resolved is, once the neighbour answers."""
    address = {4: "10.0.0.99", 6: "fd00:0:0:1::99"}[family]
    intent = base_intent()
    intent["pools"][f"l2{family}"]["backends"] = {address: {}}
    lab.api().must("PUT", "/v1/intent?wait=adopted", intent)

    def state():
        backends = lab.api().must("GET", f"/v1/pools/l2{family}")["backends"]
        return backends[0]["state"]
    eventually(lambda: state() == "no_next_hop", what="no next hop for an address nobody has")
    nodad = [] if family == 4 else ["nodad"]
    prefix = f"{address}/{24 if family == 4 else 64}"
    lab.run("b2", "ip", "address", "add", prefix, "dev", "eth0", *nodad)
    try:
        eventually(lambda: state() == "up", what="the neighbour found")
        assert get(lab, VIP[family]) == "b2"
    finally:
        lab.run("b2", "ip", "address", "del", prefix, "dev", "eth0")
