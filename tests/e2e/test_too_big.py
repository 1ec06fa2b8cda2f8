# SPDX-License-Identifier: Apache-2.0
"""Packets too big for the tunnel: the client is told, learns the MTU, and gets through."""
import contextlib
import errno
import socket

import pytest

from lab import verdict_difference
from traffic import CROSS_VIP, FAMILY, TUNNEL_VIP, Wire, addresses, dns_query, host
from test_traffic import DOWNLOAD_SHA256

MTU = 1500
OUTER = {4: 20, 6: 40}
IP_HEADER = {4: 20, 6: 40}
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_DONTFRAG = 23, 24, 62

# Name, inner family, outer family.
TUNNELS = [("ipip", 4, 4), ("ipip", 6, 6), ("crossed", 4, 6), ("crossed", 6, 4)]
every_tunnel = pytest.mark.parametrize("name,family,outer", TUNNELS)


def vip_of(name, family):
    return (TUNNEL_VIP if name == "ipip" else CROSS_VIP)[family]


def forget_mtu(lab, family):
    lab.run("client", "ip", f"-{family}", "route", "flush", "cache")


def udp_socket(lab, family, vip):
    """Sets DF, knows the path's MTU."""
    sock = lab.socket("client", FAMILY[family], socket.SOCK_DGRAM)
    sock.settimeout(5)
    if family == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
    sock.connect((vip, 53))
    return sock


def path_mtu(sock, family):
    return sock.getsockopt(socket.IPPROTO_IP, IP_MTU) if family == 4 else \
        sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


@every_tunnel
def test_the_client_learns_the_mtu(lab, name, family, outer):
    forget_mtu(lab, family)
    vip = vip_of(name, family)
    fits = MTU - OUTER[outer]
    payload = b"\xff" * (MTU - IP_HEADER[family] - 8)
    before = lab.counters()
    with contextlib.closing(udp_socket(lab, family, vip)) as sock:
        sock.send(payload)
        with pytest.raises(OSError) as told:  # the ICMP message, as the kernel hands it on
            sock.recv(100)
        assert told.value.errno == errno.EMSGSIZE
        assert path_mtu(sock, family) == fits
        # Exactly what fits goes through and comes back (the echo is no DNS answer: same bytes).
        echo = dns_query(7)[:4] + b"\0\0" + b"\xee" * (fits - IP_HEADER[family] - 8 - 6)
        sock.send(echo)
        assert sock.recv(2000) == echo
    assert verdict_difference(before, lab.counters()) == {"too_big_replied": 1, "forwarded": 1}
    forget_mtu(lab, family)


@every_tunnel
def test_the_message_comes_from_the_vip(lab, name, family, outer):
    forget_mtu(lab, family)
    vip = vip_of(name, family)
    with Wire(lab, "client", "eth0") as wire, \
            contextlib.closing(udp_socket(lab, family, vip)) as sock:
        sock.send(b"\xff" * (MTU - IP_HEADER[family] - 8))
        protocol_at, protocol = (23, 1) if family == 4 else (20, 58)
        message = wire.collect(lambda f: f[protocol_at] == protocol and addresses(f)[0] == vip)[-1]
    at = 14 + IP_HEADER[family]
    assert tuple(message[at:at + 2]) == ((3, 4) if family == 4 else (2, 0))
    assert int.from_bytes(message[at + 4:at + 8], "big") == MTU - OUTER[outer]
    forget_mtu(lab, family)


@every_tunnel
def test_upload_of_100_MB(lab, name, family, outer):
    """Full-sized segments with DF: nothing but the message gets them through."""
    forget_mtu(lab, family)
    url = f"http://{host(vip_of(name, family))}:8080/"
    done = lab.run("client", "curl", "-sS", "--fail", "--max-time", "60", "-H", "Expect:",
                   "--data-binary", "@/var/tmp/guideway-lab/100M", url)
    assert done.stdout.strip() == DOWNLOAD_SHA256
    assert lab.counters()[1]["too_big_replied"] > 0


def test_too_big_without_df_is_dropped_and_counted(lab):
    forget_mtu(lab, 4)
    before = lab.counters()
    with contextlib.closing(lab.socket("client", socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
        sock.connect((TUNNEL_VIP[4], 53))
        sock.send(b"\xff" * (MTU - 28))
    assert verdict_difference(before, lab.counters()) == {"too_big": 1}
