#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,000 backends added by way of three nodes at once, over three members of etcd.

usage: bench_cluster.py [--quick] RESULTS.json     (run by scripts/bench)
"""
import json
import os
import pathlib
import sys

from failure_report import machine, machine_text, percentiles, three
from lab import Lab, eventually
from many import Adopted, add_from_all, delays_ms

NODES = ("n1", "n2", "n3")


def run(lab, each):
    lab.api("n1").must("PUT", "/v1/intent",
                       {"pools": {"web": {"forwarding": "ipip"}},
                        "services": {"203.0.113.70:80/tcp": {"pool": "web"}}})
    with Adopted(lab, NODES) as adopted:
        refused, given_up, done = add_from_all(lab, NODES, "web", each)
        last = max(revision for *_, revision in done)
        eventually(lambda: adopted.when(last), 60, what="all nodes run the last change")
        accepted, everywhere = delays_ms(adopted, done)
    states = [lab.status(n) for n in NODES]
    backends = [b["address"] for p in states[0]["pools"] for b in p["backends"]]
    took = max(answered for _, answered, _ in done) - min(asked for asked, *_ in done)
    return {"changes": len(done), "refused": len(refused),
            "given_up": len(given_up), "backends": len(backends),
            "twice": len(backends) - len(set(backends)), "seconds": took,
            "digests": len({json.dumps([p["digest"] for p in s["pools"]]) for s in states}),
            "accepted_ms": percentiles(accepted), "everywhere_ms": percentiles(everywhere)}


def show(result):
    print(f"\n== Cluster: {result['wanted']} backends added by way of 3 nodes at once, 3 members of "
          f"etcd. On {machine_text(result['machine'])}.\n")
    print(f"  {'ms':44}{'p50':>7}{'p99':>8}{'max':>8}")
    print(f"  {'from request to accepted':44}{three(result['accepted_ms'])}")
    print(f"  {'from accepted to adopted by all nodes':44}{three(result['everywhere_ms'])}")
    print(f"\n  {result['backends']} there, {result['twice']} twice, {result['refused']} refused "
          f"and asked for again, {result['given_up']} given up, {result['digests']} digest(s); "
          f"{result['changes'] / result['seconds']:.0f} changes a second", flush=True)
    if not result["ok"]:
        print("\n  DOES NOT HOLD: all there, none twice, none given up, one digest", flush=True)


def main():
    each = 67 if "--quick" in sys.argv[1:] else 334
    host = machine()
    lab = Lab(f"cl{os.getpid()}", nodes=3, backends=1, etcd=3)
    try:
        lab.up()
        for node in NODES:
            eventually(lambda n=node: lab.status(n)["cluster"]["state"] == "member", 30,
                       what=f"{node} is a member")
        result = {"machine": host, "wanted": 3 * each, **run(lab, each)}
    finally:
        lab.down()
    result["ok"] = (result["backends"], result["twice"], result["given_up"], result["digests"]) == \
        (3 * each, 0, 0, 1)
    show(result)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
