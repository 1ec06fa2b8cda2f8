#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the DNS-like echo of a lab backend, and prints which backend answered.

usage: dns_client.py ADDRESS [PORT]
"""
import os
import socket
import struct
import sys


def main():
    address = sys.argv[1]
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 53
    query = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0)
    query += b"\x08guideway\x04test\0" + struct.pack("!HH", 16, 1)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                       socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        sock.send(query)
        answer = sock.recv(2048)
    if answer[:2] != query[:2] or answer[12:len(query)] != query[12:]:
        sys.exit(f"the answer of {address} is not to this query: {answer!r}")
    print(answer[len(query) + 13:].decode())


if __name__ == "__main__":
    main()
