# SPDX-License-Identifier: Apache-2.0
"""Ports in earnest: buffers that come round, several workers, ports that are lost or misused."""
import struct

import pytest

from lab import BUILD, eventually
from traffic import NODE, TUNNEL_VIP, VIP, Wrk, base_intent, get

# Two queues on one veth: packet sockets with a fan-out by flow hash, as RSS does it.
TWO_WORKERS = """\
[node]
name = "n1"
[dataplane]
workers = 2
memory_mb = 192
[[dataplane.ports]]
vdev = "net_af_packet0,iface=eth1,qpairs=2"
tap = "gw0"
[tunnel]
source4 = "10.0.0.11"
source6 = "fd00:0:0:1::11"
[paths]
run = "{state}/n1/run"
state = "{state}/n1/state"
"""
WORKERS_OFFSET, WORKER_BYTES = 4096, 576  # dataplane/abi.h, as counters_region.cc lays it out


@pytest.mark.parametrize("lab", ["interface", "vdev"], indirect=True)
def test_buffers_come_round(lab):
    """Many times as many frames as there are packet buffers, to the kernel and to backends."""
    lab.run("router", "ping", "-f", "-q", "-c", "20000", NODE[4], timeout=120)
    with Wrk(lab, VIP[4], 3) as load:
        load.result().must_be_clean()
    lab.run("router", "ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", NODE[4])
    received, verdicts = lab.counters()
    assert received == sum(verdicts.values())
    assert verdicts.get("tx_full", 0) == 0


def received_by_worker(lab, workers):
    region = (lab.state / "n1/run/counters").read_bytes()[:WORKERS_OFFSET + workers * WORKER_BYTES]
    return [struct.unpack_from("<Q", region, WORKERS_OFFSET + i * WORKER_BYTES + 8)[0]
            for i in range(workers)]


@pytest.fixture(scope="module")
def two_workers(new_lab):
    lab = new_lab(start=False, port="vdev")
    (lab.state / "n1").mkdir(exist_ok=True)
    (lab.state / "n1/node.toml").write_text(TWO_WORKERS.format(state=lab.state))
    # The kernel sees the same packets on eth1: it must leave them to the TAP.
    for setting in ("ipv6.conf.eth1.disable_ipv6=1", "ipv4.conf.eth1.rp_filter=1",
                    "ipv4.conf.eth1.arp_ignore=8"):
        lab.run("n1", "sysctl", "-qw", "net." + setting)
    lab.start("dataplane")
    lab.start("controlplane")
    for i in range(lab.backend_count):
        lab.start("agent", f"b{i + 1}")
    eventually(lambda: lab.pid("controlplane") and (lab.state / "n1/run/control.sock").exists())
    lab.apply(base_intent())
    return lab


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("vips", [VIP, TUNNEL_VIP], ids=["l2", "ipip"])
def test_two_workers_share_the_flows(two_workers, family, vips):
    before = received_by_worker(two_workers, 2)
    with Wrk(two_workers, vips[family], 3) as load:
        load.result().must_be_clean()
    got = [now - then for now, then in zip(received_by_worker(two_workers, 2), before)]
    assert min(got) > sum(got) / 10, got
    received, verdicts = two_workers.counters()
    assert received == sum(verdicts.values())


def test_changes_reach_both_workers(two_workers):
    """Each change is one store for each worker: no request of a change's time fails."""
    with Wrk(two_workers, VIP[4], 60) as load:
        for weight in range(1, 101):
            assert two_workers.api().put("/v1/pools/l26/backends/fd00:0:0:1::21?wait=adopted",
                                       {"weight": weight}).body["adopted"]
        load.stop().must_be_clean()


def test_the_tap_keeps_the_mac_of_its_port(two_workers):
    """udev gives new interfaces a MAC of its own; what comes for that the NIC would not take."""
    def mac(interface):
        return two_workers.run("n1", "cat", f"/sys/class/net/{interface}/address").stdout

    assert mac("gw0") == mac("eth1")
    two_workers.run("n1", "ip", "link", "set", "gw0", "address", "02:00:00:00:00:99")
    eventually(lambda: mac("gw0") == mac("eth1"))
    assert "somebody had set another MAC address" in two_workers.log("dataplane")
    eventually(lambda: get(two_workers, VIP[4]))


def start_fails(lab, text):
    """What the dataplane says when it is started with this node.toml; it must not run."""
    config = lab.state / "bad.toml"
    config.write_text(text)
    done = lab.run("n1", BUILD / "dataplane/guideway-dataplane", "--config", config,
                   "--bpf-dir", BUILD / "bpf", check=False)
    assert done.returncode == 1, done
    return done.stderr.strip().splitlines()[-1]


def node_toml(lab, run, port, workers=1):
    return (f"[dataplane]\nworkers = {workers}\nmemory_mb = 128\n[[dataplane.ports]]\n{port}\n"
            f'[paths]\nrun = "{lab.state}/{run}"\nstate = "{lab.state}/{run}"\n')


def test_a_port_that_cannot_be_used_is_named(lab):
    assert "port eth9: no such interface" in start_fails(
        lab, node_toml(lab, "other", 'interface = "eth9"'))
    assert "has 1 queue pair(s) for 2 worker(s)" in start_fails(
        lab, node_toml(lab, "other", 'interface = "eth1"', workers=2))
    assert "another guideway-dataplane uses it" in start_fails(
        lab, node_toml(lab, "other", 'interface = "eth1"'))
    assert "another guideway-dataplane runs with this run directory" in start_fails(
        lab, node_toml(lab, "n1/run", 'interface = "eth0"'))
    assert get(lab, VIP[4])


def test_a_lost_port_ends_the_dataplane_with_its_reason(lab):
    """Forwarding has ended: a process that goes on would look well."""
    lab.run("n1", "ip", "link", "set", "eth1", "xdp", "off")
    eventually(lambda: lab.pid("dataplane") is None)
    assert "somebody took the edge program off it" in lab.log("dataplane")
    lab.start("dataplane")
    eventually(lambda: get(lab, VIP[4]))
