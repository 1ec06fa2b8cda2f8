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
from traffic import CLIENT, VIP, Wire

TIMES = 7


def v4(**fields):
    return IP(src=CLIENT[4], dst=VIP[4], **fields)


def v6(**fields):
    return IPv6(src=CLIENT[6], dst=VIP[6], **fields)


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
        return IP(src=VIP[4], dst=CLIENT[4]) / TCP(sport=80, dport=40000, seq=1)
    return IPv6(src=VIP[6], dst=CLIENT[6]) / TCP(sport=80, dport=40000, seq=1)


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
    "too many extension headers": (6, v6() / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 20),
                                   "extension_headers"),
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


@pytest.mark.parametrize("name", CASES)
def test_verdict(lab, name):
    family, packet, verdict = CASES[name]
    frame = bytes(ether(0x0800 if family == 4 else 0x86DD, packet))
    before = lab.counters()
    with Wire(lab, "router", "n1") as wire:
        wire.send(*[frame] * TIMES)
    assert verdict_difference(before, after_receiving(lab, before, TIMES)) == {verdict: TIMES}


def after_receiving(lab, before, packets):
    """The counters once so many more packets came; more is an error as well."""
    eventually(lambda: lab.status()["counters"]["received"] >= before[0] + packets, 5,
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
