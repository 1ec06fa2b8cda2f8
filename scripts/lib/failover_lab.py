# SPDX-License-Identifier: Apache-2.0
"""The lab of scripts/failover: three nodes that announce the same VIPs, and what is held open there."""
import json
import os
import subprocess
import time

from bgp import ALL, NODES, bfd_sessions, cli, hops
from failure_lab import Client
from failure_report import percentiles
from health import probe
from lab import REPO, Lab, eventually
from traffic import backend_addresses, service

CLIENTS = REPO / "scripts/lib/failover_clients.py"
FLOW_SEED = "5eedf00d5eedf00d"
VIPS = {4: "203.0.113.60", 6: "2001:db8:203::60"}
ECHO_PORT = 7


def intent():
    """The same on all nodes, the flow seed too: whichever gets a flow knows its backend."""
    return {"flow_seed": FLOW_SEED,
            "pools": {f"gue{f}": {"forwarding": "gue", "probe": probe("tcp", 100, 100),
                                  "backends": {a: {} for a in backend_addresses(f)}}
                      for f in VIPS},
            "services": {service(vip, port): {"pool": f"gue{f}"}
                         for f, vip in VIPS.items() for port in (80, ECHO_PORT)}}


class FailoverLab:
    def __init__(self, router, bfd_ms):
        self.lab = Lab(f"over{os.getpid()}", nodes=3, router=router, bfd_ms=bfd_ms)

    def __enter__(self):
        try:
            self.lab.up()
            for role in NODES:
                self.configure(role)
            self.all_in_service()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for role in NODES:
                print(f"{role}: " + self.lab.log("controlplane", role)[-2000:], flush=True)
        self.lab.down()

    def configure(self, role):
        eventually(lambda: self.lab.try_status(role), 20, what=f"{role} answers")
        self.lab.api(role).must("PUT", "/v1/intent?wait=adopted", intent())
        self.wait_ready(role)

    def wait_ready(self, role):
        """Its services are ready, its backends all up by its own probes."""
        def look():
            status = self.lab.try_status(role)
            return (status and status["dataplane"]["alive"]
                    and status["dataplane"]["revision"] == status["revision"]
                    and len(status["pools"]) == len(VIPS)
                    and all(s["state"] == "ready" for s in status["services"])
                    and all(b["state"] == "up" and b["share_now"] == 1 and b.get("probes_answered")
                            for p in status["pools"] for b in p["backends"]))
        eventually(look, 30, 0.1, lambda: f"{role} ready: {self.lab.try_status(role)}")

    def digests(self, role):
        return {p["name"]: p["digest"] for p in self.lab.status(role)["pools"]}

    def wait_routes(self, nodes, seconds=30):
        """Until the router sends both VIPs to exactly these nodes."""
        eventually(lambda: all(hops(self.lab, vip) == set(nodes) for vip in VIPS.values()), seconds,
                   0.1, lambda: f"VIPs via {sorted(nodes)}: "
                                f"{[sorted(hops(self.lab, vip)) for vip in VIPS.values()]}")

    def all_in_service(self):
        """As every case begins: all announce, all with the same tables."""
        for role in NODES:
            self.wait_ready(role)
        self.wait_routes(ALL)
        eventually(lambda: bfd_sessions(self.lab) == 2 * len(NODES), 30, 1, "BFD sessions up")
        tables = [self.digests(role) for role in NODES]
        assert all(t == tables[0] and all(t.values()) for t in tables), f"tables differ: {tables}"

    def node(self, role, *arguments):
        done = cli(self.lab, role, "node", *arguments)
        assert done.returncode == 0, f"{role}: node {arguments}: {done.stderr}"

    def packets(self):
        """{node: what it has forwarded so far}, for those that answer."""
        out = {}
        for role in NODES:
            if status := self.lab.try_status(role):
                out[role] = sum(s["packets"] for s in status["services"])
        return out


class Connections:
    """Half of them IPv4, half IPv6, a process each; a tenth of them send every 10 ms."""

    def __init__(self, lab, count):
        self.clients = []
        try:
            for vip in VIPS.values():
                self.clients.append(Client(lab, vip, ECHO_PORT, count // 2, count // 20,
                                           program=CLIENTS))
        except BaseException:
            self.close()
            raise

    def say(self, what):
        """The answers to it."""
        for client in self.clients:
            client.process.stdin.write(what + "\n")
            client.process.stdin.flush()
        return [client.process.stdout.readline() for client in self.clients]

    def next_phase(self):
        answers = self.say("next")
        assert set(answers) == {"ready\n"}, answers

    def finish(self):
        """(connections, messages that came back, the longest that the clients were late by phase)"""
        results = [json.loads(line) for line in self.say("stop")]
        for family, result in zip(VIPS, results):
            for connection in result["connections"]:
                connection["family"] = family
        late = [max(of_phase) for of_phase in zip(*(r["late_ms"] for r in results))]
        return ([c for r in results for c in r["connections"]], sum(r["messages"] for r in results),
                late)

    def close(self):
        for client in self.clients:
            client.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def gaps(connections, phase):
    """p50, p99 and max over the connections; and of those alone that send every 10 ms."""
    fastest = min(c["every_ms"] for c in connections)
    return (percentiles([c["gaps_ms"][phase] for c in connections]),
            percentiles([c["gaps_ms"][phase] for c in connections if c["every_ms"] == fastest]))


class RouteChanges:
    """When the router's kernel changed its routes to the VIPs."""

    def __init__(self, lab):
        self.file = lab.state / "routes.txt"
        with open(self.file, "w") as out:
            self.process = subprocess.Popen(
                lab.command("router", "ip", "-ts", "monitor", "route"), stdout=out)

    def since(self, began):
        """Seconds after `began` (time.time()) of each."""
        out = []
        for line in self.file.read_text().splitlines():
            stamp, _, rest = line.partition("] ")
            if any(vip in rest for vip in VIPS.values()):
                day, _, micros = stamp.lstrip("[").partition(".")
                at = time.mktime(time.strptime(day, "%Y-%m-%dT%H:%M:%S")) + int(micros) / 1e6
                out.append(round(at - began, 3))
        return [at for at in out if at >= 0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
