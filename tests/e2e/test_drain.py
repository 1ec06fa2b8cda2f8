# SPDX-License-Identifier: Apache-2.0
"""Drain, slow start, failure and recovery: what has begun somewhere stays there."""
import re
import subprocess
import time

import pytest

from health import Events, backend_status, probe, settled, states
from held import HeldConnections, off, on
from lab import BUILD, eventually
from traffic import TUNNEL_VIP, VIP, backend_addresses, host

CONNECTIONS = 200  # of these 50 and more are on each of three backends

ways = pytest.mark.parametrize("way", ["l2 v4", "l2 v6", "ipip v4", "ipip v6"])
POOL = "web"


class Way:
    """One pool with the three backends at one VIP, and the connections to it."""

    def __init__(self, lab, text, **pool):
        forwarding, family = text.split()[0], int(text[-1])
        self.lab = lab
        self.vip = (VIP if forwarding == "l2" else TUNNEL_VIP)[family]
        self.backends = backend_addresses(family)
        self.second = self.backends[1]  # which is b2
        services = {f"{host(self.vip)}:{port}": {"pool": POOL} for port in ("80/tcp", "7/tcp")}
        lab.apply({"pools": {POOL: {
            "forwarding": forwarding, "backends": {a: {"mode": "enabled"} for a in self.backends},
            **pool}}, "services": services})
        settled(lab, POOL)

    def put(self, address=None, **fields):
        self.lab.api().must("PUT", f"/v1/pools/{POOL}/backends/{address or self.second}?wait=adopted",
                            fields)

    def status(self, address=None):
        return backend_status(self.lab, POOL, address or self.second)

    def state(self, address=None):
        return self.status(address)["state"]


def some_on_each(held, count=CONNECTIONS, least=40):
    new = held.open(count)
    for name in ("b1", "b2", "b3"):
        assert len(on(new, name)) >= least, {o.name for o in new}
    return new


@ways
def test_drain_and_enable(lab, way):
    """Those of the draining backend live on, new ones go elsewhere, and all outlive its return."""
    web = Way(lab, way)
    with HeldConnections(lab, web.vip) as held:
        old = some_on_each(held)
        assert len(on(old, "b2")) >= 50 or CONNECTIONS < 200
        web.put(mode="draining")
        assert web.state() == "draining"
        held.flow(old)
        new = held.open(60)
        assert not on(new, "b2")
        held.flow(old + new)
        web.put(mode="enabled")
        assert web.state() == "up"
        later = some_on_each(held, 90, 15)
        held.flow(old + new + later)
        web.put(mode="draining")  # again: those that began on stand-ins are still there
        assert not on(held.open(30), "b2")
        held.flow()
        web.put(mode="enabled")
        held.flow()
    assert set(states(lab, POOL).values()) == {"up"}


@pytest.mark.parametrize("way", ["l2 v4", "ipip v6"])
def test_removal_after_drain(lab, way):
    web = Way(lab, way)
    with HeldConnections(lab, web.vip) as held:
        some_on_each(held)
        web.put(mode="draining")
        held.open(60)
        held.close(on(held.all, "b2"))
        held.flow()
        web.lab.api().must("DELETE", f"/v1/pools/{POOL}/backends/{web.second}?wait=adopted")
        held.flow()


@pytest.mark.parametrize("way", ["l2 v4", "ipip v4"])
def test_the_deadline_ends_a_drain(lab, way):
    """Then it is disabled: its connections end, others do not notice."""
    web = Way(lab, way)
    events = Events(lab.api())
    with HeldConnections(lab, web.vip) as held:
        old = some_on_each(held)
        web.put(mode="draining", deadline_s=2)
        status = web.status()
        assert status["mode"] == "draining" and status["drain_until"], status
        new = held.open(30)
        events.wait(POOL, web.second, to="disabled", adopted=True)
        assert web.status()["mode"] == "disabled"
        eventually(lambda: all(one.broken for one in on(old, "b2")), what="b2's connections end")
        held.flow(off(old, "b2") + new)
        assert not on(held.open(30), "b2")
        web.put(mode="enabled")
        held.flow(off(old, "b2") + new)


def test_enable_cancels_the_deadline(lab):
    web = Way(lab, "l2 v4")
    events = Events(lab.api())
    web.put(mode="draining", deadline_s=1)
    web.put(mode="enabled")
    until = time.monotonic() + 2.5
    eventually(lambda: time.monotonic() > until, 5)  # the deadline is over
    assert web.status()["mode"] == "enabled" and web.status()["drain_until"] is None
    assert not events.find(POOL, web.second, to="disabled"), events.read()


def test_a_deadline_outlives_the_control_plane(lab):
    web = Way(lab, "l2 v4")
    web.put(mode="draining", deadline_s=1)
    lab.kill("controlplane")
    lab.start("controlplane")
    eventually(lambda: lab.try_status() and web.state() == "disabled", what="disabled")
    web.put(mode="enabled")


