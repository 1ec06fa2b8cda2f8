#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The client of scripts/torture, run in the lab's client namespace: keeps many connections to the
TCP echo open, each for some seconds, and checks every message that comes back.

usage: torture_client.py JSON    {"seed", "count", "life_s": [min, max], "silent_s", "late_s",
                                  "port",
                                  "targets": [[own address, VIP], ..]}

A line of JSON each:
  {"event": "ready"}       `count` connections and some more are established for the first time
  {"event": "broken", ..}  an established one ended in any other way than by our close: `client`,
                           `vip`, `backend` (what it said it was), `why`, `age_s`, `good_s` (since
                           the last byte that was right), `messages`, `missing` bytes, `tcp`
  {"event": "tick", ..}    each second
  {"event": "end", ..}     after the end of standard input, once each has got its last answer

Established: the first byte has come. What ends before is `unborn`, with its reason.
"""
import collections
import errno
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time

GAP_S = (0.4, 0.8)     # from message to message, unless the answer takes longer
UNBORN_S = 15.0        # without a first byte
OPEN_PER_S = 300
SURPLUS = 1.1          # so many more than asked for, for those that end while others begin
SIZES = (24, 200, 24, 90, 24, 60, 24, 40, 1200, 24, 3100)  # bytes; the last ones are several segments
PORTS = range(20480, 65536)
IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Connection:
    __slots__ = ("sock", "fd", "target", "port", "number", "born", "ends", "name", "head",
                 "expected", "asked", "good", "messages")

    def __init__(self, sock, target, port, number, now, life):
        self.sock, self.fd, self.target, self.port = sock, sock.fileno(), target, port
        self.number, self.born, self.ends = number, now, now + life
        self.name = None      # the backend's; None: not established
        self.head = b""       # of the line with the name
        self.expected = b""   # what has been sent and is not back yet
        self.asked = self.good = now
        self.messages = 0


def why(error):
    return errno.errorcode.get(error.errno, str(error)) if error.errno else str(error)


def tcp_info(sock):
    """What the kernel knows of a connection that is about to be given up: linux/tcp.h."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError as error:
        return why(error)
    words = struct.unpack("=8B24I", raw)
    names = {2: "retransmits", 4: "backoff", 8: "rto_us", 10: "mss", 12: "unacked", 14: "lost",
             17: "sent_ms_ago", 19: "received_ms_ago", 20: "ack_ms_ago", 21: "pmtu"}
    return ", ".join(f"{name} {words[at]}" for at, name in names.items())


