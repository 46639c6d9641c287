#!/usr/bin/env python3
"""Keeps the figures of README.md those of docs/benchmarks.md.

    readme-figures.py            compares them, and fails if they differ
    readme-figures.py --write    writes them into README.md

The README shows some lines of the overview of one allocator, between the lines `<!-- figures -->` and `<!-- end -->`, and says where and when
it was measured.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOCATOR = "mimalloc"
LINES = [
    "one task to another, `recv`",
    "4 tasks to one, `recv`",
    "64 tasks to one, `recv`",
    "4 tasks to 4, `prefetch(16)`",
    "4 tasks to one, `send_many`, `recv_batch`",
    "a message there and back, half of it",
]


def figures(benchmarks):
    """Returns the table of the overview, and the line that says where and when it was measured."""
    overview = benchmarks.split(f"## Overview, {ALLOCATOR} allocator\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in overview.splitlines() if line.startswith("|")]
    table = rows[:2] + [row for row in rows[2:] if row.split("|")[1].strip() in LINES]
    where = re.search(r"^Measured on (.+?)\. The method", benchmarks, re.MULTILINE)[1]
    return "\n".join(table) + f"\n\nMeasured on {where}."


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    block = figures((ROOT / "docs/benchmarks.md").read_text())
    written = re.sub(
        r"<!-- figures -->\n.*?<!-- end -->", lambda _: f"<!-- figures -->\n{block}\n<!-- end -->", text, flags=re.DOTALL
    )
    if sys.argv[1:] == ["--write"]:
        readme.write_text(written)
    elif sys.argv[1:]:
        sys.exit(__doc__)
    elif written != text:
        sys.exit("the figures of README.md are not those of docs/benchmarks.md: run tools/readme-figures.py --write")


main()
