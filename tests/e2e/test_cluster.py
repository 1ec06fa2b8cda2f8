# SPDX-License-Identifier: Apache-2.0
"""Three nodes, three members of etcd, one intent."""
import json
import re
import subprocess
import time

import pytest

from bgp import cli
from health import probe
from lab import SCRIPT, eventually
from many import Adopted, add_from_all, address_of
from traffic import Wrk, backend_addresses, host

NODES = ("n1", "n2", "n3")
MEMBERS = ("e1", "e2", "e3")
VIP = "203.0.113.70"
PREFIX = "/guideway/"


@pytest.fixture(scope="module")
def shared(new_lab):
    lab = new_lab(nodes=3, backends=3, etcd=3)
    yield lab
    lab.down()


@pytest.fixture
def lab(shared):
    """All up, members of one cluster, with the same small intent."""
    for member in MEMBERS:
        if not shared.pid("etcd", member):
            shared.start("etcd", member)
    for node in NODES:
        for what in ("dataplane", "controlplane"):
            if not shared.pid(what, node):
                shared.start(what, node)
    for node in NODES:
        eventually(lambda n=node: is_member(shared, n), 30, what=lambda n=node: cluster(shared, n))
    must(shared, "n1", "PUT", "/v1/intent", small_intent())
    same(shared)
    return shared


def small_intent(hold_s=5):
    # Some tests add backends that have no agent, which only time can tell to be empty.
    return {"pools": {"web": {"forwarding": "gue", "hold_s": hold_s,
                              "probe": probe("tcp", interval_ms=50, timeout_ms=50),
                              "backends": {a: {"weight": 100} for a in backend_addresses(4, 3)}}},
            "services": {f"{host(VIP)}:80/tcp": {"pool": "web"}}}


@pytest.fixture
def patient(lab):
    """Connections end the earlier states of the pool, not the clock: for tests that count breaks."""
    must(lab, "n1", "PUT", "/v1/intent", small_intent(hold_s=86400))
    same(lab)


breaks_count = pytest.mark.usefixtures("patient")


# ---------------------------------------------------------------- helpers

def cluster(lab, node):
    status = lab.try_status(node)
    return status and status["cluster"]


def is_member(lab, node):
    now = cluster(lab, node)
    return bool(now) and now["state"] == "member" and \
        {n["name"] for n in now["nodes"] if n["alive"]} >= {node}


def must(lab, node, method, path, body=None):
    """A change that etcd may be too busy for at the moment."""
    return eventually(lambda: (answer := lab.api(node).request(method, path, body)).status < 500
                      and answer, 20, what=f"{method} {path}").body


def same(lab, nodes=NODES, seconds=20):
    """Waits until these nodes run one revision, with the same tables."""
    def look():
        seen = [lab.try_status(n) for n in nodes]
        return all(seen) and all(s["dataplane"]["revision"] == s["revision"] for s in seen) and \
            len({(s["revision"], json.dumps([p["digest"] for p in s["pools"]])) for s in seen}) == 1 \
            and seen[0]["revision"]
    return eventually(look, seconds, what=lambda: [cluster(lab, n) for n in nodes])


