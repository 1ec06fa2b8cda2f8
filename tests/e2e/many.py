# SPDX-License-Identifier: Apache-2.0
"""Backends added by way of several nodes at once, and when all of them had adopted each."""
import bisect
import mmap
import struct
import threading
import time

REVISION_AT = 40  # gw_counters in dataplane/abi.h


class Adopted:
    """The revision that each node's dataplane runs, read from its counters all the time."""

    def __init__(self, lab, nodes):
        self.regions = {}
        for node in nodes:
            with open(lab.state / node / "run/counters", "rb") as file:
                self.regions[node] = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
        self.seen = {node: ([], []) for node in nodes}  # revisions, and when they were first seen
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.0005):
            for node, region in self.regions.items():
                revisions, times = self.seen[node]
                revision = struct.unpack_from("<Q", region, REVISION_AT)[0]
                if not revisions or revision > revisions[-1]:
                    revisions.append(revision)
                    times.append(time.monotonic())

    def when(self, revision):
        """When the last of the nodes had it, or None if one still has not."""
        last = 0.0
        for revisions, times in self.seen.values():
            at = bisect.bisect_left(revisions, revision)
            if at == len(revisions):
                return None
            last = max(last, times[at])
        return last

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def address_of(number):
    return f"10.9.{number // 200}.{1 + number % 200}"


def add_from_all(lab, nodes, pool, each):
    """`each` backends by way of each node's control socket, all nodes at once. A change that is
    refused because etcd is busy is asked for again, as its hint says, for a minute. Returns those
    refusals, the changes that were given up, and for each of the others (request made, accepted,
    revision) in seconds of the monotonic clock. The revision has the change; it may be a later one
    than the change's own."""
    done, refused, given_up = [], [], []

    def add_one(node, number):
        asked = time.monotonic()
        while time.monotonic() < asked + 60:
            answer = lab.api(node).put(f"/v1/pools/{pool}/backends/{address_of(number)}", {})
            if answer.ok:
                return done.append((asked, time.monotonic(), answer.body["revision"]))
            if answer.status not in (503, 504):
                break
            refused.append(answer)
            time.sleep(0.1)
        return given_up.append(answer)

    def add(index, node):
        for number in range(index * each, (index + 1) * each):
            add_one(node, number)
    threads = [threading.Thread(target=add, args=one) for one in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused, given_up, done


def delays_ms(adopted, done):
    """Sorted: from request to accepted, and from accepted to adopted by all nodes (0 if before)."""
    accepted = sorted(1e3 * (answered - asked) for asked, answered, _ in done)
    everywhere = sorted(1e3 * max(0.0, adopted.when(revision) - answered)
                        for _, answered, revision in done)
    return accepted, everywhere
