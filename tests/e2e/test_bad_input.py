# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives at the control socket, or stands in a file: a clear error, and all goes on."""
import contextlib
import json
import re
import socket
import subprocess
import threading

import pytest

from lab import BUILD, eventually, service_path
from traffic import VIP, base_intent, get, service

WEB = "203.0.113.10:80/tcp"
POOL = "/v1/pools/l24"
CLIENTS = 200
BODY_MAX = 8 << 20


def intent(pools=None, services=None):
    return {"pools": pools or {}, "services": services or {}}


def one_pool(**fields):
    return {"p": {"forwarding": "l2", "backends": {"10.0.0.21": {}}, **fields}}


# name: (method, path, body, status, the error's field, what its message or hint says)
CASES = {
    "not JSON": ("PUT", "/v1/intent", b"{", 400, "", "JSON"),
    "empty body": ("PUT", "/v1/intent", b"", 400, "body", ""),
    "neither pools nor services": ("PUT", "/v1/intent", {}, 400, "body", "pools"),
    "not an object": ("PUT", "/v1/intent", [], 400, "", "object"),
    "not UTF-8": ("PUT", "/v1/intent", b'{"pools":{"\xff":{}}}', 400, "", "UTF-8"),
    "NaN": ("PUT", POOL + "/backends/10.0.0.21", b'{"weight":NaN}', 400, "", "JSON"),
    "deeply nested": ("PUT", "/v1/intent", b"[" * 100000, 400, "", ""),
    "unknown field": ("PUT", "/v1/intent", {**intent(), "pol": 1}, 400, "pol", "unknown"),
    "unknown field of a pool": ("PUT", POOL, {"colour": "red"}, 400, "pools.l24.colour", "unknown"),
    "unknown field of a backend": ("PUT", "/v1/intent",
                                   intent(one_pool(backends={"10.0.0.21": {"wait": 1}})), 400,
                                   "pools.p.backends.10.0.0.21.wait", "unknown"),
    "duplicate service": ("PUT", "/v1/intent", b'{"pools":{"p":{"forwarding":"l2"}},"services":'
                          b'{"203.0.113.9:1/tcp":{"pool":"p"},"203.0.113.9:1/tcp":{"pool":"p"}}}',
                          400, "203.0.113.9:1/tcp", "twice|duplicate"),
    "duplicate service, spelled in two ways": (
        "PUT", "/v1/intent", intent(one_pool(backends={"fd00::1": {}}),
                                    {"[2001:db8::1]:1/tcp": {"pool": "p"},
                                     "[2001:db8:0::1]:1/tcp": {"pool": "p"}}),
        400, "2001:db8", "twice|duplicate|written"),
    "unknown pool": ("PUT", service_path(WEB), {"pool": "nobody"}, 400, f"services.{WEB}.pool",
                     "nobody"),
    "no pool named": ("PUT", service_path(WEB), {}, 400, f"services.{WEB}.pool", ""),
    "service is no service": ("PUT", service_path("203.0.113.10:99999/tcp"), {"pool": "l24"}, 400,
                              "203.0.113.10:99999/tcp", "port"),
    "service of another protocol": ("PUT", service_path("203.0.113.10:80/sctp"), {"pool": "l24"}, 400,
                                    "203.0.113.10:80/sctp", "tcp"),
    "service at no address": ("PUT", service_path("example.com:80/tcp"), {"pool": "l24"}, 400,
                              "example.com", "address"),
    "weight below 0": ("PUT", POOL + "/backends/10.0.0.21", {"weight": -1}, 400,
                       "pools.l24.backends.10.0.0.21.weight", "must be 0 to 65535, got -1"),
    "weight above 65535": ("PUT", POOL + "/backends/10.0.0.21", {"weight": 65536}, 400,
                           "pools.l24.backends.10.0.0.21.weight", "must be 0 to 65535, got 65536"),
    "weight beyond 64 bits": ("PUT", POOL + "/backends/10.0.0.21", b'{"weight":99999999999999999999}',
                              400, "pools.l24.backends.10.0.0.21.weight", "0 to 65535"),
    "weight is text": ("PUT", POOL + "/backends/10.0.0.21", {"weight": "9"}, 400,
                       "pools.l24.backends.10.0.0.21.weight", "number|integer"),
    "weight is a fraction": ("PUT", POOL + "/backends/10.0.0.21", {"weight": 1.5}, 400,
                             "pools.l24.backends.10.0.0.21.weight", "number|integer"),
    "backend is no address": ("PUT", POOL + "/backends/10.0.0", {}, 400, "10.0.0", "address"),
    "backend as mapped IPv6": ("PUT", POOL + "/backends/::ffff:10.0.0.1", {}, 400, "::ffff:10.0.0.1",
                               "address"),
    "slots not prime": ("PUT", POOL, {"table_slots": 65536}, 400, "pools.l24.table_slots", "prime"),
    "slots too few": ("PUT", POOL, {"table_slots": 7}, 400, "pools.l24.table_slots", "251"),
    "slots too many": ("PUT", POOL, {"table_slots": 16777259}, 400, "pools.l24.table_slots",
                       "16777213"),
    "unknown forwarding": ("PUT", POOL, {"forwarding": "gre"}, 400, "pools.l24.forwarding",
                           "l2.*ipip"),
    "new pool without forwarding": ("PUT", "/v1/pools/new", {}, 400, "pools.new.forwarding", ""),
    "pool name with a space": ("PUT", "/v1/pools/a%20b", {"forwarding": "l2"}, 400, "a b", ""),
    "pool name too long": ("PUT", "/v1/pools/" + "a" * 64, {"forwarding": "l2"}, 400, "a" * 64, "63"),
    "l2 backend of the other family": ("PUT", POOL + "/backends/fd00:0:0:1::21", {}, 400, "l24",
                                       "IPv[46].*IPv[46]"),
    "l2 pool of mixed families": ("PUT", "/v1/intent", intent(one_pool(
        backends={"10.0.0.21": {}, "fd00::1": {}})), 400, "pools.p", "IPv[46].*IPv[46]"),
    "l2 service of the other family": ("PUT", service_path("[2001:db8:203::10]:99/tcp"),
                                       {"pool": "l24"}, 400, "[2001:db8:203::10]:99/tcp",
                                       "IPv[46].*IPv[46]"),
    "pool in use": ("DELETE", POOL, None, 409, "l24", "203.0.113.10"),
    "unknown pool asked for": ("GET", "/v1/pools/nobody", None, 404, "nobody", ""),
    "unknown service asked for": ("GET", service_path("203.0.113.10:9/tcp"), None, 404,
                                  "203.0.113.10:9/tcp", ""),
    "unknown backend removed": ("DELETE", POOL + "/backends/10.9.9.9", None, 404, "10.9.9.9", ""),
    "unknown path": ("GET", "/v1/nothing", None, 404, "", ""),
    "wrong method": ("DELETE", "/v1/status", None, 405, "", ""),
    "explain without a client": ("GET", "/v1/explain?service=" + WEB, None, 400, "client", ""),
    "explain an unknown service": ("GET", "/v1/explain?client=198.51.100.7:1&service=203.0.113.10:9/tcp",
                                   None, 404, "203.0.113.10:9/tcp", ""),
    "body over the limit": ("PUT", "/v1/intent", b" " * (BODY_MAX + 1), 413, "", "8"),
}


