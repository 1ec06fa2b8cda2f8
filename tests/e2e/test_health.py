# SPDX-License-Identifier: Apache-2.0
"""Health: what each kind of probe sees, on every way that packets go, and what must not deceive it."""
import contextlib
import os
import re
import signal
import time

import pytest

from flood import Flood
from health import (LOCAL4, LOCAL6, PATIENT, Events, backend_status, kill_nginx, nginx_pids,
                    pool_status, probe, settled, start_nginx, states)
from lab import BUILD, eventually
from traffic import (CROSS_VIP, TUNNEL_VIP, VIP, Wrk, ask_dns, backend_addresses, get, service)

pytestmark = pytest.mark.alone
both_ports = pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
# name: (forwarding, family of the backends, VIP)
WAYS = {"l2-4": ("l2", 4, VIP[4]), "l2-6": ("l2", 6, VIP[6]),
        "ipip-4": ("ipip", 4, TUNNEL_VIP[4]), "ipip-6": ("ipip", 6, TUNNEL_VIP[6]),
        "4-in-6": ("ipip", 6, CROSS_VIP[4]), "6-in-4": ("ipip", 4, CROSS_VIP[6])}
TUNNELS = [name for name, way in WAYS.items() if way[0] == "ipip"]


def intent(probes, ways=tuple(WAYS)):
    """A pool for each way; `probes`: one for all, or one for each."""
    pools, services = {}, {}
    for name in ways:
        forwarding, family, vip = WAYS[name]
        pools[name] = {"forwarding": forwarding, "probe": probes.get(name, probes),
                       "backends": {a: {"mode": "enabled"} for a in backend_addresses(family)}}
        services.update({service(vip, 80): {"pool": name}, service(vip, 7): {"pool": name},
                         service(vip, 53, "udp"): {"pool": name}})
    return {"pools": pools, "services": services}


def start(lab, probes, ways=tuple(WAYS)):
    """All backends up by their probes; returns the events from then on."""
    lab.apply(intent(probes, ways))
    settled(lab, *ways)
    return Events(lab.api())


def nth(way, number):
    """The address of b1, b2 or b3 in a pool."""
    return backend_addresses(WAYS[way][1])[number - 1]


def goes_down_and_returns(lab, events, ways, reason, cause, undo):
    """b2 does, in each of these pools, for a reason that matches; nobody else changes."""
    events.forget()
    cause()
    try:
        for way in ways:
            event = events.wait(way, nth(way, 2), to="down", adopted=True)
            assert re.search(reason, event["reason"]), event
            status = backend_status(lab, way, nth(way, 2))
            assert status["state"] == "down" and status["share_now"] == 0, status
            assert status["reason"] == event["reason"], (status, event)
    finally:
        undo()
    for way in ways:
        events.wait(way, nth(way, 2), to="up", adopted=True)
    settled(lab, *ways)
    others = [e for e in events.of_backends() if e["pool"] not in ways
              or e["backend"] != nth(e["pool"], 2)]
    assert not others, others
    downs = [(e["pool"], e["backend"]) for e in events.of_backends() if e["to"] == "down"]
    assert len(downs) == len(set(downs)), "each fell once"


