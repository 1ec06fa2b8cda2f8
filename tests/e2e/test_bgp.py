# SPDX-License-Identifier: Apache-2.0
"""VIPs announced by BGP: three nodes, with BIRD and with FRR on them, and each as the router."""
import collections
import contextlib
import os
import signal
import subprocess
import time

import pytest

from bgp import (ALL, NODES, announcements, bfd_sessions, cli, hops, kill, learned, nothing_changes,
                 signals)
from health import probe
from lab import SCRIPT, eventually
from traffic import TUNNEL_VIP, VIP, Wrk, ask_dns, base_intent, pool, service

both_families = pytest.mark.parametrize("family", [4, 6])

BACKENDS = ("b1", "b2", "b3")
FLOW_SEED = "0123456789abcdef"  # the same everywhere, so that all nodes know a flow's backend

# Without a word of Guideway's it would be BGP's hold time. How long it takes: scripts/failover.
DEAD_WITHIN_S = 5.0
# With the 100 ms of the examples a machine that also runs the tests and their load loses sessions to
# nodes that live. GUIDEWAY_TEST_BFD_MS=100 is for one that has nothing else to do.
BFD_MS = int(os.environ.get("GUIDEWAY_TEST_BFD_MS", "200"))
BFD_S = 3 * BFD_MS / 1000
MARGIN_S = 0.7  # of a busy machine: BFD's own timers, and the router that takes it in


@pytest.fixture(scope="module", params=["bird-bird", "frr-frr", "bird-frr", "frr-bird"],
                ids=lambda pair: "router-{}-nodes-{}".format(*pair.split("-")))
def shared(request, new_lab):
    router, node_bgp = request.param.split("-")
    lab = new_lab(nodes=3, backends=3, router=router, node_bgp=node_bgp, bfd_ms=BFD_MS)
    yield lab
    lab.down()


@pytest.fixture
def lab(shared):
    """All up, in service, and announced."""
    for role in NODES:
        for what in ("dataplane", "controlplane", "bgp"):
            if not shared.pid(what, role):
                shared.start(what, role)
    if not shared.pid("bgp", "router"):
        shared.start("bgp", "router")
    for role in NODES:
        shared.run("router", "ip", "link", "set", role, "up")
        eventually(lambda r=role: shared.try_status(r), 20, what=f"{role} answers")
        shared.api(role).must("PUT", "/v1/node", {"mode": "normal"})
        shared.apply({**base_intent(), "flow_seed": FLOW_SEED}, role)
    for family in (4, 6):
        learned(shared, VIP[family], ALL, 30)
    # A BGP session is there before BFD watches over it: till then only the hold time would end it.
    eventually(lambda: bfd_sessions(shared) == 2 * len(NODES), 20, what="BFD sessions up")
    return shared


# ---------------------------------------------------------------- helpers

def intent_with(family, pools, services):
    intent = base_intent()
    intent["pools"].update(pools)
    intent["services"].update({service(VIP[family], port): {"pool": name}
                               for port, name in services.items()})
    return intent


UNREACHABLE = {4: "10.0.0.99", 6: "fd00:0:0:1::99"}


# ---------------------------------------------------------------- tests

@both_families
def test_every_node_gets_its_share(lab, family):
    flows = 600
    name = service(VIP[family], 53, "udp")

    def packets():
        return {role: next(s["packets"] for s in lab.status(role)["services"]
                           if s["service"] == name) for role in NODES}
    before = packets()
    for number in range(flows):
        ask_dns(lab, VIP[family], number)
    after = eventually(lambda: (now := packets()) and sum(now.values()) - sum(before.values())
                       >= flows and now, 5, what="all queries counted")
    shares = {role: (after[role] - before[role]) / flows for role in NODES}
    print(f"\n{lab.router} router, {lab.node_bgp} nodes, IPv{family}: of {flows} flows "
          + ", ".join(f"{role} {share:.1%}" for role, share in shares.items()))
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert all(share > 0.2 for share in shares.values()), shares


def test_dataplane_killed(lab):
    kill(lab, "dataplane", "n1")
    took = {family: learned(lab, VIP[family], ALL - {"n1"}) for family in (4, 6)}
    print(f"\ndataplane killed: out of the router's table after {took[4]:.2f} s, IPv6 {took[6]:.2f}")
    assert max(took[4], took[4] + took[6]) < DEAD_WITHIN_S
    eventually(lambda: {v["reason"] for v in lab.status("n1")["vips"]} == {"the dataplane is dead"})
    assert set(announcements(lab, "n1").values()) == {"withdrawn"}
    lab.start("dataplane", "n1")
    for family in (4, 6):
        learned(lab, VIP[family], ALL, 20)


