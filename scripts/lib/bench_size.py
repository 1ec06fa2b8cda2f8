#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The size that one node must carry: 1,000 services, 100 pools, 10,000 backends.

usage: bench_size.py [--quick] RESULTS.json     (run by scripts/bench)

The backends are real addresses: a third of them on each of b1, b2 and b3, which are the gateways to
theirs. Packets reach them by ipip. A change's time is taken from the request, or from the word to
the kernel, to the moment when the dataplane's own counters name the new generation.
"""
import json
import mmap
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import time

from failure_report import machine, machine_text
from lab import BUILD, Lab, eventually, service_path
from traffic import get

POOLS, POOL_BACKENDS, HOSTS = 100, 100, 3
VIPS4, VIPS6 = 250, 250
GENERATION_AT = 32  # gw_counters in dataplane/abi.h
GATEWAYS = [f"10.0.0.{21 + i}" for i in range(HOSTS)]
MACS = [f"02:00:00:00:02:0{1 + i}" for i in range(HOSTS)]  # of the gateways, as the lab gives them
SERVICES_ASKED = 20


def backend(number):
    """A third of all in each of 10.1.0.0/20, 10.1.16.0/20, 10.1.32.0/20."""
    host, index = number % HOSTS, number // HOSTS + 1
    return f"10.1.{host * 16 + index // 256}.{index % 256}"


def all_services():
    """[(VIP, port, protocol)]: what the lab's backends serve under every VIP."""
    v4 = [f"203.0.113.{i + 1}" for i in range(VIPS4)]
    v6 = [f"2001:db8:203::{i + 1:x}" for i in range(VIPS6)]
    return ([(vip, port, kind) for vip in v4 for port, kind in
             ((80, "tcp"), (8080, "tcp"), (53, "udp"))] + [(vip, 80, "tcp") for vip in v6])


def name_of(vip, port, kind):
    return f"[{vip}]:{port}/{kind}" if ":" in vip else f"{vip}:{port}/{kind}"


def intent_file(path):
    lines = []
    for pool in range(POOLS):
        lines += [f"[pools.p{pool}]", 'forwarding = "ipip"', f"[pools.p{pool}.backends]"]
        lines += [f'"{backend(pool * POOL_BACKENDS + i)}" = {{}}' for i in range(POOL_BACKENDS)]
    lines.append("[services]")
    lines += [f'"{name_of(*service)}" = {{ pool = "p{i % POOLS}" }}'
              for i, service in enumerate(all_services())]
    path.write_text("\n".join(lines) + "\n")


def start(lab):
    lab.up()
    for host in range(HOSTS):
        lines = "".join(f"address add {backend(n)}/32 dev lo\n"
                        for n in range(host, POOLS * POOL_BACKENDS, HOSTS))
        lab.run(f"b{host + 1}", "ip", "-batch", "-", stdin=lines)
        lab.run("n1", "ip", "route", "add", f"10.1.{host * 16}.0/20", "via", GATEWAYS[host])
        lab.start("agent", f"b{host + 1}")
    lab.start("dataplane")
    lab.start("controlplane")
    eventually(lambda: (lab.try_status() or {"dataplane": {}})["dataplane"].get("alive"), 20,
               what="the daemons")


class Generation:
    """What the dataplane runs, read from its counters: no request, no system call."""

    def __init__(self, lab):
        with open(lab.state / "n1/run/counters", "rb") as file:
            self.region = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)

    def now(self):
        return struct.unpack_from("<Q", self.region, GENERATION_AT)[0]

    def after(self, before, seconds=10):
        deadline = time.monotonic() + seconds
        while self.now() <= before:
            if time.monotonic() > deadline:
                raise AssertionError(f"generation {before} has no successor within {seconds} s")
            time.sleep(50e-6)
        return time.monotonic()

    def settle(self):
        """Returns once nothing new has come for a while."""
        last, since = self.now(), time.monotonic()
        while time.monotonic() - since < 0.15:
            if self.now() != last:
                last, since = self.now(), time.monotonic()
            time.sleep(0.005)
        return last


class Kernel:
    """An `ip -batch` on the node that waits for lines, so that no process start is measured."""

    def __init__(self, lab):
        self.process = subprocess.Popen(lab.command("n1", "ip", "-batch", "-"), text=True,
                                        stdin=subprocess.PIPE)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0, "the kernel refused something"