class Engine:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(f"client {options['seed']}")
        self.poll = select.epoll()
        self.poll.register(sys.stdin, IN)
        self.open, self.pending, self.due = {}, {}, []
        self.established = self.number = self.messages = self.reached = 0
        self.unborn, self.broken, self.stopping = collections.Counter(), 0, False
        self.slowest, self.late = 0.0, 0
        self.ports = []
        for _ in options["targets"]:
            ports = list(PORTS)
            self.random.shuffle(ports)
            self.ports.append(ports)
        self.ready, self.fewest = False, None

    # ------------------------------------------------------------ the life of one

    def begin(self, now):
        index = self.number % len(self.options["targets"])
        own, vip = self.options["targets"][index]
        ports = self.ports[index]
        port = ports.pop()
        ports.insert(0, port)
        # All that is drawn is drawn here, so that it does not depend on what happens.
        life = self.random.uniform(*self.options["life_s"])
        if not self.ready:
            life *= self.random.random() * 0.9 + 0.1
        sock = socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number += 1
        one = Connection(sock, (own, vip), port, self.number, now, life)
        try:
            sock.bind((own, port))
            sock.connect((vip, self.options["port"]))
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            self.unborn["own: " + why(error)] += 1
            return
        self.open[one.fd] = one
        self.pending[one.fd] = one
        self.poll.register(one.fd, OUT)

    def ask(self, one, now):
        """The next message: its number, the connection's, and filling that is different each time."""
        one.messages += 1
        size = SIZES[(one.number + one.messages) % len(SIZES)]
        text = f"{one.number} {one.messages} ".encode()
        message = (text * (size // len(text) + 1))[:size - 1] + b"\n"
        one.expected, one.asked = message, now
        try:
            sent = one.sock.send(message)
        except BlockingIOError:
            sent = 0
        if sent != size:
            raise OSError("no room to send")

    def gone(self, one):
        self.poll.unregister(one.fd)
        one.sock.close()
        del self.open[one.fd]
        self.pending.pop(one.fd, None)
        self.established -= one.name is not None
        one.fd = -1

    def died(self, one, reason, now):
        tcp = tcp_info(one.sock)
        self.gone(one)
        if one.name is None:
            if not self.stopping:
                self.unborn[reason] += 1
            return
        self.broken += 1
        own, vip = one.target
        say({"event": "broken", "client": f"[{own}]:{one.port}" if ":" in own else f"{own}:{one.port}",
             "vip": vip, "port": one.port, "backend": one.name, "why": reason,
             "age_s": round(now - one.born, 2), "good_s": round(now - one.good, 2),
             "messages": one.messages, "missing": len(one.expected), "tcp": tcp,
             "time": time.time()})

    def take(self, one, now):
        part = one.sock.recv(65536)
        if not part:
            raise OSError("closed")
        one.good = now
        if one.name is None:
            one.head += part
            line, newline, part = one.head.partition(b"\n")
            if not newline:
                return
            one.name = line.decode(errors="replace").strip()
            self.pending.pop(one.fd)
            self.established += 1
            self.reached += 1
            heapq.heappush(self.due, (now + self.random.uniform(*GAP_S), one.number, one))
        if not one.expected.startswith(part):
            raise OSError(f"not what was sent: {part[:60]!r} ({len(part)} bytes) for "
                          f"{one.expected[:60]!r} ({len(one.expected)})")
        one.expected = one.expected[len(part):]
        if part and not one.expected:
            self.messages += 1
            self.slowest = max(self.slowest, now - one.asked)
            self.late += now - one.asked >= self.options["late_s"]
            # Only here, so that whatever befell it before is noticed; and not all at once after an outage.
            if self.stopping or now >= one.ends and self.established > self.options["count"]:
                self.gone(one)

    def fire(self, one, now):
        """A connection's time has come; returns when it is due again, or None."""
        if one.fd < 0:
            return None
        if one.expected:
            if now - one.asked >= self.options["silent_s"]:
                self.died(one, "silent", now)
                return None
            return now + 0.2
        self.ask(one, now)
        # No draw: how often this is called depends on the time that answers take.
        return now + GAP_S[0] + (one.number * 7 + one.messages * 3) % 11 / 10 * (GAP_S[1] - GAP_S[0])

    def guarded(self, step, one, now):
        try:
            return step(one, now)
        except BlockingIOError:
            return None
        except OSError as error:
            self.died(one, why(error), now)
            return None

    # ------------------------------------------------------------ all of them

    def connected(self, one, now):
        error = one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self.poll.modify(one.fd, IN)
        self.ask(one, now)

    def events(self, wait):
        for fd, what in self.poll.poll(wait):
            now = time.monotonic()
            if fd == 0:
                if not os.read(fd, 64):
                    self.stop()
                continue
            one = self.open.get(fd)
            if one is None:
                continue
            connecting = what & OUT and not one.messages
            self.guarded(self.connected if connecting else self.take, one, now)

    def stop(self):
        self.stopping = True
        self.poll.unregister(0)
        for one in list(self.pending.values()):
            self.gone(one)

    def times(self, now):
        while self.pending:  # in the order of their birth
            one = next(iter(self.pending.values()))
            if now - one.born < UNBORN_S:
                break
            self.died(one, "no answer", now)
        while self.due and self.due[0][0] <= now:
            _, number, one = heapq.heappop(self.due)
            again = self.guarded(self.fire, one, now)
            if again:
                heapq.heappush(self.due, (again, number, one))

    def replace(self, now, seconds):
        """Opens what is missing; those that wait for their first byte for long do not count."""
        young = sum(1 for one in self.pending.values() if now - one.born < 1)
        missing = self.options["count"] * SURPLUS - self.established - young
        for _ in range(int(min(missing, OPEN_PER_S * seconds, 3000 - len(self.pending)))):
            self.begin(now)

    def figures(self):
        return {"open": self.established, "opened": self.number, "established": self.reached,
                "messages": self.messages, "broken": self.broken,
                "unborn": dict(self.unborn), "slowest_s": round(self.slowest, 2), "late": self.late,
                "cpu_s": round(time.process_time(), 1)}

    def run(self):
        now = replaced = ticked = time.monotonic()
        while not self.stopping or self.open:
            self.events(0.005)
            now = time.monotonic()
            self.times(now)
            if not self.stopping and now - replaced >= 0.05:
                self.replace(now, min(0.5, now - replaced))
                replaced = now
            if not self.ready and self.established >= self.options["count"] * (1 + SURPLUS) / 2:
                self.ready = True
                say({"event": "ready"})
            if self.ready and not self.stopping:
                self.fewest = min(self.fewest or self.established, self.established)
            if now - ticked >= 1:
                ticked = now
                say({"event": "tick", **self.figures()})
        say({"event": "end", "fewest": self.fewest, **self.figures()})


def say(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    Engine(json.loads(sys.argv[1])).run()