@pytest.mark.parametrize("name", CASES)
def test_request(lab, name):
    method, path, body, status, field, says = CASES[name]
    before = lab.api().must("GET", "/v1/intent")
    answer = lab.api().request(method, path, body)
    assert answer.status == status, answer
    assert set(answer.body) == {"error"}, answer
    text = f"{answer.error['message']} {answer.error['hint']}"
    assert field in answer.error["field"] or field in text, answer
    assert re.search(says, text), answer
    assert lab.api().must("GET", "/v1/intent") == before, "a refused request changes nothing"


# ---------------------------------------------------------------- files

TOML_CASES = {
    "not TOML": ("[pools", 1, r"line 1|:1"),
    "unknown table": ("[pool.web]\n", 1, "pool"),
    "unknown field": ('[pools.web]\nforwarding = "l2"\ncolour = 1\n', 1, "pools.web.colour"),
    "wrong type": ("[pools.web]\nforwarding = 7\n", 1, "pools.web.forwarding"),
    "weight out of range": ('[pools.web]\nforwarding = "l2"\n[pools.web.backends]\n'
                            '"10.0.0.21" = { weight = 70000 }\n', 1,
                            r"pools\.web\.backends\.10\.0\.0\.21\.weight.*must be 0 to 65535, got 70000"),
    "twice": ('[services]\n"203.0.113.10:80/tcp" = { pool = "a" }\n'
              '"203.0.113.10:80/tcp" = { pool = "a" }\n', 1, r"203\.0\.113\.10:80/tcp|line 3|:3"),
    "unknown pool": ('[services]\n"203.0.113.10:80/tcp" = { pool = "a" }\n', 1, "a"),
    "binary": ("\0\1\2\3", 1, ""),
}


