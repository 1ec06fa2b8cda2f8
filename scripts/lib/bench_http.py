#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Requests of wrk: direct to one backend, and by way of each of several balancers.

usage: bench_http.py [--quick] RESULTS.json     (run by scripts/bench)

The same client, router, backend and switch for all; the ways take turns. wrk and nginx share core 1
in every way, the direct one too, and so does what the kernel does on receipt for client, router and
backend (RPS). What balances has core 0: Guideway's worker, HAProxy's thread, and what the kernel does
on receipt for their nodes (RPS; before XDP there is none, so a NAPI thread does it for Guideway).
Guideway answers by direct server return, as it does in earnest; HAProxy and nftables (DNAT with
masquerade) see both directions, as they do in earnest.
"""
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

from failure_report import machine, machine_text
from lab import Lab, eventually
from traffic import connect, read_response, service

BALANCER_CORE, OTHER_CORE = 0, 1
BACKEND = "10.0.0.21"
RIVAL = "10.0.0.12"  # n2, where HAProxy and nftables run
WAYS = {"l2": "203.0.113.11", "ipip": "203.0.113.12", "gue": "203.0.113.13"}
HAPROXY_PORT, NFT_PORT = 8001, 8002
URLS = {"direct": f"{BACKEND}:80", **{f"guideway {way}": vip + ":80" for way, vip in WAYS.items()},
        "haproxy": f"{RIVAL}:{HAPROXY_PORT}", "nftables": f"{RIVAL}:{NFT_PORT}"}
LOADS = {"kept": ("64 connections, kept", 64, []),
         "one": ("1 connection, kept", 1, []),
         "new": ("64 connections, one request each", 64, ["-H", "Connection: close"])}
UNITS_US = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}
ASKED = 0.8  # of the direct way's requests

HAPROXY = f"""global
  nbthread 1
  cpu-map 1/1 {BALANCER_CORE}
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind {RIVAL}:{HAPROXY_PORT} backlog 4096
  default_backend web
backend web
  server b1 {BACKEND}:80
"""

NFTABLES = f"""table ip nat {{
  chain in {{
    type nat hook prerouting priority dstnat;
    ip daddr {RIVAL} tcp dport {NFT_PORT} dnat to {BACKEND}:80
  }}
  chain out {{
    type nat hook postrouting priority srcnat;
    ip daddr {BACKEND} tcp dport 80 masquerade
  }}
}}
"""


def intent():
    return {"pools": {way: {"forwarding": way, "backends": {BACKEND: {}}} for way in WAYS},
            "services": {service(vip, 80): {"pool": way} for way, vip in WAYS.items()}}


def pin(pid, core):
    subprocess.run(["taskset", "-acp", str(core), str(pid)], check=True, stdout=subprocess.DEVNULL)


def receive_on(lab, role, core):
    """What the kernel does with packets that come in there."""
    lab.run(role, "sh", "-c", f"for at in /sys/class/net/*/queues/rx-0/rps_cpus; do "
                              f"echo {1 << core:x} >$at || exit; done")


def threaded(lab, role, interface, core):
    """Receipt on this interface by a thread of its own."""
    before = napi_threads()
    lab.run(role, "sh", "-c", f"echo 1 >/sys/class/net/{interface}/threaded")
    for pid in napi_threads() - before:
        pin(pid, core)


def napi_threads():
    return {int(p.parent.name) for p in pathlib.Path("/proc").glob("[0-9]*/comm")
            if p.read_text().startswith("napi/")}


class Rivals:
    """HAProxy and nftables on n2."""

    def __init__(self, lab):
        config = lab.state / "haproxy.cfg"
        config.write_text(HAPROXY)
        lab.run("n2", "nft", "-f", "-", stdin=NFTABLES)
        lab.run("n2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.haproxy = lab.spawn("n2", "haproxy", "-db", "-f", config)

    def close(self):
        self.haproxy.terminate()
        self.haproxy.wait(10)


def start(lab):
    lab.up()
    # All VIPs by one node.
    for way in WAYS.values():
        lab.run("router", "ip", "route", "replace", f"{way}/32", "via", "10.0.0.11")
    lab.start("agent", "b1")
    for what in ("dataplane", "controlplane"):
        lab.start(what)
    eventually(lambda: (lab.try_status() or {"dataplane": {}})["dataplane"].get("alive"), 20,
               what="the daemons")
    lab.apply(intent())
    for what in ("dataplane", "controlplane"):
        pin(lab.pid(what), BALANCER_CORE)
    for role in ("client", "router", "b1"):
        receive_on(lab, role, OTHER_CORE)
    receive_on(lab, "n2", BALANCER_CORE)
    threaded(lab, "n1", "eth1", BALANCER_CORE)
    nginx = lab.pid("nginx", "b1")
    children = pathlib.Path(f"/proc/{nginx}/task/{nginx}/children").read_text().split()
    for pid in (nginx, *children):
        pin(pid, OTHER_CORE)


def answers(lab, url):
    """Whether b1 answers there."""
    address, port = url.split(":")
    try:
        with contextlib.closing(connect(lab, address, int(port))) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return read_response(sock) == "b1"
    except OSError:
        return False


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNITS_US[unit]


def wrk(lab, url, connections, options, seconds):
    done = lab.run("client", "taskset", "-c", OTHER_CORE, "wrk", "-t1", f"-c{connections}",
                   f"-d{seconds}s", "--latency", *options, f"http://{url}/")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)",
                       done.stdout)
    if "Non-2xx" in done.stdout:
        raise AssertionError(f"{url}: {done.stdout}")
    quantile = dict(re.findall(r"^\s+(50|99)%\s+(\S+)$", done.stdout, re.M))
    return {"requests_s": float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1)),
            "errors": sum(map(int, errors.groups())) if errors else 0,
            "p50_us": microseconds(quantile["50"]), "p99_us": microseconds(quantile["99"])}


def turns(lab, rounds, seconds):
    """{load: {way: {figure: [one a round]}}}; each round begins with another way."""
    out = {load: {way: {} for way in URLS} for load in LOADS}
    ways = list(URLS)
    for number in range(rounds):
        for way in ways[number % len(ways):] + ways[:number % len(ways)]:
            for load, (_, connections, options) in LOADS.items():
                for figure, value in wrk(lab, URLS[way], connections, options, seconds).items():
                    out[load][way].setdefault(figure, []).append(value)
    return out


def judged(load):
    """Medians, spreads and, round by round, the share of the direct way's requests."""
    out = {}
    for way, figures in load.items():
        shares = [a / b for a, b in zip(figures["requests_s"], load["direct"]["requests_s"])]
        out[way] = {**{name: {"median": statistics.median(values), "min": min(values),
                              "max": max(values)} for name, values in figures.items()},
                    "of_direct": {"median": statistics.median(shares), "min": min(shares),
                                  "max": max(shares)}}
    return out


