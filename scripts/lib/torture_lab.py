# SPDX-License-Identifier: Apache-2.0
"""The lab of scripts/torture: what is configured, how changes are made, and what happened when."""
import collections
import http.client
import json
import os
import random
import subprocess
import threading
import time
from urllib.parse import quote

from health import probe, settled
from lab import BUILD, REPO, Lab, eventually
from traffic import CLIENT, backend_addresses, host

ECHO, HTTP = 7, 80
ETCD_MEMBERS = 3
ETCD_READY_S = 60
UNREACHABLE = (OSError, http.client.HTTPException)
# Slow enough that neither a busy machine nor a restart looks like a dead backend: this is about
# planned changes.
PROBE = probe("tcp", interval_ms=200, timeout_ms=1000, fall=5, port=HTTP)
VIPS = {"four": {4: "203.0.113.60", 6: "2001:db8:203::60"},  # the pool with IPv4 backends
        "six": {4: "203.0.113.61", 6: "2001:db8:203::61"}}
FAMILY = {"four": 4, "six": 6}
MEMBERS_AT_FIRST = 5


class Cannot(Exception):
    """This run cannot take place."""


class TortureLab(Lab):
    """Nodes that share one intent by etcd, if there are several."""

    def up(self):
        etcd = ["--etcd", str(ETCD_MEMBERS)] if self.node_count > 1 else []
        self.etcd_roles = [f"e{i + 1}" for i in range(ETCD_MEMBERS if etcd else 0)]
        self.script("up", "--port", self.port, "--nodes", str(self.node_count),
                    "--backends", str(self.backend_count), "--router", self.router, *etcd,
                    timeout=180)
        return self

    @property
    def nodes(self):
        return [f"n{i + 1}" for i in range(self.node_count)]

    @property
    def backends(self):
        return [f"b{i + 1}" for i in range(self.backend_count)]

    def route(self, family, order):
        """The router's ways to the VIPs of a family: these nodes, in this order."""
        net, stem = ("203.0.113.0/24", "10.0.0.1") if family == 4 else \
            ("2001:db8:203::/64", "fd00:0:0:1::1")
        hops = [word for node in order for word in ("nexthop", "via", stem + node[1:])]
        self.run("router", "ip", f"-{family}", "route", "replace", net, *hops)

    def agent_status(self, role):
        """The counters of `redirect` on a backend, or None."""
        done = self.run(role, "sh", "-c", f"mount --bind {self.state}/{role}/bpf /sys/fs/bpf && "
                        f"{BUILD}/controlplane/cli/guideway --json agent status --interface eth0",
                        check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None


class Log:
    """What was done and what was seen, by time. Of any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.entries = []

    def add(self, what, at=None):
        with self.lock:
            self.entries.append((at or time.time(), what))

    def between(self, first, last):
        with self.lock:
            return sorted(e for e in self.entries if first <= e[0] <= last)


class Views:
    """What each node says of itself, asked again and again; what is new in it goes into the log."""

    EVERY_S = 0.15

    def __init__(self, lab, log):
        self.lab, self.log = lab, log
        self.last = {}  # node: (asked at, status)
        self.seen = collections.defaultdict(dict)
        self.down = collections.Counter()  # backends that a node thought down
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._follow, args=(node,), daemon=True)
                        for node in lab.nodes]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def _follow(self, node):
        while not self.ending.wait(self.EVERY_S):
            asked = time.time()
            try:
                status = self.lab.status(node)
            except UNREACHABLE:
                status = None
            except AssertionError:
                status = None
            self.last[node] = (asked, status)
            for what, now in self._facts(status).items():
                if self.seen[node].get(what) != now:
                    self.seen[node][what] = now
                    self.log.add(f"{node} {what}: {now}")

    def _facts(self, status):
        if status is None:
            return {"control plane": "no answer"}
        plane = status["dataplane"]
        out = {"control plane": "answers",
               "runs": f"revision {plane['revision']} of {status['revision']}, "
                       f"generation {plane['generation']}" + ("" if plane["alive"] else ", NOT ALIVE")}
        for pool in status["pools"]:
            out[f"pool {pool['name']}"] = change_text(pool["change"])
            bad = {b["address"]: b["state"] for b in pool["backends"]
                   if b["state"] not in ("up", "draining", "disabled", "no_weight")}
            out[f"backends of {pool['name']}"] = f"{pool['health']['state']}, not up: {bad or 'none'}"
        return out

    def committed(self, pool, revision, since):
        """Whether each node has said, after `since`, that it forwards by the table that is wanted."""
        for node in self.lab.nodes:
            asked, status = self.last.get(node, (0, None))
            if asked < since or status is None or status["revision"] < revision or \
                    status["dataplane"]["revision"] < status["revision"]:
                return False
            change = next(p for p in status["pools"] if p["name"] == pool)["change"]
            if change and (change["wanted"] or change["incoming"] is not None):
                return False
        return True

    def waits(self, pool):
        """Why a change does not go on, as the nodes say."""
        return {node: next((change_text(p["change"]) for p in status["pools"] if p["name"] == pool),
                           None) if status else "no answer"
                for node, (_, status) in self.last.items()}


def change_text(change):
    if not change:
        return "-"
    return (f"epoch {change['epoch']}"
            + (f", incoming {change['incoming']}" if change["incoming"] is not None else "")
            + (f", earlier {change['earlier']}" if change["earlier"] else "")
            + (", more is wanted" if change["wanted"] else "")
            + (f", waits {change['waits']}" if change["waits"] else ""))


class Truth:
    """The intent, which all nodes share: a change is given to one of them, and reaches all."""

    PATIENCE_S = 60.0  # a node is being restarted; or etcd chooses another leader

    def __init__(self, lab):
        self.lab = lab
        if lab.node_count > 1:
            for node in lab.nodes:
                if not lab.status(node).get("cluster"):
                    raise Cannot(f"{node} is in no cluster, so that each node would have an intent "
                                 "of its own: only --nodes 1")

    def change(self, node, method, path, body=None):
        """The revision of a change that is durable. A node that is being restarted is left for
        another one, if there is any."""
        deadline = time.monotonic() + self.PATIENCE_S
        nodes, tries = self.lab.nodes, 0
        at = nodes.index(node)
        while True:
            answer = None
            try:
                answer = self.lab.api(nodes[(at + tries) % len(nodes)]).request(method, path, body)
            except UNREACHABLE as error:
                said = error
            else:
                said = answer
                if answer.ok:
                    return answer.body["revision"]
                if answer.status == 404 and method == "DELETE" and tries:
                    return self.revision()  # it was done before the answer got lost
                if answer.status < 500:
                    raise AssertionError(f"{method} {path}: {answer}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: not within {self.PATIENCE_S} s: {said}")
            tries += 1
            time.sleep(0.1)

    def revision(self):
        return max(s["revision"] for s in map(self.lab.try_status, self.lab.nodes) if s)


def wanted_pool(forwarding, name, backends):
    pool = {"forwarding": forwarding, "probe": PROBE,
            "backends": {a: {"weight": 100}
                         for a in backend_addresses(FAMILY[name], backends)[:MEMBERS_AT_FIRST]}}
    if forwarding == "gue":
        pool["hold_s"] = 0  # an earlier epoch goes when nobody needs it, and by no deadline
    return pool


def families_of(forwarding, name):
    """Of the VIPs: `l2` has them of the backends' family only."""
    return (FAMILY[name],) if forwarding == "l2" else (4, 6)


def targets(forwarding):
    """[own address, VIP] of each kind of connection."""
    return [[CLIENT[family], VIPS[name][family]]
            for name in VIPS for family in families_of(forwarding, name)]


def configure(lab, forwarding, seed):
    """Both pools, with a flow seed that is the run's, if nobody had one yet."""
    vips = [VIPS[name][family] for name in VIPS for family in families_of(forwarding, name)]
    intent = {"pools": {name: wanted_pool(forwarding, name, lab.backend_count) for name in VIPS},
              "services": {f"{host(vip)}:{port}/tcp": {"pool": name}
                           for name in VIPS for vip in VIPS[name].values() if vip in vips
                           for port in (ECHO, HTTP)}}
    flow_seed = f"{random.Random(seed).getrandbits(64):016x}"
    answer = lab.api().put("/v1/intent", {**intent, "flow_seed": flow_seed})
    if not answer.ok:
        lab.api().must("PUT", "/v1/intent", intent)
    for node in lab.nodes:
        lab.ready(node, ETCD_READY_S if lab.etcd_roles else 10)
    settled(lab, *VIPS, seconds=30)
    eventually(lambda: len({json.dumps([(p["name"], p["digest"]) for p in lab.status(n)["pools"]])
                            for n in lab.nodes}) == 1, 10, what="equal tables on all nodes")


def explain(lab, node, client, vip):
    """What a node says of a flow, in a line."""
    try:
        answer = lab.api(node).get(f"/v1/explain?client={quote(client)}"
                                   f"&service={quote(f'{host(vip)}:{ECHO}/tcp')}")
    except UNREACHABLE as error:
        return f"{node}: no answer ({error})"
    if not answer.ok:
        return f"{node}: {answer}"
    said = answer.body
    hops = ", ".join(f"{h['role']} {h['address']} ({h['state']})" for h in said["hops"])
    return (f"{node}: pool {said['pool']}, slot {said['slot']} of {said['slots']}: {hops}; goes to "
            f"{said['backend']}; revision {said['revision']}, generation {said['generation']}")


def sockets(lab, port):
    """Where a socket with this client's port is, whatever its state."""
    out = []
    for role in lab.backends:
        text = lab.run(role, "ss", "-HtaniO", f"dport = :{port} and sport = :{ECHO}",
                       check=False).stdout
        out += [f"{role} {' '.join(line.split())}" for line in text.splitlines()]
    return out


def resident_kb(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmRSS")), None)
    except (FileNotFoundError, ProcessLookupError):
        return None


class Memory:
    """VmRSS of the daemons of nodes and of the agents, in KiB: first, most and last of each."""

    def __init__(self, lab):
        self.lab = lab
        self.of = {}

    def look(self):
        for role in self.lab.nodes + self.lab.backends:
            for what in (("dataplane", "controlplane") if role[0] == "n" else ("agent",)):
                pid = self.lab.pid(what, role)
                size = pid and resident_kb(pid)
                if size:
                    first, most, _ = self.of.get((role, what), (size, size, size))
                    self.of[role, what] = (first, max(most, size), size)


class Process:
    """A program of ours in the client's namespace that ends with its standard input."""

    def __init__(self, lab, program, *arguments):
        self.process = subprocess.Popen(
            lab.command("client", "/usr/bin/python3", "-B", REPO / "scripts/lib" / program, *arguments),
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def lines(self):
        for line in self.process.stdout:
            yield json.loads(line)

    def end(self):
        self.process.stdin.close()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def lab_name(seed):
    return f"t5{os.getpid()}x{seed % 1000}"
