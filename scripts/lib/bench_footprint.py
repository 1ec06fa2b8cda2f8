#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the daemons take: memory by flow, service and backend; CPU when idle; the first packet then.

usage: bench_footprint.py [--quick] RESULTS.json     (run by scripts/bench)

Memory is what the dataplane has resident, more of one thing against fewer of it. The rest in a lab:
both daemons with one backend and no traffic; then the client asks a VIP for an echo, which the
dataplane itself answers, after a pause, and again right after: the difference is what the first
packet waited for the worker to wake.
"""
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

from bench_process import Guideway, generator, scenario
from bench_size import cpu_seconds, memory_mb
from failure_report import machine, machine_text
from lab import Lab, eventually

VIP = "203.0.113.10"
IDLE_PERCENT, FIRST_MS = 3, 1  # what was promised
# What is compared: (thing, fewer, more); a scenario's key of that name.
SIZES = (("flow_table", 1 << 16, 1 << 22), ("services", 1, 8000), ("backends", 10, 10000))


def resident(**changes):
    one = scenario(1, **changes)
    with tempfile.TemporaryDirectory(prefix="gwbench") as directory:
        dataplane = Guideway(one, generator(one), pathlib.Path(directory, "guideway"))
        try:
            return dataplane.memory_kb() * 1024
        finally:
            dataplane.end()


def memory():
    out = {}
    low = resident(**{what: fewer for what, fewer, _ in SIZES})
    for what, fewer, more in SIZES:
        high = resident(**{**{other: few for other, few, _ in SIZES}, what: more})
        out[what] = {"fewer": fewer, "more": more, "fewer_bytes": low, "more_bytes": high,
                     "each_bytes": (high - low) / (more - fewer)}
    return out


def pings(lab, count, every):
    done = lab.run("client", "ping", "-n", "-c", str(count), "-i", str(every), VIP)
    return [float(ms) for ms in re.findall(r"time=([\d.]+) ms", done.stdout)]


def first_packet(lab, pauses):
    """Round trips in ms: the first after each pause, and others while the worker is awake."""
    awake = statistics.median(pings(lab, 50, 0.002))
    firsts = []
    for pause in pauses:
        time.sleep(pause)
        firsts.append(pings(lab, 1, 1)[0])
    return {"pauses_s": pauses, "awake_ms": awake, "first_ms": firsts,
            "waited_ms": max(firsts) - awake}


def idle(lab, seconds, pauses):
    lab.apply({"pools": {"web": {"forwarding": "ipip", "backends": {"10.0.0.21": {}}}},
               "services": {f"{VIP}:80/tcp": {"pool": "web"}}})
    eventually(lambda: pings(lab, 1, 1), 20, what="an echo of the VIP")
    first = first_packet(lab, pauses)
    time.sleep(2)  # the worker rests deeper after a second
    pids = {what: lab.pid(what) for what in ("dataplane", "controlplane")}
    before, start = {w: cpu_seconds(p) for w, p in pids.items()}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return {"first_packet": first, "seconds": seconds, "daemons": {
        what: {**memory_mb(pid), "idle_cpu_percent": 100 * (cpu_seconds(pid) - before[what]) / took}
        for what, pid in pids.items()}}


def show(result):
    print(f"\n== Footprint: on {machine_text(result['machine'])}.\n")
    for what, f in result["memory"].items():
        print(f"  {what.replace('flow_table', 'flows'):10} {f['each_bytes']:8.0f} bytes each "
              f"({f['fewer']:,}: {f['fewer_bytes'] / 2**20:.1f} MiB; {f['more']:,}: "
              f"{f['more_bytes'] / 2**20:.1f} MiB)")
    print(f"\n  {'one backend, no traffic':30}{'memory':>9}{'idle CPU':>12}")
    for what, f in result["daemons"].items():
        print(f"  {'guideway-' + what:30}{f['rss_mb']:6.0f} MB{f['idle_cpu_percent']:8.1f} % of a core")
    first = result["first_packet"]
    print(f"\n  round trip to the VIP: awake {first['awake_ms']:.2f} ms; after pauses of "
          f"{', '.join(str(s) for s in first['pauses_s'])} s: "
          f"{', '.join(f'{ms:.2f}' for ms in first['first_ms'])} ms\n")
    for what, got, most in result["asked"]:
        print(f"  {'holds' if got < most else 'DOES NOT HOLD':14} {what:60} {got:.2f} (below {most})")
    print(flush=True)


def main():
    quick = "--quick" in sys.argv[1:]
    host = machine()
    result = {"ok": True, "machine": host, "memory": memory()}
    lab = Lab(f"foot{os.getpid()}", nodes=1, backends=1)
    try:
        lab.up()
        result.update(idle(lab, 3 if quick else 20, [2] * 2 if quick else [2] * 10 + [60]))
    finally:
        lab.down()
    result["asked"] = [
        ["idle dataplane, % of a core", result["daemons"]["dataplane"]["idle_cpu_percent"],
         IDLE_PERCENT],
        ["first packet after a pause waits at most, ms", result["first_packet"]["waited_ms"],
         FIRST_MS]]
    show(result)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
