# SPDX-License-Identifier: Apache-2.0
"""`l2` and `ipip`, whose backends are stock kernels: planned changes keep the connections that stay
on their node."""
from urllib.parse import quote

import pytest

from health import PATIENT, probe, settled
from held import HeldConnections, on
from lab import eventually
from traffic import CLIENT, TUNNEL_VIP, VIP, backend_addresses, backend_role, host

BACKENDS = 5
ways = pytest.mark.parametrize("way", [("l2", 4, VIP), ("l2", 6, VIP), ("ipip", 4, TUNNEL_VIP),
                                       ("ipip", 6, TUNNEL_VIP)], ids=["l2-4", "l2-6", "ipip-4", "ipip-6"])


@pytest.fixture(scope="module")
def five(new_lab):
    return new_lab(backends=BACKENDS)


class Stock:
    """One pool; names its backends b1 to b5."""

    def __init__(self, lab, way, members, **pool):
        self.lab, (forwarding, family, vips) = lab, way
        self.vip = vips[family]
        self.addresses = backend_addresses(family, BACKENDS)
        lab.api().must("PUT", "/v1/intent?wait=adopted", {"pools": {}, "services": {}})
        lab.api().must("PUT", "/v1/intent?wait=adopted", {
            "pools": {"web": {"forwarding": forwarding, "probe": probe("tcp", **PATIENT), **pool,
                              "backends": {self.addresses[i - 1]: {} for i in members}}},
            "services": {f"{host(self.vip)}:{port}/tcp": {"pool": "web"} for port in (80, 7)}})
        settled(lab, "web")

    def put(self, name, **fields):
        address = self.addresses[int(name[1:]) - 1]
        self.lab.api().must("PUT", f"/v1/pools/web/backends/{address}?wait=adopted", fields)

    def remove(self, name):
        address = self.addresses[int(name[1:]) - 1]
        self.lab.api().must("DELETE", f"/v1/pools/web/backends/{address}?wait=adopted")

    def members(self):
        pool = next(p for p in self.lab.status()["pools"] if p["name"] == "web")
        return {backend_role(b["address"]): b for b in pool["backends"]}

    def up(self, name):
        eventually(lambda: self.members()[name]["state"] == "up", what=f"{name} is up")


def roles(lab, stock, sources):
    """Of all hops in the slots of connections from these ports."""
    return {hop["role"] for source in sources
            for hop in lab.api().get(
                f"/v1/explain?client={CLIENT[4]}:{source}"
                f"&service={quote(f'{stock.vip}:7/tcp')}").body["hops"]}


@ways
def test_planned_changes_break_nothing(five, way):
    stock = Stock(five, way, members=(1, 2, 3, 4))
    with HeldConnections(five, stock.vip) as held:
        held.open(100)
        changes = (lambda: stock.put("b5", weight=100), lambda: stock.put("b1", weight=10),
                   lambda: stock.remove("b2"), lambda: stock.put("b3", mode="draining", deadline_s=0),
                   lambda: stock.put("b1", weight=200), lambda: stock.put("b4", weight=0),
                   lambda: stock.put("b2", weight=100))
        for change in changes:
            change()
            held.flow()
            held.open(20)
            held.flow()
        stock.up("b5")
        assert on(held.open(40), "b5"), "no connection on the new backend"
        held.flow()


@ways
def test_who_is_taken_away_gets_nothing_new(five, way):
    stock = Stock(five, way, members=(1, 2, 3))
    with HeldConnections(five, stock.vip) as held:
        held.open(60)
        theirs = on(held.all, "b2")
        assert theirs
        stock.remove("b2")
        assert "b2" not in stock.members()
        assert not on(held.open(40), "b2")
        held.flow()
        assert on(held.all, "b2") == theirs


def test_it_settles(five):
    """A moment after the last change all is as if there had been none."""
    stock = Stock(five, ("ipip", 4, TUNNEL_VIP), members=(1, 2, 3, 4), hold_s=2)
    with HeldConnections(five, stock.vip) as held:
        held.open(60)
        sources = [one.source for one in held.all]
        stock.remove("b2")
        held.flow()
        before = five.status()["revision"]
        assert "earlier" in roles(five, stock, sources)
        held.close(on(held.all, "b2"))

        def settled_again():
            status = five.status()
            return status["revision"] > before and \
                status["dataplane"]["revision"] == status["revision"]
        eventually(settled_again, 20, what="a table without the past")
        assert roles(five, stock, sources) == {"owner", "stand-in"}
        held.flow()
        held.open(20)
        held.flow()
