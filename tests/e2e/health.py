# SPDX-License-Identifier: Apache-2.0
"""What tests of health, drain and scripts/failures share: probes, events, states, and hands that
break things in a namespace at once."""
import datetime
import os
import signal
import subprocess
import time

from lab import eventually

LOCAL4, LOCAL6 = "203.0.113.0/24", "2001:db8:203::/64"  # all VIPs, local on a backend


def probe(kind, interval_ms=10, timeout_ms=10, fall=3, rise=2, **more):
    """Port and path as the lab's backends serve them, unless `more` says otherwise."""
    if kind == "none":
        return {"kind": "none"}
    out = {"kind": kind, "interval_ms": interval_ms, "timeout_ms": timeout_ms, "fall": fall,
           "rise": rise}
    if kind in ("tcp", "http"):
        out["port"] = 80
    if kind == "udp":
        out.update(port=53, query="dns")
    if kind == "http":
        out["path"] = "/"
    return {**out, **more}


# On a machine that does other things. Who is cut off for the want of a CPU has not died.
PATIENT = {"interval_ms": 20, "timeout_ms": 250, "fall": 2}


def wall_ns(text):
    """An RFC 3339 time in UTC with microseconds, as nanoseconds of CLOCK_REALTIME."""
    day, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(day + "+00:00").timestamp()
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)


class Events:
    """The events of a node since this was made, or since forget(), in order."""

    def __init__(self, api):
        self.api = api
        self.all = []
        self.next = 1
        self.forget()

    def forget(self):
        self.read()
        self.all.clear()

    def read(self):
        """All so far. What was not adopted yet when it was read is asked for again."""
        since = next((e["number"] for e in self.all if pending(e)), self.next)
        answer = self.api.must("GET", f"/v1/events?since={since}&limit=10000")
        self.all = [e for e in self.all if e["number"] < since] + answer["events"]
        self.next = answer["next"]
        return self.all

    def find(self, pool, backend=None, **wanted):
        """The first with these fields, or None; backend None: of the pool itself."""
        return next((e for e in self.all if e["pool"] == pool and e["backend"] == backend
                     and all(e[k] == v for k, v in wanted.items())), None)

    def wait(self, pool, backend=None, seconds=10, adopted=False, every=0.004, **wanted):
        """The first such event; `adopted`: once the dataplane forwards accordingly."""
        def look():
            self.read()
            event = self.find(pool, backend, **wanted)
            return event and (event["adopted_ms"] is not None or not adopted) and event
        return eventually(look, seconds, every, what=f"an event {pool} {backend} {wanted}: "
                                                     f"{self.all[-5:]}")

    def of_backends(self, pool=None):
        """Changes of backends' states."""
        return [e for e in self.read() if e["backend"] and pool in (None, e["pool"])]


def pending(event):
    """Might still become adopted."""
    return event["adopted_ms"] is None and time.time_ns() - wall_ns(event["time"]) < 2 * 10**9


def pool_status(lab, name):
    return next(p for p in lab.status()["pools"] if p["name"] == name)


def backend_status(lab, name, address):
    return next(b for b in pool_status(lab, name)["backends"] if b["address"] == address)


def states(lab, name):
    return {b["address"]: b["state"] for b in pool_status(lab, name)["backends"]}


def settled(lab, *pools, seconds=15, answers=3):
    """Returns once every backend of these pools is up by its probes, and the pools are normal."""
    def look():
        status = lab.try_status()
        return status and all(
            p["health"]["state"] == "normal"
            and all(b["state"] == "up" and b["share_now"] == 1
                    and (p["probe"] is None or (b.get("probes_answered") or 0) >= answers)
                    for b in p["backends"])
            for p in status["pools"] if p["name"] in pools)
    return eventually(look, seconds, what=lambda: f"all up: {[states(lab, p) for p in pools]}")


class Hands:
    """An `ip -batch` in a namespace that waits for lines, so that no process has to start between
    the thought and the deed."""

    def __init__(self, lab, role):
        self.process = subprocess.Popen(lab.command(role, "ip", "-batch", "-"), bufsize=0,
                                        stdin=subprocess.PIPE)

    def do(self, *lines):
        self.process.stdin.write(("\n".join(lines) + "\n").encode())

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0, "the kernel refused something"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def nginx_pids(lab, role):
    master = lab.pid("nginx", role)
    with open(f"/proc/{master}/task/{master}/children") as file:
        return [master, *map(int, file.read().split())]


def kill_nginx(lab, role):
    """Master and worker: the worker has the listening socket as well."""
    for pid in nginx_pids(lab, role):
        os.kill(pid, signal.SIGKILL)


def start_nginx(lab, role):
    """If it does not run."""
    if not lab.pid("nginx", role):
        lab.start("nginx", role)