def show(result):
    print(f"\n== HTTP: wrk by way of each balancer. On {machine_text(result['machine'])}.\n")
    print(f"  {result['rounds']} rounds of {result['seconds']} s each; medians, (min to max)")
    for load, ways in result["loads"].items():
        print(f"\n  {LOADS[load][0]:32} {'requests/s':>28} {'of the direct way':>22} "
              f"{'p50':>9} {'p99':>9}")
        for way, f in ways.items():
            rate, share = f["requests_s"], f["of_direct"]
            print(f"    {way:30} {rate['median']:8,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"
                  .ljust(63) + f"{share['median']:6.2f} ({share['min']:.2f} to {share['max']:.2f})"
                  f" {f['p50_us']['median']:6.0f} us {f['p99_us']['median']:6.0f} us" +
                  (f"  {f['errors']['max']} errors in a round" if f["errors"]["max"] else ""))
    for load in ("kept", "one"):
        ways = result["loads"][load]
        added = [f"{way} {f['p50_us']['median'] - ways['direct']['p50_us']['median']:,.0f} and "
                 f"{f['p99_us']['median'] - ways['direct']['p99_us']['median']:,.0f} us"
                 for way, f in ways.items() if way != "direct"]
        print(f"\n  added to p50 and p99 of the direct way, {LOADS[load][0]}:\n    "
              + "\n    ".join(added))
    print()
    for what, got, holds in result["asked"]:
        print(f"  {'holds' if holds else 'DOES NOT HOLD':14} {what:60} {got:.2f}")
    print(flush=True)


def asked(loads):
    """What was promised, of the medians; printed, and no reason to fail on a busy machine."""
    out = []
    for load, ways in loads.items():
        share = {way: f["of_direct"]["median"] for way, f in ways.items()}
        for way in WAYS:
            own, name = share[f"guideway {way}"], f"{LOADS[load][0]}: guideway {way}"
            out.append([f"{name}: at least {ASKED} of the direct way", own, own >= ASKED])
            for rival in ("haproxy", "nftables"):
                out.append([f"{name} against {rival}", own / share[rival], own > share[rival]])
    return out


def main():
    quick, path = "--quick" in sys.argv[1:], sys.argv[-1]
    rounds, seconds = (1, 1) if quick else (5, 3)
    host = machine()
    lab = Lab(f"http{os.getpid()}", start=False, nodes=2, backends=1)
    try:
        start(lab)
        rivals = Rivals(lab)
        try:
            for url in URLS.values():
                eventually(lambda u=url: answers(lab, u), 10, what=f"an answer of {url}")
            raw = turns(lab, rounds, seconds)
        finally:
            rivals.close()
    finally:
        lab.down()
    loads = {load: judged(ways) for load, ways in raw.items()}
    broken = [way for ways in loads.values() for way, f in ways.items()
              if way.startswith("guideway") and f["errors"]["max"]]
    result = {"ok": not broken, "machine": host, "rounds": rounds, "seconds": seconds, "loads": loads,
              "raw": raw, "asked": asked(loads)}
    show(result)
    pathlib.Path(path).write_text(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
