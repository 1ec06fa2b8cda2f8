# SPDX-License-Identifier: Apache-2.0
"""`gue`: established connections survive every planned change."""
import random

import pytest

from health import PATIENT, Events, kill_nginx, probe, settled, start_nginx
from held import HeldConnections, off, on
from lab import eventually
from traffic import Wrk, backend_addresses, backend_role, get, host, tally

BACKENDS = 6
VIP = {4: "203.0.113.60", 6: "2001:db8:203::60"}
ways = pytest.mark.parametrize("way", ["4 in 4", "6 in 6", "4 in 6", "6 in 4"])


@pytest.fixture(scope="module")
def five(new_lab):
    return new_lab(backends=BACKENDS)


@pytest.fixture(autouse=True)
def _tell(request, five):
    """On failure, what the control plane said last."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(five.log("controlplane")[-6000:])


class Gue:
    """One pool with some of the lab's backends; names them b1 to b5."""

    def __init__(self, lab, way="4 in 4", members=(1, 2, 3, 4, 5), **pool):
        self.lab = lab
        self.vip = VIP[int(way[0])]
        self.addresses = backend_addresses(int(way[-1]), BACKENDS)
        lab.api().must("PUT", "/v1/intent?wait=adopted", {"pools": {}, "services": {}})
        lab.api().must("PUT", "/v1/intent?wait=adopted", {
            "pools": {"web": {"forwarding": "gue", "probe": probe("tcp", **PATIENT), **pool,
                              "backends": {self.addresses[i - 1]: {} for i in members}}},
            "services": {f"{host(self.vip)}:{port}/tcp": {"pool": "web"} for port in (80, 7)}})
        settled(lab, "web")

    def become(self, *members):
        """Those and no others."""
        self.lab.api().must("PUT", "/v1/pools/web?wait=adopted", {
            "backends": {self.addresses[i - 1]: {} for i in members}})

    def put(self, name, **fields):
        address = self.addresses[int(name[1:]) - 1]
        self.lab.api().must("PUT", f"/v1/pools/web/backends/{address}?wait=adopted", fields)

    def remove(self, name):
        address = self.addresses[int(name[1:]) - 1]
        self.lab.api().must("DELETE", f"/v1/pools/web/backends/{address}?wait=adopted")

    def pool(self):
        return next(p for p in self.lab.status()["pools"] if p["name"] == "web")

    def change(self):
        return self.pool()["change"]

    def is_committed(self):
        status = self.lab.status()
        change = next(p for p in status["pools"] if p["name"] == "web")["change"]
        return not change["wanted"] and change["incoming"] is None and \
            status["dataplane"]["revision"] == status["revision"]

    def committed(self, seconds=90):
        """The table in use is the wanted one."""
        eventually(self.is_committed, seconds, what=lambda: f"committed: {self.change()}")

    def at_rest(self, seconds=90):
        """And nothing of before is left."""
        self.committed()
        eventually(lambda: not self.change()["earlier"], seconds,
                   what=lambda: f"at rest: {self.change()}")

    def modes(self):
        return {backend_role(b["address"]): b["mode"] for b in self.pool()["backends"]}


@ways
def test_http(five, way):
    gue = Gue(five, way)
    assert len(tally(five, gue.vip, 60)) == 5
    with Wrk(five, gue.vip, 2) as wrk:
        wrk.result().must_be_clean()


@ways
def test_planned_changes_break_nothing(five, way):
    """Drain, add, remove, re-weight, one after another, with data flowing all the time."""
    gue = Gue(five, way, members=(1, 2, 3, 4))
    with HeldConnections(five, gue.vip) as held:
        held.open(120)
        assert {one.name for one in held.all} == {"b1", "b2", "b3", "b4"}
        for change in (lambda: gue.put("b5", weight=100), lambda: gue.put("b1", weight=10),
                       lambda: gue.put("b2", mode="draining", deadline_s=0)):
            change()
            gue.committed()
            held.open(30)
            held.flow()
        assert not on(held.all[-30:], "b2"), "new connections on a draining backend"
        assert on(held.all, "b5"), "no connection on the new backend"
        # What holds b2 is its connections: they end, and with them the drain.
        assert gue.modes()["b2"] == "draining"
        held.close(on(held.all, "b2"))
        eventually(lambda: gue.modes()["b2"] == "disabled", 90, what=lambda: f"{gue.change()}")
        gue.remove("b2")
        gue.committed()
        held.flow()
    gue.at_rest()


