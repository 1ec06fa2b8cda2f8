# SPDX-License-Identifier: Apache-2.0
"""The programs of the bench that poll tests/bench/generator.cc: testpmd, and the dataplane."""
import mmap
import os
import pathlib
import re
import signal
import struct
import subprocess
import time

BUILD = pathlib.Path(os.environ["GUIDEWAY_BUILD"])
CORE = max(os.sched_getaffinity(0))
SLOTS = 65537
WORKERS_OFFSET_AT, RECEIVED_AT, FLOWS_AT, VERDICTS_AT = 64, 8, 16, 64  # dataplane/abi.h
GENERATION_AT, WORKER_BYTES = 32, 576
STAMP_BYTES = 128  # tests/bench/stamp.h
BURST, BUFFERS = 64, 12288  # of guideway-dataplane; testpmd is told to use the same


class Process:
    """A program that polls the generator."""

    threads = 1  # that poll

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

    def stamp(self, thread=0):
        """(received, sent, cpu_ns, wall_ns)"""
        at = STAMP_BYTES * thread
        with self.stats.open("rb") as file:
            region = mmap.mmap(file.fileno(), at + 40, prot=mmap.PROT_READ)
        while True:
            first = struct.unpack_from("<5Q", region, at)
            if first[0] % 2 == 0 and struct.unpack_from("<5Q", region, at) == first:
                return first[1:]

    def runs(self):
        """Each polling thread has had packets."""
        if not self.stats.exists() or self.stats.stat().st_size < STAMP_BYTES * (self.threads - 1) + 40:
            return False
        return all(self.stamp(thread)[0] > 0 for thread in range(self.threads))

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
        try:
            self.wait(self.runs, "packets")
            self.stop()
        except BaseException:
            self.end()
            raise


class Guideway(Process):
    def __init__(self, scenario, generator, directory):
        run, config = directory / "run", directory / "node.toml"
        self.churn = None
        self.cores = scenario.get("cores", [CORE])
        self.threads = len(self.cores)
        super().__init__("guideway", [
            BUILD / "dataplane/guideway-dataplane", "--config", config, "--bpf-dir", BUILD / "bpf"],
            generator, self.write(directory, config, run, scenario))
        self.run = run
        try:
            self.begin(scenario, directory)
        except BaseException:
            self.end()
            raise

    def begin(self, scenario, directory):
        # The socket is there a moment before anybody listens.
        self.wait(lambda: "ready:" in (directory / "process/log").read_text(), "control socket")
        # A pool that churns is quiet at first.
        done = subprocess.run(self.publication(scenario, scenario["release"].replace("churn", "quiet")),
                              capture_output=True, text=True, timeout=60)
        if done.returncode:
            self.fail(done.stderr)
        if scenario["release"] == "churn":
            self.churn = subprocess.Popen(self.publication(scenario, "churn"), stderr=self.log)
        self.wait(self.runs, "packets")
        self.stop()
        self.before = self.counters()

    def publication(self, scenario, release):
        return [BUILD / "tests/bench/publish_image", self.run / "dataplane.sock",
                str(scenario["family"]), scenario["forwarding"], str(scenario["backends"]),
                str(scenario["services"]), str(SLOTS), release]

    def end(self):
        if self.churn:
            self.churn.kill()
            self.churn.wait()
        super().end()

    @staticmethod
    def write(directory, config, run, scenario):
        directory.mkdir()
        cores = scenario.get("cores", [CORE])
        config.write_text(
            f'[node]\nname = "bench"\n[paths]\nrun = "{run}"\nstate = "{directory}/state"\n'
            f"[dataplane]\nworkers = {len(cores)}\ncores = {cores}\nmemory_mb = 512\n"
            f'flow_table = {scenario["flow_table"]}\n[[dataplane.ports]]\nvdev = "net_null0"\n')
        return directory / "process"

    def counters(self):
        data = (self.run / "counters").open("rb").read(16384)
        worker = struct.unpack_from("<Q", data, WORKERS_OFFSET_AT)[0]
        count = len(self.cores)

        def total(offset):
            return sum(struct.unpack_from("<Q", data, worker + WORKER_BYTES * i + offset)[0]
                       for i in range(count))

        return {"generation": struct.unpack_from("<Q", data, GENERATION_AT)[0],
                "received": total(RECEIVED_AT), "flows": total(FLOWS_AT),
                "forwarded": total(VERDICTS_AT)}

    def check(self):
        """The flows it knows. All it received since its image must have gone to a backend."""
        now = self.counters()
        received = now["received"] - self.before["received"]
        forwarded = now["forwarded"] - self.before["forwarded"]
        if received == 0 or forwarded < 0.9999 * received:
            self.fail(f"forwarded {forwarded} of {received}")
        return now["flows"]

    def images(self):
        """How many it has adopted since the first."""
        return self.counters()["generation"] - self.before["generation"]

    def memory_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))


def scenario(flows, **changes):
    one = {"flows": flows, "family": 4, "forwarding": "ipip", "backends": 100, "services": 1,
           "release": "quiet", "syn": 0, "flow_table": 65536}
    one.update(changes)
    return one


def generator(one):
    """What the generator is told of a scenario."""
    return (f"flows={one['flows']},family={one['family']},vips={one['services']},"
            f"syn={one['syn']}")
