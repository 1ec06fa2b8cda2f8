#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The clients of scripts/failures, run in the lab's client namespace.

usage: failure_clients.py fresh ADDRESS PORT RATE     so many HTTP requests a second, each over a
                                                      connection of its own
       failure_clients.py hold ADDRESS PORT COUNT     so many connections to the TCP echo, each asked
                                                      every 100 ms

Says `ready` once under way; at the end of standard input stops and prints one line of JSON:
fresh: requests, failed and slow: [[wall clock ns at the start, ms, source port, what]..]
hold: {backend: [connections, broken, silent, slowest ms]}: broken: ended by the other side or an
error; silent: what was sent more than 2 s before the end, or before an answer, is not back
"""
import collections
import json
import os
import select
import socket
import sys
import time

SLOW_S, GIVE_UP_S = 0.5, 5.0
ASK_EVERY_S, SILENT_S = 0.1, 2.0
MESSAGE = b"is anybody there?\n"


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Request:
    """One HTTP request over a connection of its own."""

    def __init__(self, address, port):
        self.wall_ns, self.start = time.time_ns(), time.monotonic()
        self.sock = socket.socket(family_of(address), socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sent, self.head = False, b""
        self.what = None  # how it ended: "" is well
        if self.sock.connect_ex((address, port)) not in (0, 115):  # EINPROGRESS
            self.what = "connect"
        self.source = self.sock.getsockname()[1]

    def take(self):
        """Goes on as far as it can. Whether it has ended."""
        try:
            if not self.sent:
                self.sock.send(b"GET / HTTP/1.0\r\n\r\n")
                self.sent = True
                return False
            part = self.sock.recv(65536)
        except BlockingIOError:
            return False
        except OSError as error:
            self.what = os.strerror(error.errno) if error.errno else str(error)
            return True
        if part:
            self.head += part
            return False
        self.what = "" if self.head.split()[1:2] == [b"200"] else "bad answer"
        return True


def fresh(address, port, rate):
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN)
    open_ones, count, failed, slow = {}, 0, [], []
    begun, stopping, looked = time.monotonic(), False, 0.0

    def end(request):
        open_ones.pop(request.sock.fileno(), None)
        request.sock.close()
        ms = 1000 * (time.monotonic() - request.start)
        record = [request.wall_ns, round(ms, 1), request.source, request.what]
        if request.what:
            failed.append(record)
        elif ms > 1000 * SLOW_S:
            slow.append(record)

    while not stopping or open_ones:
        now = time.monotonic()
        while not stopping and count < (now - begun) * rate:
            count += 1
            request = Request(address, port)
            if request.what:
                end(request)
            else:
                open_ones[request.sock.fileno()] = request
                poll.register(request.sock, select.EPOLLOUT)
        for fd, _ in poll.poll(0.001):
            if fd == sys.stdin.fileno():
                stopping = not os.read(fd, 1)
                if stopping:
                    poll.unregister(fd)
            elif fd in open_ones:
                request = open_ones[fd]
                was_sent = request.sent
                if request.take():
                    end(request)
                elif request.sent != was_sent:
                    poll.modify(fd, select.EPOLLIN)
        if now - looked > 0.1:
            looked = now
            for request in list(open_ones.values()):
                if now - request.start > GIVE_UP_S:
                    request.what = "no answer within 5 s"
                    end(request)
    return {"requests": count, "failed": failed, "slow": slow}


class Held:
    """One connection to the echo, asked every ASK_EVERY_S."""

    def __init__(self, address, port):
        self.sock = socket.create_connection((address, port), timeout=5)
        self.name = b""
        while not self.name.endswith(b"\n"):
            self.name += self.sock.recv(1)
        self.sock.setblocking(False)
        self.next = self.asked_at = 0.0
        self.missing = 0  # bytes that are not back yet
        self.slowest = 0.0
        self.broken = False

    def ask(self, now):
        self.next = now + ASK_EVERY_S
        if self.missing:
            return  # one question at a time: how long it takes is the longest silence
        self.asked_at = now
        self.missing = self.sock.send(MESSAGE)

    def take(self, now):
        part = self.sock.recv(4096)
        if not part:
            raise ConnectionError("closed")
        self.missing -= len(part)
        if not self.missing:
            self.slowest = max(self.slowest, now - self.asked_at)

    def silence(self, now):
        return max(self.slowest, now - self.asked_at if self.missing else 0.0)


def hold(address, port, count):
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN)
    held = {}
    for _ in range(count):
        one = Held(address, port)
        held[one.sock.fileno()] = one
        poll.register(one.sock, select.EPOLLIN)
    begun = time.monotonic()
    for i, one in enumerate(held.values()):
        one.next = begun + ASK_EVERY_S * i / count
    due = collections.deque(held.values())
    print("ready", flush=True)

    def guarded(one, step, now):
        try:
            step(now)
        except BlockingIOError:
            pass
        except OSError:
            if not one.broken:
                poll.unregister(one.sock)
            one.broken = True

    stopping = False
    while not stopping:
        for fd, _ in poll.poll(0.002):
            if fd == sys.stdin.fileno():
                stopping = not os.read(fd, 1)
            elif not held[fd].broken:
                guarded(held[fd], held[fd].take, time.monotonic())
        now = time.monotonic()
        while due and due[0].next <= now:
            one = due.popleft()
            guarded(one, one.ask, now)
            if not one.broken:
                due.append(one)
    out, now = {}, time.monotonic()
    for one in held.values():
        row = out.setdefault(one.name.decode().strip(), [0, 0, 0, 0.0])
        row[0] += 1
        row[1] += one.broken
        row[2] += not one.broken and one.silence(now) > SILENT_S
        row[3] = max(row[3], 0.0 if one.broken else round(1000 * one.silence(now), 1))
    return out


def main():
    what, address, port, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if what == "fresh":
        print("ready", flush=True)
    print(json.dumps({"fresh": fresh, "hold": hold}[what](address, port, number)), flush=True)


if __name__ == "__main__":
    main()