def etcdctl(lab, *arguments):
    member = next(m for m in MEMBERS if lab.pid("etcd", m))
    done = subprocess.run([SCRIPT, "etcdctl", "--name", lab.name, member, *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


def at_rest(lab):
    """No planned change goes on, which would write to etcd as well."""
    def look():
        change = web(lab, "n1")["change"]
        return not (change["earlier"] or change["incoming"] or change["wanted"])
    eventually(look, 60, what=lambda: lab.status("n1")["pools"][0]["change"])


def web(lab, node):
    return next(p for p in lab.status(node)["pools"] if p["name"] == "web")


def weight(lab, node, value, address="10.0.0.21"):
    return lab.api(node).put(f"/v1/pools/web/backends/{address}", {"weight": value})


# ---------------------------------------------------------------- tests

def test_any_node_takes_changes(lab):
    for number, node in enumerate(NODES):
        answer = lab.api(node).put(f"/v1/services/203.0.113.7{number + 1}:80%2Ftcp", {"pool": "web"})
        assert answer.ok, answer
    same(lab)
    for node in NODES:
        assert len(lab.status(node)["services"]) == 4
        seen = cluster(lab, node)
        assert {n["name"] for n in seen["nodes"]} == set(NODES)
        assert len({n["digest"] for n in seen["nodes"]}) == 1
    text = cli(lab, "n2", "status").stdout
    assert "CLUSTER" in text and "this node" in text and "elected" in text


@breaks_count
def test_one_member_of_etcd_gone_is_not_noticed(lab):
    with Wrk(lab, VIP, 30) as load:
        for member in MEMBERS:
            lab.kill("etcd", member)
            for number, node in enumerate(NODES):
                answer = weight(lab, node, 50 + number)
                assert answer.ok, (member, node, answer)
            same(lab)
            lab.start("etcd", member)
            eventually(lambda m=member: "healthy" in etcdctl_health(lab, m), 30, what="etcd is back")
        result = load.stop()
    assert result.failed == 0, result.text


def etcdctl_health(lab, member):
    done = subprocess.run([SCRIPT, "etcdctl", "--name", lab.name, member, "endpoint", "health"],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout if done.returncode == 0 else ""


@breaks_count
def test_without_a_majority_changes_are_refused(lab, quick):
    before = same(lab)
    with Wrk(lab, VIP, 180) as load:
        for member in ("e1", "e2"):
            lab.kill("etcd", member)
        answer = weight(lab, "n1", 77)
        assert answer.status in (503, 504), answer
        for node in NODES:
            eventually(lambda n=node: cluster(lab, n)["state"] == "cut off", 20,
                       what=lambda n=node: cluster(lab, n))
        answer = weight(lab, "n2", 78)
        assert answer.status == 503 and "changes are refused" in answer.body["error"]["message"]
        assert "cut off" in cli(lab, "n3", "status").stdout
        lab.kill("etcd", "e3")  # all of them
        time.sleep(2 if quick else 60)  # the time without any is what is tested
        # A dead backend is each node's own affair.
        lab.run("router", "ip", "link", "set", "b3", "down")
        try:
            for node in NODES:
                eventually(lambda n=node: "10.0.0.23" in down(lab, n), 10, what="b3 is down")
        finally:
            lab.run("router", "ip", "link", "set", "b3", "up")
        for node in NODES:
            eventually(lambda n=node: not down(lab, n), 20, what="b3 is up")
        for member in MEMBERS:
            lab.start("etcd", member)
        for node in NODES:
            eventually(lambda n=node: is_member(lab, n), 30, what=lambda n=node: cluster(lab, n))
        assert same(lab) >= before
        result = load.stop()
    assert result.requests > 100, result.text
    assert eventually(lambda: weight(lab, "n3", 79).ok, 10)
    same(lab)


def down(lab, node):
    return {b["address"] for p in lab.status(node)["pools"] for b in p["backends"]
            if b["state"] == "down"}


def test_a_node_cut_off_from_etcd_only(lab):
    """Changes go on without it; it is preferred by nobody meanwhile, and catches up before it is."""
    lab.run("n3", "ip", "link", "set", "eth0", "down")
    try:
        eventually(lambda: cluster(lab, "n3")["state"] == "cut off", 20)
        eventually(lambda: {v["announce"] for v in lab.status("n3")["vips"]} == {"reduced"}, 20,
                   what=lambda: lab.status("n3")["vips"])
        assert eventually(lambda: weight(lab, "n1", 66).ok, 20)
        revision = same(lab, ("n1", "n2"))
        assert lab.status("n3")["revision"] < revision
        eventually(lambda: {n["name"] for n in cluster(lab, "n1")["nodes"]} == {"n1", "n2"}, 30)
    finally:
        lab.run("n3", "ip", "link", "set", "eth0", "up")
    eventually(lambda: is_member(lab, "n3"), 30, what=lambda: cluster(lab, "n3"))
    assert same(lab) >= revision
    eventually(lambda: {v["announce"] for v in lab.status("n3")["vips"]} == {"normal"}, 20,
               what=lambda: lab.status("n3")["vips"])


@breaks_count
def test_a_node_cut_off_from_everything(lab):
    """The router sends nothing to it until it is ready again, as it does when BGP is lost."""
    nets = {4: ("203.0.113.0/24", "10.0.0."), 6: ("2001:db8:203::/64", "fd00:0:0:1::")}

    def route(*numbers):
        for family, (net, stem) in nets.items():
            hops = [word for n in numbers for word in ("nexthop", "via", f"{stem}{10 + n}")]
            lab.run("router", "ip", f"-{family}", "route", "replace", net, *hops)
    with Wrk(lab, VIP, 120) as load:
        route(1, 2)
        try:
            for link in ("n3", "m3"):
                lab.run("router", "ip", "link", "set", link, "down")
            eventually(lambda: cluster(lab, "n3")["state"] == "cut off", 20)
            eventually(lambda: {v["announce"] for v in lab.status("n3")["vips"]} <=
                       {"reduced", "withdrawn"}, 20, what=lambda: lab.status("n3")["vips"])
            assert eventually(lambda: weight(lab, "n2", 31).ok, 20)
            revision = same(lab, ("n1", "n2"))
            eventually(lambda: {n["name"] for n in cluster(lab, "n1")["nodes"] if n["alive"]}
                       == {"n1", "n2"}, 30)
            assert lab.status("n3")["revision"] < revision
            assert weight(lab, "n3", 32).status in (503, 504)
        finally:
            for link in ("n3", "m3"):
                lab.run("router", "ip", "link", "set", link, "up")
        eventually(lambda: is_member(lab, "n3"), 30, what=lambda: cluster(lab, "n3"))
        assert same(lab) >= revision
        eventually(lambda: {v["announce"] for v in lab.status("n3")["vips"]} == {"normal"}, 20,
                   what=lambda: lab.status("n3")["vips"])
        route(1, 2, 3)
        result = load.stop()
    assert result.failed == 0, result.text


def test_a_start_without_etcd(lab):
    weight(lab, "n1", 44)
    same(lab)
    at_rest(lab)
    revision = same(lab)
    lab.run("n3", "ip", "link", "set", "eth0", "down")
    try:
        lab.kill("controlplane", "n3")
        lab.start("controlplane", "n3")
        status = eventually(lambda: (s := lab.try_status("n3")) and s["dataplane"]["revision"]
                            >= revision and s, 20, what="n3 runs the last intent it knows")
        assert status["cluster"]["state"] == "cut off"
        assert status["cluster"]["last_contact"]
        text = cli(lab, "n3", "status").stdout
        assert "forwarding goes on by the intent of" in text
        assert weight(lab, "n1", 45).ok
    finally:
        lab.run("n3", "ip", "link", "set", "eth0", "up")
    eventually(lambda: is_member(lab, "n3"), 30)
    assert same(lab) > revision


def test_many_backends_from_all_nodes_at_once(lab, quick):
    """All there, none twice, and every change runs on all nodes in the end."""
    each = 60 if quick else 334
    before = {b["address"] for b in web(lab, "n1")["backends"]}
    with Adopted(lab, NODES) as adopted:
        _, given_up, done = add_from_all(lab, NODES, "web", each)
        assert not given_up, given_up[:3]
        same(lab, seconds=60)
        last = max(revision for *_, revision in done)
        eventually(lambda: adopted.when(last), 10)
    for node in NODES:
        addresses = [b["address"] for b in web(lab, node)["backends"]]
        assert len(addresses) == len(set(addresses))
        assert set(addresses) == before | {address_of(n) for n in range(3 * each)}


def test_garbage_in_etcd(lab):
    key = PREFIX + f"intent/services/{VIP}:80/tcp"
    at_rest(lab)
    good = etcdctl(lab, "get", "--print-value-only", key)
    etcdctl(lab, "put", key, "garbage")
    try:
        for node in NODES:
            eventually(lambda n=node: key in cluster(lab, n)["refused"], 10,
                       what=lambda n=node: cluster(lab, n))
            assert len(lab.status(node)["services"]) == 1, "the last good one stays"
        assert key in cli(lab, "n2", "status").stdout
        # What is not concerned goes through.
        assert lab.api("n2").put("/v1/services/203.0.113.79:80%2Ftcp", {"pool": "web"}).ok
        same(lab)
        assert all(len(lab.status(n)["services"]) == 2 for n in NODES)
    finally:
        if cluster(lab, "n1")["refused"]:
            etcdctl(lab, "put", key, good.rstrip("\n") + "\n")
    for node in NODES:
        eventually(lambda n=node: not cluster(lab, n)["refused"], 10)


def at_level(lab, node, level, password_file=None):
    """The control plane anew, with these lines of its node.toml."""
    path = lab.state / node / "node.toml"
    text = re.sub(r'level = ".*"', f'level = "{level}"', path.read_text())
    text = re.sub(r'password_file = ".*"',
                  f'password_file = "{password_file or lab.state / "tls" / "password"}"', text)
    path.write_text(text)
    lab.kill("controlplane", node)
    lab.start("controlplane", node)


def test_credentials_are_not_shown_anywhere(lab):
    """Neither password, token nor private key: not at the most talkative level, and not by errors."""
    password = (lab.state / "tls" / "password").read_text().strip()
    wrong = "ac74f1-a-wrong-password"
    wrong_file = lab.state / "tls" / "wrong"
    wrong_file.write_text(wrong + "\n")
    key = (lab.state / "tls" / "node.key").read_text().splitlines()[1]
    shown = {}

    def look(when):
        for path in ("/v1/status", "/v1/cluster", "/v1/events?limit=10000", "/v1/intent", "/metrics"):
            shown[f"{path} {when}"] = repr(lab.api("n1").get(path).body)
        for command in (("status",), ("cluster", "status"), ("export",), ("--json", "status")):
            done = cli(lab, "n1", *command)
            shown[f"{command} {when}"] = done.stdout + done.stderr
    try:
        at_level(lab, "n1", "trace")
        eventually(lambda: is_member(lab, "n1"), 30, what=lambda: cluster(lab, "n1"))
        assert eventually(lambda: weight(lab, "n1", 21).ok, 20)
        look("as a member")
        for member in ("e1", "e2"):  # the endpoint that gave the token goes, and no other has a leader
            lab.kill("etcd", member)
        eventually(lambda: cluster(lab, "n1")["state"] == "cut off", 20)
        weight(lab, "n1", 22)
        look("without etcd")
        for member in ("e1", "e2"):
            lab.start("etcd", member)
        eventually(lambda: is_member(lab, "n1"), 30, what=lambda: cluster(lab, "n1"))
        at_level(lab, "n1", "trace", wrong_file)
        eventually(lambda: (now := cluster(lab, "n1")) and "authentication" in now["problem"], 20,
                   what=lambda: cluster(lab, "n1"))
        look("with a wrong password")
    finally:
        at_level(lab, "n1", "info")
        for member in MEMBERS:
            if not lab.pid("etcd", member):
                lab.start("etcd", member)
    eventually(lambda: is_member(lab, "n1"), 30, what=lambda: cluster(lab, "n1"))
    for node in NODES:
        for what in ("controlplane", "dataplane"):
            shown[f"log of {node}'s {what}"] = lab.log(what, node)
    assert len(shown) == 33 and all(shown.values())
    token = re.compile(r"[A-Za-z]{16}\.[0-9]+")  # etcd's simple tokens
    for where, text in shown.items():
        for secret in (password, wrong, key, "PRIVATE KEY"):
            assert secret not in text, where
        assert not token.search(text), (where, token.search(text))


@breaks_count
def test_leave_and_join(lab):
    done = cli(lab, "n3", "cluster", "leave")
    assert done.returncode == 0 and "alone" in done.stdout, done.stderr
    assert weight(lab, "n3", 11).ok
    assert weight(lab, "n1", 12).ok
    same(lab, ("n1", "n2"))
    assert "left" in cli(lab, "n3", "cluster", "status").stdout
    with Wrk(lab, VIP, 30) as load:
        load.begun(lab, packets=400)
        done = cli(lab, "n3", "cluster", "join")
        assert done.returncode == 0, done.stderr
        same(lab)
        result = load.stop()
    assert result.requests > 100, result.text
    assert {b["weight"] for b in web(lab, "n3")["backends"] if b["address"] == "10.0.0.21"} == {12}


@breaks_count
def test_an_upgrade_of_the_control_planes_breaks_nothing(lab):
    with Wrk(lab, VIP, 60) as load:
        for node in NODES:
            lab.kill("controlplane", node)
            lab.start("controlplane", node)
            eventually(lambda n=node: is_member(lab, n), 30, what=lambda n=node: cluster(lab, n))
            assert eventually(lambda n=node: weight(lab, n, 30).ok, 20)
        result = load.stop()
    assert result.failed == 0, result.text
    same(lab)
