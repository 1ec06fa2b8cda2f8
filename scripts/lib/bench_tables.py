#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lookup tables: time, disruption, imbalance, beside the table of the Maglev paper.

usage: bench_tables.py [--quick] RESULTS.json     (run by scripts/bench)
"""
import json
import pathlib
import subprocess
import sys

from failure_report import machine, machine_text
from lab import BUILD

PROGRAM = "tests/bench/bench_tables"
# Of 1,000 backends and 65,537 slots: what was promised.
OWNERS_MS, STAND_INS_MS, ROOT_MS = 2, 5, 1


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
    result = {"ok": True, "machine": host, "tables": tables, "asked": [
        ["owners' table of 1,000 backends, 65,537 slots", one["owners_ms"], OWNERS_MS],
        ["the same with stand-ins", one["stand_ins_ms"], STAND_INS_MS],
        ["root after one failure", one["root_ms"], ROOT_MS]]}
    show(result)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
