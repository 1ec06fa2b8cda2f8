# SPDX-License-Identifier: Apache-2.0
"""Labs for the tests. Names are unique to the process, so several runs may go on at once."""
import itertools
import os
import signal
import threading

import pytest

import traffic
from lab import Lab, eventually

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="shorter loads and loops")


def pytest_sessionstart(session):
    """Ended from outside, a run still takes its labs down."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Quick: each BGP daemon once as the router and once on the nodes, with the other one opposite."""
    if not config.getoption("--quick"):
        return
    left = [i for i in items if "bird-nodes-bird" in i.nodeid or "frr-nodes-frr" in i.nodeid]
    config.hook.pytest_deselected(items=left)
    items[:] = [i for i in items if i not in left]


@pytest.fixture(scope="session")
def quick(request):
    return request.config.getoption("--quick")


@pytest.fixture(scope="session")
def new_lab():
    """Makes labs that live until the end of the run, or until the test takes them down."""
    made = []

    def make(**options):
        lab = Lab(f"t{os.getpid()}x{next(_numbers)}", **options)
        made.append(lab)
        return lab.up()
    yield make
    for lab in made:
        lab.down()


@pytest.fixture(scope="session")
def _labs(new_lab):
    cache = {}

    def get(port):
        if port not in cache:
            try:
                cache[port] = new_lab(port=port)
            except AssertionError as error:  # it would fail for each test anew
                cache[port] = error
        if isinstance(cache[port], AssertionError):
            raise cache[port]
        return cache[port]
    return get


def _as_new(lab):
    """The shared lab as every test may expect it: both daemons up, the base intent in force."""
    for what in ("dataplane", "controlplane"):
        if not lab.pid(what):
            lab.start(what)
    eventually(lab.try_status, what="the control socket")
    lab.apply(traffic.base_intent())
    return lab


@pytest.fixture
def lab(_labs, request):
    """One node whose port is shared with the kernel (or as the test's `port` parameter says)."""
    return _as_new(_labs(getattr(request, "param", "interface")))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """On failure: what the daemons said last."""
    report = (yield).get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab and lab.state.exists():
        for log in sorted((lab.state / "log").iterdir()):
            if text := log.read_text(errors="replace"):
                report.sections.append((str(log), "\n".join(text.splitlines()[-40:])))
