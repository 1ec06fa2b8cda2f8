# SPDX-License-Identifier: Apache-2.0
"""Two workers beside one, for bench_packet.py: ns of CPU time per packet.

Two workers of one process on two cores at once, and, for what the machine itself takes (cores that
share a core's units, or a cache), two processes of one worker each, which have nothing in common.
"""
import os
import pathlib
import shutil
import statistics
import time

from bench_process import Guideway, generator, scenario

# State: entries of the flow table.
STATES = {"quiet": 65536, "learn": 1 << 21}
# Name: cores of each process.
WAYS = {"one worker": [[1]], "two workers": [[0, 1]], "two processes": [[0], [1]]}


def sample(processes, seconds):
    """ns per packet of all polling threads of these, which run at the same time."""
    threads = [(p, i) for p in processes for i in range(len(p.cores))]
    for process in processes:
        process.go()
    time.sleep(0.05)
    before = [p.stamp(i) for p, i in threads]
    time.sleep(seconds)
    after = [p.stamp(i) for p, i in threads]
    for process in processes:
        process.stop()
    costs = [(b[2] - a[2]) / (b[0] - a[0]) for a, b in zip(before, after) if b[0] > a[0]]
    if len(costs) < len(threads):
        processes[0].fail("a thread polls no packets")
    return statistics.mean(costs)


def measure(rounds, seconds, directory, states):
    """{state: {way: ns}}, of some of the states below; None on fewer than two cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    out = {}
    for release in states:
        one = scenario(1_000_000, release=release, flow_table=STATES[release])
        base = pathlib.Path(directory, f"workers-{release}")
        base.mkdir()
        ways, costs = {}, {name: [] for name in WAYS}
        try:
            for name, wanted in WAYS.items():
                ways[name] = []
                for numbers in wanted:
                    own = {**one, "cores": [cores[n] for n in numbers]}
                    place = base / f"{len(ways)}-{len(ways[name])}"
                    ways[name].append(Guideway(own, generator(own), place))
            for processes in ways.values():  # each flow is met once or twice before it counts
                sample(processes, 0.6)
            for _ in range(rounds):
                for name, processes in ways.items():
                    costs[name].append(sample(processes, seconds))
            for processes in ways.values():
                for process in processes:
                    process.check()
        finally:
            for process in (p for processes in ways.values() for p in processes):
                process.end()
            shutil.rmtree(base)
        out[release] = {name: {"median": statistics.median(all_of_it), "min": min(all_of_it),
                               "max": max(all_of_it)} for name, all_of_it in costs.items()}
        for name in ("two workers", "two processes"):
            times = [2 * a / b for a, b in zip(costs["one worker"], costs[name])]
            out[release][name]["times_one"] = statistics.median(times)
    return out


def show(result):
    print("\n  Two workers, 1,000,000 flows: ns of CPU time per packet, and packets beside one worker's")
    for release, ways in result.items():
        print(f"  {release:8}" + "; ".join(
            f"{name}: {f['median']:.1f} ({f['min']:.0f}..{f['max']:.0f})"
            + (f", {f['times_one']:.2f} x" if "times_one" in f else "") for name, f in ways.items()))
    print(flush=True)
