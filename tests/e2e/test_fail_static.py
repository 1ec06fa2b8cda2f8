# SPDX-License-Identifier: Apache-2.0
"""What dies, dies alone: the other daemon goes on, and what comes back finds its way by itself."""
import os
import signal
import time

import pytest

from health import probe
from held import HeldConnections
from lab import eventually, service_path
from traffic import VIP, Wrk, base_intent, get, host, service

# Far more than it takes; the time itself is measured by scripts/vm-test.
SERVES_WITHIN_S = 15
MESSAGE_MAGIC = 0x47455353  # GW_MAGIC_MESSAGE of dataplane/abi.h


def serves_within(lab, seconds, family=4):
    """Tries a request anew until one is answered; fails after so many seconds."""
    def attempt():
        done = lab.run("client", "curl", "-sS", "--connect-timeout", "0.1", "--max-time", "1",
                       f"http://{host(VIP[family])}/", check=False)
        return done.returncode == 0
    eventually(attempt, seconds, what="a request served")


def test_control_plane_killed_under_load(lab, quick):
    away = 3 if quick else 10
    with Wrk(lab, VIP[4], away + 6) as load, Wrk(lab, VIP[6], away + 6, connections=8) as load6:
        lab.kill("controlplane")
        time.sleep(away)  # the time without it is what is tested
        lab.start("controlplane")
        lab.ready()
        load.result().must_be_clean()
        load6.result().must_be_clean()
    lab.counters()


def test_control_plane_restart_changes_nothing(lab):
    before = lab.status()
    lab.stop("controlplane")
    lab.start("controlplane")
    after = lab.ready()
    assert after["revision"] == before["revision"]
    assert after["dataplane"]["epoch"] == before["dataplane"]["epoch"]
    assert after["dataplane"]["generation"] >= before["dataplane"]["generation"]
    assert [p["digest"] for p in after["pools"]] == [p["digest"] for p in before["pools"]]
    totals = {s["service"]: s["packets"] for s in before["services"]}
    for entry in after["services"]:
        assert entry["packets"] >= totals[entry["service"]], "totals never run backwards"


def test_control_plane_restart_with_slow_probes_breaks_nothing(lab):
    """The first image goes out long before everybody has been probed again."""
    name = service("203.0.113.61", 7)
    intent = base_intent()
    intent["pools"]["slow"] = {**intent["pools"]["l24"], "probe": probe("tcp", 20_000, 1_000)}
    intent["services"][name] = {"pool": "slow"}
    lab.api().must("PUT", "/v1/intent?wait=adopted", intent)
    eventually(lambda: all(b["state"] == "up" for p in lab.status()["pools"] if p["name"] == "slow"
                           for b in p["backends"]), 40, what="all were probed")
    with HeldConnections(lab, "203.0.113.61") as held:
        held.open(30)
        lab.kill("controlplane")
        lab.start("controlplane")
        before = eventually(lab.try_status, 10)["dataplane"]["generation"]
        # After its patience it goes by what it knows.
        eventually(lambda: lab.status()["dataplane"]["generation"] > before, 10)
        held.flow()
    lab.apply(base_intent())


@pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
@pytest.mark.parametrize("signal", ["kill", "stop"])
def test_dataplane_restart(lab, signal):
    """Killed, its XDP program stays attached; the next one must take over from it."""
    for family in (4, 6):
        get(lab, VIP[family])
    before = lab.counters()
    epoch = lab.status()["dataplane"]["epoch"]
    getattr(lab, signal)("dataplane")
    lab.start("dataplane")
    serves_within(lab, SERVES_WITHIN_S)
    serves_within(lab, SERVES_WITHIN_S, family=6)
    status = lab.ready()
    assert status["dataplane"]["epoch"] == epoch + 1
    after = lab.counters()
    assert after[0] >= before[0]


def test_dataplane_killed_under_load(lab):
    with Wrk(lab, VIP[4], 300) as load:
        for _ in range(3):
            lab.kill("dataplane")
            lab.start("dataplane")
            serves_within(lab, SERVES_WITHIN_S)
            lab.ready()
        load.stop()
    lab.counters()  # add up, restarts included


@pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
def test_both_killed_and_the_dataplane_alone_started(lab):
    lab.kill("controlplane")
    lab.kill("dataplane")
    lab.start("dataplane")
    serves_within(lab, SERVES_WITHIN_S)
    serves_within(lab, SERVES_WITHIN_S, family=6)
    lab.start("controlplane")
    lab.ready()


def test_no_2xx_is_forgotten(lab, quick):
    """kill -9 right after the answer: the change is there after the restart, every time."""
    for i in range(25 if quick else 100):
        name = service("203.0.113.60", 1 + i)
        answer = lab.api().must("PUT", service_path(name), {"pool": "l24"})
        lab.kill("controlplane")
        lab.start("controlplane")
        status = eventually(lab.try_status, 10, what="the control socket after a restart")
        assert status["revision"] >= answer["revision"]
        assert lab.api().get(service_path(name)).ok, f"round {i}: {name} is gone"
    lab.apply(base_intent())


def test_without_a_dataplane_no_service_is_ready(lab):
    lab.kill("dataplane")
    eventually(lambda: {(s["state"], s["reason"]) for s in lab.status()["services"]} ==
               {("down", "no dataplane forwards")}, 5, what=lambda: lab.status()["services"])
    lab.start("dataplane")
    lab.ready()


def announced(lab):
    return lab.run("n1", "ip", "route", "show", "proto", "203", "table", "main").stdout.split("\n")[:-1]


@pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
def test_a_dataplane_that_takes_leave_forwards_until_its_routes_are_gone(lab):
    """What the systemd unit does at a stop: routes first, packets last."""
    eventually(lambda: announced(lab), what="the VIPs are announced")
    with Wrk(lab, VIP[4], 300) as load:
        load.begun(lab)
        os.kill(lab.pid("dataplane"), signal.SIGUSR1)
        eventually(lambda: not announced(lab), 4.5, what="the VIPs are withdrawn")
        assert "taking leave" in lab.log("dataplane")
        load.stop().must_be_clean()
    assert lab.pid("dataplane"), "it forwarded longer than that took"
    lab.stop("dataplane")
    assert "was not followed" not in lab.log("dataplane")
    lab.start("dataplane")
    eventually(lambda: announced(lab), what="the VIPs are announced again")


def test_a_leave_that_nobody_follows_up_ends_with_an_error(lab):
    os.kill(lab.pid("dataplane"), signal.SIGUSR1)
    eventually(lambda: lab.pid("dataplane") is None, 10, what="it ends by itself")
    assert "SIGUSR1: was not followed by SIGTERM within 5 s" in lab.log("dataplane")
    lab.start("dataplane")
    lab.ready()


# One version on: what the control plane reads of a hello first, in a message of another size.
NEWER_DATAPLANE = """
import socket, struct, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen()
magic = int(sys.argv[2], 0)
while True:
    peer = listener.accept()[0]
    peer.send(struct.pack("=IIQQIII", magic, 1, 7, 0, 0, 5, 6) + bytes(700))
    peer.recv(1)
"""


def test_a_dataplane_of_another_layout_keeps_its_announcements(lab):
    """It forwards by the image that it has; a control plane that cannot talk to it must not withdraw."""
    route = ["blackhole", "203.0.113.10", "proto", "203", "metric", "100"]
    lab.stop("controlplane")
    lab.stop("dataplane")
    eventually(lambda: not announced(lab), what="the VIPs are withdrawn")
    (lab.state / "n1/run/dataplane.sock").unlink(missing_ok=True)
    newer = lab.spawn("n1", "/usr/bin/python3", "-c", NEWER_DATAPLANE,
                      lab.state / "n1/run/dataplane.sock", hex(MESSAGE_MAGIC))
    try:
        lab.run("n1", "ip", "route", "add", *route)
        lab.start("controlplane")
        eventually(lambda: "accepts image layouts 5 to 6" in str(lab.try_status()),
                   what=lab.try_status)
        time.sleep(2)  # four times as long as a dataplane may be silent
        assert announced(lab), "withdrawn"
    finally:
        newer.kill()
        newer.wait()
    eventually(lambda: not announced(lab), what="withdrawn once it is gone")
    lab.start("dataplane")
    lab.ready()
