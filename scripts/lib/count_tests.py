#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints `PASSED FAILED` of one run of tests.

usage: count_tests.py meson EXIT_CODE testlog.json
       count_tests.py pytest EXIT_CODE junit.xml

A GoogleTest program counts each of its cases; any other program under meson is one. Skipped tests
count as neither. A run that ended badly without a failed test (a crash, no tests at all) counts as
one failure, so that no failure can look like success.
"""
import json
import re
import sys
import xml.etree.ElementTree


def of_program(run):
    """(passed, failed) of one line of meson's testlog.json."""
    text = run.get("stdout", "")
    cases = len(re.findall(r"^\[       OK \] ", text, re.MULTILINE))
    failed = re.search(r"^\[  FAILED  \] (\d+) tests?, listed below", text, re.MULTILINE)
    if run["result"] in ("OK", "EXPECTEDFAIL"):
        return cases or 1, 0
    if run["result"] == "SKIP":
        return 0, 0
    return cases, int(failed.group(1)) if failed else 1


def of_meson(path):
    with open(path) as log:
        counts = [of_program(json.loads(line)) for line in log if line.strip()]
    return sum(c[0] for c in counts), sum(c[1] for c in counts)


def of_pytest(path):
    passed = failed = 0
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            failed += 1
        elif "skipped" not in children:
            passed += 1
    return passed, failed


def main():
    kind, exit_code, path = sys.argv[1:]
    try:
        passed, failed = (of_meson if kind == "meson" else of_pytest)(path)
    except (OSError, ValueError, KeyError, xml.etree.ElementTree.ParseError) as error:
        print(f"count_tests: {path}: {error}", file=sys.stderr)
        passed, failed = 0, 1
    if failed == 0 and (int(exit_code) != 0 or passed == 0):
        failed = 1
    print(passed, failed)


if __name__ == "__main__":
    main()
