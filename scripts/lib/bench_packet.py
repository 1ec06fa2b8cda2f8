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
import mmap
import os
import pathlib
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from failure_report import machine, machine_text

BUILD = pathlib.Path(os.environ["GUIDEWAY_BUILD"])
CORE = max(os.sched_getaffinity(0))
SLOTS = 65537
WORKERS_OFFSET_AT, RECEIVED_AT, FLOWS_AT, VERDICTS_AT = 64, 8, 16, 64  # dataplane/abi.h
BURST, BUFFERS = 64, 12288  # of guideway-dataplane; testpmd is told to use the same


class Process:
    """A program that polls the generator."""

    def __init__(self, name, command, generator, directory):
        self.name = name
        directory.mkdir()
        self.stats = directory / "stamp"
        self.log = (directory / "log").open("wb")
        self.directory = directory
        self.process = subprocess.Popen(
            ["unshare", "--net", "env", f"GUIDEWAY_GENERATOR={generator},stats={self.stats}",
             f"LD_PRELOAD={BUILD / 'tests/bench/bench_generator.so'}", *command],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)

    def fail(self, why):
        self.end()
        raise RuntimeError(f"{self.name}: {why}\n" + (self.directory / "log").read_text())

    def wait(self, done, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.fail(f"no {what}")
            time.sleep(0.01)

    def stamp(self):
        """(received, sent, cpu_ns, wall_ns)"""
        with self.stats.open("rb") as file:
            region = mmap.mmap(file.fileno(), 40, prot=mmap.PROT_READ)
        while True:
            first = struct.unpack("<5Q", region[:40])
            if first[0] % 2 == 0 and struct.unpack("<5Q", region[:40]) == first:
                return first[1:]

    def runs(self):
        return self.stats.exists() and self.stats.stat().st_size == 40 and self.stamp()[0] > 0

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go(self):
        self.process.send_signal(signal.SIGCONT)

    def sample(self, seconds):
        """ns per packet while it runs for so long, or longer on a busy core: until it has had a
        third of that in CPU time. It is stopped before and after."""
        self.go()
        time.sleep(0.05)
        before, deadline = self.stamp(), time.monotonic() + seconds
        after = before
        while time.monotonic() < deadline or after[2] - before[2] < seconds / 3 * 1e9:
            if time.monotonic() > deadline + 20:
                self.fail("polls no packets")
            time.sleep(seconds / 20)
            after = self.stamp()
        self.stop()
        received, sent, cpu, wall = (b - a for a, b in zip(before, after))
        if sent < 0.999 * received:
            self.fail(f"sent {sent} of {received} packets")
        return {"ns": cpu / received, "share_of_core": cpu / wall}

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Testpmd(Process):
    def __init__(self, mode, generator, directory):
        super().__init__(mode, [
            "dpdk-testpmd", f"--lcores=0@0,1@{CORE}", "--no-huge", "-m", "512", "--no-pci",
            "--no-telemetry", "--no-shconf", "--vdev=net_null0", "--log-level=*:warning", "--",
            f"--forward-mode={mode}", f"--burst={BURST}", "--mbcache=256",
            f"--total-num-mbufs={BUFFERS}", "--port-topology=loop", "--nb-cores=1",
            "--no-flush-rx", "--auto-start"], generator, directory)
        self.wait(self.runs, "packets")
        self.stop()


class Guideway(Process):
    def __init__(self, scenario, generator, directory):
        run, config = directory / "run", directory / "node.toml"
        super().__init__("guideway", [
            BUILD / "dataplane/guideway-dataplane", "--config", config, "--bpf-dir", BUILD / "bpf"],
            generator, self.write(directory, config, run, scenario))
        self.run = run
        # The socket is there a moment before anybody listens.
        self.wait(lambda: "ready:" in (directory / "process/log").read_text(), "control socket")
        done = subprocess.run(
            [BUILD / "tests/bench/publish_image", run / "dataplane.sock", str(scenario["family"]),
             scenario["forwarding"], str(scenario["backends"]), str(scenario["services"]),
             str(SLOTS), scenario["release"]], capture_output=True, text=True, timeout=60)
        if done.returncode:
            self.fail(done.stderr)
        self.wait(self.runs, "packets")
        self.stop()
        self.before = self.counters()

    @staticmethod
    def write(directory, config, run, scenario):
        directory.mkdir()
        config.write_text(
            f'[node]\nname = "bench"\n[paths]\nrun = "{run}"\nstate = "{directory}/state"\n'
            f"[dataplane]\nworkers = 1\ncores = [{CORE}]\nmemory_mb = 512\n"
            f'flow_table = {scenario["flow_table"]}\n[[dataplane.ports]]\nvdev = "net_null0"\n')
        return directory / "process"

    def counters(self):
        data = (self.run / "counters").open("rb").read(16384)
        worker = struct.unpack_from("<Q", data, WORKERS_OFFSET_AT)[0]
        return {"received": struct.unpack_from("<Q", data, worker + RECEIVED_AT)[0],
                "flows": struct.unpack_from("<Q", data, worker + FLOWS_AT)[0],
                "forwarded": struct.unpack_from("<Q", data, worker + VERDICTS_AT)[0]}

    def check(self):
        """The flows it knows. All it received since its image must have gone to a backend."""
        now = self.counters()
        received = now["received"] - self.before["received"]
        forwarded = now["forwarded"] - self.before["forwarded"]
        if received == 0 or forwarded < 0.9999 * received:
            self.fail(f"forwarded {forwarded} of {received}")
        return now["flows"]


def scenario(flows, **changes):
    one = {"flows": flows, "family": 4, "forwarding": "ipip", "backends": 100, "services": 1,
           "release": "quiet", "syn": 0, "flow_table": 65536}
    one.update(changes)
    return one


def entries(flows):
    return min(1 << 24, max(1024, 1 << (2 * flows - 1).bit_length()))


def scenarios(quick):
    million = 1_000_000
    most = 10 * million
    yield from (scenario(n) for n in (1000, million, most))
    yield from (scenario(n, release="learn", flow_table=entries(n)) for n in (1000, million, most))
    yield scenario(most, release="drain", syn=1)
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


def measure(one, modes, rounds, seconds, directory):
    directory.mkdir()
    generator = (f"flows={one['flows']},family={one['family']},vips={one['services']},"
                 f"syn={one['syn']}")
    running = []
    try:
        for mode in modes:
            running.append(Testpmd(mode, generator, directory / mode))
        guideway = Guideway(one, generator, directory / "guideway")
        running.append(guideway)
        guideway.go()  # each flow is met once or twice before it counts
        time.sleep(0.2 + 4 * one["flows"] / 10e6)
        guideway.stop()
        samples = {p.name: [] for p in running}
        for _ in range(rounds):
            for process in running:
                samples[process.name].append(process.sample(seconds))
        flows = guideway.check()
    finally:
        for process in running:
            process.end()
        shutil.rmtree(directory)
    result = {"scenario": one, "entries": flows, "ns": {}}
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
          "   quiet: nothing to remember. learn: an entry for every flow. drain: 9 of 10 backends drain\n")
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no stopped program stays
    modes = ["io", "5tswap"] if quick else ["io", "macswap", "5tswap"]
    rounds, seconds = (5, 0.2) if quick else (9, 0.3)
    result = {"machine": machine(), "modes": modes, "rounds": rounds, "packets": []}
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
    return 1 if result.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
