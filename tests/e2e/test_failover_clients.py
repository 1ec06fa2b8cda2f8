# SPDX-License-Identifier: Apache-2.0
"""The clients of scripts/failover notice what they are there to notice: on loopback, without a lab."""
import json
import select
import socket
import subprocess
import sys
import threading
import time

from lab import REPO

CLIENTS = REPO / "scripts/lib/failover_clients.py"
SIZE = 16
LATE_S = 0.3


class Server(threading.Thread):
    """An echo that treats each connection in its own way, by the order in which they came."""
    ways = ("well", "closes", "alters", "repeats", "swallows", "late")

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.socks = {}
        self.seen = dict.fromkeys(self.ways, 0)

    def run(self):
        for way in self.ways:
            sock = self.listener.accept()[0]
            sock.sendall(way.encode() + b"\n")
            self.socks[sock] = way
        while self.socks:
            for sock in select.select(list(self.socks), [], [])[0]:
                way = self.socks[sock]
                try:
                    goes_on = self.answer(sock, way, sock.recv(SIZE, socket.MSG_WAITALL))
                except ConnectionError:  # the client ended it first
                    goes_on = False
                if not goes_on:
                    sock.close()
                    del self.socks[sock]

    def answer(self, sock, way, data):
        """Whether it goes on. The tenth message is the one that is treated so."""
        if not data:
            return False
        self.seen[way] += 1
        if self.seen[way] >= 10:
            if way == "closes":
                return False
            if way == "swallows":
                return True
        if self.seen[way] == 10:
            if way == "late":
                time.sleep(LATE_S)
            data = {"alters": data[:-1] + b"\xff", "repeats": 2 * data}.get(way, data)
        sock.sendall(data)
        return True


def test_what_is_wrong_is_told():
    server = Server()
    server.start()
    count = len(server.ways)
    with subprocess.Popen([sys.executable, "-B", CLIENTS, "127.0.0.1", str(server.port), str(count),
                           str(count)], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as clients:
        assert clients.stdout.readline() == "ready\n"
        time.sleep(1)  # of 10 ms each: the tenth message is through
        clients.stdin.write("next\n")
        clients.stdin.flush()
        assert clients.stdout.readline() == "ready\n"
        time.sleep(0.3)
        clients.stdin.write("stop\n")
        clients.stdin.flush()
        result = json.loads(clients.stdout.readline())
        clients.stdin.close()
        assert clients.wait(5) == 0
    broken = {c["backend"]: c["broken"] for c in result["connections"]}
    gaps = {c["backend"]: c["gaps_ms"] for c in result["connections"]}
    assert broken == {"well": None, "late": None, "closes": broken["closes"],
                      "alters": "what came back is not what was sent",
                      "repeats": "what came back is not what was sent", "swallows": "silent for 10 s"}
    assert broken["closes"] in ("closed by the other side", "ECONNRESET")
    # One thread answers all: what one waits for, the others wait for as well.
    assert gaps["late"][0] >= 1000 * LATE_S > gaps["late"][1]
    assert gaps["swallows"][0] >= 10_000
    assert result["messages"] > 100
