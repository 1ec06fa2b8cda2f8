# SPDX-License-Identifier: Apache-2.0
"""A lab of scripts/lab as an object: its namespaces, its daemons, its control socket."""
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
from urllib.parse import quote

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GUIDEWAY_BUILD", REPO / "build"))
SCRIPT = REPO / "scripts" / "lab"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def eventually(condition, seconds=10.0, every=0.02, what=None):
    """What `condition` returns once that is true; fails after `seconds`, naming the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {seconds} s: {said or condition}; last: {answer!r}")
        time.sleep(every)


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Answer:
    """One HTTP answer of the control socket."""

    def __init__(self, status, body):
        self.status = status
        self.body = body

    @property
    def ok(self):
        return 200 <= self.status < 300

    @property
    def error(self):
        return self.body["error"]

    def __repr__(self):
        return f"{self.status} {self.body}"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("guideway", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """The control socket of a node. Each request has a connection of its own: a kept one may be
    closed by the server just when it is used, and no client can tell whether that change was made."""

    def __init__(self, path, timeout=30):
        self.path = str(path)
        self.timeout = timeout

    def request(self, method, path, body=None):
        """`body`: bytes as they are, anything else as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"}
        with contextlib.closing(_UnixConnection(self.path, self.timeout)) as connection:
            with contextlib.suppress(BrokenPipeError):  # refused before all was said: see why
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            raw = answer.read()
        try:
            return Answer(answer.status, json.loads(raw) if raw else None)
        except ValueError:
            return Answer(answer.status, raw.decode(errors="replace"))

    def get(self, path):
        return self.request("GET", path)

    def put(self, path, body=None):
        return self.request("PUT", path, body)

    def delete(self, path):
        return self.request("DELETE", path)

    def must(self, method, path, body=None):
        answer = self.request(method, path, body)
        assert answer.ok, f"{method} {path}: {answer}"
        return answer.body


def service_path(name):
    return "/v1/services/" + quote(name, safe="")


class Lab:
    def __init__(self, name, port="interface", nodes=1, backends=3, start=True, router="static",
                 node_bgp=None, bfd_ms=100, etcd=0):
        self.name = name
        self.port = port
        self.node_count = nodes
        self.backend_count = backends
        self.start_nodes = start
        self.router = router
        self.node_bgp = node_bgp or router
        self.bfd_ms = bfd_ms
        self.etcd_count = etcd
        self.state = pathlib.Path("/run/guideway-lab") / name

    # ------------------------------------------------------------ life

    def script(self, verb, *arguments, check=True, timeout=120):
        done = subprocess.run([SCRIPT, verb, "--name", self.name, *arguments], timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0 or not check, f"lab {verb} {arguments}: {done.stdout}"
        return done.stdout

    def up(self):
        options = ["--port", self.port, "--nodes", str(self.node_count),
                   "--backends", str(self.backend_count), "--router", self.router]
        if self.router != "static":
            options += ["--node-bgp", self.node_bgp, "--bfd", str(self.bfd_ms)]
        if self.etcd_count:
            options += ["--etcd", str(self.etcd_count)]
        self.script("up", *options, *([] if self.start_nodes else ["--no-start"]))
        return self

    def down(self):
        self.script("down", check=False)

    def start(self, what, role="n1"):
        self.script("start", role, what)

    def stop(self, what, role="n1"):
        self.script("stop", role, what)

    def kill(self, what, role="n1"):
        """kill -9; returns when the process is gone."""
        self.script("kill", role, what)

    def pid(self, what, role="n1"):
        """The recorded pid, or None if no such process lives."""
        try:
            pid = int((self.state / "pids" / f"{role}.{what}").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if alive(pid) else None

    def log(self, what, role="n1"):
        return (self.state / "log" / f"{role}.{what}").read_text()

    # ------------------------------------------------------------ inside the namespaces

    def namespace(self, role):
        return f"gw-{self.name}-{role}"

    def command(self, role, *command):
        return ["ip", "netns", "exec", self.namespace(role), *map(str, command)]

    def run(self, role, *command, check=True, timeout=60, stdin=None):
        done = subprocess.run(self.command(role, *command), timeout=timeout, text=True, input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0 or not check, \
            f"{role}: {command}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def spawn(self, role, *command):
        return subprocess.Popen(self.command(role, *command), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @contextlib.contextmanager
    def inside(self, role):
        """Sockets that this thread makes within are the namespace's, and stay so."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as home, \
                open(f"/run/netns/{self.namespace(role)}") as there:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(home)

    def socket(self, role, *arguments):
        with self.inside(role):
            return socket.socket(*arguments)

    # ------------------------------------------------------------ control

    def api(self, node="n1"):
        return Api(self.state / node / "run" / "control.sock")

    def status(self, node="n1"):
        return self.api(node).must("GET", "/v1/status")

    def try_status(self, node="n1"):
        """The status, or None while nobody answers."""
        try:
            return self.status(node)
        except (OSError, http.client.HTTPException):
            return None

    def apply(self, intent, node="n1"):
        """Makes `intent` the node's, waits until the dataplane has it and every service is ready."""
        self.api(node).must("PUT", "/v1/intent?wait=adopted", intent)
        return self.ready(node)

    def ready(self, node="n1", seconds=20):
        def check():
            status = self.try_status(node)
            if not status:
                return False
            plane = status["dataplane"]
            return (plane["connected"] and plane["alive"] and not plane["refused"]
                    and plane["revision"] == status["revision"]
                    and all(s["state"] == "ready" for s in status["services"])
                    and all(p["digest"] for p in status["pools"] if p["backends"]) and status)
        return eventually(check, seconds, what=f"{node} ready: {self.try_status(node)}")

    def counters(self, node="n1"):
        """(received, {verdict: packets}), once no packet is on its way."""
        last = None

        def quiet():
            nonlocal last
            counters = self.status(node)["counters"]
            now = (counters["received"], counters["verdicts"])
            settled = now == last and now[0] == sum(now[1].values())
            last = now
            return settled and now
        return eventually(quiet, 10, every=0.1, what=lambda: f"counters that add up: {last}")


def _set_namespace(handle):
    if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def verdict_difference(before, after):
    """What changed between two Lab.counters(): {verdict: packets}, zeros left out."""
    names = set(before[1]) | set(after[1])
    difference = {n: after[1].get(n, 0) - before[1].get(n, 0) for n in names}
    return {n: d for n, d in difference.items() if d}
