# SPDX-License-Identifier: Apache-2.0
"""BGP in a lab of three nodes, as the router and as the nodes see it."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import time

from lab import BUILD, eventually

NODES = ("n1", "n2", "n3")
ALL = set(NODES)
RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE = 0x40, 0x400
VIP_PREFIXES = (socket.inet_pton(socket.AF_INET, "203.0.113.0")[:3],
                socket.inet_pton(socket.AF_INET6, "2001:db8:203::")[:8])


def gateways(lab):
    """{address of a node on the bridge: its role}, link-local ones included: FRR goes by those."""
    out = {}
    for role in NODES:
        links = json.loads(lab.run(role, "ip", "-j", "address", "show", "dev", "eth1").stdout)
        out.update({info["local"]: role for link in links for info in link.get("addr_info", ())})
    return out


def hops(lab, vip):
    """The nodes that the router's kernel sends the VIP to."""
    answer = lab.run("router", "ip", "-j", "-6" if ":" in vip else "-4", "route", "show", vip).stdout
    routes = json.loads(answer or "[]")
    names = _gateways(lab)
    return {names[hop["gateway"]] for route in routes for hop in route.get("nexthops", [route])
            if "gateway" in hop}


def _gateways(lab):
    if not hasattr(lab, "gateways"):
        lab.gateways = gateways(lab)
    return lab.gateways


def learned(lab, vip, nodes, seconds=5.0):
    """Waits until the router sends the VIP to exactly these nodes; how long that took."""
    start = time.monotonic()
    eventually(lambda: hops(lab, vip) == set(nodes), seconds, every=0.01,
               what=f"{vip} via {sorted(nodes)}, not {sorted(hops(lab, vip))}")
    return time.monotonic() - start


@contextlib.contextmanager
def nothing_changes(lab, but=()):
    """No route to a VIP changes at the router meanwhile, not even for a moment; `but`: VIPs whose
    routes may."""
    may = [socket.inet_pton(socket.AF_INET6 if ":" in vip else socket.AF_INET, vip) for vip in but]
    with lab.inside("router"):
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with contextlib.closing(news):
        news.bind((0, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE))
        yield
        news.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while message := news.recv(65536):
                assert any(vip in message for vip in may) or \
                    not any(prefix in message for prefix in VIP_PREFIXES), message


def bfd_sessions(lab):
    """How many of the router's are up."""
    show = {"bird": "show bfd sessions", "frr": "show bfd peers brief"}[lab.router]
    return lab.script("bgp", "router", *show.split()).lower().split().count("up")


def signals(lab, role):
    """{VIP: metric} of the node's kernel routes that are announced."""
    out = {}
    for family in ("-4", "-6"):
        answer = lab.run(role, "ip", "-j", family, "route", "show", "proto", "203").stdout
        out.update({route["dst"]: route["metric"] for route in json.loads(answer or "[]")})
    return out


def kill(lab, what, role):
    """kill -9, now: scripts/lab takes its time."""
    os.kill(lab.pid(what, role), signal.SIGKILL)


def cli(lab, role, *arguments):
    return subprocess.run([BUILD / "controlplane/cli/guideway", "--socket",
                           lab.state / role / "run" / "control.sock", *arguments],
                          text=True, capture_output=True, timeout=60)


def announcements(lab, role):
    return {v["vip"]: v["announce"] for v in lab.status(role)["vips"]}