@contextlib.contextmanager
def stopped(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def no_vips(lab, role="b2"):
    for family, network, vip in ((4, LOCAL4, f"{VIP[4]}/32"), (6, LOCAL6, f"{VIP[6]}/128")):
        lab.run(role, "ip", f"-{family}", "address", "del", vip, "dev", "lo")
        lab.run(role, "ip", f"-{family}", "route", "del", "local", network, "dev", "lo")


def vips_again(lab, role="b2"):
    lab.run(role, "ip", "address", "add", f"{VIP[4]}/32", "dev", "lo")
    lab.run(role, "ip", "address", "add", f"{VIP[6]}/128", "dev", "lo", "nodad")
    for family, network in ((4, LOCAL4), (6, LOCAL6)):
        lab.run(role, "ip", f"-{family}", "route", "add", "local", network, "dev", "lo")


# ---------------------------------------------------------------- what each kind sees

@both_ports
def test_tcp(lab):
    events = start(lab, probe("tcp", **PATIENT))
    goes_down_and_returns(lab, events, WAYS, "refused", lambda: kill_nginx(lab, "b2"),
                          lambda: lab.start("nginx", "b2"))
    goes_down_and_returns(lab, events, WAYS, "without an answer|no answer",
                          lambda: lab.run("router", "ip", "link", "set", "b2", "down"),
                          lambda: lab.run("router", "ip", "link", "set", "b2", "up"))


@both_ports
def test_icmp(lab):
    settings = ("net.ipv4.icmp_echo_ignore_all", "net.ipv6.icmp.echo_ignore_all")

    def ignore(value):
        lab.run("b2", "sysctl", "-qw", *(f"{s}={value}" for s in settings))
    events = start(lab, probe("icmp", **PATIENT))
    goes_down_and_returns(lab, events, WAYS, "without an answer|no answer", lambda: ignore(1),
                          lambda: ignore(0))


@both_ports
@pytest.mark.parametrize("query", ["dns", "echo"])
def test_udp(lab, query):
    events = start(lab, probe("udp", query=query, **PATIENT))
    goes_down_and_returns(lab, events, WAYS, "refused", lambda: lab.kill("server", "b2"),
                          lambda: lab.start("server", "b2"))
    pid = [lab.pid("server", "b2")]
    silent = stopped(pid)
    goes_down_and_returns(lab, events, WAYS, "without an answer|no answer", silent.__enter__,
                          lambda: silent.__exit__(None, None, None))


@both_ports
def test_http(lab):
    """By the backend's own address: three pools of a family are one and the same."""
    events = start(lab, probe("http", **PATIENT))
    goes_down_and_returns(lab, events, WAYS, "refused", lambda: kill_nginx(lab, "b2"),
                          lambda: lab.start("nginx", "b2"))
    hangs = stopped(nginx_pids(lab, "b2"))
    goes_down_and_returns(lab, events, WAYS, "without an answer|no answer|time", hangs.__enter__,
                          lambda: hangs.__exit__(None, None, None))


def test_http_status_and_host(lab):
    events = start(lab, probe("none"), ["l2-4"])
    lab.api().must("PUT", "/v1/pools/l2-4", {"probe": probe("http", path="/nothing", **PATIENT)})
    eventually(lambda: set(states(lab, "l2-4").values()) == {"down"}, what="404 is not well")
    assert "404" in backend_status(lab, "l2-4", nth("l2-4", 1))["reason"]
    assert pool_status(lab, "l2-4")["health"]["state"] == "panic"
    lab.api().must("PUT", "/v1/pools/l2-4", {"probe": probe("http", path="/nginx", host="example.com",
                                                            **PATIENT)})
    events.wait("l2-4", to="normal")


@both_ports
def test_rtt_is_measured(lab):
    start(lab, probe("tcp", **PATIENT))
    for way in WAYS:
        for backend in pool_status(lab, way)["backends"]:
            assert 0 < backend["rtt_us"] < 250_000, backend


# ---------------------------------------------------------------- half-open

def accepts(lab, role):
    """Connections that nginx accepted so far, this one among them."""
    address = backend_addresses(4)[int(role[1:]) - 1]
    return int(get(lab, address, "/nginx").splitlines()[2].split()[0])


def half_open(lab, role):
    return lab.run(role, "ss", "-Htn", "state", "syn-recv").stdout.split("\n")[:-1]


def answered(lab, ways=tuple(WAYS)):
    return min(b["probes_answered"] for w in ways for b in pool_status(lab, w)["backends"])


def test_a_half_open_probe_leaves_nothing(lab):
    """No accept, however many probes; no socket once they end, though one would last a minute."""
    roles = ("b1", "b2", "b3")
    start(lab, probe("tcp", **PATIENT))
    before, first = {r: accepts(lab, r) for r in roles}, answered(lab)
    eventually(lambda: answered(lab) >= first + 100, 20)
    assert {r: accepts(lab, r) - before[r] for r in roles} == {r: 1 for r in roles}
    for way in WAYS:
        lab.api().must("PUT", f"/v1/pools/{way}?wait=adopted", {"probe": {"kind": "none"}})
    eventually(lambda: not any(half_open(lab, r) for r in roles), 0.8,
               what=lambda: [half_open(lab, r) for r in roles])
    for role in roles:
        established = lab.run(role, "ss", "-Htn", "sport", "=", ":80").stdout
        assert "10.0.0.11" not in established, established


# ---------------------------------------------------------------- the way

def test_the_vip_is_missing(lab):
    """Every probe that goes the way of packets sees it; http, by the own address, does not."""
    ways = [*WAYS]
    probes = {way: probe(kind, **PATIENT) for way, kind in
              zip(ways, ("tcp", "icmp", "udp", "icmp", "tcp", "udp"))}
    events = start(lab, probes)
    goes_down_and_returns(lab, events, ways, "without an answer|no answer|refused",
                          lambda: no_vips(lab), lambda: vips_again(lab))
    events = start(lab, probe("http", **PATIENT))
    first = answered(lab)
    no_vips(lab)
    try:
        eventually(lambda: answered(lab) >= first + 20)
        assert not events.of_backends()
    finally:
        vips_again(lab)


@pytest.mark.parametrize("how", ["detached", "refuses"])
def test_the_tunnel_is_broken(lab, how):
    """Tunnelled probes see it, those of l2 pools do not."""
    events = start(lab, {way: probe(kind, **PATIENT) for way, kind in
                         zip(WAYS, ("tcp", "icmp", "tcp", "udp", "icmp", "tcp"))})

    def detach():
        lab.kill("agent", "b2")
        lab.run("b2", "ip", "link", "set", "dev", "eth0", "xdp", "off")

    def refuse():
        lab.kill("agent", "b2")
        lab.run("b2", BUILD / "controlplane/cli/guideway", "agent", "run", "--once", "--bpf-dir",
                BUILD / "bpf", "--interface", "eth0", "--allow", "192.0.2.0/24")
    goes_down_and_returns(lab, events, TUNNELS, "without an answer|no answer",
                          detach if how == "detached" else refuse, lambda: lab.start("agent", "b2"))


def test_a_stopped_process_is_seen_by_http_and_not_by_tcp(lab):
    ways = ["l2-4", "ipip-4", "l2-6"]
    events = start(lab, {"l2-4": probe("tcp", **PATIENT), "ipip-4": probe("tcp", **PATIENT),
                         "l2-6": probe("http", **PATIENT)}, ways)
    with stopped(nginx_pids(lab, "b2")):
        events.wait("l2-6", nth("l2-6", 2), to="down")
        first = answered(lab, ["l2-4", "ipip-4"])
        eventually(lambda: answered(lab, ["l2-4", "ipip-4"]) >= first + 20)
        assert states(lab, "l2-4") == {nth("l2-4", i): "up" for i in (1, 2, 3)}
        assert states(lab, "ipip-4") == {nth("ipip-4", i): "up" for i in (1, 2, 3)}
    events.wait("l2-6", nth("l2-6", 2), to="up")
    assert {e["pool"] for e in events.of_backends()} == {"l2-6"}


# ---------------------------------------------------------------- our own faults

@both_ports
def test_restarts_of_the_dataplane_change_no_state(lab):
    """Ten of them, by turns killed and ended: pools may be blind, backends do not change."""
    events = start(lab, {way: probe(kind, 30, 30) for way, kind in
                         zip(WAYS, ("tcp", "icmp", "udp", "tcp", "icmp", "udp"))})
    for i in range(10):
        (lab.kill if i % 2 else lab.stop)("dataplane")
        lab.start("dataplane")
        lab.ready()
        first = answered(lab)
        eventually(lambda: answered(lab) > first + 5 and all(
            p["health"]["state"] == "normal" for p in lab.status()["pools"]), 15,
            what=f"probing again after restart {i + 1}")
    assert not events.of_backends(), events.of_backends()
    assert {e["to"] for e in events.read()} <= {"blind", "normal"}


@both_ports
def test_no_dataplane_is_blind_and_kills_nobody(lab):
    """Owned ports: no probe can go out. Shared ones: `edge` stays, and replies go on or are missed."""
    events = start(lab, probe("tcp", 30, 30), ["l2-4", "ipip-4"])
    lab.kill("dataplane")
    try:
        if lab.port == "vdev":
            events.wait("l2-4", to="blind")
            assert pool_status(lab, "l2-4")["health"]["reason"]
        else:
            lab.run("n1", "ip", "link", "set", "dev", "eth1", "xdp", "off")
            event = events.wait("l2-4", to="blind")
            assert "edge" in event["reason"], event
        assert not events.of_backends(), events.of_backends()
    finally:
        lab.start("dataplane")
    events.wait("l2-4", to="normal")
    lab.ready()
    settled(lab, "l2-4", "ipip-4")
    assert not events.of_backends(), events.of_backends()


def test_restarts_of_the_control_plane_flap_nobody(lab):
    """A dead backend does not come back for a moment: no packet goes to it, no request fails."""
    events = start(lab, probe("tcp", 10, 250), ["l2-4", "ipip-4"])
    kill_nginx(lab, "b3")
    try:
        for way in ("l2-4", "ipip-4"):
            events.wait(way, nth(way, 3), to="down", adopted=True)
        lab.counters()
        before = {w: backend_status(lab, w, nth(w, 3))["packets"] for w in ("l2-4", "ipip-4")}
        with Wrk(lab, VIP[4], 120, 4, ["-H", "Connection: close"]) as load, \
                Wrk(lab, TUNNEL_VIP[4], 120, 4, ["-H", "Connection: close"]) as tunnelled:
            for i in range(4):
                (lab.kill if i % 2 else lab.stop)("controlplane")
                lab.start("controlplane")
                eventually(lambda: lab.try_status() and all(states(lab, w) == {
                    nth(w, 1): "up", nth(w, 2): "up", nth(w, 3): "down"} for w in before),
                    what=lambda: {w: states(lab, w) for w in before})
                restarted = lab.api().must("GET", "/v1/events?since=1&limit=10000")["events"]
                wrong = [e for e in restarted if e["backend"] and
                         (e["to"] != "down" if e["backend"].endswith("23") else e["to"] == "down")]
                assert not wrong, wrong
            load.stop().must_be_clean(100)
            tunnelled.stop().must_be_clean(100)
        lab.counters()
        after = {w: backend_status(lab, w, nth(w, 3))["packets"] for w in before}
        assert after == before, "packets to the dead backend"
    finally:
        lab.start("nginx", "b3")
    settled(lab, "l2-4", "ipip-4")


# ---------------------------------------------------------------- panic

def dns_map(lab, vip, ports=range(30000, 30060)):
    return {port: ask_dns(lab, vip, port, port) for port in ports}


@pytest.mark.parametrize("way", ["l2-4", "ipip-6"])
def test_panic_keeps_the_order(lab, way):
    """All HTTP servers die at once; DNS, in the same pool, goes on at the same backends."""
    events = start(lab, probe("tcp", **PATIENT), [way])
    others, still_others = range(31000, 31030), range(32000, 32030)  # a flow stays where it began
    before, before_others = dns_map(lab, WAYS[way][2]), dns_map(lab, WAYS[way][2], still_others)
    for role in ("b1", "b2", "b3"):
        kill_nginx(lab, role)
    try:
        event = events.wait(way, to="panic")
        assert event["reason"]
        eventually(lambda: set(states(lab, way).values()) == {"down"})
        health = pool_status(lab, way)["health"]
        assert health["state"] == "panic" and health["since"], health
        assert dns_map(lab, WAYS[way][2]) == before
        assert "panic" in lab.log("controlplane")
        lab.start("nginx", "b1")  # one is enough to leave it
        events.wait(way, nth(way, 1), to="up")
        events.wait(way, to="normal", adopted=True)
        assert set(dns_map(lab, WAYS[way][2], others).values()) == {"b1"}
    finally:
        for role in ("b1", "b2", "b3"):
            start_nginx(lab, role)
    settled(lab, way)
    assert dns_map(lab, WAYS[way][2], still_others) == before_others


# ---------------------------------------------------------------- strangers

@both_ports
def test_a_stranger_changes_no_verdict(lab, quick):
    """Forged replies, from the backends' addresses and the VIPs: the dead stay dead, the living alive.
    On a shared port at full rate. All that comes to an owned port crosses the dataplane and the TAP,
    so there at a rate that these carry: what does not get through is lost, genuine replies as well."""
    probes = {way: probe(kind, 10, 250) for way, kind in
              zip(WAYS, ("tcp", "icmp", "udp", "tcp", "icmp", "udp"))}
    events = start(lab, probes)
    lab.run("router", "ip", "link", "set", "b3", "down")
    try:
        for way in WAYS:
            events.wait(way, nth(way, 3), to="down")
        events.forget()
        with Flood(lab, [(family, vip, nth(way, 3), nth(way, 1)) for way, (_, family, vip)
                         in WAYS.items()]) as flood:
            flood.send(1.5 if quick else 4, 10_000 if lab.port == "vdev" else None)
            assert flood.sent > 10_000, flood.sent
            assert lab.pid("dataplane") and lab.pid("controlplane")
            changes = [e for e in events.of_backends() if not e["to"] == "no_next_hop"
                       and not e["from"] == "no_next_hop"]
            assert not changes, changes
            assert all(states(lab, w)[nth(w, 3)] in ("down", "no_next_hop") for w in WAYS)
    finally:
        lab.run("router", "ip", "link", "set", "b3", "up")
    settled(lab, *WAYS, seconds=30)


# ---------------------------------------------------------------- configuration

POOL = "/v1/pools/l24"
BAD = {
    "interval 0": (POOL, {"probe": probe("tcp", interval_ms=0)}, "pools.l24.probe.interval_ms"),
    "interval too long": (POOL, {"probe": probe("tcp", interval_ms=60_001)},
                          "pools.l24.probe.interval_ms"),
    "interval is text": (POOL, {"probe": probe("tcp", interval_ms="10ms")},
                         "pools.l24.probe.interval_ms"),
    "time-out 0": (POOL, {"probe": probe("icmp", timeout_ms=0)}, "pools.l24.probe.timeout_ms"),
    "fall 0": (POOL, {"probe": probe("tcp", fall=0)}, "pools.l24.probe.fall"),
    "fall 101": (POOL, {"probe": probe("tcp", fall=101)}, "pools.l24.probe.fall"),
    "rise 0": (POOL, {"probe": probe("udp", rise=0)}, "pools.l24.probe.rise"),
    "rise is negative": (POOL, {"probe": probe("udp", rise=-1)}, "pools.l24.probe.rise"),
    "unknown kind": (POOL, {"probe": {"kind": "ping"}}, "pools.l24.probe.kind"),
    "no kind": (POOL, {"probe": {"port": 80}}, "pools.l24.probe.kind"),
    "port 0": (POOL, {"probe": probe("tcp", port=0)}, "pools.l24.probe.port"),
    "port 65536": (POOL, {"probe": probe("http", port=65536)}, "pools.l24.probe.port"),
    "no port": (POOL, {"probe": {"kind": "tcp"}}, "pools.l24.probe.port"),
    "port of icmp": (POOL, {"probe": probe("icmp", port=7)}, "pools.l24.probe.port"),
    "path without slash": (POOL, {"probe": probe("http", path="healthz")}, "pools.l24.probe.path"),
    "path empty": (POOL, {"probe": probe("http", path="")}, "pools.l24.probe.path"),
    "path of two lines": (POOL, {"probe": probe("http", path="/a\r\nX: y")}, "pools.l24.probe.path"),
    "path too long": (POOL, {"probe": probe("http", path="/" + "a" * 255)}, "pools.l24.probe.path"),
    "host of two lines": (POOL, {"probe": probe("http", host="a\r\nb")}, "pools.l24.probe.host"),
    "unknown query": (POOL, {"probe": probe("udp", query="ntp")}, "pools.l24.probe.query"),
    "unknown field": (POOL, {"probe": probe("tcp", colour="red")}, "pools.l24.probe.colour"),
    "probe is text": (POOL, {"probe": "tcp:80"}, "pools.l24.probe"),
    "slow start too long": (POOL, {"slow_start_ms": 3_600_001}, "pools.l24.slow_start_ms"),
    "unknown mode": (POOL + "/backends/10.0.0.21", {"mode": "resting"},
                     "pools.l24.backends.10.0.0.21.mode"),
    "deadline below 0": (POOL + "/backends/10.0.0.21", {"mode": "draining", "deadline_s": -1},
                         "pools.l24.backends.10.0.0.21.deadline_s"),
    "deadline without drain": (POOL + "/backends/10.0.0.21", {"mode": "enabled", "deadline_s": 5},
                               "pools.l24.backends.10.0.0.21.deadline_s"),
    "events since nonsense": ("/v1/events?since=now", None, "since"),
    "no such limit": ("/v1/events?limit=-1", None, "limit"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configuration_is_refused(lab, name):
    path, body, field = BAD[name]
    before = lab.api().must("GET", "/v1/intent")
    answer = lab.api().request("GET" if body is None else "PUT", path, body)
    assert answer.status == 400, answer
    assert answer.error["field"] == field, answer
    assert answer.error["message"], answer
    assert lab.api().must("GET", "/v1/intent") == before, "a refused request changes nothing"


def test_probing_every_millisecond(lab):
    """The shortest interval that there is works; changing it keeps nobody's state waiting."""
    start(lab, probe("tcp", 1, 250), ["l2-4", "ipip-4"])
    first, began = answered(lab, ["l2-4", "ipip-4"]), time.monotonic()
    eventually(lambda: answered(lab, ["l2-4", "ipip-4"]) >= first + 500)
    assert time.monotonic() - began < 5
    start(lab, probe("icmp", 100, 100), ["l2-4", "ipip-4"])


def test_a_pool_that_goes_and_comes_back_is_judged_anew(lab):
    """At once, before anybody noticed that it was away."""
    start(lab, probe("tcp"), ["l2-4"])
    intent = {k: lab.api().get("/v1/intent").body[k] for k in ("pools", "services")}
    for _ in range(10):
        lab.api().must("PUT", "/v1/intent", {"pools": {}, "services": {}})
        lab.api().must("PUT", "/v1/intent?wait=adopted", intent)
        settled(lab, "l2-4")
