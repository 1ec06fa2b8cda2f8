# SPDX-License-Identifier: Apache-2.0
"""The kinds of failure: how each is caused at once, and undone."""
import os
import signal
import time

from failure_lab import merged, one_pool
from health import LOCAL4, probe
from lab import eventually

DEEP_VIP = "203.0.113.40"  # of the pool that http probes watch
HTTP_MS = 50               # interval and time-out of http probes
LOSS = """table inet loss {
  chain in { type filter hook prerouting priority -300; numgen random mod 100 < 30 drop; }
  chain out { type filter hook postrouting priority 300; numgen random mod 100 < 30 drop; }
}
"""


class Kind:
    """One kind of failure. `cause` and `undo` return at once; times are taken right before them."""

    name = title = ""
    pool = "web"
    forwarding = "l2"
    timed = True     # it has a moment, and is worth a hundred rounds
    outage_s = 2.5   # with load; longer than a lost SYN takes to be sent again
    quick_outage_s = 1.5
    damped = False   # comes back only after it was good for long
    everybody = False

    def intent(self):
        return one_pool("web", self.forwarding, probe("tcp"))

    def vip(self, intent):
        return next(s for s, v in intent["services"].items() if v["pool"] == self.pool).split(":")[0]

    def prepare(self, failures):
        """Before any round: what must not cost time in one."""

    def finish(self, failures):
        """After all rounds: the lab as it was."""

    def cause(self, failures, role):
        raise NotImplementedError

    def undo(self, failures, role):
        raise NotImplementedError

    def last(self, failures, role, seconds):
        """While it lasts."""
        time.sleep(seconds)


class Killed(Kind):
    name, title = "killed", "process killed (port refuses)"

    def prepare(self, failures):
        self.pids = {f"b{i + 1}": failures.nginx_pids(f"b{i + 1}") for i in range(failures.backends)}

    def cause(self, failures, role):
        for pid in self.pids[role]:
            os.kill(pid, signal.SIGKILL)

    def undo(self, failures, role):
        process = failures.start_nginx(role)
        self.pids[role] = [process.pid]

        def has_worker():
            self.pids[role] = failures.nginx_pids(role)
            return len(self.pids[role]) > 1
        eventually(has_worker, 5, 0.002)


class Stopped(Kind):
    name, title, pool = "stopped", "process stopped (http probe)", "deep"
    outage_s = 7.0  # longer than the clients' patience
    quick_outage_s = 5.5

    def intent(self):
        """The same backends twice: a half-open probe cannot see what the http probe sees."""
        deep = probe("http", HTTP_MS, HTTP_MS)
        return merged(one_pool("web", "l2", probe("tcp")), one_pool("deep", "l2", deep, DEEP_VIP))

    def prepare(self, failures):
        self.pids = {f"b{i + 1}": failures.nginx_pids(f"b{i + 1}") for i in range(failures.backends)}

    def cause(self, failures, role):
        for pid in self.pids[role]:
            os.kill(pid, signal.SIGSTOP)

    def undo(self, failures, role):
        for pid in self.pids[role]:
            os.kill(pid, signal.SIGCONT)


class Gone(Kind):
    name, title = "gone", "host gone (link down)"

    def cause(self, failures, role):
        failures.hands["router"].do(f"link set {role} down")

    def undo(self, failures, role):
        failures.hands["router"].do(f"link set {role} up")


class Tunnel(Kind):
    name, title, forwarding = "tunnel", "tunnel broken (no decapsulation)", "ipip"

    def prepare(self, failures):
        """`redirect` outlives its agent, which would attach it again."""
        for i in range(failures.backends):
            failures.lab.kill("agent", f"b{i + 1}")

    def finish(self, failures):
        for i in range(failures.backends):
            failures.lab.stop("agent", f"b{i + 1}")
            failures.lab.start("agent", f"b{i + 1}")

    def cause(self, failures, role):
        failures.hands[role].do("link set eth0 xdp off")

    def undo(self, failures, role):
        assert failures.attach_redirect(role).wait(10) == 0, failures.lab.log("agent", role)


class Vip(Kind):
    name, title, forwarding = "vip", "VIP missing on the backend", "ipip"

    def cause(self, failures, role):
        failures.hands[role].do(f"route del local {LOCAL4} dev lo")

    def undo(self, failures, role):
        failures.hands[role].do(f"route add local {LOCAL4} dev lo")


class Loss(Kind):
    name, title, timed = "loss", "30 % packet loss, both ways", False
    outage_s, quick_outage_s, damped = 130.0, 4.0, True

    def cause(self, failures, role):
        failures.lab.run(role, "nft", "-f", "-", stdin=LOSS)

    def undo(self, failures, role):
        failures.lab.run(role, "nft", "delete", "table", "inet", "loss")


class Overload(Kind):
    name, title, timed = "overload", "overload (link of 500 kbit/s)", False
    outage_s, quick_outage_s, damped = 60.0, 4.0, True

    def cause(self, failures, role):
        failures.lab.run("router", "tc", "qdisc", "add", "dev", role, "root", "tbf", "rate", "500kbit",
                         "burst", "3000", "latency", "100ms")

    def undo(self, failures, role):
        failures.lab.run("router", "tc", "qdisc", "del", "dev", role, "root")


class Flapping(Gone):
    name, title, timed = "flapping", "flapping every second", False
    outage_s, quick_outage_s, damped = 60.0, 4.0, True

    def last(self, failures, role, seconds):
        begun = time.monotonic()
        for half in range(1, int(2 * seconds)):
            time.sleep(max(0.0, begun + half * 0.5 - time.monotonic()))
            failures.hands["router"].do(f"link set {role} {'up' if half % 2 else 'down'}")


class All(Kind):
    name, title, everybody = "all", "all at once (panic)", True

    def roles(self, failures):
        return [f"b{i + 1}" for i in range(failures.backends)]

    def cause(self, failures, role):
        failures.hands["router"].do(*(f"link set {r} down" for r in self.roles(failures)))

    def undo(self, failures, role):
        failures.hands["router"].do(*(f"link set {r} up" for r in self.roles(failures)))


KINDS = {kind.name: kind for kind in (Killed(), Stopped(), Gone(), Tunnel(), Vip(), Loss(),
                                      Overload(), Flapping(), All())}
