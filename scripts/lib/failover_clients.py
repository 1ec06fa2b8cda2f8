#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The clients of scripts/failover: connections that are held open with data flowing, in the lab's
client namespace.

usage: failover_clients.py ADDRESS PORT COUNT FAST    COUNT connections to the TCP echo; FAST of them
                                                      send every 10 ms, the others every second

Messages go out by the clock, whether or not those before are back, and each that comes back is
compared with what was sent. The gap of a message is the time from its sending until it is back; that
of a connection is its longest: no shorter than any silence of the connection while data was due.

Says `ready` once data flows. The line `next` on standard input begins the next phase (answered by
`ready`, too). After `stop` nothing more is sent, and when what is under way has come or is given up,
one line of JSON is printed:
  connections: [{"port", "backend", "every_ms", "gaps_ms": [of each phase], "sent_at": [when the
                message of that gap was sent, CLOCK_MONOTONIC], "broken": null or why}..]
  messages: how many came back
  late_ms: the longest that this process itself was late, of each phase
The connections stay open until standard input ends: to close so many takes a while, in which others,
who measure, would have to wait.
Broken: ended by the other side, an error, other content than was sent, or silent for 10 s.
"""
import collections
import errno
import gc
import json
import os
import select
import socket
import struct
import sys
import time

FAST_S, SLOW_S = 0.01, 1.0
SILENT_S = 10.0
LOOK_EVERY_S = 0.25
MESSAGE = struct.Struct("!QQ")  # which connection, which message


class Held:
    """One connection. `worst`: [gap, when sent] of each phase; `waiting`: (when sent, in what phase) of
    the messages that are not back, oldest first."""
    __slots__ = ("sock", "port", "number", "backend", "every", "next", "sent", "back", "rest", "waiting",
                 "worst", "broken")

    def __init__(self, address, port, number, every):
        self.sock = socket.create_connection((address, port), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self.sock.getsockname()[1]
        name = b""
        while not name.endswith(b"\n"):
            part = self.sock.recv(1)
            if not part:
                raise ConnectionError("closed before it said its name")
            name += part
        self.backend = name.decode().strip()
        self.sock.setblocking(False)
        self.number, self.every, self.next = number, every, 0.0
        self.sent = self.back = 0
        self.rest = b""
        self.waiting = collections.deque()
        self.worst = [[0.0, 0.0]]
        self.broken = None

    def ask(self, now, phase):
        self.waiting.append((now, phase))
        if self.sock.send(MESSAGE.pack(self.number, self.sent)) != MESSAGE.size:
            raise ConnectionError("its buffer is full")
        self.sent += 1

    def take(self, now):
        part = self.sock.recv(65536)
        if not part:
            raise ConnectionError("closed by the other side")
        data = self.rest + part
        end = len(data) - len(data) % MESSAGE.size
        self.rest = data[end:]
        for at in range(0, end, MESSAGE.size):
            if self.back == self.sent or \
                    MESSAGE.unpack_from(data, at) != (self.number, self.back):
                raise ConnectionError("what came back is not what was sent")
            self.back += 1
            self.note(now, *self.waiting.popleft())

    def note(self, now, sent_at, phase):
        worst = self.worst[phase]
        if now - sent_at > worst[0]:
            worst[:] = now - sent_at, sent_at

    def silent(self, now):
        return self.waiting and now - self.waiting[0][0] > SILENT_S

    def report(self, now):
        if self.waiting:
            self.note(now, *self.waiting[0])
        return {"port": self.port,
                "backend": self.backend, "every_ms": round(1000 * self.every),
                "gaps_ms": [round(1000 * gap, 2) for gap, _ in self.worst],
                "sent_at": [round(at, 4) for _, at in self.worst], "broken": self.broken}


class Engine:
    def __init__(self, address, port, count, fast):
        self.poll = select.epoll()
        self.held = {}
        self.due = []  # queues of connections of one rhythm each, in the order of their turn
        self.late = [0.0]
        self.messages = 0
        self.looked = 0.0
        number = 0
        for many, every in ((fast, FAST_S), (count - fast, SLOW_S)):
            ones = [Held(address, port, number + i, every) for i in range(many)]
            number += many
            self.due.append(collections.deque(ones))
            for one in ones:
                self.held[one.sock.fileno()] = one
                self.poll.register(one.sock, select.EPOLLIN)

    def start(self):
        now = time.monotonic()
        for queue in self.due:
            for i, one in enumerate(queue):
                one.next = now + one.every * (1 + i / len(queue))
        self.poll.register(sys.stdin, select.EPOLLIN)
        print("ready", flush=True)

    def guarded(self, one, step, *arguments):
        try:
            step(*arguments)
        except BlockingIOError as error:
            if step != one.take:
                self.end(one, os.strerror(error.errno))
        except OSError as error:
            self.end(one, errno.errorcode.get(error.errno, str(error)))

    def end(self, one, why):
        one.broken = why
        del self.held[one.sock.fileno()]
        self.poll.unregister(one.sock)
        one.sock.close()

    def turn(self, sending):
        """Sends what is due, takes what has come. Whether standard input has something."""
        now, phase = time.monotonic(), len(self.late) - 1
        wait = LOOK_EVERY_S
        for queue in self.due if sending else ():
            while queue and queue[0].next <= now:
                one = queue.popleft()
                if one.broken:
                    continue
                self.late[phase] = max(self.late[phase], now - one.next)
                one.next = max(one.next + one.every, now)
                self.guarded(one, one.ask, now, phase)
                queue.append(one)
            if queue:
                wait = min(wait, max(0.0, queue[0].next - now))
        asked = False
        for fd, _ in self.poll.poll(wait):
            if one := self.held.get(fd):
                self.guarded(one, one.take, time.monotonic())
            else:
                asked = fd == sys.stdin.fileno()
        if now - self.looked > LOOK_EVERY_S:
            self.looked = now
            for one in [one for one in self.held.values() if one.silent(now)]:
                self.end(one, f"silent for {SILENT_S:.0f} s")
        return asked

    def next_phase(self):
        self.late.append(0.0)
        for queue in self.due:
            for one in queue:
                one.worst.append([0.0, 0.0])
        print("ready", flush=True)

    def run(self, everybody):
        self.start()
        while True:
            if self.turn(sending=True):
                if os.read(sys.stdin.fileno(), 4096) != b"next\n":
                    break
                self.next_phase()
        self.poll.unregister(sys.stdin)
        while any(one.waiting for one in self.held.values()):
            self.turn(sending=False)
        now = time.monotonic()
        return {"connections": [one.report(now) for one in everybody],
                "messages": sum(one.back for one in everybody),
                "late_ms": [round(1000 * late, 2) for late in self.late]}


def main():
    address, (port, count, fast) = sys.argv[1], map(int, sys.argv[2:5])
    engine = Engine(address, port, count, fast)
    everybody = list(engine.held.values())
    gc.freeze()
    gc.disable()
    print(json.dumps(engine.run(everybody)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
