#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lookup tables: time to build, disruption, imbalance.

usage: bench_tables.py [--quick] RESULTS.json     (run by scripts/bench)
"""
import json
import os
import pathlib
import subprocess
import sys


def main():
    program = [os.environ["GUIDEWAY_BUILD"] + "/tests/bench/bench_tables"]
    if "--quick" in sys.argv[1:]:
        program.append("quick")
    out = subprocess.run(program, capture_output=True, text=True, check=True, timeout=600).stdout
    tables = json.loads(out)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(tables))
    print("\n== Tables: equal weights; medians of three\n")
    print(f"  {'backends':>8} {'slots':>8} {'owners':>10} {'+ stand-ins':>12} {'root after a failure':>21}"
          f" {'max/min share':>14} {'moved when one leaves':>22}")
    for t in tables:
        print(f"  {t['backends']:8} {t['slots']:8} {t['owners_ms']:7.2f} ms {t['stand_ins_ms']:9.2f} ms "
              f"{t['image_ms']:18.3f} ms {t['max_over_min']:14.4f} {t['moved_percent']:20.3f} %")
    print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
