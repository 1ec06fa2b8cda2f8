# SPDX-License-Identifier: Apache-2.0
"""From one node to a cluster, and the intent as a file."""
import time

import pytest

from bgp import cli
from lab import eventually
from test_cluster import VIP, at_rest, cluster, is_member, same, small_intent
from traffic import Wrk


@pytest.fixture
def lab(new_lab):
    lab = new_lab(nodes=2, backends=3, etcd=1, start=False)
    for backend in ("b1", "b2", "b3"):
        lab.start("agent", backend)
    yield lab
    lab.down()


def without_cluster(lab, node):
    """The node's file as that of a node that stands alone; returns the file with the cluster."""
    lab.start("dataplane", node)  # writes the file
    path = lab.state / node / "node.toml"
    whole = path.read_text()
    path.write_text(whole[:whole.index("[cluster]")])
    return path, whole


def to_node(lab, *nodes):
    """The router sends the VIP to these."""
    via = [word for n in nodes for word in ("nexthop", "via", f"10.0.0.1{n[1]}")]
    lab.run("router", "ip", "route", "replace", VIP, *via)


def test_from_one_node_to_a_cluster_without_an_interruption(lab):
    path, with_cluster = without_cluster(lab, "n1")
    lab.start("controlplane", "n1")
    eventually(lambda: lab.try_status("n1"), 20)
    lab.apply(small_intent())
    assert lab.api("n1").put("/v1/pools/web/backends/10.0.0.22", {"weight": 50}).ok
    at_rest(lab)
    digests = [p["digest"] for p in lab.ready()["pools"]]
    to_node(lab, "n1")
    with Wrk(lab, VIP, 120) as load:
        path.write_text(with_cluster)
        lab.kill("controlplane", "n1")
        lab.start("controlplane", "n1")
        eventually(lambda: is_member(lab, "n1"), 30, what=lambda: cluster(lab, "n1"))
        for what in ("dataplane", "controlplane"):
            lab.start(what, "n2")
        same(lab, ("n1", "n2"), 30)
        lab.ready("n2")
        to_node(lab, "n1", "n2")
        time.sleep(1)  # of traffic by both
        for verb in ("leave", "join"):
            done = cli(lab, "n2", "cluster", verb)
            assert done.returncode == 0, done.stderr
        same(lab, ("n1", "n2"))
        result = load.stop()
    result.must_be_clean(100)
    for node in ("n1", "n2"):
        assert [p["digest"] for p in lab.status(node)["pools"]] == digests
        received = lab.status(node)["counters"]["received"]
        assert received > 100, (node, received)


def test_what_is_exported_is_what_apply_makes(lab, tmp_path):
    for what in ("dataplane", "controlplane"):
        lab.start(what)
    eventually(lambda: is_member(lab, "n1"), 30, what=lambda: cluster(lab, "n1"))
    lab.apply(small_intent())
    api = lab.api("n1")
    assert api.put("/v1/pools/web/backends/10.0.0.22", {"weight": 7, "mode": "disabled"}).ok
    exported = cli(lab, "n1", "export").stdout
    file = tmp_path / "edge.toml"
    file.write_text(exported)
    done = cli(lab, "n1", "apply", str(file))
    assert done.returncode == 0 and "nothing changes" in done.stdout, done.stdout + done.stderr
    # Other orders and settings, and back.
    assert api.put("/v1/pools/web/backends/10.0.0.22", {"mode": "enabled"}).ok
    assert api.delete("/v1/pools/web/backends/10.0.0.21").ok
    assert api.put("/v1/pools/web", {"slow_start_ms": 1000}).ok
    done = cli(lab, "n1", "apply", str(file))
    assert done.returncode == 0 and "applied" in done.stdout, done.stdout + done.stderr
    assert settings(cli(lab, "n1", "export").stdout) == settings(exported)
    # Into a node that never had an intent: the same slots for the same flows.
    without_cluster(lab, "n2")
    lab.start("controlplane", "n2")
    eventually(lambda: lab.try_status("n2"), 20)
    done = cli(lab, "n2", "apply", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert settings(cli(lab, "n2", "export").stdout) == settings(exported)


def settings(toml):
    return [line for line in toml.splitlines() if not line.startswith("#")]

