# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives ends in the one verdict that names it, and is counted exactly so often."""
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6Unknown, IPv6,
                                IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from lab import eventually, verdict_difference
from test_kernel import NODE_MAC, ROUTER_MAC
from traffic import VIP, Wire

TIMES = 7
# A client that is nobody: whatever answers it vanishes in the router, without a word. A real one's
# kernel would complain to the VIP about answers that it did not ask for, and be counted as well.
NOBODY = {4: "198.51.100.200", 6: "2001:db8:100::200"}
OTHER_MAC = "02:00:00:00:01:77"


@pytest.fixture(autouse=True)
def answers_to_nobody_vanish(lab):
    for family, bits in ((4, 32), (6, 128)):
        lab.run("router", "ip", f"-{family}", "route", "replace", "blackhole",
                f"{NOBODY[family]}/{bits}")


@pytest.fixture(autouse=True)
def nobody_else_sends(lab):
    """Connections that a test before this one ended while nothing forwarded say so again and again."""
    states = ("syn-sent", "established", "fin-wait-1", "close-wait", "last-ack", "closing")
    which = [word for state in states for word in ("state", state)]

    def open_still():
        return lab.run("client", "ss", "-Htn", *which).stdout
    eventually(lambda: not open_still(), 60, 0.1, what=open_still)


def v4(**fields):
    return IP(src=NOBODY[4], dst=VIP[4], **fields)


def v6(**fields):
    return IPv6(src=NOBODY[6], dst=VIP[6], **fields)


def tcp(**fields):
    return TCP(sport=40000, dport=80, flags="A", **fields)


def udp(**fields):
    return UDP(sport=40000, dport=53, **fields)


def cut(packet, length):
    return Raw(bytes(packet)[:length])


def ether(kind, payload):
    return Ether(src=ROUTER_MAC, dst=NODE_MAC, type=kind) / payload


def reply_quote(family):
    """A reply of ours as an ICMP error quotes it: from the VIP to the client."""
    if family == 4:
        return IP(src=VIP[4], dst=NOBODY[4]) / TCP(sport=80, dport=40000, seq=1)
    return IPv6(src=VIP[6], dst=NOBODY[6]) / TCP(sport=80, dport=40000, seq=1)


def extended(headers):
    """A TCP packet behind so many destination options headers."""
    options = bytes([60, 0, 1, 4, 0, 0, 0, 0]) * (headers - 1) + bytes([6, 0, 1, 4, 0, 0, 0, 0])
    return v6(nh=60) / Raw(options + bytes(tcp()))


