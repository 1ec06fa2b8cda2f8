# SPDX-License-Identifier: Apache-2.0
"""Who does what in scripts/torture: planned changes, restarts, flips of the route. Each draws from
a source of its own, so that what it does depends on the seed alone, and only when on the clock."""
import random
import threading
import time
from urllib.parse import quote

from lab import eventually
from torture_lab import FAMILY, MEMBERS_AT_FIRST
from traffic import backend_addresses

LEAST_ENABLED = 3
HELD_BACK_S = 120.0    # the longest that a change may take
GIVE_UP_S = 240.0      # a change that takes so long is not waited for any more


class Actor(threading.Thread):
    """Goes on until stop(); what it raises ends the run."""

    def __init__(self, run, name):
        super().__init__(name=name, daemon=True)
        self.torture = run
        self.random = random.Random(f"{run.seed} {name}")
        self.error = None

    def run(self):
        try:
            self.act()
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"{self.name}: {type(error).__name__}: {error}"
            self.torture.ending.set()

    def pause(self, first, last):
        """Whether the run goes on."""
        return not self.torture.ending.wait(self.random.uniform(first, last))


class Changes(Actor):
    """Changes one pool, one change after another, each when the one before is committed."""

    def __init__(self, run, pool, count):
        super().__init__(run, f"changes of {pool}")
        self.pool, self.count = pool, count
        self.members = {a: 100 for a in backend_addresses(FAMILY[pool], run.lab.backend_count)
                        [:MEMBERS_AT_FIRST]}  # weights; 0: no new flows, by mode or by weight
        self.waits = []    # seconds to the commit, of each
        self.stuck = []
        self.kinds = {}

    def act(self):
        for _ in range(self.count):
            if not self.pause(0, 1.5):
                return
            kind, address, method, body = self.draw()
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            node = self.random.choice(self.torture.lab.nodes)
            text = f"{kind} {address}" + (f" {body}" if body else "")
            self.torture.log.add(f"change by {node}: {self.pool}: {text}")
            begun = time.time()
            revision = self.torture.truth.change(
                node, method, f"/v1/pools/{self.pool}/backends/{quote(address)}", body)
            self.wait(text, revision, begun)

    def wait(self, text, revision, begun):
        since = time.time()
        while not self.torture.views.committed(self.pool, revision, since):
            if time.time() - begun > GIVE_UP_S:
                self.stuck.append(f"{self.pool}: {text}: {self.torture.views.waits(self.pool)}")
                raise AssertionError(f"no commit within {GIVE_UP_S} s: {self.stuck[-1]}")
            if self.torture.ending.wait(0.03):
                return
        took = time.time() - begun
        self.waits.append((took, f"{self.pool}: {text}"))
        self.torture.log.add(f"committed after {took:.1f} s: {self.pool}: {text}")

    def draw(self):
        """(kind, address, method, body) of the next change, and what it makes of the members."""
        every = backend_addresses(FAMILY[self.pool], self.torture.lab.backend_count)
        absent = [a for a in every if a not in self.members]
        live = [a for a in every if self.members.get(a)]
        idle = [a for a in every if self.members.get(a) == 0]
        stock = self.torture.forwarding != "gue"
        may_go = idle + (live if len(live) > LEAST_ENABLED else [])
        kinds = {"weight": (3, live), "add": (3, absent), "enable": (2, idle),
                 "remove": (3, may_go), "drain": (3, live if len(live) > LEAST_ENABLED else []),
                 "weight 0": (0.5, live if len(live) > LEAST_ENABLED else [])}
        kinds = {k: v for k, v in kinds.items() if v[1]}
        kind = self.random.choices(list(kinds), [v[0] for v in kinds.values()])[0]
        address = self.random.choice(kinds[kind][1])
        weight = self.random.choice([n for n in (20, 50, 100, 150, 200)
                                     if n != self.members.get(address)])
        if kind == "remove":
            del self.members[address]
            return kind, address, "DELETE", None
        if kind in ("drain", "weight 0"):
            self.members[address] = 0
            return kind, address, "PUT", {"mode": "draining", "deadline_s": 60 if stock else 0} \
                if kind == "drain" else {"weight": 0}
        self.members[address] = weight
        if kind == "weight":
            return kind, address, "PUT", {"weight": weight}
        return kind, address, "PUT", {"mode": "enabled", "weight": weight}


class Restarts(Actor):
    """kill -9, or an orderly end, of one process after another."""

    def __init__(self, run, every_s):
        super().__init__(run, "restarts")
        self.every_s = every_s
        lab = run.lab
        self.candidates = [(node, "controlplane") for node in lab.nodes]
        if run.dataplane_restarts:
            self.candidates += [(node, "dataplane") for node in lab.nodes]
        self.others = [(role, "etcd") for role in lab.etcd_roles] + \
            [(role, "agent") for role in lab.backends]
        self.counts = {}

    def act(self):
        turn = []
        while self.pause(*self.every_s):
            # Each in turn, in an order that is drawn: a short run meets all of them, too.
            if not turn:
                turn = self.candidates + self.random.sample(self.others, min(2, len(self.others)))
                self.random.shuffle(turn)
            role, what = turn.pop()
            hard = self.random.random() < 0.6
            gone_s = self.random.choice((0, 0, 0.3, 1.0))
            self.restart(role, what, hard, gone_s)

    def restart(self, role, what, hard, gone_s):
        lab, log = self.torture.lab, self.torture.log
        self.counts[what] = self.counts.get(what, 0) + 1
        log.add(f"{'kill -9' if hard else 'orderly end'} of {what} on {role}")
        (lab.kill if hard else lab.stop)(what, role)
        self.torture.ending.wait(gone_s)
        lab.start(what, role)
        log.add(f"{what} on {role} is started")
        if role in lab.nodes:
            def well():
                status = lab.try_status(role)
                return status and status["dataplane"]["connected"] and status["dataplane"]["alive"]
            eventually(well, 60, 0.05, what=f"{what} on {role} is well again")


class Flips(Actor):
    """The router's route to the VIPs: by one node, by the other, by both in either order; of one
    family or of both."""

    def __init__(self, run, every_s):
        super().__init__(run, "flips")
        self.every_s = every_s
        self.count = 0

    def act(self):
        nodes = self.torture.lab.nodes
        while self.pause(*self.every_s):
            orders = {family: self.random.sample(nodes, self.random.randint(1, len(nodes)))
                      for family in self.random.choice(((4,), (6,), (4, 6), (4, 6)))}
            for family, order in orders.items():
                self.torture.log.add(f"route to the VIPs of IPv{family} now by {' '.join(order)}")
                self.torture.lab.route(family, order)
            self.count += 1
