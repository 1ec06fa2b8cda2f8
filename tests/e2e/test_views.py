# SPDX-License-Identifier: Apache-2.0
"""Nodes show each other which backends they see down; one that alone sees a pool dead goes."""
import contextlib
import time

import pytest

from bgp import announcements, cli, hops, learned
from lab import eventually
from test_cluster import MEMBERS, NODES, VIP, cluster, etcdctl, is_member, must, same, small_intent
from traffic import Wrk

BACKENDS = ("b1", "b2", "b3")


@pytest.fixture(scope="module")
def shared(new_lab):
    lab = new_lab(nodes=3, backends=3, etcd=3, router="bird", bfd_ms=200)
    for node in NODES:
        eventually(lambda n=node: is_member(lab, n), 30, what=lambda n=node: cluster(lab, n))
    must(lab, "n1", "PUT", "/v1/intent", small_intent())
    same(lab)
    yield lab
    lab.down()


@pytest.fixture
def lab(shared):
    """All see all backends, and announce."""
    for node in NODES:
        eventually(lambda n=node: is_member(shared, n), 30, what=lambda n=node: cluster(shared, n))
    eventually(lambda: all(seen(shared, n) == {b: (3, [], []) for b in addresses()} for n in NODES),
               30, what=lambda: [seen(shared, n) for n in NODES])
    learned(shared, VIP, NODES, 30)
    return shared


# ---------------------------------------------------------------- helpers

def addresses(backends=BACKENDS):
    return [f"10.0.0.2{b[1]}" for b in backends]


def seen(lab, node):
    """{backend: (nodes that can say, down on, blind on)} as this node shows it."""
    status = lab.try_status(node)
    return status and {b["address"]: b["seen"] and (b["seen"]["nodes"], b["seen"]["down_on"],
                                                    b["seen"]["blind_on"])
                       for b in status["pools"][0]["backends"]}


def all_show(lab, backends, down_on, seconds=15):
    eventually(lambda: all((s := seen(lab, n)) and all(s[a] == (3, list(down_on), [])
                                                       for a in addresses(backends))
                           for n in NODES), seconds, what=lambda: [seen(lab, n) for n in NODES])


@contextlib.contextmanager
def cut(lab, node, backends=BACKENDS):
    """The bridge carries nothing between the node and these backends; all else goes on."""
    drops = [f'iifname "{a}" oifname "{b}" drop' for other in backends
             for a, b in ((node, other), (other, node))]
    rules = ["table bridge cut {", "chain forward {", "type filter hook forward priority 0;",
             *drops, "}", "}"]
    lab.run("router", "nft", "-f", "-", stdin="\n".join(rules) + "\n")
    try:
        yield
    finally:
        lab.run("router", "nft", "delete", "table", "bridge", "cut")


def announce(lab, node):
    return announcements(lab, node)[VIP]


def reason(lab, node):
    return next(v["reason"] for v in lab.status(node)["vips"] if v["vip"] == VIP)


def out_of(lab, node, who):
    return next(n["out"] for n in cluster(lab, node)["nodes"] if n["name"] == who)


# ---------------------------------------------------------------- tests

def test_a_dead_backend_is_down_on_all_nodes(lab):
    lab.run("router", "ip", "link", "set", "b3", "down")
    try:
        all_show(lab, ["b3"], NODES)
        for node in NODES:
            assert "10.0.0.23 down on all nodes" in cli(lab, node, "status").stdout
    finally:
        lab.run("router", "ip", "link", "set", "b3", "up")
    all_show(lab, BACKENDS, [])


def test_what_is_down_on_one_node_only_is_told_by_all(lab):
    with cut(lab, "n2", ["b1"]):
        all_show(lab, ["b1"], ["n2"])
        assert "10.0.0.21 up here, down on n2 only" in cli(lab, "n1", "status").stdout
        text = cli(lab, "n2", "status").stdout
        assert "10.0.0.21 down on n2 only: " in text
        assert "down on n2 only" in cli(lab, "n3", "pool", "show", "web").stdout
        assert {n["name"]: n["down"] for n in cluster(lab, "n3")["nodes"]} == \
            {"n1": 0, "n2": 1, "n3": 0}
        time.sleep(4)  # longer than it would take it to go
        assert announce(lab, "n2") == "normal", "one of three is not most"


