#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The steps of the packet path, one by one: ns and instructions per packet.

usage: bench_stages.py [--quick] RESULTS.json     (run by scripts/bench)

Times by Google Benchmark: CPU time, the stages in turns, several rounds. Instructions by callgrind:
two runs of different length in one process, and their difference, so that set-up does not count.
What a stage needs around it (the loop; making a fresh frame) is a stage of its own and is taken off.
"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from failure_report import machine, machine_text

PROGRAM = pathlib.Path(os.environ["GUIDEWAY_BUILD"]) / "tests/bench/bench_stages"
CORE = max(os.sched_getaffinity(0))


def bases():
    """{stage: the stage to take off, or None}, in the order in which they are shown."""
    done = subprocess.run([PROGRAM, "--list"], check=True, text=True, stdout=subprocess.PIPE)
    return {name: base or None for name, base in
            (line.split("|") for line in done.stdout.splitlines())}


def times(quick):
    """{stage: [ns per packet, one a round]}"""
    rounds, seconds = (5, 0.02) if quick else (15, 0.1)
    done = subprocess.run(
        ["taskset", "-c", str(CORE), PROGRAM, "--benchmark_format=json",
         f"--benchmark_repetitions={rounds}", f"--benchmark_min_time={seconds}",
         "--benchmark_enable_random_interleaving=true"],
        check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = {}
    for one in json.loads(done.stdout)["benchmarks"]:
        if one["run_type"] == "iteration":
            out.setdefault(one["run_name"], []).append(1e9 / one["items_per_second"])
    return out


def instructions():
    """{stage: per packet}"""
    totals = {}
    with tempfile.TemporaryDirectory(prefix="gwbench") as directory:
        subprocess.run(["valgrind", "--tool=callgrind", "--instr-atstart=no",
                        f"--callgrind-out-file={directory}/out", PROGRAM, "--count"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for file in pathlib.Path(directory).iterdir():
            text = file.read_text()
            told = re.search(r"^desc: Trigger: Client Request: (.*)\|(\d+)$", text, re.M)
            if told:
                total = int(re.search(r"^totals: (\d+)$", text, re.M).group(1))
                totals.setdefault(told.group(1), []).append((int(told.group(2)), total))
    out = {}
    for name, runs in totals.items():
        (short, few), (long, many) = sorted(runs)
        out[name] = (many - few) / (long - short)
    return out


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def less(ns, counted, name, base):
    """Without what `base` costs; the same round of both."""
    own = [a - b for a, b in zip(ns[name], ns[base])] if base else ns[name]
    count = counted.get(name)
    if count is not None and base:
        count -= counted[base]
    return {"name": name, "base": base, "ns": spread(own), "instructions": count}


def show(result):
    print(f"\n== Stages: one by one, by the core's own functions. On {machine_text(result['machine'])}."
          f"\n   Per packet, of bursts of 64; without the loop, or without making a fresh frame\n")
    print(f"  {'':40}{'ns: median (min..max)':>28}{'instructions':>15}")
    for row in result["stages"]:
        ns, count = row["ns"], row["instructions"]
        cell = f"{ns['median']:6.1f} ({ns['min']:.1f}..{ns['max']:.1f})"
        print(f"  {row['name']:40}{cell:>28}{'' if count is None else f'{count:.0f}':>15}")
    print(flush=True)


def main():
    quick = "--quick" in sys.argv[1:]
    host = machine()
    ns, counted = times(quick), instructions()
    stages = [less(ns, counted, name, base) for name, base in bases().items()]
    result = {"ok": True, "machine": host, "stages": stages}
    show(result)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
