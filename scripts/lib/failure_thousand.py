# SPDX-License-Identifier: Apache-2.0
"""What the prober costs: 1,000 backends, a probe to each every 10 ms.

One responder answers for all: an XDP program on the router's end of the node's link. Both ends of
that link poll in kernel threads of their own, since the kernel would otherwise do the receivers'
work within the sender's system call and count it as the prober's."""
import pathlib
import subprocess
import time

from health import pool_status, probe
from lab import REPO, eventually

COUNT, SECONDS, QUICK_SECONDS = 1000, 20, 5
RESPONDER = REPO / "tests/support/responder.bpf.c"
CORES_ALLOWED = 0.5


def address(number):
    return f"10.1.{1 + number // 250}.{1 + number % 250}"


def start_responder(lab):
    """Answers half-open probes to 10.1.0.0/16 through the tunnel; all else goes on."""
    built = lab.state / "responder.o"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu",
                    "-c", RESPONDER, "-o", built], check=True)
    lab.run("router", "ip", "link", "set", "dev", "n1", "xdpdrv", "obj", built, "sec", "xdp")
    for role, interface in (("router", "n1"), ("n1", "eth1")):
        lab.run(role, "sh", "-c", f"echo 1 > /sys/class/net/{interface}/threaded")


def stop_responder(lab):
    lab.run("router", "ip", "link", "set", "dev", "n1", "xdp", "off", check=False)
    for role, interface in (("router", "n1"), ("n1", "eth1")):
        lab.run(role, "sh", "-c", f"echo 0 > /sys/class/net/{interface}/threaded", check=False)


def cpu_by_thread(pid):
    """{(thread, name): seconds on a CPU}."""
    out = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        out[int(task.name), name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return out


def counts(lab):
    backends = pool_status(lab, "thousand")["backends"]
    return (sum(b["probes_sent"] for b in backends), sum(b["probes_answered"] for b in backends),
            sum(b["state"] == "up" for b in backends))


def thousand(failures, options):
    lab = failures.lab
    seconds = QUICK_SECONDS if options.quick else SECONDS
    start_responder(lab)
    try:
        lab.api().must("PUT", "/v1/intent?wait=adopted", {"services": {}, "pools": {"thousand": {
            "forwarding": "ipip", "probe": probe("tcp"),
            "backends": {address(i): {} for i in range(COUNT)}}}})
        eventually(lambda: counts(lab)[2] == COUNT, 30, 0.2, lambda: f"all up: {counts(lab)}")
        time.sleep(1)
        pid = lab.pid("controlplane")
        before, cpu_before, began = counts(lab), cpu_by_thread(pid), time.monotonic()
        time.sleep(seconds)
        cpu_after, took, after = cpu_by_thread(pid), time.monotonic() - began, counts(lab)
    finally:
        stop_responder(lab)
        lab.api().must("PUT", "/v1/intent", {"services": {}, "pools": {}})
    used = {key: (cpu_after[key] - cpu_before.get(key, 0.0)) / took for key in cpu_after}
    busiest = max(used, key=used.get)
    sent, answered = after[0] - before[0], after[1] - before[1]
    return {"title": "1,000 backends, a probe to each every 10 ms",
            "figures": {"probes sent, each s": round(sent / took),
                        "answered, % of them": round(100 * answered / max(1, sent), 3),
                        "backends up at the end": after[2],
                        f"CPU of the prober ({busiest[1]}), cores": round(used[busiest], 3),
                        "CPU of the whole control plane, cores": round(sum(used.values()), 3)},
            "examples": [],
            "promises": [("CPU of the prober, cores", round(used[busiest], 3), CORES_ALLOWED),
                         ("backends that are not up", COUNT - after[2], 0),
                         ("missing of 100,000 probes a second, %",
                          round(max(0.0, 100 - sent / took / 1000), 1), 5)]}
