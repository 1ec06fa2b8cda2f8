# SPDX-License-Identifier: Apache-2.0
"""The lab of scripts/failures: what is configured, how it is broken and mended, who talks to it."""
import contextlib
import json
import os
import random
import signal
import subprocess

from health import Events, Hands, pool_status, settled
from lab import BUILD, REPO, Lab, eventually
from traffic import CLIENT, TUNNEL_VIP, VIP, backend_addresses

ROUTER_MAC = "02:00:00:00:00:01"
CLIENTS = REPO / "scripts/lib/failure_clients.py"
HELD, FRESH_PER_S, WRK_CONNECTIONS = 500, 1000, 4


def services(vip, pool):
    return {f"{vip}:{port}": {"pool": pool} for port in ("80/tcp", "7/tcp", "53/udp")}


def one_pool(name, forwarding, probe, vip=None):
    """The lab's three backends as one pool, with HTTP, echo and DNS at one VIP."""
    vip = vip or (VIP[4] if forwarding == "l2" else TUNNEL_VIP[4])
    return {"pools": {name: {"forwarding": forwarding, "probe": probe,
                             "backends": {a: {} for a in backend_addresses(4)}}},
            "services": services(vip, name)}


def merged(*intents):
    return {part: {k: v for i in intents for k, v in i[part].items()}
            for part in ("pools", "services")}


class FailureLab:
    def __init__(self, backends=3):
        self.lab = Lab(f"fail{os.getpid()}", backends=backends)
        self.backends = backends
        self.random = random.Random(7)
        self.hands = {}
        self.events = None
        self.probes = {}

    def __enter__(self):
        try:
            self.lab.up()
            self.hands = {role: Hands(self.lab, role)
                          for role in ("router", *(f"b{i + 1}" for i in range(self.backends)))}
            self.events = Events(self.lab.api())
            self.know_the_router()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, kind, *_):
        for hand in self.hands.values():
            with contextlib.suppress(Exception):
                hand.close()
        if kind is not None:
            print(self.lab.log("controlplane")[-3000:], flush=True)
        self.lab.down()

    def know_the_router(self):
        """A backend that lost its link asks for its gateway's MAC address anew, by the second: until
        it knows, its replies to clients wait, while those to the node's probes arrive. That is the
        backend's own time, and would count as damage."""
        for i in range(self.backends):
            self.hands[f"b{i + 1}"].do(f"neighbour replace 10.0.0.1 lladdr {ROUTER_MAC} dev eth0 "
                                       "nud permanent")

    # ------------------------------------------------------------ what is configured

    def configure(self, intent):
        self.lab.api().must("PUT", "/v1/intent?wait=adopted", intent)
        self.probes = {name: pool["probe"] for name, pool in intent["pools"].items()}
        self.settle()

    def settle(self, seconds=30):
        settled(self.lab, *self.probes, seconds=seconds)
        self.events.forget()

    def forget_lapses(self):
        """Damping remembers a minute: a round must not lengthen the next one's recovery. Probing
        anew begins without a memory."""
        api = self.lab.api()
        for name, probe in self.probes.items():
            api.must("PUT", f"/v1/pools/{name}", {"probe": {"kind": "none"}})
            eventually(lambda: not any("probes_sent" in b
                                       for b in pool_status(self.lab, name)["backends"]), every=0.002)
            api.must("PUT", f"/v1/pools/{name}?wait=adopted", {"probe": probe})
        self.settle()

    # ------------------------------------------------------------ where packets were lost

    def losses(self):
        """{who counts: packets} so far, once nothing is on its way."""
        fine = ("forwarded", "echo_replied", "to_kernel", "from_kernel", "not_vip")
        out = {f"verdict {name}": count for name, count in self.lab.counters()[1].items()
               if name not in fine}
        for role in ("client", "router", "n1", *(f"b{i + 1}" for i in range(self.backends))):
            for link in json.loads(self.lab.run(role, "ip", "-j", "-s", "link").stdout):
                for way, counters in link["stats64"].items():
                    out[f"{role} {link['ifname']} {way} dropped"] = counters["dropped"]
            stats = self.lab.run(role, "nstat", "-asz", "TcpExtListenDrops").stdout
            out[f"{role} TcpExtListenDrops"] = int(stats.split()[-2])
        return out

    # ------------------------------------------------------------ processes of backends

    def nginx_pids(self, role):
        master = self.lab.pid("nginx", role)
        with open(f"/proc/{master}/task/{master}/children") as file:
            return [master, *map(int, file.read().split())]

    def start_inside(self, role, what, *command):
        """Like scripts/lab start, without the start of a shell."""
        log = open(self.lab.state / "log" / f"{role}.{what}", "a")
        with self.lab.inside(role), log:
            process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
        (self.lab.state / "pids" / f"{role}.{what}").write_text(f"{process.pid}\n")
        return process

    def start_nginx(self, role):
        home = self.lab.state / role
        return self.start_inside(role, "nginx", "nginx", "-p", home, "-e", home / "nginx-error.log",
                                 "-c", home / "nginx.conf")

    def attach_redirect(self, role):
        return self.start_inside(role, "agent", BUILD / "controlplane/cli/guideway", "agent", "run",
                                 "--once", "--bpf-dir", BUILD / "bpf", "--interface", "eth0",
                                 "--allow", "10.0.0.0/24", "--allow", "fd00:0:0:1::/64")

    # ------------------------------------------------------------ who asked whom

    def owner(self, vip, port):
        """The backend that a client's request by this source port belongs to, when all is well."""
        answer = self.lab.api().must("GET", f"/v1/explain?client={CLIENT[4]}:{port}"
                                            f"&service={vip}:80/tcp")
        return next(h["address"] for h in answer["hops"] if h["role"] == "owner")


class Client:
    """A process of failure_clients.py, or of another such program, in the client's namespace."""

    def __init__(self, lab, *arguments, program=CLIENTS):
        self.process = subprocess.Popen(
            lab.command("client", "/usr/bin/python3", "-B", program, *arguments), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line == "ready\n", f"{arguments}: {line!r}"

    def finish(self):
        self.process.stdin.close()
        line = self.process.stdout.readline()
        assert self.process.wait(30) == 0, line
        return json.loads(line)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Load:
    """500 held connections, 1,000 fresh requests a second that are told apart, and wrk on fresh
    connections."""

    def __init__(self, failures, vip):
        self.failures, self.vip = failures, vip
        self.hold = self.fresh = self.wrk = None

    def __enter__(self):
        lab = self.failures.lab
        try:
            self.hold = Client(lab, "hold", self.vip, 7, HELD)
            self.fresh = Client(lab, "fresh", self.vip, 80, FRESH_PER_S)
            self.wrk = lab.spawn("client", "wrk", "-t1", f"-c{WRK_CONNECTIONS}", "-d600s",
                                 "--timeout", "5s", "-H", "Connection: close",
                                 f"http://{self.vip}/")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for client in (self.hold, self.fresh):
            if client:
                client.kill()
        if self.wrk and self.wrk.poll() is None:
            self.wrk.kill()
            self.wrk.wait()

    def finish(self):
        self.wrk.send_signal(signal.SIGINT)
        text, _ = self.wrk.communicate(timeout=30)
        return self.fresh.finish(), self.hold.finish(), text