def test_dataplane_hung(lab):
    pid = lab.pid("dataplane", "n1")
    os.kill(pid, signal.SIGSTOP)
    try:
        took = learned(lab, VIP[4], ALL - {"n1"})
    finally:
        os.kill(pid, signal.SIGCONT)
    print(f"\ndataplane hung: out of the router's table after {took:.2f} s")
    assert took < DEAD_WITHIN_S
    learned(lab, VIP[4], ALL, 20)


def test_both_daemons_killed(lab):
    kill(lab, "controlplane", "n2")
    kill(lab, "dataplane", "n2")
    took = learned(lab, VIP[4], ALL - {"n2"})
    took6 = learned(lab, VIP[6], ALL - {"n2"})
    print(f"\nboth daemons killed: out of the router's table after {took:.2f} s")
    assert took + took6 < DEAD_WITHIN_S
    assert signals(lab, "n2") == {}
    lab.start("dataplane", "n2")
    lab.start("controlplane", "n2")
    learned(lab, VIP[4], ALL, 20)


@pytest.mark.parametrize("end", ["node", "router"])
def test_node_vanishes(lab, end):
    """Its link goes down; no process ends, and nobody says a word."""
    where = {"node": ("n3", "eth1"), "router": ("router", "n3")}[end]
    lab.run(where[0], "ip", "link", "set", where[1], "down")
    took = learned(lab, VIP[4], ALL - {"n3"})
    took6 = learned(lab, VIP[6], ALL - {"n3"})
    print(f"\nlink down at the {end}: out of the router's table after {took:.2f} s")
    assert took + took6 < BFD_S + MARGIN_S
    lab.run(where[0], "ip", "link", "set", where[1], "up")
    if end == "node":  # what the kernel takes away with the link
        lab.run("n3", "ip", "address", "replace", "fd00:0:0:1::13/64", "dev", "eth1", "nodad")
        for via in ("10.0.0.1", "fd00:0:0:1::1"):
            lab.run("n3", "ip", "route", "replace", "default", "via", via)
    for family in (4, 6):
        learned(lab, VIP[family], ALL, 30)


def test_control_plane_killed_and_started(lab):
    before = {role: signals(lab, role) for role in NODES}
    with nothing_changes(lab):
        for role in NODES:
            kill(lab, "controlplane", role)
        time.sleep(2)  # the time without any is what is tested
        assert {role: signals(lab, role) for role in NODES} == before
        assert all(hops(lab, VIP[family]) == ALL for family in (4, 6))
        for role in NODES:
            lab.start("controlplane", role)
        for role in NODES:
            lab.ready(role)
            eventually(lambda r=role: set(announcements(lab, r).values()) == {"normal"}
                       and not any(v["reason"] for v in lab.status(r)["vips"]), 10,
                       what=f"{role} is sure again")
    assert {role: signals(lab, role) for role in NODES} == before


def drained(lab):
    done = cli(lab, "n1", "node", "drain", "--wait")
    assert done.returncode == 0, done.stderr
    yield
    done = cli(lab, "n1", "node", "enable", "--wait")
    assert done.returncode == 0, done.stderr


def killed(lab):
    kill(lab, "dataplane", "n1")
    yield
    lab.start("dataplane", "n1")


def unplugged(lab):
    lab.run("router", "ip", "link", "set", "n1", "down")
    yield
    lab.run("router", "ip", "link", "set", "n1", "up")


def without_control_planes(lab):
    for role in NODES:
        kill(lab, "controlplane", role)
    time.sleep(2)
    yield
    for role in NODES:
        lab.start("controlplane", role)


@pytest.mark.parametrize("case", [drained, killed, unplugged, without_control_planes])
def test_connections_survive(lab, case):
    """Keep-alive connections under load, a node out and in again: none breaks. All nodes have the
    same tables, so whichever node gets a flow sends it to its backend."""
    left = ALL if case is without_control_planes else ALL - {"n1"}
    with Wrk(lab, VIP[4], 60, connections=48) as load, Wrk(lab, VIP[6], 60, connections=16) as load6:
        steps = case(lab)
        next(steps)
        for family in (4, 6):
            learned(lab, VIP[family], left)
        next(steps, None)
        for family in (4, 6):
            learned(lab, VIP[family], ALL, 30)
        for one in (load, load6):
            result = one.stop()
            assert result.failed == 0, result.text
            assert result.requests > 200, result.text


