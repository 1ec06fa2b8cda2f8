# SPDX-License-Identifier: Apache-2.0
"""What may happen to a node, in the words of scripts/failover: each case causes it, waits until the
router goes by it, and yields; then mends it, if there is something to mend."""
import shutil
import subprocess

from bgp import ALL, kill
from lab import SCRIPT

LEFT = ALL - {"n1"}


class Case:
    """`limit`: what is promised of the gaps: (which figure, ms); of each `returns` the way back is
    measured as well."""
    title, limit, returns = "", None, True

    def prepare(self, over):
        """Before the connections are opened."""

    def cause(self, over):
        """Returns once all routers know."""

    def mend(self, over):
        """All in service again."""


class Nothing(Case):
    title, returns = "nothing happens", False


class Drained(Case):
    title, limit = "node drained", ("p99", 100)

    def cause(self, over):
        over.node("n1", "drain", "--wait")

    def mend(self, over):
        over.node("n1", "enable", "--wait")


class Killed(Case):
    title, limit = "node's daemons killed", ("max", 1500)

    def cause(self, over):
        kill(over.lab, "controlplane", "n1")
        kill(over.lab, "dataplane", "n1")
        over.wait_routes(LEFT)

    def mend(self, over):
        over.lab.start("dataplane")
        over.lab.start("controlplane")


class Gone(Case):
    title = "node gone without a word"

    def __init__(self, bfd_ms):
        self.limit = ("max", 3 * bfd_ms + 1000)

    def cause(self, over):
        over.lab.run("router", "ip", "link", "set", "n1", "down")
        over.wait_routes(LEFT)

    def mend(self, over):
        over.lab.run("router", "ip", "link", "set", "n1", "up")


class Added(Case):
    """A node that has nothing yet: BGP is up first, so that nothing but Guideway itself can keep it from
    announcing too early."""
    title, limit, returns = "node added", ("p99", 100), False

    def prepare(self, over):
        over.node("n3", "drain", "--wait")
        for what in ("controlplane", "dataplane", "bgp"):
            over.lab.stop(what, "n3")
        for directory in ("run", "state"):
            shutil.rmtree(over.lab.state / "n3" / directory)
        for family in ("-4", "-6"):  # a machine that has just booted knows no neighbour
            over.lab.run("n3", "ip", family, "neigh", "flush", "all")
        over.wait_routes(ALL - {"n3"})

    def cause(self, over):
        over.lab.start("bgp", "n3")
        over.lab.start("dataplane", "n3")
        over.lab.start("controlplane", "n3")
        over.configure("n3")
        over.wait_routes(ALL)


class Rolled(Case):
    title, limit, returns = "all nodes upgraded", ("p99", 100), False

    def cause(self, over):
        done = subprocess.run([SCRIPT, "roll", "--name", over.lab.name], text=True, timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        over.wait_routes(ALL)


def cases(bfd_ms):
    return {"nothing": Nothing(), "drained": Drained(), "killed": Killed(), "gone": Gone(bfd_ms),
            "added": Added(), "rolled": Rolled()}
