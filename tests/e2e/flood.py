# SPDX-License-Identifier: Apache-2.0
"""A stranger at the node's wire: forged probe replies, as fast as one thread can send them."""
import random
import socket
import struct
import time

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, IPv6
from scapy.layers.l2 import Ether

from traffic import NODE

NODE_MAC, STRANGER_MAC = "02:00:00:00:01:01", "02:00:00:00:00:66"
EACH = 200  # different packets of a kind


def mark_text(rng):
    """32 letters as a probe's mark has them, with a target and an attempt that may well exist."""
    mark = struct.pack("!IIQ", rng.randrange(18), rng.randrange(2000), rng.getrandbits(64))
    return bytes(97 + nibble for byte in mark for nibble in (byte >> 4, byte & 15))


def replies(rng, family, source, target):
    """What a probe of `target` might be answered with, by `source`."""
    network, node = (IP, NODE[4]) if ":" not in source else (IPv6, NODE[6])
    to = network(src=source, dst=node)
    port = rng.randrange(32768, 65536)
    number = rng.getrandbits(32)
    text = mark_text(rng)
    raw_mark = struct.pack("!IIQ", rng.randrange(18), rng.randrange(2000), rng.getrandbits(64))
    dns = struct.pack("!HHHHHH", rng.getrandbits(16), 0x8180, 1, 0, 0, 0) + b"\x20" + text + \
        b"\0" + struct.pack("!HH", 16, 1)
    yield to / TCP(sport=80, dport=port, seq=rng.getrandbits(32), ack=number, flags="SA")
    yield to / TCP(sport=80, dport=port, seq=0, ack=number, flags="RA")
    yield to / UDP(sport=53, dport=port) / dns
    yield to / UDP(sport=53, dport=port) / text
    if network is IP:
        sent = IPerror(src=node, dst=target) if ":" not in target else None
        yield to / ICMP(type=0) / raw_mark
        if sent is not None:
            yield to / ICMP(type=3, code=3) / sent / TCPerror(sport=port, dport=80, seq=number)
            yield to / ICMP(type=3, code=3) / sent / UDPerror(sport=port, dport=53) / dns
    else:
        yield to / ICMPv6EchoReply(data=raw_mark)
        if ":" in target:
            yield to / ICMPv6DestUnreach(code=4) / IPv6(src=node, dst=target) / \
                TCP(sport=port, dport=80, seq=number)


class Flood:
    """`targets`: (family of the backends, VIP, dead backend, living backend) of each pool."""

    def __init__(self, lab, targets, seed=5):
        rng = random.Random(seed)
        templates = [packet for family, vip, dead, living in targets
                     for source, target in ((vip, vip), (dead, dead), (living, living), (dead, vip))
                     if (":" in source) == (":" in target)
                     for packet in replies(rng, family, source, target)]
        self.frames = [bytes(Ether(src=STRANGER_MAC, dst=NODE_MAC) / packet)
                       for packet in templates]
        self.rng = rng
        self.sent = 0
        with lab.inside("router"):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.bind(("n1", 0))

    def varied(self, frame):
        """Another port, number and proof each time; checksums do not matter to the probe's program."""
        out = bytearray(frame)
        ip_bytes = 40 if frame[12:14] == b"\x86\xdd" else 20
        protocol = frame[20] if ip_bytes == 40 else frame[23]
        at = 14 + ip_bytes
        if protocol in (6, 17):
            struct.pack_into("!H", out, at + 2, self.rng.randrange(32768, 65536))
        if protocol == 6:
            struct.pack_into("!I", out, at + 8, self.rng.getrandbits(32))
        return bytes(out)

    def send(self, seconds, rate=None):
        """As fast as it goes, or so many a second."""
        frames = [self.varied(frame) for frame in self.frames for _ in range(EACH)]
        self.rng.shuffle(frames)
        begun = time.monotonic()
        until = begun + seconds
        while time.monotonic() < until:
            for frame in frames:
                if rate and self.sent % 64 == 0:
                    time.sleep(max(0.0, begun + self.sent / rate - time.monotonic()))
                try:
                    self.sock.send(frame)
                    self.sent += 1
                except BlockingIOError:
                    pass
                except OSError as error:
                    if error.errno != 105:  # ENOBUFS: full rate it is
                        raise
                if self.sent % 256 == 0 and time.monotonic() > until:
                    break

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