def test_bgp_daemon_of_a_node_killed(lab):
    lab.kill("bgp", "n1")
    took = learned(lab, VIP[4], ALL - {"n1"})
    print(f"\nBGP daemon killed: out of the router's table after {took:.2f} s")
    lab.start("bgp", "n1")
    took = max(learned(lab, VIP[family], ALL, 30) for family in (4, 6))
    print(f"BGP daemon started: back after {took:.1f} s")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_router_restarted(lab, how):
    getattr(lab, how)("bgp", "router")
    lab.run("router", "ip", "route", "flush", "proto", "bird")
    lab.run("router", "ip", "-6", "route", "flush", "proto", "bird")
    lab.run("router", "ip", "route", "flush", "proto", "bgp")
    lab.run("router", "ip", "-6", "route", "flush", "proto", "bgp")
    assert hops(lab, VIP[4]) == set()
    lab.start("bgp", "router")
    took = max(learned(lab, VIP[family], ALL, 30) for family in (4, 6))
    print(f"\nrouter's BGP daemon started: all nodes back after {took:.1f} s")


@both_families
def test_a_route_removed_by_hand_comes_back(lab, family):
    route = ["ip", f"-{family}", "route"]
    lab.run("n1", *route, "del", "blackhole", VIP[family], "proto", "203")
    eventually(lambda: signals(lab, "n1").get(VIP[family]) == 100)
    learned(lab, VIP[family], ALL)


def test_a_left_over_goes(lab):
    lab.kill("controlplane", "n1")
    lab.run("n1", "ip", "route", "add", "blackhole", "203.0.113.99", "proto", "203", "metric", "100")
    learned(lab, "203.0.113.99", {"n1"})
    lab.start("controlplane", "n1")
    learned(lab, "203.0.113.99", set(), 10)
    assert hops(lab, VIP[4]) == ALL


@both_families
def test_a_vip_without_backends_is_withdrawn_alone(lab, family):
    """No next hop for any backend: what a node can know without health checks."""
    intent = base_intent()
    intent["pools"][f"l2{family}"] = {"forwarding": "l2",
                                      "backends": {UNREACHABLE[family]: {"weight": 1}}}
    lab.api("n2").must("PUT", "/v1/intent?wait=adopted", intent)
    learned(lab, VIP[family], ALL - {"n2"})
    assert hops(lab, TUNNEL_VIP[family]) == ALL
    vip = next(v for v in lab.status("n2")["vips"] if v["vip"] == VIP[family])
    assert vip["announce"] == "withdrawn" and "is down" in vip["reason"]
    assert announcements(lab, "n2")[VIP[10 - family]] == "normal"
    lab.apply(base_intent(), "n2")
    learned(lab, VIP[family], ALL)


@both_families
def test_some_services_down_reduces(lab, family):
    """Others are preferred; when all nodes say so, all are as good as before."""
    away = {"away": {"forwarding": "l2", "backends": {UNREACHABLE[family]: {"weight": 1}}}}
    for role, left in (("n1", {"n2", "n3"}), ("n2", {"n3"}), ("n3", ALL)):
        lab.api(role).must("PUT", "/v1/intent?wait=adopted", intent_with(family, away, {81: "away"}))
        learned(lab, VIP[family], left)
        assert signals(lab, role)[VIP[family]] == 200
    for role in NODES:
        lab.apply(base_intent(), role)
    learned(lab, VIP[family], ALL)


PANIC_VIP = {4: "203.0.113.70", 6: "2001:db8:203::70"}
SOUND_VIP = "203.0.113.71"


def panic_intent(probed=True):
    """Beside the others: a pool that lives on nginx, and one of the same backends that does not."""
    intent = {**base_intent(), "flow_seed": FLOW_SEED}
    for family, vip in PANIC_VIP.items():
        intent["pools"][f"web{family}"] = {**pool("l2", family),
                                           "probe": probe("tcp" if probed else "none", 50, 50)}
        intent["services"][service(vip, 80)] = {"pool": f"web{family}"}
    intent["pools"]["sound"] = {**pool("l2", 4), "probe": probe("tcp", 50, 50, port=8080)}
    intent["services"][service(SOUND_VIP, 8080)] = {"pool": "sound"}
    return intent


@contextlib.contextmanager
def on_panic(lab, what):
    """The nodes' control planes run by this rule meanwhile."""
    def restart(role, text):
        (lab.state / role / "node.toml").write_text(text)
        lab.stop("controlplane", role)
        lab.start("controlplane", role)
        lab.ready(role)
    before = {role: (lab.state / role / "node.toml").read_text() for role in NODES}
    try:
        for role, text in before.items():
            restart(role, f'{text}[announce]\non_panic = "{what}"\n')
        yield
    finally:
        for role, text in before.items():
            restart(role, text)


