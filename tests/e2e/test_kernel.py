# SPDX-License-Identifier: Apache-2.0
"""The kernel keeps its own: what is not VIP traffic is the kernel's, and VIP traffic never is."""
import contextlib
import socket
import threading

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab import eventually
from traffic import CLIENT, FAMILY, NODE, VIP, Wire, Wrk, addresses, connect, get

ROUTER_MAC, ROUTER_MGMT_MAC = "02:00:00:00:00:01", "02:00:00:00:03:01"
NODE_MAC, NODE_MGMT_MAC = "02:00:00:00:01:01", "02:00:00:00:03:11"
ROUTER = {4: "10.0.0.1", 6: "fd00:0:0:1::1"}
MGMT = {4: "192.0.2.11", 6: "2001:db8:192::11"}

both_ports = pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
both_families = pytest.mark.parametrize("family", [4, 6])


def ip(family):
    return (IP if family == 4 else IPv6)(src=CLIENT[family], dst=VIP[family])


def vip_packets(family):
    """What a kernel that owned the VIP, or routed it, would answer or pass on."""
    return [ip(family) / TCP(sport=40001, dport=80, flags="S"),
            ip(family) / TCP(sport=40001, dport=81, flags="S"),
            ip(family) / TCP(sport=40002, dport=80, flags="A"),
            ip(family) / UDP(sport=40003, dport=53) / b"x",
            ip(family) / UDP(sport=40003, dport=5353) / b"x"]


def answered(lab, family, interface, node_mac, router_mac, packets):
    """Sends packets into the node by a router's interface, then pings by the same way; returns what
    the node sent meanwhile that has to do with the VIP, on any of its wires."""
    ping_to = NODE[family] if interface == "n1" else MGMT[family]
    with Wire(lab, "router", "n1") as data_wire, Wire(lab, "router", "m1") as mgmt_wire, \
            Wire(lab, "router", interface) as sender:
        frames = [bytes(Ether(src=router_mac, dst=node_mac) / p) for p in packets]
        sender.send(*frames)
        lab.run("router", "ping", f"-{family}", "-c1", "-W2", ping_to)
        seen = data_wire.frames() + mgmt_wire.frames()
    about_vip = [f for f in seen if VIP[family] in addresses(f) or CLIENT[family] in addresses(f)]
    for frame in frames:  # each is seen once, on its way in
        about_vip.remove(frame)
    return about_vip


@contextlib.contextmanager
def greeting_server(lab, family):
    """A TCP service on the node's own address."""
    server = lab.socket("n1", FAMILY[family], socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((NODE[family], 2222))
    server.listen(64)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer:
                    peer.sendall(b"the kernel\n")
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@both_ports
@both_families
def test_the_nodes_own_address_under_load(lab, family):
    with greeting_server(lab, family), Wrk(lab, VIP[family], 60, connections=8) as load:
        eventually(lambda: lab.status()["counters"]["received"] > 1000)
        lab.run("client", "ping", f"-{family}", "-q", "-c20", "-i0.05", "-W5", NODE[family])
        for _ in range(50):
            with contextlib.closing(connect(lab, NODE[family], 2222)) as sock:
                assert sock.makefile().read() == "the kernel\n"
        load.stop().must_be_clean(100)


@both_ports
@both_families
def test_neighbours_are_the_kernels(lab, family):
    """The router forgets the node and finds it anew; the node's kernel learns its neighbours."""
    tool = ["ip", f"-{family}", "neighbour"]
    with Wrk(lab, VIP[family], 60, connections=8) as load:
        load.begun(lab)
        lab.run("router", *tool, "flush", "dev", "br0")
        lab.run("router", "ping", f"-{family}", "-c1", "-W2", NODE[family])
        found = lab.run("router", *tool, "show", NODE[family], "dev", "br0").stdout
        assert NODE_MAC in found, found
        interface = "eth1" if lab.port == "interface" else "gw0"
        lab.run("n1", *tool, "flush", "dev", interface)
        lab.run("n1", "ping", f"-{family}", "-c1", "-W2", ROUTER[family])
        found = lab.run("n1", *tool, "show", ROUTER[family], "dev", interface).stdout
        assert ROUTER_MAC in found, found
        eventually(lambda: get(lab, VIP[family]))
        load.stop()
    lab.ready()


@both_ports
@both_families
def test_vip_packets_that_reach_the_kernel_by_another_interface(lab, family):
    lab.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    try:
        assert answered(lab, family, "m1", NODE_MGMT_MAC, ROUTER_MGMT_MAC, vip_packets(family)) == []
    finally:
        lab.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")


@both_families
@pytest.mark.parametrize("edge", ["attached", "detached"])
def test_vip_packets_without_a_dataplane(lab, family, edge):
    lab.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    lab.kill("dataplane")
    try:
        if edge == "detached":
            lab.run("n1", "ip", "link", "set", "dev", "eth1", "xdp", "off")
        assert answered(lab, family, "n1", NODE_MAC, ROUTER_MAC, vip_packets(family)) == []
    finally:
        lab.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
        lab.start("dataplane")
    lab.ready()
    get(lab, VIP[family])


@both_families
def test_vip_packets_without_a_control_plane(lab, family):
    """Its routes outlive it."""
    lab.kill("controlplane")
    try:
        assert answered(lab, family, "m1", NODE_MGMT_MAC, ROUTER_MGMT_MAC, vip_packets(family)) == []
    finally:
        lab.start("controlplane")
    lab.ready()


@both_families
def test_the_kernel_would_answer_without_guideway(lab, family):
    """The check itself: a packet to the node's own closed port does draw an answer."""
    own = ip(family)
    own.dst = NODE[family]
    packet = own / TCP(sport=40009, dport=9, flags="S")
    assert answered(lab, family, "n1", NODE_MAC, ROUTER_MAC, [packet]) != []
