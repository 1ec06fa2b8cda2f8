# SPDX-License-Identifier: Apache-2.0
"""The lab itself, without Guideway: what the other tests stand on."""
import os
import subprocess

import pytest

from lab import SCRIPT, Lab, alive
from traffic import VIP, ask_dns, backend_addresses, get, host

both_families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module")
def plain(new_lab):
    return new_lab(start=False, nodes=2, backends=2)


@both_families
def test_backends_serve_under_their_own_addresses(plain, family):
    for i, address in enumerate(backend_addresses(family, 2)):
        assert get(plain, address) == f"b{i + 1}"


@both_families
def test_backends_serve_every_vip(plain, family):
    """As if a node had sent it on: the router hands the VIPs to b2."""
    network = "203.0.113.0/24" if family == 4 else "2001:db8:203::/64"
    route = ["ip", f"-{family}", "route"]
    other = "203.0.113.99" if family == 4 else "2001:db8:203::99"
    kept = plain.run("router", *route, "show", network).stdout
    plain.run("router", *route, "replace", network, "via", backend_addresses(family, 2)[1])
    try:
        for vip in (VIP[family], other):
            assert get(plain, vip) == "b2"
            assert ask_dns(plain, vip, 4711) == "b2"
    finally:
        hops = [w for n in (11, 12) for w in ("nexthop", "via", f"10.0.0.{n}" if family == 4
                                              else f"fd00:0:0:1::{n}")]
        plain.run("router", *route, "replace", network, *hops)
    assert kept.count("nexthop") == plain.run("router", *route, "show", network).stdout.count("nexthop")


@both_families
def test_backends_do_not_tell_the_neighbours_about_vips(plain, family):
    plain.run("router", "ip", f"-{family}", "route", "replace",
              f"{VIP[family]}/{32 if family == 4 else 128}", "dev", "br0")
    try:
        done = plain.run("router", "ping", f"-{family}", "-c1", "-W1", VIP[family], check=False)
        assert done.returncode != 0
    finally:
        plain.run("router", "ip", f"-{family}", "route", "del",
                  f"{VIP[family]}/{32 if family == 4 else 128}", "dev", "br0")


@both_families
def test_nodes_and_routers_answer(plain, family):
    for address in ("10.0.0.11", "10.0.0.12", "192.0.2.12") if family == 4 else \
            ("fd00:0:0:1::11", "fd00:0:0:1::12", "2001:db8:192::12"):
        plain.run("client", "ping", f"-{family}", "-c1", "-W2", address)


def test_one_queue_and_no_offloads(plain):
    for role, interface in (("n1", "eth1"), ("client", "eth0"), ("router", "n1")):
        features = plain.run(role, "ethtool", "-k", interface).stdout
        assert "tx-checksumming: off" in features
        assert "tcp-segmentation-offload: off" in features
        queues = plain.run(role, "ls", f"/sys/class/net/{interface}/queues").stdout.split()
        assert queues == ["rx-0", "tx-0"]


def test_wrong_usage_is_refused(plain):
    for arguments in (["fly"], ["up", "--nodes", "0"], ["up", "--port", "usb"], ["exec", "n7", "true"],
                      ["start", "b1", "dataplane"], ["up", "--name", "a-b"], ["exec", "client"]):
        done = subprocess.run([SCRIPT, arguments[0], "--name", plain.name, *arguments[1:]],
                              capture_output=True, text=True)
        assert done.returncode != 0 and done.stderr, arguments
        assert "unbound variable" not in done.stderr


def test_the_name_may_stand_anywhere_before_the_command(plain):
    for arguments in (["--name", plain.name, "client"], ["client", "--name", plain.name]):
        done = subprocess.run([SCRIPT, "exec", *arguments, "echo", "--name", "other"],
                              capture_output=True, text=True, check=True)
        assert done.stdout == "--name other\n"
    for arguments in (["status", "--name", plain.name], ["logs", "b1", "--name", plain.name, "nginx"],
                      ["start", "b1", "nginx", "--name", plain.name]):
        done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
        assert done.returncode == 0 or "already runs on b1" in done.stderr, done


def test_down_takes_half_a_lab(new_lab):
    lab = Lab(f"h{os.getpid()}", start=False, backends=1)
    try:
        lab.up()
        pid = lab.pid("nginx", "b1")
        subprocess.run(["rm", "-r", lab.state / "pids", lab.state / "made"], check=True)
        subprocess.run(["ip", "netns", "del", lab.namespace("client")], check=True)
    finally:
        lab.down()
    assert not alive(pid)
    assert lab.name not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert str(lab.state) not in open("/proc/mounts").read()
    assert not lab.state.exists()
    lab.down()  # nothing to do is no error


def test_curl_reaches_a_backend(plain):
    address = backend_addresses(6, 1)[0]
    assert plain.run("client", "curl", "-sS", f"http://{host(address)}/").stdout == "b1\n"
