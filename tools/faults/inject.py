#!/usr/bin/env python3
"""Injects the faults of `table.toml` into a copy of the crate, one at a time, and records which test suite detects each.

    tools/faults/inject.py                       all faults: hours; resumes after an interruption
    tools/faults/inject.py --only coop wake      faults whose name contains one of these words
    tools/faults/inject.py --kind wake trap      faults of these kinds
    tools/faults/inject.py --part 1/2 --work a   every second fault, so that two processes can share the work
    tools/faults/inject.py --orderings           all faults of kind `ordering`, against their models, in one build: minutes
    tools/faults/inject.py --check               checks that every fault still applies
    tools/faults/inject.py --report              prints the recorded results as a table
    tools/faults/inject.py --hash                prints the hash of the source code that results are recorded with

Each fault names the suite that runs `first`, the one most likely to detect it. Each result is a line of `target/faults.tsv`
with a hash of the source code. When `src` changes, all faults run again. The first suite with a failed test, or that does not
end in time, counts as the detection: a lost wakeup hangs. If the whole machine stalls during a run, the run is repeated.
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
ROOT = HERE.parent.parent
RESULTS = ROOT / "target" / "faults.tsv"

# Each suite: the command, additional environment variables, and the time limit in seconds.
SUITES = {
    "quick": (["cargo", "test", "--all-features", "--lib", "--test", "it", "--test", "state_machine"], {}, 240),
    "models": (
        ["cargo", "test", "--release", "--lib", "tests::loom"],
        {"RUSTFLAGS": "--cfg turbostream_loom", "LOOM_MAX_DURATION": "240"},
        600,
    ),
    "shuttles": (
        ["cargo", "test", "--release", "--lib", "tests::shuttle"],
        {"RUSTFLAGS": "--cfg turbostream_shuttle"},
        300,
    ),
    "tests": (["cargo", "test", "--all-features", "--tests", "--no-fail-fast"], {}, 600),
}
# The models are most likely to detect an ordering fault. The other suites detect most single-threaded faults.
# Shuttle does not model weak orderings.
ORDER = {"ordering": ["models", "quick", "tests"]}
DEFAULT_ORDER = ["quick", "shuttles", "models", "tests"]
# Loom takes an ordering as a runtime value. So all ordering faults fit into one build, and a switch selects each.
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


def applies(fault):
    path = ROOT / fault["file"]
    return path.is_file() and path.read_text().count(fault["search"]) == 1


def check():
    bad = [fault["name"] for fault in faults() if not applies(fault)]
    for name in bad:
        print(f"does not apply: {name}")
    return not bad


@functools.cache
def source_hash():
    """Identifies the source code that a result belongs to."""
    files = sorted((ROOT / "src").rglob("*.rs"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def recorded():
    """The results for the current source code, by fault name."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    results = [line.split("\t") for line in lines]
    return {name: result for name, *result, source in results if source == source_hash()}


def command_of(suite):
    """The command, environment, time limit and target directory of a suite.

    A suite is a key of `SUITES`, or a part of one: `tests::loom::FILTER`, `lib`, or a test binary with an optional filter.
    """
    if suite in SUITES:
        return *SUITES[suite], suite if suite in ("models", "shuttles") else "build"
    if suite.startswith("tests::loom"):
        command, extra, limit = SUITES["models"]
        return [*command[:-1], suite], extra, limit, "models"
    binary, *filters = suite.split()
    target = ["--lib"] if binary == "lib" else ["--test", binary]
    return ["cargo", "test", "--all-features", *target, *filters], {}, 180, "build"


def with_switches(search, faults):
    """`search`, where the environment selects at run time which of `faults` is active.

    A fault weakens an ordering or removes a fence.
    """
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
    """The fault is invalid, or the crate does not compile without it either."""


class Work:
    """A copy of the crate and its target directories."""

    def __init__(self, directory):
        self.directory = directory.resolve()
        self.tree = self.directory / "tree"
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        shutil.rmtree(self.tree, ignore_errors=True)
        for name in filter(None, names.split("\0")):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.tree / name)

    def inject(self, fault):
        """Injects one fault; returns a function that removes it."""
        path = self.tree / fault["file"]
        original = path.read_text()
        assert original.count(fault["search"]) == 1, f"does not apply: {fault['name']}"
        path.write_text(original.replace(fault["search"], fault["replace"]))
        return lambda: path.write_text(original)

    def inject_switches(self, faults):
        """Injects all of `faults`; the environment variable FAULT names the active one."""
        by_text = {}
        for fault in faults:
            by_text.setdefault((fault["file"], fault["search"]), []).append(fault)
        for (file, search), group in by_text.items():
            path = self.tree / file
            assert path.read_text().count(search) == 1, f"does not apply: {group[0]['name']}"
            path.write_text(path.read_text().replace(search, with_switches(search, group)))
        root = self.tree / "src" / "lib.rs"
        root.write_text(root.read_text() + SWITCHES)

    def run(self, suite):
        """Runs a suite; returns the first failed test, or `None` if all tests pass."""
        command, extra, limit, target = command_of(suite)
        env = os.environ | extra | {
            "CARGO_TARGET_DIR": str(self.directory / target),
            "CARGO_INCREMENTAL": "1",
            "CARGO_PROFILE_TEST_DEBUG": "0",
            "RUST_BACKTRACE": "0",
        }
        args = {"cwd": self.tree, "env": env, "text": True, "stdout": subprocess.PIPE}
        built = subprocess.run([*command, "--no-run"], stderr=subprocess.STDOUT, **args)
        if built.returncode != 0:
            print(built.stdout[-3000:], file=sys.stderr)
            raise DoesNotCompile
        while True:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **args)
            watchdog = Watchdog(process, limit)
            # Stops at the first failure: the state machine would shrink its case, which takes long.
            failed = next((match[1] for match in map(FAILED.match, process.stdout) if match), None)
            code = None if failed else process.wait()
            watchdog.stop()
            if watchdog.stalled:
                print("the machine stalled: repeating the run", file=sys.stderr)
            elif failed or watchdog.timed_out:
                return failed or "(does not end)"
            else:
                return f"(ends with {code})" if code else None