def test_a_node_restart_in_the_middle(five):
    """kill -9 of either daemon between any two steps."""
    gue = Gue(five, members=(1, 2, 3, 4))
    with HeldConnections(five, gue.vip) as held:
        held.open(100)
        for i, name in enumerate(("b1", "b2", "b3", "b4")):
            what = ("controlplane", "dataplane")[i % 2]
            gue.put(name, weight=40 + i)
            five.kill(what)
            five.start(what)
            five.ready()
            gue.committed()
            held.flow()
            gue.put(name, weight=100)
            gue.committed()
        held.flow()


def test_a_change_without_room_waits_for_the_connections_of_the_first_owner(five):
    """However old they are, until the last one ends; and nothing breaks."""
    gue = Gue(five, members=(1, 2))

    def waits(*texts):
        def told():
            said = gue.change()["waits"] or ""
            return all(text in said for text in texts)
        eventually(told, 90, what=lambda: f"{texts} in {gue.change()}")
        assert gue.change()["wanted"] and gue.change()["incoming"] is None
    with HeldConnections(five, gue.vip) as held:
        first = held.open(20)
        gue.become(3, 4)
        gue.committed()
        assert {one.name for one in held.open(20)} == {"b3", "b4"}
        gue.become(5, 6)
        waits("would need 5 hops, and 4 is the most", "still holds")
        held.flow()
        assert {one.name for one in held.open(10)} <= {"b3", "b4"}
        held.close(first[1:])
        waits(f"{gue.addresses[int(first[0].name[1:]) - 1]} still holds 1 connection from epoch")
        held.flow()
        held.close(first[:1])
        gue.committed()
        held.flow()
        assert {one.name for one in held.open(20)} == {"b5", "b6"}
        held.flow()


def test_a_failure_and_its_recovery(five):
    """Connections to the others stay; those that began on a stand-in survive the owner's return."""
    gue = Gue(five)
    events = Events(five.api())
    with HeldConnections(five, gue.vip) as held:
        held.open(100)
        five.run("router", "ip", "link", "set", "b3", "down")
        try:
            events.wait("web", gue.addresses[2], to="down", adopted=True)
            others = off(held.all, "b3")
            held.flow(others)
            held.close(on(held.all, "b3"))
            new = held.open(60)
            assert not on(new, "b3")
        finally:
            five.run("router", "ip", "link", "set", "b3", "up")
        settled(five, "web")
        held.flow(others + new)
        assert on(held.open(60), "b3")
        held.flow()


def test_a_dead_backend_that_was_removed_stays_dead(five):
    """While the plan still names it. Only its web server is dead here: its echo would answer."""
    gue = Gue(five, members=(1, 2))
    events = Events(five.api())
    with HeldConnections(five, gue.vip) as held:
        first = held.open(20)
        gue.become(3, 4)
        gue.committed()
        held.open(20)
        kill_nginx(five, "b3")
        try:
            events.wait("web", gue.addresses[2], to="down", adopted=True)
            gue.become(5, 6)
            eventually(lambda: "would need 5 hops" in (gue.change()["waits"] or ""), 90,
                       what=lambda: f"waits: {gue.change()}")
            assert {one.name for one in held.open(40)} == {"b4"}
            held.flow(first + on(held.all, "b4"))
        finally:
            start_nginx(five, "b3")
        # It is probed as before.
        eventually(lambda: on(held.open(10), "b3"), 90, what="new connections on b3")
        held.close(first)
        gue.committed()
        held.flow()


def test_random_changes(five, quick):
    """Whatever is asked, in any order."""
    rng = random.Random(11)
    gue = Gue(five, members=(1, 2, 3, 4, 5))
    with HeldConnections(five, gue.vip) as held:
        held.open(60)
        for _ in range(8 if quick else 25):
            name = f"b{rng.randint(1, 5)}"
            what = rng.randint(0, 3)
            modes = gue.modes()
            if what == 0 and sum(m == "enabled" for m in modes.values()) > 2 and name in modes:
                gue.put(name, mode="draining", deadline_s=0)
            elif what == 1 and name in modes:
                gue.put(name, mode="enabled", weight=rng.randint(1, 200))
            elif what == 2 and sum(m == "enabled" for m in modes.values()) > 3 and name in modes:
                gue.remove(name)
            else:
                gue.put(name, mode="enabled")

            # What waits, waits for old connections: they end.
            def goes_on():
                held.close(held.all[:10])
                held.open(10)
                held.flow()
                return gue.is_committed()
            eventually(goes_on, 90, what=lambda: f"committed: {gue.change()}")
    gue.at_rest()
