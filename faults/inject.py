#!/usr/bin/env python3
"""Puts the faults of `table.toml` into a copy of the crate, one at a time, and tells which suite notices.

    faults/inject.py                     all of them: hours; goes on where it was stopped
    faults/inject.py --only 'run' wake   those whose name contains one of these words
    faults/inject.py --kind wake trap    those of one of these kinds
    faults/inject.py --part 1/2 --work a every second one, to have two going beside each other
    faults/inject.py --orderings         those of that kind against the models that they name, all in one build: minutes
    faults/inject.py --check             only whether each still finds the text that it replaces
    faults/inject.py --report            what is known by now, as a table

Each fault names the suite that is tried `first`, as it is likely to notice. Results are lines of `target/faults.tsv`, with the
code that they are of: once `src` has changed, all are tried anew. A fault counts as caught by the first suite of which a test
fails, or that does not end in time: a lost wakeup hangs. A run during which everything stood still is done again.
"""

import argparse
import functools
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = ROOT / "target" / "faults.tsv"

# The suites that are quick to build and look at everything, the models, and all there is.
QUICK = ["state_machine", "given_up", "hostile", "drained", "waiters", "safe_mode", "memory", "send_with", "strategies"]
SUITES = {
    "quick": (["cargo", "test", "--all-features", "--lib", *[a for name in QUICK for a in ("--test", name)]], {}, 180),
    "models": (
        ["cargo", "test", "--release", "--lib", "models"],
        {"RUSTFLAGS": "--cfg turbostream_loom", "LOOM_MAX_DURATION": "240"},
        600,
    ),
    "shuttles": (
        ["cargo", "test", "--release", "--lib", "shuttles"],
        {"RUSTFLAGS": "--cfg turbostream_shuttle"},
        300,
    ),
    "tests": (["cargo", "test", "--all-features", "--tests", "--no-fail-fast"], {}, 600),
}
# What changes between threads is for the models first; what changes on one thread they mostly cannot see.
# Shuttle knows no weak ordering.
ORDER = {"ordering": ["models", "quick", "tests"]}
USUAL = ["quick", "shuttles", "models", "tests"]
# Loom takes an ordering at run time: so all that weaken one fit into the same build, each behind a switch.
SWITCHES = """
pub(crate) mod fault {
    use std::sync::atomic::Ordering;

    pub(crate) fn is(name: &str) -> bool {
        static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        NAME.get_or_init(|| std::env::var("FAULT").ok()).as_deref() == Some(name)
    }
    pub(crate) fn or(name: &str, weak: Ordering, strong: Ordering) -> Ordering {
        if is(name) { weak } else { strong }
    }
}
"""
ORDERING = re.compile(r"Ordering::\w+")
FENCE = re.compile(r"fence\(Ordering::\w+\);")
FAILED = re.compile(r"^test (\S+)( - should panic)? \.\.\. FAILED")


def faults():
    return tomllib.loads((HERE / "table.toml").read_text())["fault"]


def check():
    bad = [f["name"] for f in faults() if (ROOT / f["file"]).read_text().count(f["search"]) != 1]
    for name in bad:
        print(f"does not apply: {name}")
    return not bad


@functools.cache
def code():
    """Which code a result is of."""
    files = sorted((ROOT / "src").rglob("*.rs"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def known():
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    results = [line.split("\t") for line in lines]
    return {name: result for name, *result, of in results if of == code()}


def command_of(suite):
    """Also for a part of one: the name of a test binary, or of models."""
    if suite in SUITES:
        return *SUITES[suite], suite if suite in ("models", "shuttles") else "build"
    if suite.startswith("models"):
        command, extra, limit = SUITES["models"]
        return [*command[:-1], suite], extra, limit, "models"
    which = ["--lib"] if suite == "lib" else ["--test", suite]
    return ["cargo", "test", "--all-features", *which], {}, 180, "build"


def switched(search, faults):
    """`search` with the orderings that `faults` replace, or the fence that they take out, chosen when it runs."""
    tokens, weaker = list(ORDERING.finditer(search)), {}
    for fault in faults:
        replaced = ORDERING.findall(fault["replace"])
        if len(replaced) != len(tokens):
            fence = lambda found: f'if !crate::fault::is("{fault["name"]}") {{ {found[0]} }}'
            return FENCE.sub(fence, search, count=1)
        for token, weak in zip(tokens, replaced):
            if token[0] != weak:
                weaker.setdefault(token, []).append((fault["name"], weak))
    for token in reversed(tokens):
        strong = token[0]
        for name, weak in weaker.get(token, []):
            strong = f'crate::fault::or("{name}", {weak}, {strong})'
        search = search[: token.start()] + strong + search[token.end() :]
    return search


class DoesNotCompile(Exception):
    """Neither caught nor survived: the fault is none, or the crate is broken without it."""


class Work:
    """A copy of the crate, and where it is built."""

    def __init__(self, at):
        self.at = at.resolve()
        self.tree = self.at / "tree"
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        shutil.rmtree(self.tree, ignore_errors=True)
        for name in filter(None, names.split("\0")):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.tree / name)

    def inject(self, fault):
        path = self.tree / fault["file"]
        original = path.read_text()
        assert original.count(fault["search"]) == 1, f"does not apply: {fault['name']}"
        path.write_text(original.replace(fault["search"], fault["replace"]))
        return lambda: path.write_text(original)

    def inject_switches(self, faults):
        """All of `faults` at once; the environment says which of them is there."""
        at = {}
        for fault in faults:
            at.setdefault((fault["file"], fault["search"]), []).append(fault)
        for (file, search), group in at.items():
            path = self.tree / file
            assert path.read_text().count(search) == 1, f"does not apply: {group[0]['name']}"
            path.write_text(path.read_text().replace(search, switched(search, group)))
        root = self.tree / "src" / "lib.rs"
        root.write_text(root.read_text() + SWITCHES)

    def run(self, suite):
        """`None` if all pass; otherwise what failed first."""
        command, extra, limit, builds_in = command_of(suite)
        env = os.environ | extra | {
            "CARGO_TARGET_DIR": str(self.at / builds_in),
            "CARGO_INCREMENTAL": "0",
            "RUST_BACKTRACE": "0",
        }
        args = {"cwd": self.tree, "env": env, "text": True, "stdout": subprocess.PIPE}
        built = subprocess.run([*command, "--no-run"], stderr=subprocess.STDOUT, **args)
        if built.returncode != 0:
            print(built.stdout[-3000:], file=sys.stderr)
            raise DoesNotCompile
        while True:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **args)
            watch = Watch(process, limit)
            # The state machine would make its case small first, so not a line is read behind what failed.
            caught = next((failed[1] for failed in map(FAILED.match, process.stdout) if failed), None)
            code = None if caught else process.wait()
            watch.end()
            if watch.stood_still:
                print("everything stood still meanwhile: once more", file=sys.stderr)
            elif caught or watch.ran_out:
                return caught or "(does not end)"
            else:
                return f"(ends with {code})" if code else None


