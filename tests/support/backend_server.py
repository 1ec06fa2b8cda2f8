#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a lab backend serves beside nginx, under any of its addresses:

UDP port 53: a DNS-like echo. A query is answered with its own id and question and one TXT record
that names this backend; anything that is no DNS query comes back as it is.
TCP port 8080: HTTP. The answer to a POST is the SHA-256 of its body, in hex.
TCP port 7: this backend's name in a line of 9 bytes, then whatever comes, back.

usage: backend_server.py NAME [UDP_PORT [TCP_PORT [ECHO_PORT]]]
"""
import asyncio
import hashlib
import http.server
import select
import socket
import struct
import sys
import threading

TXT, IN = 16, 1
IP_PKTINFO, IPV6_FREEBIND = 8, 78  # not named by Python 3.11


def question_end(query):
    """Where the first question ends, or None if this is no DNS query with one question."""
    if len(query) < 17 or query[2] & 0x80 or query[4:6] != b"\0\1":
        return None
    at = 12
    while at < len(query) and query[at]:
        at += 1 + query[at]
    at += 5
    return at if at <= len(query) else None


def dns_answer(query, name):
    end = question_end(query)
    if end is None:
        return query
    text = name.encode()
    header = query[:2] + struct.pack("!HHHHH", 0x8400, 1, 1, 0, 0)
    record = struct.pack("!HHHIHB", 0xC00C, TXT, IN, 0, len(text) + 1, len(text)) + text
    return header + query[12:end] + record


def udp_socket(family, port):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    # The answer must leave from the address that was asked, one of many on `lo`.
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)  # local by a route, on no interface
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.bind(("", port))
    return sock


def reply_info(ancillary):
    """The packet info of what came, as that of what goes: from that address, by any interface."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            _, _, to = struct.unpack("=i4s4s", data)
            return [(level, kind, struct.pack("=i4s4s", 0, to, b"\0" * 4))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:16] + struct.pack("=i", 0))]
    return []


def serve_udp(name, port):
    sockets = [udp_socket(socket.AF_INET, port), udp_socket(socket.AF_INET6, port)]
    while True:
        for sock in select.select(sockets, [], [])[0]:
            query, ancillary, _, peer = sock.recvmsg(65535, 256)
            try:
                sock.sendmsg([dns_answer(query, name)], reply_info(ancillary), 0, peer)
            except OSError as error:
                print(f"answer to {peer}: {error}", file=sys.stderr, flush=True)


class Upload(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 1 << 20))
            if not part:
                return
            digest.update(part)
            left -= len(part)
        body = digest.hexdigest().encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class UploadServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4: not v6only
    request_queue_size = 128
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Echo(asyncio.Protocol):
    def __init__(self, name):
        self.name = name
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        # Longer than 4 bytes: the lab's backends share a kernel, and so its secret for SYN cookies. In
        # a dialogue of which both sides have sent as much (to 4 bytes) each packet looks like an ACK
        # to a cookie: in a flood another backend would take the connection over.
        transport.write(self.name.encode().ljust(8) + b"\n")

    def data_received(self, data):
        self.transport.write(data)


def echo_socket(port):
    # asyncio turns Nagle's algorithm off only where the protocol is named: with it, what comes back
    # would wait for the client's delayed acknowledgement, 40 ms.
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    sock.listen(4096)
    return sock


async def serve_echo(name, sock):
    server = await asyncio.get_running_loop().create_server(lambda: Echo(name), sock=sock,
                                                            backlog=4096)
    await server.serve_forever()


def main():
    name = sys.argv[1]
    udp_port, tcp_port, echo_port = [int(sys.argv[i]) if len(sys.argv) > i else port
                                     for i, port in ((2, 53), (3, 8080), (4, 7))]
    server = UploadServer(("::", tcp_port), Upload)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=asyncio.run, args=[serve_echo(name, echo_socket(echo_port))],
                     daemon=True).start()
    serve_udp(name, udp_port)


if __name__ == "__main__":
    main()
