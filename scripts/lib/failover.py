#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Takes nodes out and in, under connections with data flowing, and judges what these noticed.

usage: failover.py [--quick] [--router bird|frr] [--bfd MS] [--cases CASE,..] RESULTS.json
       (run by scripts/failover)
"""
import argparse
import json
import pathlib
import sys
import time

from failover_cases import cases
from failover_lab import Connections, FailoverLab, RouteChanges, gaps
from failure_report import machine, machine_text, three

COUNT, QUICK_COUNT = 1000, 200
BEFORE_S, QUICK_BEFORE_S = 3, 1
# The last message of a slow connection, and a packet that is sent again three times.
AFTER_S, QUICK_AFTER_S = 5, 3
QUIET, CASE, RETURN = 0, 1, 2


def shares(before, after):
    """How much of what was forwarded each node did."""
    did = {role: after[role] - before[role] for role in before if role in after}
    return {role: round(n / max(1, sum(did.values())), 3) for role, n in did.items()}


def worst_of(connections, phase, began, late):
    """The five longest gaps, and when they began."""
    order = sorted(connections, key=lambda c: -c["gaps_ms"][phase])[:5]
    return [f"{c['gaps_ms'][phase]} ms, sent {c['sent_at'][phase] - began:+.3f} s, "
            f"every {c['every_ms']} ms, IPv{c['family']}, port {c['port']} to {c['backend']}" for c in order] + \
        [f"the clients themselves were late by up to {late} ms"]


def run(over, case, options):
    count, before_s, after_s = (QUICK_COUNT, QUICK_BEFORE_S, QUICK_AFTER_S) if options.quick else \
        (COUNT, BEFORE_S, AFTER_S)
    over.all_in_service()
    case.prepare(over)
    with RouteChanges(over.lab) as routes, Connections(over.lab, count) as held:
        packets = over.packets()
        time.sleep(before_s)
        carried = shares(packets, over.packets())
        held.next_phase()
        began, began_wall = time.monotonic(), time.time()
        case.cause(over)
        took = time.monotonic() - began
        time.sleep(after_s)
        changed = routes.since(began_wall)
        back_began = time.monotonic()
        if case.returns:
            held.next_phase()
            case.mend(over)
            over.all_in_service()
            time.sleep(after_s)
        connections, messages, late = held.finish()
    over.all_in_service()
    every, fast = gaps(connections, CASE)
    out = {"title": case.title, "limit": case.limit, "connections": len(connections),
           "messages": messages, "carried": carried, "took_s": round(took, 2),
           "began": began, "routes_changed_s": changed,
           "broken": sum(bool(c["broken"]) for c in connections),
           "why_broken": sorted({f"{c['broken']} ({c['backend']})"
                                 for c in connections if c["broken"]}),
           "quiet": gaps(connections, QUIET)[0], "all": every, "every_10_ms": fast,
           "return": gaps(connections, RETURN)[0] if case.returns else None,
           "late_ms": late, "worst": worst_of(connections, CASE, began, late[CASE])}
    if case.returns:
        out["worst_return"] = worst_of(connections, RETURN, back_began, late[RETURN])
    return out


def promises(results, quick):
    """[{what, got, allowed, holds}]"""
    out = []

    def add(what, got, allowed):
        out.append({"what": what, "got": got, "allowed": allowed, "holds": got <= allowed})

    for name, result in results.items():
        add(f"{name}: broken connections", result["broken"], 0)
        if result["limit"] and not quick:
            figure, allowed = result["limit"]
            add(f"{name}: longest gap, {figure}, ms", result["all"][figure], allowed)
    return out


def show(result):
    print(f"\nOn {machine_text(result['machine'])}.")
    print(f"BGP: {result['router']}, BFD {result['bfd_ms']} ms x 3.\n")
    print("== The longest gap in data of each connection, ms: p50, p99, max\n")
    groups = ("all", "of those every 10 ms", "the way back")
    print(f"  {'':26} {'held':>5} {'broken':>6} " + " ".join(f"{g:>24}" for g in groups))
    for case in result["cases"].values():
        print(f"  {case['title']:26} {case['connections']:5} {case['broken']:6} " + " ".join(
            f" {three(case[k])}" for k in ("all", "every_10_ms", "return")))
    print("\n  One tenth of the connections send every 10 ms, the others every second. A gap is the time "
          "from\n  the sending of a message until it is back.")
    print("\n== Promises\n")
    for promise in result["promises"]:
        print(f"  {'holds' if promise['holds'] else 'DOES NOT HOLD':14} {promise['what']:44} "
              f"{promise['got']:>9,} (at most {promise['allowed']:,})")
    for name, case in result["cases"].items():
        for why in case["why_broken"][:5]:
            print(f"  {name}: {why}")
        if any(p["what"].startswith(name) and not p["holds"] for p in result["promises"]):
            print(f"  {name}: routes changed after {case['routes_changed_s']} s; the longest gaps: "
                  + "; ".join(case["worst"]))
    print(f"\n{'All held.' if result['ok'] else 'NOT ALL HELD.'} {result['seconds']} s.", flush=True)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--router", default="bird", choices=("bird", "frr"))
    parser.add_argument("--bfd", type=int, choices=range(1, 1000), metavar="MS")
    parser.add_argument("--cases", default="")
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    bfd_ms = options.bfd or (200 if options.quick else 100)
    every = cases(bfd_ms)
    names = [n for n in options.cases.split(",") if n]
    for name in names:
        if name not in every:
            sys.exit(f"failover: no case '{name}'; there are: {', '.join(every)}")
    results = {}
    began = time.monotonic()
    host = machine()
    with FailoverLab(options.router, bfd_ms) as over:
        for name in names or every:
            print(f"failover: {name} ...", file=sys.stderr, flush=True)
            results[name] = run(over, every[name], options)
    kept = promises(results, options.quick)
    ok = all(p["holds"] for p in kept)
    result = {"ok": ok, "machine": host, "router": options.router, "bfd_ms": bfd_ms,
              "seconds": round(time.monotonic() - began), "quick": options.quick, "cases": results,
              "promises": kept}
    show(result)
    options.file.write_text(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