def measure(lab, generation, change, count):
    """change(i) for each i: its times in ms, and how many tables and images it sent."""
    times, log_from = [], len(lab.log("controlplane"))
    for i in range(count):
        before = generation.settle()
        start = time.monotonic()
        change(i)
        times.append(1000 * (generation.after(before) - start))
    generation.settle()
    sent = [int(n) for n in re.findall(r"published .*tables_sent=(\d+)",
                                       lab.log("controlplane")[log_from:])]
    times.sort()
    return {"changes": count, "p50_ms": times[count // 2], "p99_ms": times[count * 99 // 100],
            "max_ms": times[-1], "images": len(sent), "tables_sent": sum(sent)}


def changes(lab, generation, count):
    api, kernel = lab.api(), Kernel(lab)

    def weight(i):
        api.must("PUT", f"/v1/pools/p{i % POOLS}/backends/{backend(i % POOLS * POOL_BACKENDS)}",
                 {"weight": 50 + i})

    def add(i):
        api.must("PUT", service_path(f"203.0.113.9:{10000 + i}/tcp"), {"pool": f"p{i % POOLS}"})

    def remove(i):
        api.must("DELETE", service_path(f"203.0.113.9:{10000 + i}/tcp"))

    def mac(i):  # of the gateway to b3, to and fro
        kernel.say(f"neighbour replace {GATEWAYS[2]} lladdr {MACS[1 + i % 2]} dev eth1 nud permanent")

    def route(i):  # of one backend, by another gateway and back
        line = f"{backend(0)}/32 via {GATEWAYS[1]}"
        kernel.say(f"route replace {line}" if i % 2 == 0 else f"route del {line}")

    out = {}
    for what, change in (("weight of a backend", weight), ("service added", add),
                         ("service removed", remove), ("gateway's MAC, 3,333 backends", mac),
                         ("route of one backend", route)):
        out[what] = measure(lab, generation, change, count)
    kernel.say(f"neighbour replace {GATEWAYS[2]} lladdr {MACS[2]} dev eth1 nud permanent")
    kernel.close()
    generation.settle()
    return out


def memory_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1)) / 1024
            for key, field in (("rss_mb", "VmRSS"), ("peak_mb", "VmHWM"))}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def daemons(lab, seconds):
    pids = {what: lab.pid(what) for what in ("dataplane", "controlplane")}
    time.sleep(2)  # an idle worker rests deeper after a second
    before, start = {w: cpu_seconds(p) for w, p in pids.items()}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return {what: {**memory_mb(pid),
                   "idle_cpu_percent": 100 * (cpu_seconds(pid) - before[what]) / took}
            for what, pid in pids.items()}


def apply(lab, generation):
    file = lab.state / "size.toml"
    intent_file(file)
    start = time.monotonic()
    done = subprocess.run([BUILD / "controlplane/cli/guideway", "--socket",
                           lab.state / "n1/run/control.sock", "apply", file],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answered = time.monotonic() - start
    lab.ready(seconds=60)
    ready = time.monotonic() - start
    generation.settle()
    return {"answered_s": answered, "ready_s": ready}


def serve(lab):
    """Requests through services all over the list: names those not answered."""
    asked = [s for s in all_services() if s[1] == 80]
    random.Random(7).shuffle(asked)
    missing = []
    for vip, port, kind in asked[:SERVICES_ASKED]:
        try:
            assert get(lab, vip, port=port) in ("b1", "b2", "b3")
        except (OSError, AssertionError) as error:
            missing.append(f"{name_of(vip, port, kind)}: {error!r}")
    return missing


def timed_status(lab):
    start = time.monotonic()
    status = lab.status()
    return {"status_ms": 1000 * (time.monotonic() - start),
            "status_mb": len(json.dumps(status)) / 1e6}, status


def run(lab, quick):
    generation = Generation(lab)
    result = {"apply": apply(lab, generation)}
    extra, status = timed_status(lab)
    result.update(extra)
    backends = [b for pool in status["pools"] for b in pool["backends"]]
    result.update(services=len(status["services"]), pools=len(status["pools"]),
                  backends=len(backends), up=sum(b["state"] == "up" for b in backends))
    failures = [f"not served: {m}" for m in serve(lab)]
    result["changes"] = changes(lab, generation, 20 if quick else 50)
    result["daemons"] = daemons(lab, 2 if quick else 5)
    failures += [f"not served after the changes: {m}" for m in serve(lab)]
    if (result["services"], result["pools"], result["up"]) != \
            (VIPS4 * 3 + VIPS6, POOLS, POOLS * POOL_BACKENDS):
        failures.append(f"not all is there: {result['services']} services, {result['pools']} pools, "
                        f"{result['up']} backends up")
    for what, figures in result["changes"].items():
        allowed = figures["changes"] if what.startswith("weight") else 0
        if figures["tables_sent"] > allowed:
            failures.append(f"{what}: {figures['tables_sent']} tables sent, at most {allowed} needed")
    result["failures"] = failures
    result["ok"] = not failures
    return result


def show(result):
    print(f"\n== Size: {result['services']} services, {result['pools']} pools, "
          f"{result['up']} of {result['backends']} backends up. On {machine_text(result['machine'])}.\n")
    print(f"  apply: answered after {result['apply']['answered_s']:.2f} s, every service ready after "
          f"{result['apply']['ready_s']:.2f} s")
    print(f"  status: {result['status_mb']:.1f} MB of JSON in {result['status_ms']:.0f} ms\n")
    print(f"  {'from request to adopted generation':36} {'n':>4} {'p50':>9} {'p99':>9} {'max':>9}"
          f"  {'images':>6} {'tables sent':>12}")
    for what, f in result["changes"].items():
        print(f"  {what:36} {f['changes']:4} {f['p50_ms']:6.1f} ms {f['p99_ms']:6.1f} ms "
              f"{f['max_ms']:6.1f} ms  {f['images']:6} {f['tables_sent']:12}")
    print(f"\n  {'':36} {'memory':>9} {'peak':>9} {'idle CPU':>15}")
    for what, f in result["daemons"].items():
        print(f"  {'guideway-' + what:36} {f['rss_mb']:6.0f} MB {f['peak_mb']:6.0f} MB "
              f"{f['idle_cpu_percent']:6.1f} % of a core")
    for failure in result["failures"]:
        print(f"\n  DOES NOT HOLD: {failure}")
    print(flush=True)


def main():
    quick, path = "--quick" in sys.argv[1:], sys.argv[-1]
    host = machine()
    lab = Lab(f"size{os.getpid()}", start=False, backends=HOSTS)
    try:
        start(lab)
        result = {"machine": host, **run(lab, quick)}
    finally:
        lab.down()
    show(result)
    pathlib.Path(path).write_text(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