@pytest.mark.parametrize("what", ["reduce", "withdraw"])
def test_a_pool_in_panic_takes_its_vip_along_and_no_other(lab, what):
    """All its backends' processes end, as seen by the probes of one node, and then of all."""
    metric = {"reduce": 200, "withdraw": None}[what]

    def announced(role, wanted):
        eventually(lambda: all(signals(lab, role).get(vip) == wanted for vip in PANIC_VIP.values()),
                   10, what=lambda: f"{role} {wanted}: {signals(lab, role)}")
        others = set(signals(lab, role).items()) - {(vip, wanted) for vip in PANIC_VIP.values()}
        assert {m for _, m in others} == {100} and SOUND_VIP in dict(others), others

    def learned_both(nodes):
        for vip in PANIC_VIP.values():
            learned(lab, vip, nodes, 10)

    with on_panic(lab, what):
        for role in NODES:
            lab.apply(panic_intent(probed=role == "n2"), role)
            announced(role, 100)
        learned_both(ALL)
        learned(lab, SOUND_VIP, ALL)
        with nothing_changes(lab, but=PANIC_VIP.values()):
            for backend in BACKENDS:
                lab.stop("nginx", backend)
            try:
                announced("n2", metric)
                learned_both(ALL - {"n2"})
                assert {v["vip"]: (v["announce"], v["reason"]) for v in lab.status("n2")["vips"]
                        if v["reason"]} == {
                    vip: ({"reduce": "reduced", "withdraw": "withdrawn"}[what],
                          f"pool web{family} is in panic") for family, vip in PANIC_VIP.items()}
                for role in ("n1", "n3"):
                    lab.api(role).must("PUT", "/v1/intent?wait=adopted", panic_intent())
                    announced(role, metric)
                learned_both({"reduce": ALL, "withdraw": set()}[what])
            finally:
                for backend in BACKENDS:
                    lab.start("nginx", backend)
            for role in NODES:
                announced(role, 100)
            learned_both(ALL)
            assert hops(lab, SOUND_VIP) == ALL


def test_a_new_and_a_removed_vip(lab):
    intent = base_intent()
    new = service("203.0.113.40", 80)
    intent["services"][new] = {"pool": "l24"}
    lab.apply(intent, "n1")
    learned(lab, "203.0.113.40", {"n1"})
    lab.apply(base_intent(), "n1")
    learned(lab, "203.0.113.40", set())
    assert all(hops(lab, vip) == ALL for vip in VIP.values())


def test_drain_and_enable(lab):
    done = cli(lab, "n1", "node", "drain")
    assert done.returncode == 0, done.stderr
    for family in (4, 6):
        learned(lab, VIP[family], ALL - {"n1"})
    assert set(signals(lab, "n1").values()) == {200}, "reduced first"
    done = cli(lab, "n1", "node", "drain", "--wait")
    assert done.returncode == 0, done.stderr
    assert signals(lab, "n1") == {}
    assert lab.api("n1").must("GET", "/v1/node") == {"mode": "drained", "state": "drained",
                                                     "quiet": True}
    lab.kill("controlplane", "n1")
    lab.start("controlplane", "n1")
    lab.ready("n1")
    assert set(announcements(lab, "n1").values()) == {"withdrawn"}, "it stays out after a restart"
    assert "drained" in cli(lab, "n1", "status").stdout
    done = cli(lab, "n1", "node", "enable", "--wait")
    assert done.returncode == 0, done.stderr
    for family in (4, 6):
        learned(lab, VIP[family], ALL)


def test_bad_node_requests(lab):
    for body in (b"{}", b'{"mode":"away"}', b'{"mode":1}', b'{"mode":"normal","x":1}', b"[]", b"x"):
        assert lab.api("n1").request("PUT", "/v1/node", body).status == 400, body
    assert lab.api("n1").delete("/v1/node").status == 405
    assert lab.api("n1").get("/v1/node?x=1").status == 400


def test_roll(lab):
    """The sequence of an upgrade, as scripts/lab plays it: one node at a time is out, no more."""
    seen = collections.Counter()
    load = Wrk(lab, VIP[4], 90)
    before = {role: lab.pid("dataplane", role) for role in NODES}
    with subprocess.Popen([SCRIPT, "roll", "--name", lab.name], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as roll:
        while roll.poll() is None:
            seen[frozenset(hops(lab, VIP[4]))] += 1
            time.sleep(0.02)
        text = roll.stdout.read()
    with load:
        result = load.stop()
    assert roll.returncode == 0, text
    assert result.failed == 0, result.text
    assert all(len(nodes) >= 2 for nodes in seen), seen
    for family in (4, 6):
        learned(lab, VIP[family], ALL)
    assert all(lab.pid("dataplane", role) not in (None, before[role]) for role in NODES)


def test_the_picture_shows_sessions(lab):
    text = lab.script("status")
    for role in NODES:
        line = next(line for line in text.splitlines() if line.split()[:2] == [role, lab.node_bgp])
        assert "10.0.0.1" in line and "fd00:0:0:1::1" in line
    line = next(line for line in text.splitlines() if line.split()[:2] == ["router", lab.router])
    for n in (1, 2, 3):
        assert f"10.0.0.{10 + n}" in line and f"fd00:0:0:1::{10 + n}" in line