class Watch:
    """Ends a process and its children: after `seconds`, or when it is told."""

    def __init__(self, process, seconds):
        self.process, self.seconds = process, seconds
        self.ran_out = self.stood_still = False
        self.told = threading.Event()
        self.thread = threading.Thread(target=self.wait)
        self.thread.start()

    def wait(self):
        for _ in range(self.seconds):
            began = time.monotonic()
            told = self.told.wait(1)
            self.stood_still |= time.monotonic() - began > 5
            if told:
                return
        self.ran_out = True
        self.kill()

    def end(self):
        self.told.set()
        self.thread.join()
        self.kill()
        self.process.wait()
        self.process.stdout.close()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def try_suites(work, fault, suites):
    """The suite that noticed, and by which test."""
    for suite in [fault["first"], *ORDER.get(fault["kind"], USUAL)]:
        if ("first" if suite == fault["first"] else suite) in suites and (caught := work.run(suite)):
            return suite, caught
    return "survived", ""


def is_to_try(fault, options):
    before = known().get(fault["name"])
    if options.survivors:
        return before is not None and before[0] == "survived"
    return before is None or options.again


def try_orderings(options):
    """Each against the models that it names, after those were passed without any."""
    orderings = [fault for fault in faults() if fault["kind"] == "ordering"]
    work = Work(ROOT / "target" / options.work)
    work.inject_switches(orderings)
    to_try = [fault for fault in orderings if is_to_try(fault, options)]
    for suite in sorted({fault["first"] for fault in to_try}):
        if failed := work.run(suite):
            sys.exit(f"fails without a fault: {failed}")
    for fault in to_try:
        os.environ["FAULT"] = fault["name"]
        began, caught = time.monotonic(), work.run(fault["first"])
        note(fault, ("first", caught) if caught else ("survived", ""), began)


def note(fault, result, began):
    line = "\t".join([fault["name"], *result, f"{time.monotonic() - began:.0f} s", code()])
    print(line, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as results:
        results.write(line + "\n")


def report():
    results = known()
    tried = [(fault, results[fault["name"]]) for fault in faults() if fault["name"] in results]
    for fault, result in tried:
        print(f"| {fault['kind']} | {fault['name']} | {' '.join(result[:2])} |")
    print()
    for kind in dict.fromkeys(fault["kind"] for fault, _ in tried):
        by_suite = Counter(suite_of(result[0]) for fault, result in tried if fault["kind"] == kind)
        survived = by_suite.pop("survived", 0)
        total = by_suite.total()
        print(f"| {kind} | {total} | {total + survived} | {dict(by_suite)}")
    caught = sum(result[0] != "survived" for _, result in tried)
    print(f"\n{caught} of {len(tried)} caught, {len(faults()) - len(tried)} not tried")
    return caught == len(tried)


def suite_of(noticed_by):
    """Which kind of suite a part of one belongs to."""
    known_by_name = [*SUITES, "lib", "state_machine", "survived"]
    return next((suite for suite in known_by_name if noticed_by.startswith(suite)), "tests")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--kind", nargs="+", default=list(dict.fromkeys(fault["kind"] for fault in faults())))
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--work", default="faults", help="name of the directory in target/, one for each that runs")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--orderings", action="store_true", help="in one build, against the models alone")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--again", action="store_true", help="also those that were tried")
    parser.add_argument("--survivors", action="store_true", help="only those that were tried and survived")
    parser.add_argument("--suites", nargs="+", default=["first", *SUITES], help="of these only")
    options = parser.parse_args()
    if options.check:
        sys.exit(not check())
    if options.orderings:
        return try_orderings(options)
    if options.report:
        sys.exit(not report())
    part, parts = map(int, options.part.split("/"))
    work = Work(ROOT / "target" / options.work)
    wanted = [f for f in faults() if f["kind"] in options.kind and any(word in f["name"] for word in options.only)]
    for fault in wanted[part - 1 :: parts]:
        if not is_to_try(fault, options):
            continue
        undo, began = work.inject(fault), time.monotonic()
        try:
            result = try_suites(work, fault, options.suites)
        except DoesNotCompile:
            print(f"does not compile: {fault['name']}", file=sys.stderr)
            continue
        finally:
            undo()
        note(fault, result, began)


if __name__ == "__main__":
    main()