class Watchdog:
    """Kills a process and its children after `seconds`, or when it is stopped."""

    def __init__(self, process, seconds):
        self.process, self.seconds = process, seconds
        self.timed_out = self.stalled = False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.wait)
        self.thread.start()

    def wait(self):
        for _ in range(self.seconds):
            began = time.monotonic()
            stopped = self.stopped.wait(1)
            self.stalled |= time.monotonic() - began > 5
            if stopped:
                return
        self.timed_out = True
        self.kill()

    def stop(self):
        self.stopped.set()
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
    """Runs suites until one detects the fault; returns that suite and its failed test."""
    for suite in [fault["first"], *ORDER.get(fault["kind"], DEFAULT_ORDER)]:
        if ("first" if suite == fault["first"] else suite) in suites and (failed := work.run(suite)):
            return suite, failed
    return "survived", ""


def is_selected(fault, options):
    """Whether the recorded result of a fault, or its absence, calls for a run."""
    result = recorded().get(fault["name"])
    if options.survivors:
        return result is not None and result[0] == "survived"
    return result is None or options.again


def try_orderings(options):
    """Runs every ordering fault against its model, after each model passed without a fault."""
    orderings = [fault for fault in faults() if fault["kind"] == "ordering"]
    work = Work(ROOT / "target" / options.work)
    work.inject_switches(orderings)
    selected = [fault for fault in orderings if is_selected(fault, options)]
    for suite in sorted({fault["first"] for fault in selected}):
        if failed := work.run(suite):
            sys.exit(f"fails without a fault: {failed}")
    for fault in selected:
        os.environ["FAULT"] = fault["name"]
        began, failed = time.monotonic(), work.run(fault["first"])
        record(fault, ("first", failed) if failed else ("survived", ""), began)


def record(fault, result, began):
    line = "\t".join([fault["name"], *result, f"{time.monotonic() - began:.0f} s", source_hash()])
    print(line, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as results:
        results.write(line + "\n")


def report():
    results = recorded()
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


def suite_of(name):
    """The kind of suite that `name`, which may be a part of a suite, belongs to."""
    if name.startswith("tests::loom"):
        return "models"
    return name if name in (*SUITES, "first", "lib", "state_machine", "survived") else "tests"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="faults whose name contains a word")
    kinds = list(dict.fromkeys(fault["kind"] for fault in faults()))
    parser.add_argument("--kind", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--part", default="1/1", help="N/M: every Mth fault, from the Nth")
    parser.add_argument("--work", default="faults", help="directory in target/, one per process")
    parser.add_argument("--check", action="store_true", help="check that every fault still applies")
    parser.add_argument("--orderings", action="store_true", help="ordering faults in one build, against their models only")
    parser.add_argument("--report", action="store_true", help="print the recorded results")
    parser.add_argument("--hash", action="store_true", help="print the hash of the source code")
    parser.add_argument("--again", action="store_true", help="repeat faults that have a result")
    parser.add_argument("--survivors", action="store_true", help="repeat only faults that survived")
    parser.add_argument("--suites", nargs="+", default=["first", *SUITES], choices=["first", *SUITES], help="run only these suites")
    options = parser.parse_args()
    if options.check:
        sys.exit(not check())
    if options.hash:
        return print(source_hash())
    if options.orderings:
        return try_orderings(options)
    if options.report:
        sys.exit(not report())
    part, parts = map(int, options.part.split("/"))
    work = Work(ROOT / "target" / options.work)
    wanted = [f for f in faults() if f["kind"] in options.kind and any(word in f["name"] for word in options.only)]
    for fault in wanted[part - 1 :: parts]:
        if not is_selected(fault, options):
            continue
        undo, began = work.inject(fault), time.monotonic()
        try:
            result = try_suites(work, fault, options.suites)
        except DoesNotCompile:
            print(f"does not compile: {fault['name']}", file=sys.stderr)
            continue
        finally:
            undo()
        record(fault, result, began)


if __name__ == "__main__":
    main()
