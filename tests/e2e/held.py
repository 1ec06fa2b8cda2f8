# SPDX-License-Identifier: Apache-2.0
"""Connections to the TCP echo of backends that are held open with data flowing."""
import contextlib
import select
import threading
import time

from lab import eventually
from traffic import connect

ECHO_PORT = 7
MESSAGE = b"is anybody there?\n"
ASK_EVERY_S = 0.05
SILENT_S = 10.0  # longer than a dataplane needs to start on a busy machine


class Held:
    """One connection: `name` is the backend's, as it said itself; `broken` the reason, once it is."""

    def __init__(self, lab, address):
        self.sock = connect(lab, address, ECHO_PORT)
        self.source = self.sock.getsockname()[1]
        line = b""
        while not line.endswith(b"\n"):
            part = self.sock.recv(1)
            assert part, "closed before it said its name"
            line += part
        self.name = line.decode().strip()
        self.sock.setblocking(False)
        self.rounds = self.missing = 0
        self.asked_at = 0.0
        self.broken = None

    def ask(self, now):
        if self.missing and now - self.asked_at > SILENT_S:
            self.broken = f"silent for {SILENT_S} s"
        if not self.missing and not self.broken and now - self.asked_at >= ASK_EVERY_S:
            self.asked_at = now
            self.missing = self.sock.send(MESSAGE)

    def take(self):
        part = self.sock.recv(4096)
        if not part:
            raise ConnectionError("closed by the other side")
        self.missing -= len(part)
        self.rounds += not self.missing

    def guarded(self, step, *arguments):
        try:
            step(*arguments)
        except BlockingIOError:
            pass
        except OSError as error:
            self.broken = str(error)


class HeldConnections:
    """A thread that keeps data flowing on all of them, from open() to the end."""

    def __init__(self, lab, address):
        self.lab, self.address = lab, address
        self.all = []
        self.ending = False
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        self.thread.join()
        for one in self.all:
            one.sock.close()

    def open(self, count):
        """So many more, one after another; returns them."""
        new = [Held(self.lab, self.address) for _ in range(count)]
        self.all = self.all + new
        return new

    def close(self, those):
        """As a client does that has what it wanted."""
        self.all = [one for one in self.all if one not in those]
        time.sleep(2 * ASK_EVERY_S)  # the thread has let go of them
        for one in those:
            with contextlib.suppress(OSError):
                one.sock.close()

    def flow(self, those=None, seconds=10):
        """Waits until data has gone there and back on each of them, from now on; fails if any breaks."""
        those = list(self.all if those is None else those)
        before = {one: one.rounds for one in those}

        def look():
            broken = [one for one in those if one.broken]
            if broken:
                raise AssertionError(f"{len(broken)} of {len(those)} broke: " + ", ".join(
                    f"{one.name} {one.source}: {one.broken}" for one in broken[:5]))
            return all(one.rounds > before[one] + 1 for one in those)
        eventually(look, seconds, 0.01, what=f"data on {len(those)} connections")

    def _run(self):
        while not self.ending:
            everybody = [one for one in self.all if not one.broken]
            poll = select.poll()
            for one in everybody:
                poll.register(one.sock, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(5)}
            now = time.monotonic()
            for one in everybody:
                if one.sock.fileno() in ready:
                    one.guarded(one.take)
                if not one.broken:
                    one.guarded(one.ask, now)


def on(those, name):
    return [one for one in those if one.name == name]


def off(those, name):
    return [one for one in those if one.name != name]
