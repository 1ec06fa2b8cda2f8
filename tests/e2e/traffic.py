# SPDX-License-Identifier: Apache-2.0
"""Clients: HTTP, the DNS-like echo, wrk, and a look at a wire."""
import collections
import contextlib
import re
import select
import signal
import socket
import struct
import time

from lab import eventually

VIP = {4: "203.0.113.10", 6: "2001:db8:203::10"}
TUNNEL_VIP = {4: "203.0.113.20", 6: "2001:db8:203::20"}
CROSS_VIP = {4: "203.0.113.30", 6: "2001:db8:203::30"}
CLIENT = {4: "198.51.100.2", 6: "2001:db8:100::2"}
NODE = {4: "10.0.0.11", 6: "fd00:0:0:1::11"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33


def host(address):
    return f"[{address}]" if ":" in address else address


def service(address, port, protocol="tcp"):
    return f"{host(address)}:{port}/{protocol}"


def backend_addresses(family, count=3):
    stem = "10.0.0." if family == 4 else "fd00:0:0:1::"
    return [f"{stem}{20 + i}" for i in range(1, count + 1)]


def backend_role(address):
    return f"b{int(re.split('[.:]', address)[-1]) - 20}"


def pool(forwarding, family, weights=(100, 100, 100)):
    backends = zip(backend_addresses(family, len(weights)), weights)
    return {"forwarding": forwarding, "backends": {a: {"weight": w} for a, w in backends}}


def base_intent(weights=(100, 100, 100)):
    """Every way of forwarding, each at a VIP of its own: HTTP, upload and DNS."""
    pools = {f"{method}{family}": pool(method, family, weights)
             for method in ("l2", "ipip") for family in (4, 6)}
    services = {}
    for family in (4, 6):
        for port, protocol in ((80, "tcp"), (8080, "tcp"), (53, "udp")):
            ways = {VIP[family]: f"l2{family}", TUNNEL_VIP[family]: f"ipip{family}",
                    CROSS_VIP[family]: f"ipip{10 - family}"}
            for vip, name in ways.items():
                services[service(vip, port, protocol)] = {"pool": name}
    return {"pools": pools, "services": services}


# ---------------------------------------------------------------- requests

def connect(lab, address, port=80, source_port=0, timeout=5):
    family = 6 if ":" in address else 4
    sock = lab.socket("client", FAMILY[family], socket.SOCK_STREAM)
    sock.settimeout(timeout)
    if source_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((CLIENT[family], source_port))
    sock.connect((address, port))
    return sock


def get(lab, address, path="/", port=80, source_port=0):
    """The body of one HTTP request over a connection of its own."""
    with contextlib.closing(connect(lab, address, port, source_port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return read_response(sock)


def read_response(sock):
    raw = b""
    while part := sock.recv(65536):
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", head
    return body.decode().strip()


def tally(lab, address, connections):
    """How many of so many connections each backend answered: {"b1": n, ..}."""
    return collections.Counter(get(lab, address) for _ in range(connections))


def dns_query(number, name=b"\x08guideway\x04test\0"):
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", 16, 1)


def ask_dns(lab, address, number, source_port=0):
    """The name of the backend that answered a query by UDP."""
    family = 6 if ":" in address else 4
    with contextlib.closing(lab.socket("client", FAMILY[family], socket.SOCK_DGRAM)) as sock:
        sock.settimeout(5)
        if source_port:
            sock.bind((CLIENT[family], source_port))
        sock.connect((address, 53))  # so only an answer from the VIP is taken
        query = dns_query(number)
        sock.send(query)
        answer = sock.recv(2048)
    assert answer[:2] == query[:2] and answer[12:len(query)] == query[12:], answer
    return answer[len(query) + 13:].decode()


# ---------------------------------------------------------------- load

class Wrk:
    """wrk in the client, over keep-alive connections unless told otherwise."""

    def __init__(self, lab, address, seconds, connections=32, options=()):
        self.process = lab.spawn("client", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
                                 *options, f"http://{host(address)}/")

    def running(self):
        return self.process.poll() is None

    def begun(self, lab, node="n1", packets=4000):
        """Once the node has forwarded so many packets: not only started, but at work."""
        def forwarded():
            return lab.status(node)["counters"]["verdicts"].get("forwarded", 0)
        before = forwarded()
        eventually(lambda: forwarded() >= before + packets, 30, what="wrk is at work")
        return self

    def stop(self):
        """Ends it early; it still reports."""
        if self.running():
            self.process.send_signal(signal.SIGINT)
        return self.result()

    def result(self, timeout=120):
        text, _ = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, text
        return WrkResult(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.running():
            self.process.kill()
            self.process.wait()


class WrkResult:
    def __init__(self, text):
        self.text = text
        self.requests = int(re.search(r"(\d+) requests in", text).group(1))
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)",
                           text)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        self.failed = sum(map(int, errors.groups())) if errors else 0
        self.failed += int(bad.group(1)) if bad else 0

    def must_be_clean(self, requests_min=1000):
        assert self.failed == 0, self.text
        assert self.requests >= requests_min, self.text
        return self


# ---------------------------------------------------------------- the wire

class Wire:
    """Every frame that passes an interface, in both directions, as bytes."""

    def __init__(self, lab, role, interface):
        with lab.inside(role):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            self.sock.bind((interface, ETH_P_ALL))

    def send(self, *frames):
        for frame in frames:
            self.sock.send(bytes(frame))

    def frames(self, wait=0.0):
        """All frames that came since the last call; `wait`: at most so long for the first."""
        out = []
        while select.select([self.sock], [], [], 0 if out else wait)[0]:
            out.append(self.sock.recv(65535))
        return out

    def collect(self, wanted, seconds=5):
        """Frames up to and with the first for which `wanted` holds; fails without one."""
        out, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.sock], [], [], 0.1)[0]:
                out.append(self.sock.recv(65535))
                if wanted(out[-1]):
                    return out
        raise AssertionError(f"not seen among {len(out)} frames within {seconds} s")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def addresses(frame):
    """(source, destination) of an untagged IP frame as text; (None, None) of any other."""
    kind = frame[12:14]
    if kind == b"\x08\0" and len(frame) >= 34:
        return tuple(socket.inet_ntop(socket.AF_INET, frame[i:i + 4]) for i in (26, 30))
    if kind == b"\x86\xdd" and len(frame) >= 54:
        return tuple(socket.inet_ntop(socket.AF_INET6, frame[i:i + 16]) for i in (22, 38))
    return None, None