# name: (family, IP packet, verdict)
CASES = {
    "tcp": (4, v4() / tcp(), "forwarded"),
    "tcp6": (6, v6() / tcp(), "forwarded"),
    "udp": (4, v4() / udp() / b"x", "forwarded"),
    "udp6": (6, v6() / udp() / b"x", "forwarded"),
    "padded to the Ethernet minimum": (4, Raw(bytes(v4() / udp()) + bytes(18)), "forwarded"),
    "IP options": (4, v4(options=[IPOption_RR()]) / tcp(), "forwarded"),
    "port of no service": (4, v4() / TCP(dport=4444), "no_service"),
    "port of no service6": (6, v6() / TCP(dport=4444), "no_service"),
    "protocol of no service": (4, v4() / UDP(dport=80), "no_service"),
    "IP header alone, TCP missing": (4, v4(proto=6), "truncated"),
    "IP header alone, TCP missing6": (6, v6(nh=6), "truncated"),
    "TCP cut in half": (4, v4(proto=6) / cut(tcp(), 10), "truncated"),
    "TCP cut in half6": (6, v6(nh=6) / cut(tcp(), 10), "truncated"),
    "UDP cut in half": (4, v4(proto=17) / cut(udp(), 4), "truncated"),
    "shorter than it says": (4, cut(v4(len=200) / tcp(), 60), "truncated"),
    "shorter than it says6": (6, cut(v6(plen=200) / tcp(), 80), "truncated"),
    "total length below the header": (4, v4(len=19) / tcp(), "bad_header"),
    "header length below 20": (4, v4(ihl=4) / tcp(), "bad_header"),
    "header length beyond the packet": (4, v4(ihl=15, proto=6) / Raw(b"\0" * 8), "bad_header"),
    "version 5": (4, v4(version=5) / tcp(), "bad_header"),
    "version 5 in IPv6": (6, v6(version=5) / tcp(), "bad_header"),
    "wrong checksum": (4, v4(chksum=0x1234) / tcp(), "bad_checksum"),
    "first fragment": (4, v4(flags="MF") / tcp(), "fragment"),
    "later fragment": (4, v4(frag=100, proto=6) / Raw(b"x" * 40), "fragment"),
    "first fragment6": (6, v6() / IPv6ExtHdrFragment(m=1) / tcp(), "fragment"),
    "later fragment6": (6, v6() / IPv6ExtHdrFragment(offset=100, nh=6) / Raw(b"x" * 40), "fragment"),
    "atomic fragment6": (6, v6() / IPv6ExtHdrFragment() / tcp(), "forwarded"),
    "hop-by-hop": (6, v6() / IPv6ExtHdrHopByHop() / tcp(), "forwarded"),
    "destination options": (6, v6() / IPv6ExtHdrDestOpt() / tcp(), "forwarded"),
    "two extension headers": (6, v6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / udp(),
                              "forwarded"),
    "routing header, no segment left": (6, v6() / IPv6ExtHdrRouting(segleft=0) / tcp(), "forwarded"),
    "routing header, a segment left": (6, v6() / IPv6ExtHdrRouting(segleft=1) / tcp(),
                                       "extension_headers"),
    "8 extension headers": (6, extended(8), "forwarded"),
    "9 extension headers": (6, extended(9), "extension_headers"),
    "endless extension headers": (6, extended(150), "extension_headers"),
    "authentication header": (6, v6(nh=51) / Raw(b"\x06" + bytes(39)), "extension_headers"),
    "extension header cut": (6, v6(nh=60) / Raw(b"\x06\x05" + bytes(6)), "truncated"),
    "GRE": (4, v4(proto=47) / Raw(bytes(20)), "bad_protocol"),
    "GRE6": (6, v6(nh=47) / Raw(bytes(20)), "bad_protocol"),
    "ICMP timestamp": (4, v4() / ICMP(type=13), "bad_protocol"),
    "ICMPv6 router solicitation": (6, v6() / ICMPv6Unknown(type=133, msgbody=bytes(4)),
                                   "bad_protocol"),
    "echo request": (4, v4() / ICMP(), "echo_replied"),
    "echo request6": (6, v6() / ICMPv6EchoRequest(), "echo_replied"),
    "ICMP error about a reply": (4, v4() / ICMP(type=3, code=4, nexthopmtu=1400) / reply_quote(4),
                                 "forwarded"),
    "ICMPv6 error about a reply": (6, v6() / ICMPv6PacketTooBig(mtu=1400) / reply_quote(6),
                                   "forwarded"),
    "ICMP error about nothing of ours": (4, v4() / ICMP(type=3, code=1) /
                                         IP(src="192.0.2.1", dst="192.0.2.2") / tcp(),
                                         "icmp_unrelated"),
    "ICMP error cut": (4, v4() / ICMP(type=3, code=4) / cut(reply_quote(4), 12), "truncated"),
    "TTL 1": (4, v4(ttl=1) / tcp(), "ttl_expired"),
    "hop limit 1": (6, v6(hlim=1) / tcp(), "ttl_expired"),
}


def verdicts_of(lab, frame):
    before = lab.counters()
    with Wire(lab, "router", "n1") as wire:
        wire.send(*[frame] * TIMES)
    return verdict_difference(before, after_receiving(lab, before, TIMES))


@pytest.mark.parametrize("name", CASES)
def test_verdict(lab, name):
    family, packet, verdict = CASES[name]
    frame = bytes(ether(0x0800 if family == 4 else 0x86DD, packet))
    assert verdicts_of(lab, frame) == {verdict: TIMES}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mac", [OTHER_MAC, "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"])
def test_frames_for_another_station(lab, family, mac):
    """A switch that floods hands everybody's frames to everybody; each is for one node only."""
    packet = (v4 if family == 4 else v6)() / tcp()
    assert verdicts_of(lab, bytes(Ether(src=ROUTER_MAC, dst=mac) / packet)) == {"other_mac": TIMES}


def after_receiving(lab, before, packets):
    """The counters once so many more packets came; more is an error as well."""
    eventually(lambda: lab.status()["counters"]["received"] >= before[0] + packets,
               what=f"{packets} packets received")
    after = lab.counters()
    assert after[0] == before[0] + packets
    return after


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
def test_cut_at_every_byte(lab, family):
    """Nothing crashes, every frame that reaches the dataplane has one verdict, and it goes on."""
    whole = bytes(ether(0x0800, v4(options=[IPOption_RR()]) / tcp()) if family == 4 else
                  ether(0x86DD, v6() / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / tcp()))
    pid = lab.pid("dataplane")
    before = lab.counters()
    with Wire(lab, "router", "n1") as wire:
        wire.send(*[whole[:n] for n in range(14, len(whole))], whole)
    eventually(lambda: verdict_difference(before, lab.counters()).get("forwarded") == 1)
    assert lab.pid("dataplane") == pid


def test_what_is_not_ip_stays_with_the_kernel(lab):
    """A tagged frame or another protocol is no VIP packet, whatever it holds."""
    before = lab.counters()
    with Wire(lab, "router", "n1") as wire:
        wire.send(ether(0x88B5, Raw(bytes(v4() / tcp()))),
                  Ether(src=ROUTER_MAC, dst=NODE_MAC) / Dot1Q(vlan=5) / v4() / tcp())
        wire.send(ether(0x0800, v4() / tcp()))
    assert verdict_difference(before, after_receiving(lab, before, 1)) == {"forwarded": 1}