def guideway(lab, *arguments):
    return subprocess.run([BUILD / "controlplane/cli/guideway", "--socket",
                           lab.state / "n1/run/control.sock", *arguments],
                          capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("name", TOML_CASES)
def test_apply(lab, name, tmp_path):
    text, code, says = TOML_CASES[name]
    file = tmp_path / "edge.toml"
    file.write_text(text)
    before = lab.api().must("GET", "/v1/intent")
    done = guideway(lab, "apply", file)
    assert done.returncode >= code and done.returncode < 128, done
    assert re.search(says, done.stderr) and len(done.stderr.strip().splitlines()) <= 3, done
    assert lab.api().must("GET", "/v1/intent") == before


def test_apply_a_file_that_is_not_there(lab):
    done = guideway(lab, "apply", "/nonexistent/edge.toml")
    assert 0 < done.returncode < 128 and "/nonexistent/edge.toml" in done.stderr


NODE_CASES = {
    "not TOML": ("[node", ""),
    "unknown key": ('[dataplane]\nwurkers = 1\n[[dataplane.ports]]\ninterface = "eth1"\n', "wurkers"),
    "no port": ("[node]\nname = 'x'\n", "ports"),
    "port of two kinds": ('[[dataplane.ports]]\ninterface = "eth1"\npci = "0000:01:00.0"\n', "ports"),
    "workers out of range": ('[dataplane]\nworkers = 65\n[[dataplane.ports]]\ninterface = "eth1"\n',
                             "workers.*1 to 64.*65"),
    "interface that is not there": ('[[dataplane.ports]]\ninterface = "nix0"\n[paths]\nrun = "{run}"\n'
                                    'state = "{run}"\n', "nix0"),
}


@pytest.mark.parametrize("name,daemon", [
    (name, daemon) for name in NODE_CASES for daemon in ("dataplane", "controlplane")
    # Whether the port is there is the dataplane's matter.
    if (name, daemon) != ("interface that is not there", "controlplane")])
def test_node_toml(lab, name, daemon, tmp_path):
    text, says = NODE_CASES[name]
    file = tmp_path / "node.toml"
    file.write_text(text.replace("{run}", str(tmp_path)))
    program = BUILD / daemon / f"guideway-{daemon}"
    done = lab.run("b3", program, "--config", file, check=False, timeout=20)
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert re.search(says, lines[-1]), done
    assert "nix0" in says or len(lines) == 1, done


# ---------------------------------------------------------------- clients that misbehave

def raw_client(lab):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(15)
    sock.connect(str(lab.state / "n1/run/control.sock"))
    return sock


def test_200_clients_at_once(lab):
    failures = []

    def client(number):
        try:
            api, name = lab.api(), service("203.0.113.70", 1 + number)
            api.must("PUT", service_path(name), {"pool": "l24"})
            assert api.must("GET", service_path(name))["pool"] == "l24"
            api.must("DELETE", service_path(name))
        except Exception as error:  # noqa: any failure of any client is the finding
            failures.append(f"client {number}: {error!r}")
    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert not any("203.0.113.70" in s["service"] for s in lab.status()["services"])


@pytest.mark.parametrize("said", [b"", b"GET /v1/st", b"PUT /v1/intent HTTP/1.1\r\n",
                                  b"PUT /v1/intent HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{"],
                         ids=["nothing", "half a line", "half a head", "half a body"])
def test_200_half_open_clients_stop_nobody(lab, said):
    """They hold their connections; an honest client is served meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            sock = stack.enter_context(contextlib.closing(raw_client(lab)))
            sock.sendall(said)
        assert lab.status()["dataplane"]["alive"]
        assert lab.api().must("PUT", POOL + "/backends/10.0.0.21", {"weight": 101})["changed"]
        assert get(lab, VIP[4])


RAW_CASES = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n",
    "endless header": b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
    "many headers": b"GET /v1/status HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    "negative length": b"PUT /v1/intent HTTP/1.1\r\nHost: g\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"PUT /v1/intent HTTP/1.1\r\nHost: g\r\nContent-Length: 18446744073709551615\r\n\r\n",
    "bad chunk": b"PUT /v1/intent HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "long path": b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: g\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW_CASES)
def test_raw_bytes(lab, name):
    pid = lab.pid("controlplane")
    with contextlib.closing(raw_client(lab)) as sock:
        with contextlib.suppress(OSError):  # it may hang up while we still talk
            sock.sendall(RAW_CASES[name])
            sock.shutdown(socket.SHUT_WR)
            first = sock.recv(4096).split(b"\r\n", 1)[0]
            assert first == b"" or re.match(rb"HTTP/1\.1 (4|5)\d\d ", first), first
    assert lab.api().must("GET", "/v1/status")["dataplane"]["alive"]
    assert lab.pid("controlplane") == pid


def test_dataplane_socket_takes_no_nonsense(lab):
    """A stranger on the dataplane's own socket replaces the control plane for a moment, no more."""
    path = str(lab.state / "n1/run/dataplane.sock")
    pid = lab.pid("dataplane")
    for message in (b"", b"x", b"\0" * 504, b"\xff" * 504, b"\xff" * 60000):
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as sock:
            sock.settimeout(5)
            sock.connect(path)
            with contextlib.suppress(OSError):
                sock.send(message)
                sock.recv(1024)
    assert lab.pid("dataplane") == pid
    eventually(lambda: lab.status()["dataplane"]["connected"], 10)
    lab.apply(base_intent())
    assert get(lab, VIP[4])


def test_state_file_that_is_damaged(lab):
    """A control plane that cannot read its store says so and does not start with an empty one."""
    lab.stop("controlplane")
    files = [f for f in (lab.state / "n1/state").rglob("*") if f.is_file()]
    kept = {f: f.read_bytes() for f in files}
    assert kept, "the intent is in a file"
    for file, content in kept.items():
        file.write_bytes(content[:len(content) // 2])
    try:
        lab.start("controlplane")
        eventually(lambda: lab.pid("controlplane") is None, 10, what="it does not start")
        assert str(lab.state / "n1/state") in lab.log("controlplane").splitlines()[-1]
        assert get(lab, VIP[4])
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
        if lab.pid("controlplane"):
            lab.kill("controlplane")
        lab.start("controlplane")
    lab.ready()


def test_numbers_are_json_numbers(lab):
    """What the socket says can be read back as what it takes."""
    raw = lab.api().must("GET", "/v1/intent")
    del raw["revision"]
    assert lab.api().must("PUT", "/v1/intent", json.loads(json.dumps(raw)))["changed"] is False
