#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/performance.md, from runs of scripts/bench --json.

usage: bench_page.py RESULTS.json...     (run by scripts/bench --page)

Of a section that stands in several files the last one counts. Rewrites what stands between
"<!-- figures: NAME -->" and "<!-- end -->", and docs/performance/*.svg; the words around stay as they
are. A section that is in no file stays as it was.
"""
import json
import pathlib
import re
import sys

import page_packet
import page_rest

REPO = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)


def read(path, known):
    """The sections in a file; ends with a word about one that is no such file, or has failed."""
    try:
        one = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: cannot be read: {error}")
    if not isinstance(one, dict) or not one or not set(one) <= known:
        sys.exit(f"{path}: no results of scripts/bench --json")
    for section, result in one.items():
        if not isinstance(result, dict) or not result.get("ok", True):
            sys.exit(f"{path}: section {section} has failed, its figures are none")
    return one


def main():
    results = {}
    makers = {**page_packet.BLOCKS, **page_rest.BLOCKS}  # {block: (section, its text)}
    known = {section for section, _ in makers.values()}
    for path in sys.argv[1:]:
        results.update(read(path, known))
    page = REPO / "docs/performance.md"

    def block(found):
        section, text = makers[found.group(2)]
        if section not in results:
            return found.group(0)
        return found.group(1) + text(results[section]).rstrip() + "\n" + found.group(3)

    try:
        text = BLOCK.sub(block, page.read_text())
        plots = {name: plot(results[section])
                 for name, (section, plot) in {**page_packet.PLOTS, **page_rest.PLOTS}.items()
                 if section in results}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        sys.exit(f"bench --page: these results are not whole: {type(error).__name__}: {error}")
    page.write_text(text)
    pictures = REPO / "docs/performance"
    pictures.mkdir(exist_ok=True)
    for name, drawn in plots.items():
        (pictures / f"{name}.svg").write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
