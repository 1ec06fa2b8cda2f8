#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a section of scripts/bench so that SIGTERM, or the end of its caller, ends it in order: what it
has started is taken down.

usage: bench_run.py SECTION.py [ARGUMENT...]
"""
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main():
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
