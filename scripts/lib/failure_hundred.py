# SPDX-License-Identifier: Apache-2.0
"""A pool of 100 backends and 65,537 slots: how long a verdict takes to be adopted, and whether a busy
machine raises a false alarm. The backends are addresses of b1, b2 and b3, reached by ipip."""
import contextlib
import os
import subprocess
import time

from failure_report import percentiles
from health import pool_status, probe, wall_ns
from traffic import TUNNEL_VIP, Wrk, backend_addresses, backend_role

COUNT, QUICK_COUNT, SLOTS = 100, 6, 65537
HOLD_S = 0.03


def address(number, hosts=3):
    """A third of all in each of 10.1.1.0/24, 10.1.2.0/24, 10.1.3.0/24."""
    return f"10.1.{number % hosts + 1}.{number // hosts + 1}"


def host_of(number, hosts=3):
    return f"b{number % hosts + 1}"


def intent():
    return {"pools": {"hundred": {"forwarding": "ipip", "table_slots": SLOTS, "probe": probe("tcp"),
                                  "backends": {address(i): {} for i in range(COUNT)}}},
            "services": {f"{TUNNEL_VIP[4]}:80/tcp": {"pool": "hundred"}}}


@contextlib.contextmanager
def hundred_backends(failures):
    """Their addresses and routes, as long as it lasts."""
    lab = failures.lab
    for host in backend_addresses(4):
        role = backend_role(host)
        lines = [f"address add {address(i)}/32 dev lo" for i in range(COUNT) if host_of(i) == role]
        lab.run(role, "ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        lab.run("n1", "ip", "route", "add", f"10.1.{role[1:]}.0/24", "via", host)
    try:
        failures.configure(intent())
        yield
    finally:
        for host in backend_addresses(4):
            role = backend_role(host)
            lab.run("n1", "ip", "route", "del", f"10.1.{role[1:]}.0/24")
            lines = [f"address del {address(i)}/32 dev lo" for i in range(COUNT)
                     if host_of(i) == role]
            lab.run(role, "ip", "-force", "-batch", "-", stdin="\n".join(lines) + "\n", check=False)


def one_after_another(failures, count):
    """Each fails once and comes back: no damping."""
    samples = []
    for i in range(count):
        hand, who = failures.hands[host_of(i)], address(i)
        time.sleep(failures.random.uniform(0, 0.05))
        failures.events.forget()
        began = time.time_ns()
        hand.do(f"address del {who}/32 dev lo")
        down = failures.events.wait("hundred", who, to="down", adopted=True, seconds=30)
        time.sleep(HOLD_S)
        back = time.time_ns()
        hand.do(f"address add {who}/32 dev lo")
        up = failures.events.wait("hundred", who, to="up", adopted=True, seconds=30)
        samples.append(((wall_ns(down["time"]) - began) / 1e6, down["adopted_ms"],
                        (wall_ns(down["time"]) - began) / 1e6 + down["adopted_ms"],
                        (wall_ns(up["time"]) - back) / 1e6 + up["adopted_ms"]))
    names = ("verdict", "adopted", "total", "recovery")
    return {"n": count, **{n: percentiles(s) for n, s in zip(names, zip(*samples))}}


def hundred(failures, options):
    count = QUICK_COUNT if options.quick else COUNT
    rows = {}
    with hundred_backends(failures):
        rows["idle"] = one_after_another(failures, count)
        failures.forget_lapses()
        with Wrk(failures.lab, TUNNEL_VIP[4], 600) as load:
            time.sleep(0.5)
            rows["under wrk"] = one_after_another(failures, count)
            load.stop()
    return {"title": "one of 100 backends, 65,537 slots", "rows": rows}


def prober_counts(failures, pool):
    backends = pool_status(failures.lab, pool)["backends"]
    return sum(b["probes_sent"] for b in backends), sum(b["probes_answered"] for b in backends)


def quiet(failures, options):
    """Nothing fails: whatever is reported is a false alarm."""
    seconds = 60 * options.minutes
    with hundred_backends(failures):
        before = prober_counts(failures, "hundred")
        loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"])
                 for _ in range(2 * os.cpu_count())]
        try:
            failures.events.forget()
            time.sleep(seconds)
            events = failures.events.read()
            after = prober_counts(failures, "hundred")
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
    alarms = [e for e in events if e["backend"]]
    pools = [e for e in events if not e["backend"]]
    sent, answered = after[0] - before[0], after[1] - before[1]
    return {"title": f"100 backends, {len(loops)} busy loops at nice 0, {options.minutes} minutes",
            "figures": {"false alarms": len(alarms), "changes of the pool's condition": len(pools),
                        "probes sent": sent, "of these not answered": sent - answered},
            "examples": [f"{e['backend']} {e['from']} > {e['to']}: {e['reason']}"
                         for e in events[:5]],
            "promises": [("false alarms", len(alarms), 0)]}