def test_disabled_takes_nothing_and_moves_nobody(lab):
    web = Way(lab, "l2 v4")
    with HeldConnections(lab, web.vip) as held:
        old = some_on_each(held)
        web.put(mode="disabled")
        assert web.state() == "disabled"
        eventually(lambda: all(one.broken for one in on(old, "b2")), what="b2's connections end")
        new = held.open(60)
        assert not on(new, "b2")
        held.flow(off(old, "b2") + new)
        web.put(mode="enabled")
        held.flow(off(old, "b2") + new)


def guideway(lab, *arguments):
    return subprocess.run([BUILD / "controlplane/cli/guideway", "--socket",
                           lab.state / "n1/run/control.sock", *arguments],
                          capture_output=True, text=True, timeout=60)


def test_by_the_command_line(lab):
    web = Way(lab, "l2 v4")
    done = guideway(lab, "backend", "drain", POOL, web.second, "--deadline", "10m")
    assert done.returncode == 0, done
    assert web.state() == "draining"
    assert re.search(r"up\s.*draining", guideway(lab, "events").stdout)
    assert "draining" in guideway(lab, "status").stdout
    assert guideway(lab, "backend", "enable", POOL, web.second).returncode == 0
    assert web.state() == "up"
    assert guideway(lab, "backend", "disable", POOL, web.second).returncode == 0
    assert web.state() == "disabled"
    assert guideway(lab, "backend", "enable", POOL, web.second).returncode == 0
    done = guideway(lab, "backend", "drain", POOL, web.second, "--wait", "--deadline", "1s")
    assert done.returncode == 0 and web.state() == "disabled", done
    assert guideway(lab, "backend", "enable", POOL, web.second).returncode == 0
    for wrong in (["backend", "drain", POOL, "10.9.9.9"], ["backend", "drain", "nobody", web.second],
                  ["backend", "drain", POOL, web.second, "--deadline", "soon"]):
        done = guideway(lab, *wrong)
        assert done.returncode != 0 and done.stderr, done


@pytest.mark.parametrize("way", ["l2 v4", "ipip v6"])
def test_slow_start(lab, way):
    """Its share grows step by step; nobody's connection moves meanwhile, new or old."""
    web = Way(lab, way, slow_start_ms=4000)
    with HeldConnections(lab, web.vip) as held:
        some_on_each(held)
        web.put(mode="disabled")
        held.close(on(held.all, "b2"))
        held.open(50)
        web.put(mode="enabled")
        shares = [web.status()["share_now"]]
        until = time.monotonic() + 20
        while shares[-1] < 1 and time.monotonic() < until:
            if len(shares) == 1 or shares[-1] != shares[-2]:
                held.open(5)
            shares.append(web.status()["share_now"])
        held.flow()
        assert 0 < shares[0] < 0.5 and shares == sorted(shares) and len(set(shares)) > 5, shares
        assert {b["share_now"] for b in lab.status()["pools"][0]["backends"]} == {1}
        some_on_each(held, 90, 15)
        held.flow()


@ways
def test_failure_and_recovery(lab, way):
    """Those on the others do not notice; those that began on a stand-in outlive the recovery."""
    web = Way(lab, way, probe=probe("tcp", 10, 200))
    events = Events(lab.api())
    with HeldConnections(lab, web.vip) as held:
        old = some_on_each(held)
        lab.stop("nginx", "b2")
        events.wait(POOL, web.second, to="down", adopted=True)
        eventually(lambda: all(one.broken for one in on(old, "b2")), what="b2's connections end")
        new = held.open(60)
        assert not on(new, "b2")
        held.flow(off(old, "b2") + new)
        lab.start("nginx", "b2")
        events.wait(POOL, web.second, to="up", adopted=True)
        later = some_on_each(held, 90, 15)
        held.flow(off(old, "b2") + new + later)
        lab.stop("nginx", "b2")  # once more, with connections on owners and stand-ins
        events.wait(POOL, web.second, **{"from": "up", "to": "down"}, adopted=True)
        held.flow(off(old + later, "b2") + new)
        lab.start("nginx", "b2")
        settled(lab, POOL)
        held.flow(off(old + later, "b2") + new)


def test_a_drained_backend_that_dies_is_down(lab):
    web = Way(lab, "l2 v4", probe=probe("tcp", 10, 200))
    events = Events(lab.api())
    web.put(mode="draining")
    lab.stop("nginx", "b2")
    try:
        events.wait(POOL, web.second, to="down")
        with HeldConnections(lab, web.vip) as held:
            assert not on(held.open(30), "b2")
    finally:
        lab.start("nginx", "b2")
    events.wait(POOL, web.second, to="draining")
    web.put(mode="enabled")
    settled(lab, POOL)
