#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps connections open while everything around them changes, and judges whether any broke.

usage: torture.py [--seeds N,..] [--forwarding gue|ipip|l2] [--nodes N] [--changes N]
                  [--connections N] [--flood] [--no-flips] [--no-restarts] [--quick] RESULTS.json
       (run by scripts/torture)
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import threading
import time

from failure_report import machine, percentiles
from torture_acts import HELD_BACK_S, Changes, Flips, Restarts
from torture_lab import (ECHO, VIPS, Cannot, Log, Memory, Process, TortureLab, Truth, Views, configure,
                         explain, lab_name, sockets, targets)
from torture_report import show

BACKENDS = 8
BEFORE_S = 2.0         # what was done so long before a break is told
TOLD = 20              # breaks that are looked into
LATE_S = 20.0          # an answer that takes longer is counted
# One that takes longer is a break. While a flood has the machine's cores, many packets are lost before
# a dataplane sees them, and TCP sends them again after 0.2, 0.4, 0.8 .. s: what comes is late.
SILENT_S, SILENT_IN_FLOOD_S = LATE_S, 180.0
READY_S = 60           # until the connections are there
MEMORY_SLACK_KB, MEMORY_SLACK = 16 << 10, 1.25
FULL = {"connections": 1000, "changes": 200, "life_s": (1, 20), "restarts_s": (8, 16),
        "flips_s": (2, 6)}
QUICK = {"connections": 300, "changes": 12, "life_s": (1, 6), "restarts_s": (2, 5), "flips_s": (1, 2)}


