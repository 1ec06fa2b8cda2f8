#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Cost per packet of the whole process, against testpmd on the same packets.

usage: bench_packet.py [--quick] RESULTS.json     (run by scripts/bench)

Every program polls alone, on one core, in a network namespace of its own; tests/bench/generator.cc
hands it packets. All programs of a scenario are kept, stopped (SIGSTOP), and let run in turn for a
moment, round after round, so that they meet the same machine. The cost is the CPU time of the
polling thread, by its own clock, over the packets that it sent: what other processes or the
hypervisor's scheduler take from the core shows only as far as they disturb its caches.
"""
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import bench_workers
from bench_process import Guideway, Testpmd, generator, scenario
from failure_report import machine, machine_text


def entries(flows):
    return min(1 << 24, max(1024, 1 << (2 * flows - 1).bit_length()))


def scenarios(quick):
    million = 1_000_000
    most = 10 * million
    # Before 10 M flows count, each is to be met once or twice: too long for --quick.
    counts = (1000, million) if quick else (1000, million, most)
    yield from (scenario(n) for n in counts)
    yield from (scenario(n, release="learn", flow_table=entries(n)) for n in counts)
    yield scenario(counts[-1], release="drain", syn=1)
    if not quick:
        yield scenario(most, release="drain", syn=1, flow_table=1 << 22)
    yield scenario(million, release="churn", flow_table=entries(million))
    if quick:
        return
    yield from (scenario(n) for n in (1, 100_000))
    for n in (1000, million):
        yield scenario(n, forwarding="gue")
        yield scenario(n, forwarding="l2")
        yield scenario(n, family=6)
        yield scenario(n, family=6, forwarding="gue")
        yield scenario(n, backends=10)
        yield scenario(n, backends=1000)
        yield scenario(n, services=1000)
    yield scenario(100_000, release="learn", flow_table=entries(100_000))
    yield scenario(most, syn=1)


def must_be(one, flows, images, guideway):
    """The state that the scenario's name says."""
    wanted = {"quiet": flows == 0, "learn": flows >= 0.9 * one["flows"],
              "drain": flows >= 0.9 * one["flow_table"],
              "churn": images > 0 and guideway.churn and guideway.churn.poll() is None}
    if not wanted[one["release"]]:
        raise RuntimeError(f"is not in its state: {flows} entries, {images} images")


def measure(one, modes, rounds, seconds, directory):
    directory.mkdir()
    running = []
    try:
        for mode in modes:
            running.append(Testpmd(mode, generator(one), directory / mode))
        guideway = Guideway(one, generator(one), directory / "guideway")
        running.append(guideway)
        guideway.go()  # each flow is met once or twice before it counts
        time.sleep(0.2 + 4 * one["flows"] / 10e6)
        guideway.stop()
        samples = {p.name: [] for p in running}
        for _ in range(rounds):
            for process in running:
                samples[process.name].append(process.sample(seconds))
        flows, images = guideway.check(), guideway.images()
        must_be(one, flows, images, guideway)
    finally:
        for process in running:
            process.end()
        shutil.rmtree(directory)
    result = {"scenario": one, "entries": flows, "ns": {}, "images": images}
    for name, all_of_it in samples.items():
        costs = [s["ns"] for s in all_of_it]
        result["ns"][name] = {"median": statistics.median(costs), "min": min(costs),
                              "max": max(costs),
                              "share_of_core": statistics.median(s["share_of_core"] for s in all_of_it)}
    ratios = sorted(g["ns"] / t["ns"] for g, t in zip(samples["guideway"], samples["5tswap"]))
    result["ratio"] = {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]}
    median = {name: f["median"] for name, f in result["ns"].items()}
    # The program's own part: what the generator and the buffers cost is in io as well.
    result["ratio_net"] = (median["guideway"] - median["io"]) / (median["5tswap"] - median["io"])
    return result


def title(one):
    return (f"{one['flows']:>9,} flows  v{one['family']} {one['forwarding']:4} "
            f"{one['backends']:>4} b {one['services']:>4} s  {one['release']:5} "
            f"{'SYN' if one['syn'] else 'ACK'}")


def show_head(result):
    print(f"\n== Packets: whole process, one core. On {machine_text(result['machine'])}.")
    print("   ns of the polling thread's CPU time per packet: median (min..max) of the rounds\n"
          "   quiet: nothing to remember. learn: an entry for every flow. drain: 9 of 10 backends drain\n"
          "   churn: each 100 ms another one of the backends is down\n")
    print(f"  {'':52}" + "".join(f"{name:>17}" for name in (*result["modes"], "guideway"))
          + f"{'entries':>12}  x 5tswap (min..max)  net of io", flush=True)


def show(result):
    cells = "".join(f"{f['median']:6.1f} ({f['min']:.0f}..{f['max']:.0f})".rjust(17)
                    for f in result["ns"].values())
    ratio = result["ratio"]
    print(f"  {title(result['scenario']):52}{cells}{result['entries']:>12,}  {ratio['median']:5.2f} "
          f"({ratio['min']:.2f}..{ratio['max']:.2f})  {result['ratio_net']:9.2f}", flush=True)


def main():
    quick, path = "--quick" in sys.argv[1:], sys.argv[-1]
    modes = ["io", "5tswap"] if quick else ["io", "macswap", "5tswap"]
    rounds, seconds = (5, 0.12) if quick else (9, 0.3)
    result = {"machine": machine(), "seconds": seconds, "modes": modes, "rounds": rounds, "packets": []}
    show_head(result)
    with tempfile.TemporaryDirectory(prefix="gwbench") as directory:
        for number, one in enumerate(scenarios(quick)):
            try:
                measured = measure(one, modes, rounds, seconds, pathlib.Path(directory, str(number)))
            except RuntimeError as error:
                result.setdefault("failures", []).append(f"{title(one)}: {error}")
                print(f"  {title(one)}  NOT MEASURED: {error}", flush=True)
                continue
            result["packets"].append(measured)
            show(measured)
            pathlib.Path(path).write_text(json.dumps(result))
        states = ["quiet"] if quick else list(bench_workers.STATES)
        result["workers"] = bench_workers.measure(rounds, seconds, directory, states)
        if result["workers"]:
            bench_workers.show(result["workers"])
    result["ok"] = not result.get("failures")
    pathlib.Path(path).write_text(json.dumps(result))
    return 1 if result.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
