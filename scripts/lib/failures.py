#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Causes failures, measures what they cost, and judges it by what is promised.

usage: failures.py [--quick] [--long] [--kinds KIND,..] [--minutes N] RESULTS.json
       (run by scripts/failures)

Times: the cause is stamped by CLOCK_REALTIME right before the act; the verdict by the control plane,
when it was reached; adopted when the dataplane said so.
"""
import argparse
import json
import pathlib
import re
import sys
import time

from failure_hundred import hundred, quiet
from failure_kinds import KINDS
from failure_lab import FailureLab, Load
from failure_report import examples_of, machine, percentiles, show
from failure_thousand import thousand
from health import pool_status, wall_ns
from traffic import backend_addresses, backend_role

MEASURES = {"hundred": hundred, "quiet": quiet, "thousand": thousand}
LONG = ("quiet", "thousand")
ROUNDS, QUICK_ROUNDS = 100, 4
HOLD_S = 0.05     # how long a failure lasts in a timed round, after it was noticed
IN_FLIGHT_MS = 20  # what began so shortly after the adoption may have been underway before


def wait_verdict(failures, kind, address, came):
    """The event that says so, adopted if it changes the order at all."""
    if kind.everybody:  # the order of a panic is the last one: nothing to adopt
        return failures.events.wait(kind.pool, None, to="normal" if came else "panic", seconds=30)
    return failures.events.wait(kind.pool, address, to="up" if came else "down", adopted=True,
                                seconds=30)


def one_round(failures, kind, address):
    """(cause to verdict, verdict to adopted, the same of recovery) in ms; None: no such thing."""
    role, out = backend_role(address), []
    time.sleep(failures.random.uniform(0, 0.1))  # any phase of the probing
    failures.events.forget()
    for came, act in ((False, kind.cause), (True, kind.undo)):
        began = time.time_ns()
        act(failures, role)
        event = wait_verdict(failures, kind, address, came)
        out += [(wall_ns(event["time"]) - began) / 1e6, event["adopted_ms"]]
        time.sleep(HOLD_S)
    return out


def times(failures, kind, rounds):
    """Rounds over all backends in turn; events of pools that must not notice are an error."""
    samples, strangers = [], []
    for i in range(rounds):
        address = backend_addresses(4)[i % failures.backends]
        samples.append(one_round(failures, kind, address))
        strangers += [e for e in failures.events.of_backends() if e["pool"] != kind.pool
                      or not kind.everybody and e["backend"] != address]
        failures.forget_lapses()
    verdict, adopted, back, back_adopted = zip(*samples)
    total = [v + (a or 0.0) for v, a in zip(verdict, adopted)]
    total_back = [v + (a or 0.0) for v, a in zip(back, back_adopted)]
    return {"n": rounds, "verdict": percentiles(verdict),
            "adopted": None if kind.everybody else percentiles(adopted),
            "total": percentiles(total), "recovery": percentiles(total_back),
            "strangers": [f"{e['pool']} {e['backend']} {e['from']} > {e['to']}: {e['reason']}"
                          for e in strangers]}


def downs_in_a_minute(events):
    """The most changes from up to something else within any 60 s."""
    stamps = [wall_ns(e["time"]) for e in events if e["backend"] and e["from"] == "up"]
    return max((sum(1 for other in stamps if 0 <= other - one < 60 * 10**9) for one in stamps),
               default=0)


def wrk_failed(text):
    if not re.search(r"requests in", text):
        raise AssertionError(f"wrk: {text}")
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return requests, (sum(map(int, errors.groups())) if errors else 0) + (int(bad.group(1)) if bad
                                                                          else 0)


def damage(failures, kind, quick):
    """One failure under load, long enough for clients to lose patience, and its recovery."""
    intent, address = kind.intent(), backend_addresses(4)[1]
    role, vip = backend_role(address), kind.vip(intent)
    before = failures.losses()
    with Load(failures, vip) as load:
        time.sleep(1)
        failures.events.forget()
        began = time.time_ns()
        kind.cause(failures, role)
        kind.last(failures, role, kind.quick_outage_s if quick else kind.outage_s)
        kind.undo(failures, role)
        events = list(failures.events.read())
        if quick and kind.damped:
            failures.forget_lapses()
        failures.settle(60)
        time.sleep(0.5)
        fresh, held, wrk = load.finish()
    lost = {what: count - before.get(what, 0) for what, count in failures.losses().items()
            if count > before.get(what, 0)}
    dead = set(backend_addresses(4)) if kind.everybody else {address}
    bad = fresh["failed"] + fresh["slow"]
    other = [r for r in bad if failures.owner(vip, r[2]) not in dead]
    first = next((e for e in events if e["pool"] == kind.pool and e["backend"] == address
                  and e["to"] == "down"), None)
    end = wall_ns(first["time"]) + int(1e6 * (first["adopted_ms"] or 0)) if first else None
    after = [r for r in bad if end is not None and r[0] > end + IN_FLIGHT_MS * 10**6]
    names = {backend_role(a) for a in dead}
    requests, failed_of_wrk = wrk_failed(wrk)
    return {"requests": fresh["requests"], "failed": len(fresh["failed"]), "slow": len(fresh["slow"]),
            "of_others": len(other), "after_adopted": len(after), "examples": (other + after)[:5],
            "lost": lost,
            "wrk_requests": requests, "wrk_failed": failed_of_wrk,
            "held": sum(row[0] for row in held.values()),
            "held_of_dead": sum(held[n][0] for n in names if n in held),
            "broken_of_dead": sum(held[n][1] + held[n][2] for n in names if n in held),
            "broken_of_others": sum(row[1] + row[2] for n, row in held.items() if n not in names),
            "downs_in_a_minute": downs_in_a_minute(events),
            "to_adopted_ms": round((end - began) / 1e6, 1) if first else None}


def run_kind(failures, name, quick):
    kind = KINDS[name]
    failures.configure(kind.intent())
    kind.prepare(failures)
    out = {"title": kind.title}
    try:
        if kind.timed:
            out["times"] = times(failures, kind, QUICK_ROUNDS if quick else ROUNDS)
        if name == "stopped":
            out["tcp_sees"] = pool_status(failures.lab, "web")["health"]["state"]
        out["damage"] = damage(failures, kind, quick)
    finally:
        kind.finish(failures)
    return out


def promises(results, quick):
    """[{what, got, allowed, holds}]: what the issue asks for, as far as it was measured."""
    out = []

    def add(what, got, allowed):
        out.append({"what": what, "got": got, "allowed": allowed, "holds": got <= allowed})

    for name, result in results.items():
        if "times" in result:
            add(f"{name}: events of backends or pools that had nothing",
                len(result["times"]["strangers"]), 0)
        if "damage" in result:
            hurt = result["damage"]
            add(f"{name}: broken connections to others", hurt["broken_of_others"], 0)
            add(f"{name}: failed or slow requests of others", hurt["of_others"], 0)
            if name in KINDS and KINDS[name].timed and not KINDS[name].everybody:
                add(f"{name}: failed or slow requests that began after the adoption",
                    hurt["after_adopted"], 0)
            if name == "loss":
                add("loss: falls within a minute", hurt["downs_in_a_minute"], 1)
        for what, got, allowed in result.get("promises", []):
            add(f"{name}: {what}", got, allowed)
    if quick:
        return out
    for name, p50, p99 in (("gone", 40, 60), ("killed", 12, 25)):
        if name in results:
            total = results[name]["times"]["total"]
            add(f"{name}: cause to adopted, p50, ms", total["p50"], p50)
            add(f"{name}: cause to adopted, p99, ms", total["p99"], p99)
    for row, p99 in (("idle", 5), ("under wrk", 15)):
        if "hundred" in results:
            add(f"hundred, {row}: verdict to adopted, p99, ms",
                results["hundred"]["rows"][row]["adopted"]["p99"], p99)
    return out


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--minutes", type=int, default=10, choices=range(1, 61), metavar="N")
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    every = [*KINDS, *MEASURES]
    names = [n for n in options.kinds.split(",") if n]
    for name in names:
        if name not in every:
            sys.exit(f"failures: no kind '{name}'; there are: {', '.join(every)}")
    names = names or [n for n in every if n not in LONG or options.long]
    results, again = {}, []
    began = time.monotonic()
    host = machine()
    with FailureLab() as failures:
        for name in names:
            print(f"failures: {name} ...", file=sys.stderr, flush=True)
            results[name] = MEASURES[name](failures, options) if name in MEASURES else \
                run_kind(failures, name, options.quick)
            broken = [p for p in promises({name: results[name]}, options.quick) if not p["holds"]]
            if options.quick and broken and all("requests" in p["what"] for p in broken):
                # One round, on a machine that does other things: a fault shows again, a SYN that the
                # lab lost does not. Innocents that fell, or connections that broke, are final.
                again.append(f"{name}: measured again; the first time "
                             + ", ".join(f"{p['what'].split(': ')[1]}: {p['got']}" for p in broken)
                             + f"; {examples_of(results[name])}")
                results[name] = run_kind(failures, name, options.quick)
    kept = promises(results, options.quick)
    ok = all(p["holds"] for p in kept)
    result = {"ok": ok, "machine": host, "seconds": round(time.monotonic() - began),
              "quick": options.quick, "kinds": results, "promises": kept, "again": again}
    show(result)
    options.file.write_text(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