def test_a_node_that_is_alone_takes_itself_out_and_comes_back(lab):
    with Wrk(lab, VIP, 120, connections=8) as load:
        with cut(lab, "n3"):
            began = time.monotonic()
            all_show(lab, BACKENDS, ["n3"])
            eventually(lambda: announce(lab, "n3") == "withdrawn", 15, what=lambda: reason(lab, "n3"))
            learned(lab, VIP, {"n1", "n2"})
            print(f"\nwithdrawn {time.monotonic() - began:.1f} s after the cut")
            assert "cannot be reached from this node alone, and are up on n1, n2" in \
                reason(lab, "n3")
            eventually(lambda: all(out_of(lab, n, "n3") == ["web"] for n in NODES), 5)
            assert "node n3: it alone cannot reach backends of web" in cli(lab, "n1", "status").stdout
            assert "OUT" in cli(lab, "n2", "cluster", "status").stdout
            with Wrk(lab, VIP, 4) as others:
                others.result().must_be_clean(100)
            assert announce(lab, "n3") == "withdrawn"
            assert announce(lab, "n1") == announce(lab, "n2") == "normal"
        with Wrk(lab, VIP, 60) as back:
            mended = time.monotonic()
            eventually(lambda: announce(lab, "n3") == "normal", 20, what=lambda: reason(lab, "n3"))
            print(f"back {time.monotonic() - mended:.1f} s after it was mended")
            learned(lab, VIP, NODES)
            back.stop().must_be_clean(100)
        result = load.stop()
    assert result.requests > 1000, result.text


def test_what_all_nodes_see_takes_nobody_out(lab):
    for backend in BACKENDS:
        lab.run("router", "ip", "link", "set", backend, "down")
    try:
        all_show(lab, BACKENDS, NODES)
        time.sleep(4)  # longer than it would take one to go
        for node in NODES:
            assert not cluster(lab, node)["nodes"][0]["out"]
            assert announce(lab, node) == "reduced", "panic, as without a cluster"
        assert hops(lab, VIP) == set(NODES)
    finally:
        for backend in BACKENDS:
            lab.run("router", "ip", "link", "set", backend, "up")


def test_without_etcd_nobody_is_out(lab):
    with cut(lab, "n3"):
        eventually(lambda: announce(lab, "n3") == "withdrawn", 20, what=lambda: reason(lab, "n3"))
        try:
            for member in MEMBERS:
                lab.kill("etcd", member)
            eventually(lambda: announce(lab, "n3") == "reduced", 20, what=lambda: reason(lab, "n3"))
            eventually(lambda: all((s := seen(lab, n)) and not any(s.values()) for n in NODES), 10,
                       what=lambda: [seen(lab, n) for n in NODES])
        finally:
            for member in MEMBERS:
                lab.start("etcd", member)
        eventually(lambda: announce(lab, "n3") == "withdrawn", 40, what=lambda: reason(lab, "n3"))


def test_a_view_that_cannot_be_read_is_named_and_harms_nothing(lab):
    keys = {"/guideway/live/views/n8": "garbage",
            "/guideway/live/views/n9": '{"format":7,"checksum":"0123456789abcdef"}\n{}\n'}
    for key, value in keys.items():
        etcdctl(lab, "put", key, value)
    try:
        for node in NODES:
            eventually(lambda n=node: set(cluster(lab, n)["refused"]) == set(keys), 10,
                       what=lambda n=node: cluster(lab, n))
        assert "has format 7" in cluster(lab, "n1")["refused"]["/guideway/live/views/n9"]
        text = cli(lab, "n2", "status").stdout
        assert all(key in text for key in keys)
        assert lab.api("n2").put("/v1/pools/web/backends/10.0.0.21", {"weight": 90}).ok
        all_show(lab, BACKENDS, [])
    finally:
        for key in keys:
            etcdctl(lab, "del", key)
    for node in NODES:
        eventually(lambda n=node: not cluster(lab, n)["refused"], 10)
    # Whoever has the name writes it anew.
    etcdctl(lab, "put", "/guideway/live/views/n2", "garbage")
    eventually(lambda: "garbage" not in etcdctl(lab, "get", "/guideway/live/views/n2"), 10)
    all_show(lab, BACKENDS, [])