class Torture:
    """One run with one seed."""

    def __init__(self, options, seed):
        self.options, self.seed = options, seed
        self.forwarding = options.forwarding
        self.pace = QUICK if options.quick else FULL
        self.life_s = self.pace["life_s"][1]
        self.silent_s = SILENT_IN_FLOOD_S if options.flood else SILENT_S
        self.flips = options.nodes > 1 and not options.no_flips
        # A stock backend's flows live by the dataplane's memory.
        self.judged = self.forwarding == "gue" or not self.flips
        self.dataplane_restarts = self.forwarding == "gue" or self.flips
        self.lab = TortureLab(lab_name(seed), nodes=options.nodes, backends=BACKENDS)
        self.log, self.ending = Log(), threading.Event()
        self.truth = self.views = self.memory = self.client = self.flood = None
        self.ready, self.ended = threading.Event(), threading.Event()
        self.broken, self.tick, self.end, self.told = [], None, None, []

    # ------------------------------------------------------------ the client's lines

    def follow(self):
        try:
            for line in self.client.lines():
                if line["event"] == "ready":
                    self.ready.set()
                elif line["event"] == "broken":
                    self.take_broken(line)
                elif line["event"] == "tick":
                    self.tick = line
                else:
                    self.end = line
        finally:
            self.ended.set()
            self.ready.set()

    def take_broken(self, one):
        self.broken.append(one)
        if not self.judged or len(self.told) >= TOLD:
            return
        # Right now, since the next revision may say otherwise.
        one["explain"] = [explain(self.lab, node, one["client"], one["vip"])
                          for node in self.lab.nodes]
        one["sockets"] = sockets(self.lab, one["port"])
        first = one["time"] - one["good_s"] - BEFORE_S
        one["before"] = [f"{at - one['time']:+.2f} s  {what}"
                         for at, what in self.log.between(first, one["time"])]
        self.told.append(one)
        print(f"torture: BROKEN: {one['client']} > {one['vip']}: {one['why']}", file=sys.stderr,
              flush=True)

    # ------------------------------------------------------------ the run

    def progress(self, changes, begun):
        tick = self.tick or {}
        print(f"torture: seed {self.seed}, {time.time() - begun:4.0f} s: "
              f"{sum(len(c.waits) for c in changes)} of {self.options.changes} changes; "
              f"{tick.get('open', 0)} open, {tick.get('established', 0)} so far, "
              f"{tick.get('messages', 0)} messages, {len(self.broken)} broken, "
              f"{sum(tick.get('unborn', {}).values())} unborn", file=sys.stderr, flush=True)

    def torment(self):
        """Everything at once, until the changes are done."""
        count = self.options.changes
        changes = [Changes(self, pool, count // len(VIPS) + (i < count % len(VIPS)))
                   for i, pool in enumerate(VIPS)]
        others = []
        if not self.options.no_restarts:
            others.append(Restarts(self, self.pace["restarts_s"]))
        if self.flips:
            others.append(Flips(self, self.pace["flips_s"]))
        begun, looked = time.time(), 0.0
        for actor in changes + others:
            actor.start()
        while any(c.is_alive() for c in changes) and not self.ending.is_set():
            if self.ended.wait(0.2):
                raise AssertionError("the client ended too early")
            if time.time() - looked > 10:
                looked = time.time()
                self.progress(changes, begun)
                self.memory.look()
        seconds = time.time() - begun
        self.ending.set()
        for actor in changes + others:
            actor.join(90)
        errors = [a.error for a in changes + others if a.error]
        return {"seconds": round(seconds), "changes": changes, "others": others, "errors": errors}

    def run(self):
        try:
            self.lab.up()
            self.truth = Truth(self.lab)
            configure(self.lab, self.forwarding, self.seed)
            with Views(self.lab, self.log) as self.views:
                return self.run_in_lab()
        except BaseException:
            self.keep_logs()
            raise
        finally:
            for process in (self.client, self.flood):
                if process:
                    process.kill()
            self.lab.down()

    def run_in_lab(self):
        self.memory = Memory(self.lab)
        self.client = Process(self.lab, "torture_client.py", json.dumps({
            "seed": self.seed, "count": self.options.connections, "life_s": self.pace["life_s"],
            "silent_s": self.silent_s, "late_s": LATE_S, "port": ECHO, "targets": targets(self.forwarding)}))
        reader = threading.Thread(target=self.follow, daemon=True)
        reader.start()
        if not self.ready.wait(READY_S) or self.ended.is_set():
            raise AssertionError(f"the connections do not come up: {self.tick}")
        self.memory.look()
        calm = self.tick
        flood = self.begin_flood() if self.options.flood else None
        done = self.torment()
        if flood:
            self.flood.end()
            flood = json.loads(self.flood.process.stdout.readline())
        self.memory.look()
        self.client.end()
        reader.join(self.silent_s + 30)
        if not self.end:
            raise AssertionError("the client does not end")
        self.keep_logs(done["errors"] or self.broken and self.judged)
        return self.result(done, calm, flood)

    def begin_flood(self):
        for family in (4, 6):  # else the router would tell the backends that there is no way back
            self.lab.run("router", "ip", f"-{family}", "route", "add", "blackhole", "default")
        vips = [vip for _, vip in targets(self.forwarding)]
        self.flood = Process(self.lab, "torture_flood.py", self.seed, ECHO, *vips)
        self.log.add("the flood begins")
        return True

    def keep_logs(self, bad=True):
        """What the daemons said last, if something went wrong."""
        if not bad or not (self.lab.state / "log").exists():
            return
        keep = pathlib.Path(tempfile.gettempdir()) / f"torture-{self.lab.name}"
        keep.mkdir(exist_ok=True)
        for log in (self.lab.state / "log").iterdir():
            (keep / log.name).write_bytes(log.read_bytes()[-4_000_000:])
        (keep / "acts").write_text("".join(f"{at:.3f} {what}\n" for at, what in
                                           self.log.between(0, time.time())))
        print(f"torture: logs are kept in {keep}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------ what came of it

    def second_chances(self):
        total = {}
        for role in self.lab.backends:
            for name, number in (counters_of(self.lab.agent_status(role))).items():
                total[name] = total.get(name, 0) + number
        return {k: v for k, v in sorted(total.items()) if v and k != "other"}

    def result(self, done, calm, flood):
        waits = sorted((w for c in done["changes"] for w in c.waits), reverse=True)
        kinds, restarts = {}, {}
        for c in done["changes"]:
            for kind, n in c.kinds.items():
                kinds[kind] = kinds.get(kind, 0) + n
        for other in done["others"]:
            restarts = getattr(other, "counts", restarts)
        flips = sum(getattr(o, "count", 0) for o in done["others"])
        new = self.end["opened"] - calm["opened"] if calm else 0
        reached = self.end["established"] - calm["established"] if calm else 0
        lost = sum(self.end["unborn"].values()) - sum((calm or {"unborn": {}})["unborn"].values())
        return {"seed": self.seed, "seconds": done["seconds"], "judged": self.judged,
                "client": self.end, "kinds": kinds, "restarts": restarts, "flips": flips,
                "committed": len(waits), "wanted": self.options.changes,
                "wait_s": percentiles([w for w, _ in waits]) if waits else None,
                "longest": [f"{w:.1f} s  {text}" for w, text in waits[:3]],
                "errors": done["errors"], "broken": self.broken, "told": self.told,
                "second_chances": self.second_chances(),
                "flood": flood and {**flood, "new": new, "new_established": reached,
                                    "new_lost": lost},
                "memory_kb": {f"{role} {what}": three
                              for (role, what), three in sorted(self.memory.of.items())}}


def counters_of(status):
    """Of `redirect`, by name; the numbers of `guideway agent status`, wherever they stand in it."""
    if not isinstance(status, (dict, list)):
        return {}
    if isinstance(status, list):
        parts = [counters_of(one) for one in status]
    else:
        own = status.get("counters")
        if isinstance(own, dict):
            return {k: v for k, v in own.items() if isinstance(v, int)}
        parts = [counters_of(one) for one in status.values()]
    out = {}
    for part in parts:
        for name, number in part.items():
            out[name] = out.get(name, 0) + number
    return out


def promises(run, options):
    """[{what, got, allowed, holds}] of one run."""
    out = []

    def add(what, got, allowed, at_least=False):
        holds = got >= allowed if at_least else got <= allowed
        out.append({"what": f"seed {run['seed']}: {what}", "got": got, "allowed": allowed,
                    "at_least": at_least, "holds": holds})

    if run["judged"]:
        add("broken connections", len(run["broken"]), 0)
    add("changes that are committed", run["committed"], run["wanted"], at_least=True)
    if run["wait_s"]:
        add("longest wait of a change, s", run["wait_s"]["max"], HELD_BACK_S)
    add("things that went wrong", len(run["errors"]), 0)
    if options.flood:
        for name, (first, _, last) in run["memory_kb"].items():
            add(f"memory of {name}, KiB", last, int(first * MEMORY_SLACK + MEMORY_SLACK_KB))
    elif run["judged"]:
        add("fewest connections open", run["client"]["fewest"] or 0, options.connections, at_least=True)
    return out


def arguments():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--forwarding", choices=("gue", "ipip", "l2"), default="gue")
    parser.add_argument("--nodes", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--changes", type=int)
    parser.add_argument("--connections", type=int)
    for name in ("--flood", "--no-flips", "--no-restarts", "--quick"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    pace = QUICK if options.quick else FULL
    for name in ("changes", "connections"):
        if getattr(options, name) is None:
            setattr(options, name, pace[name])
    return options


def main():
    options = arguments()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    host, begun, runs = machine(), time.monotonic(), []
    os.environ.setdefault("GUIDEWAY_LOG", "info")
    for seed in seeds:
        try:
            runs.append(Torture(options, seed).run())
        except Cannot as error:
            sys.exit(f"torture: {error}")
    kept = [promise for run in runs for promise in promises(run, options)]
    result = {"ok": all(p["holds"] for p in kept), "machine": host,
              "seconds": round(time.monotonic() - begun), "forwarding": options.forwarding,
              "nodes": options.nodes, "connections": options.connections, "flood": options.flood,
              "runs": runs, "promises": kept}
    show(result)
    options.file.write_text(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
