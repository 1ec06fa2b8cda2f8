#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lookup tables: time, disruption, imbalance, beside the table of the Maglev paper; and the time until a
dataplane under load has adopted a change.

usage: bench_tables.py [--quick] RESULTS.json     (run by scripts/bench)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from bench_process import SLOTS, Guideway, generator, scenario
from failure_report import machine, machine_text
from lab import BUILD

PROGRAM = "tests/bench/bench_tables"
# Of 1,000 backends and 65,537 slots: what was promised. FAILURE_MS: made, sent and adopted.
OWNERS_MS, STAND_INS_MS, FAILURE_MS = 2, 5, 1
CHANGES = {"first": "a new pool", "failure": "one backend down, or up again",
           "weight": "weight of one backend"}


def published(quick):
    """Changes sent to a dataplane whose worker forwards all the time; the other core publishes."""
    out = []
    for backends in (100, 1000, 10000):
        one = scenario(1000, backends=backends)
        with tempfile.TemporaryDirectory(prefix="gwbench") as directory:
            dataplane = Guideway(one, generator(one), pathlib.Path(directory, "guideway"))
            try:
                dataplane.go()
                done = subprocess.run(
                    [BUILD / "tests/bench/publish_times", dataplane.run / "dataplane.sock",
                     str(backends), str(SLOTS), "5" if quick else "25"],
                    check=True, text=True, stdout=subprocess.PIPE, timeout=120)
                dataplane.check()
            finally:
                dataplane.end()
        out.append(json.loads(done.stdout))
    return out


def show_published(rows):
    print(f"\n  {'until the dataplane, under load, has adopted it':50}{'tables':>8}{'root':>9}"
          f"{'adopted':>9}{'in all':>9}{'at most':>9}, ms")
    for row in rows:
        for change, text in CHANGES.items():
            f = row[change]
            print(f"  {row['backends']:6} backends: {text:32}{f['tables_ms']:8.2f} "
                  f"{f['root_ms']:8.2f} {f['adopted_ms']:8.2f} {f['all_ms']:8.2f} "
                  f"{f['most_ms']:8.2f}   {f['tables_sent']} table(s) sent")
    one, many = rows[1]["services_100_one_pool"], rows[1]["services_100_pools_100"]
    print(f"\n  100 services of 100 backends: on one pool {one['tables']} table, "
          f"{one['table_bytes'] / 1024:,.0f} KiB, and a root of {one['root_bytes'] / 1024:,.0f} KiB; "
          f"on 100 pools {many['tables']} tables, {many['table_bytes'] / 1024:,.0f} KiB, and "
          f"{many['root_bytes'] / 1024:,.0f} KiB")


def show(result):
    print(f"\n== Tables: on {machine_text(result['machine'])}.\n")
    print(f"  {'':24}{'time to make, ms':>32}{'others moved when 1 leaves':>30}{'1 halved':>10}"
          f"{'max / min share':>19}")
    print(f"  {'slots':>8}{'backends':>10}      {'owners':>10}{'+ stand-ins':>12}{'paper':>10}"
          f"{'root':>10}{'own':>10}{'paper':>10}{'':10}{'own':>9}{'paper':>9}")
    for row in result["tables"]:
        print(f"  {row['slots']:8}{row['backends']:10}      {row['owners_ms']:10.2f}"
              f"{row['stand_ins_ms']:12.2f}{row['paper_ms']:10.2f}{row['root_ms']:10.2f}"
              f"{100 * row['moved_leave']:8.2f} %{100 * row['paper_moved_leave']:8.2f} %"
              f"{100 * row['moved_weight']:8.2f} %{row['max_by_min']:9.3f}"
              f"{row['paper_max_by_min']:9.3f}")
    show_published(result["published"])
    print()
    for what, got, most in result["asked"]:
        print(f"  {'holds' if got <= most else 'DOES NOT HOLD':14} {what:56} {got:.2f} ms "
              f"(at most {most})")
    print(flush=True)


def main():
    quick = ["--quick"] if "--quick" in sys.argv[1:] else []
    host = machine()
    done = subprocess.run([BUILD / PROGRAM, *quick], check=True, text=True, stdout=subprocess.PIPE)
    tables = json.loads(done.stdout)
    one = next(t for t in tables if (t["backends"], t["slots"]) == (1000, 65537))
    sent = published(bool(quick))
    shared = sent[1]["services_100_one_pool"]["tables"]
    result = {"ok": shared == 1, "machine": host, "tables": tables, "published": sent, "asked": [
        ["owners' table of 1,000 backends, 65,537 slots", one["owners_ms"], OWNERS_MS],
        ["the same with stand-ins", one["stand_ins_ms"], STAND_INS_MS],
        ["root after one failure, made and adopted under load", sent[1]["failure"]["all_ms"],
         FAILURE_MS]]}
    show(result)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
