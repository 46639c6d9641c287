#!/usr/bin/env python3
"""Runs every mutant that cargo-mutants knows, all in one build, and reports the mutants that no test detects.

    tools/faults/mutants.py build                     builds a copy of the crate that contains every mutant: minutes
    tools/faults/mutants.py run                       runs all mutants; resumes after an interruption
    tools/faults/mutants.py run --budget 6            spends at most 6 seconds of tests per mutant; a later run continues
    tools/faults/mutants.py run -f src/wait/ --again missed hangs    repeats the mutants of these files with these outcomes
    tools/faults/mutants.py report                    prints outcomes by file, and the missed mutants

One build per mutant takes many times as long as its tests. So the copy has one body per function for the original and one
for each mutant. A mutant's body is the original text with the replacement that `cargo mutants --list --json` names. The
environment selects the body at run time. The build leaves out mutants that the compiler rejects. Mutants in constants are
evaluated at compile time and do not run; `report` counts them.

A mutant runs only the tests that reach its function, in the order of how often they detected mutants of the same file. A
test detects a mutant if it fails or does not end: all threads sleep for six seconds, or the process uses many times its
usual CPU time. A process that waits for a CPU is neither.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
# The test binaries that run. `nats` and `nats_source` need nats-server; without it their tests pass without a check.
BINARIES = ["it", "allocations", "byte_streams", "cancel_storm", "conservation", "forward", "many_threads", "nats", "nats_source",
            "own_events", "state_machine"]
# Tests that need a process of their own: they record the events of the whole process, or take long.
ALONE = re.compile(r"^(it (telemetry::events|adapters::tracing_writer)::|many_threads |own_events )")
# Many similar tests that take long.
SKIP = re.compile(r"^conservation (?!four_to_four_multi|small_messages_sixteen_to_four)")
PATCHES = {
    "tests/state_machine/main.rs": [("max_shrink_iters: 20_000", "max_shrink_iters: 0"), ("CASES: u32 = 300", "CASES: u32 = 40")],
    "tests/forward/random.rs": [("max_shrink_iters: 10_000", "max_shrink_iters: 0"), ("CASES: u32 = 300", "CASES: u32 = 100")],
    "tests/byte_streams/main.rs": [],
}
# Functions that constants call.
CONST = ["bounds_in_micros"]
SWITCH = """
pub(crate) mod mutants {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    const UNKNOWN: u32 = u32::MAX;
    const COVER: u32 = u32::MAX - 1;
    static ACTIVE: AtomicU32 = AtomicU32::new(UNKNOWN);
    static REACHED: [AtomicBool; %d] = [const { AtomicBool::new(false) }; %d];

    /// The active mutant of a function; 0 is the original.
    #[inline]
    pub(crate) fn active(function: usize, first: u32, last: u32) -> u32 {
        let active = ACTIVE.load(Relaxed);
        if active >= COVER {
            return start(active, function, first, last);
        }
        if first <= active && active <= last { active } else { 0 }
    }

    #[cold]
    fn start(seen: u32, function: usize, first: u32, last: u32) -> u32 {
        if seen == COVER {
            if !REACHED[function].swap(true, Relaxed) {
                let path = std::env::var("COVER").unwrap();
                let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
                file.write_all(format!("{function}\\n").as_bytes()).unwrap();
            }
            return 0;
        }
        let active = match std::env::var("MUTANT") {
            Ok(number) => number.parse().unwrap(),
            Err(_) if std::env::var("COVER").is_ok() => COVER,
            Err(_) => 0,
        };
        ACTIVE.store(active, Relaxed);
        self::active(function, first, last)
    }
}
"""


def masked(text):
    """`text` with comments, strings and characters blanked, so that every brace left is code."""
    pattern = r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\\\'])\''
    blank = lambda found: re.sub(r"[^\n]", " ", found[0])
    return re.sub(pattern, blank, text, flags=re.S)


class Source:
    def __init__(self, file):
        self.text = (ROOT / file).read_text()
        self.masked = masked(self.text)
        self.starts = [0]
        for line in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def offset(self, position):
        return self.starts[position["line"] - 1] + position["column"] - 1

    def span(self, span):
        return self.offset(span["start"]), self.offset(span["end"])

    def body(self, function):
        """The start of a function, and the start and end of its body."""
        start, end = self.span(function["span"])
        depth = 0
        for at in range(end - 1, start, -1):
            depth += {"}": 1, "{": -1}.get(self.masked[at], 0)
            if depth == 0:
                return start, at + 1, end - 1
        raise ValueError(function)


def listed():
    out = subprocess.run(["cargo", "mutants", "--list", "--json"], cwd=ROOT, check=True, capture_output=True)
    mutants = json.loads(out.stdout)
    for number, mutant in enumerate(mutants, 1):
        mutant["number"] = number
    return [m for m in mutants if not (m["function"] or {}).get("function_name", "").startswith("tests::")]


def copy_tree():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(TREE, ignore_errors=True)
    for name in filter(None, names.split("\0")):
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, TREE / name)
    for name, patches in PATCHES.items():
        text = (TREE / name).read_text()
        for old, new in patches:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (TREE / name).write_text(re.sub(r"failure_persistence: .*?\)\)\),", "failure_persistence: None,", text, flags=re.S))


def instrument(files, mutants):
    """Writes all mutants into the copy; returns, by file, the lines that belong to each mutant."""
    functions = defaultdict(list)
    for mutant in mutants:
        start = mutant["function"]["span"]["start"]
        functions[mutant["file"], start["line"], start["column"]].append(mutant)
    lines = {}
    for name in files:
        mine = [(found, number) for number, (key, found) in enumerate(functions.items()) if key[0] == name]
        # An inlined function would be compiled once per mutant of its callers, transitively.
        text = Instrumented(Source(name), mine).text().replace("#[inline(always)]", "")
        (TREE / name).write_text(text)
        lines[name] = [(line, int(number)) for line, number in marks(text)]
    root = TREE / "src" / "lib.rs"
    root.write_text((ROOT / "src" / "lib.rs").read_text() + SWITCH % (len(functions), len(functions)))
    return lines


MARK = re.compile(r"/\*(mutant (\d+)|end)\*/")


def marks(text):
    """Each line inside the body of a mutant, with that mutant."""
    inside = 0
    for line, content in enumerate(text.split("\n"), 1):
        for mark in MARK.finditer(content):
            inside = int(mark[2] or 0)
        if inside:
            yield line, inside


class Instrumented:
    """A source file with all its mutants. A function may be nested in the original body of another."""

    def __init__(self, source, functions):
        self.source = source
        self.functions = sorted((*source.body(found[0]["function"]), found, number) for found, number in functions)

    def text(self):
        return self.between(0, len(self.source.text))

    def between(self, start, end):
        out, done = [], start
        for function in self.functions:
            begins, opens, closes, found, number = function
            if begins >= done and closes <= end and begins > start - (start == 0):
                out += [self.source.text[done:begins], self.function(*function)]
                done = closes
        return "".join(out) + self.source.text[done:end]

    def function(self, begins, opens, closes, found, number):
        text, out = self.source.text, []
        out.append(re.sub(r"\bconst (?=(unsafe )?fn\b)", "", text[begins:opens]))
        active = f"crate::mutants::active({number}, {found[0]['number']}, {found[-1]['number']})"
        out.append(f"\nmatch {active} {{ 0 => {{{self.between(opens, closes)}}}\n")
        for mutant in found:
            mutant["function_number"] = number
            start, end = self.source.span(mutant["span"])
            changed = text[opens:start] + mutant["replacement"] + text[end:closes]
            out.append(f"/*mutant {mutant['number']}*/ {mutant['number']} => {{{changed}\n}}\n")
        out.append("/*end*/ _ => unreachable!() }\n")
        return "".join(out)


def cargo(*command, **extra):
    env = os.environ | {"CARGO_INCREMENTAL": "0", "RUSTFLAGS": "-Awarnings", "CARGO_TARGET_DIR": str(ROOT / "target" / "schemata")} | extra
    return subprocess.run(["cargo", *command, "--message-format=json"], cwd=TREE, env=env, capture_output=True, text=True)


def rejected_by_compiler(out, lines):
    """The mutants with a compile error, and the errors outside of all mutants."""
    bad, elsewhere = set(), []
    for line in out.splitlines():
        message = json.loads(line).get("message")
        if not message or message.get("level") != "error" or not message["spans"]:
            continue
        hit = set()
        for span in message["spans"]:
            hit |= {number for line, number in lines.get(span["file_name"], []) if span["is_primary"] and line == span["line_start"]}
        bad |= hit
        if not hit:
            elsewhere.append(message["rendered"])
    return bad, elsewhere


def build():
    WORK.mkdir(parents=True, exist_ok=True)
    everything = listed()
    copy_tree()
    at_compile_time = [m for m in everything if not m["function"] or m["function"]["function_name"] in CONST]
    mutants, rejected = [m for m in everything if m not in at_compile_time], []
    while True:
        lines = instrument({m["file"] for m in everything}, mutants)
        ran = cargo("check", "--all-features")
        bad, elsewhere = rejected_by_compiler(ran.stdout, lines)
        print(f"{len(mutants)} mutants, {len(bad)} do not compile, {len(elsewhere)} other errors", flush=True)
        if ran.returncode == 0:
            break
        if not bad:
            raise SystemExit("\n".join(elsewhere[:5]) or ran.stderr[-3000:])
        rejected += [m for m in mutants if m["number"] in bad]
        mutants = [m for m in mutants if m["number"] not in bad]
    binaries = {}
    ran = cargo("test", "--profile", "mutants", "--all-features", "--lib", *[arg for name in BINARIES for arg in ("--test", name)], "--no-run")
    for line in ran.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["profile"]["test"]:
            binaries[message["target"]["name"]] = message["executable"]
    assert len(binaries) == 1 + len(BINARIES), ran.stderr[-3000:]
    state = {"mutants": mutants, "rejected": rejected, "constants": at_compile_time, "binaries": binaries}
    for kind in ("mutants", "rejected", "constants"):
        for mutant in state[kind]:
            mutant.pop("diff", None)
    (WORK / "built.json").write_text(json.dumps(state))
    # The coverage is of the previous build.
    (WORK / "cover.json").unlink(missing_ok=True)


class Watchdog:
    """Kills a process that exceeds its CPU time, or all of whose threads sleep for six seconds.

    A process that waits for a CPU is neither.
    """

    def __init__(self, pid, cpu_limit):
        self.pid, self.cpu_limit, self.verdict, self.stopped = pid, cpu_limit, None, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def sample(self):
        """Whether all threads sleep, and the CPU ticks used so far."""
        asleep, ticks = True, 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            asleep &= fields[0] == "S"
            ticks += int(fields[11]) + int(fields[12])
        return asleep, ticks

    def watch(self):
        before, still = -1, 0
        while not self.stopped.wait(0.25):
            try:
                asleep, ticks = self.sample()
            except OSError:
                continue
            still = still + 1 if asleep and ticks == before else 0
            before = ticks
            if still >= 24:
                self.verdict = "asleep"
            elif ticks / os.sysconf("SC_CLK_TCK") > self.cpu_limit:
                self.verdict = "busy"
            if self.verdict:
                os.killpg(self.pid, signal.SIGKILL)
                return

    def stop(self):
        self.stopped.set()
        self.thread.join()


FAILED = re.compile(r"^test (\S+)( - should panic)? \.\.\. FAILED", re.M)


def limits():
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_tests(binaries, names, cpu_limit, threads=2, **extra):
    """Returns the outcome, the test that caused it, and the kind of hang.

    The outcome is `passed`, `failed`, `hangs` or `crashed`.
    """
    binary, tests = names[0].split()[0], [name.split()[1] for name in names]
    command = [binaries[binary], "--exact", *tests, "--test-threads", str(threads), "-Zunstable-options", "--fail-fast"]
    env = os.environ | {"RUSTC_BOOTSTRAP": "1", "RUST_BACKTRACE": "0"} | extra
    process = subprocess.Popen(command, cwd=TREE, env=env, text=True, errors="replace", stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, preexec_fn=limits)
    watchdog = Watchdog(process.pid, cpu_limit)
    out = process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    watchdog.stop()
    code = process.wait()
    if watchdog.verdict:
        return "hangs", f"{binary} {unfinished(tests, out)}", watchdog.verdict
    if code == 0:
        assert " passed" in out, out
        return "passed", "", ""
    if failed := FAILED.search(out):
        return ("hangs" if "stuck: the test body still runs" in out else "failed"), f"{binary} {failed[1]}", "stuck"
    return "crashed", f"{binary} {unfinished(tests, out)}", ""


def unfinished(tests, out):
    ended = set(re.findall(r"^test (\S+)(?: - should panic)? \.\.\. \w", out, re.M))
    return next((test for test in tests if test not in ended), "?")


class Suite:
    """All tests, with the duration and the reached functions of each."""

    def __init__(self, built):
        self.binaries = built["binaries"]
        self.path = WORK / "cover.json"
        self.tests = json.loads(self.path.read_text()) if self.path.exists() else self.cover()
        self.kills = defaultdict(Counter)

    def cover(self):
        tests = {}
        for name, binary in self.binaries.items():
            out = subprocess.run([binary, "--list", "--format", "terse"], capture_output=True, text=True, check=True).stdout
            for test in re.findall(r"^(\S+): test$", out, re.M):
                tests[f"{name} {test}"] = {"binary": name}
        def one(test):
            path = WORK / f"cover.{re.sub('[: ]', '_', test)}"
            path.unlink(missing_ok=True)
            began = time.monotonic()
            outcome, _, _ = run_tests(self.binaries, [test], 120, COVER=str(path))
            reached = sorted({int(line) for line in path.read_text().split()}) if path.exists() else []
            path.unlink(missing_ok=True)
            tests[test] |= {"seconds": time.monotonic() - began, "reached": reached, "outcome": outcome}
            if outcome != "passed":
                print("fails without a mutant:", test, outcome, flush=True)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, tests))
        self.path.write_text(json.dumps(tests))
        return tests

    def reaching(self, mutant):
        """Yields the tests that reach the mutant, in chunks with a growing time budget.

        The tests with the most detections per second are first.
        """
        file = mutant["file"]
        usable = [n for n, t in self.tests.items()
                  if t["outcome"] == "passed" and mutant["function_number"] in t["reached"] and not SKIP.search(n)]
        score = lambda n: (0.05 + self.kills[file][n] + self.kills[""][n] / 20) / (0.02 + self.tests[n]["seconds"])
        usable.sort(key=score, reverse=True)
        budget = 0.4
        while usable:
            chunk, total = [], 0
            while usable and (not chunk or total < budget):
                if ALONE.search(usable[0]):
                    yield [usable[0]], self.tests[usable.pop(0)]["seconds"]
                    continue
                chunk.append(usable.pop(0))
                total += self.tests[chunk[-1]]["seconds"]
            if not chunk:
                return
            yield chunk, total
            budget *= 3

    def record(self, mutant, test):
        self.kills[mutant["file"]][test] += 1
        self.kills[""][test] += 1


def try_mutant(suite, mutant, budget):
    began, reached = time.monotonic(), 0
    for chunk, total in suite.reaching(mutant):
        budget -= total
        if budget < 0 and reached:
            return mutant, "undecided", "", "", time.monotonic() - began
        for name in suite.binaries:
            tests = [test for test in chunk if suite.tests[test]["binary"] == name]
            if not tests:
                continue
            reached += len(tests)
            outcome, test, idle = run_tests(suite.binaries, tests, 8 + 6 * total, MUTANT=str(mutant["number"]))
            if outcome != "passed":
                suite.record(mutant, test)
                return mutant, outcome, test, idle, time.monotonic() - began
    return mutant, "missed", "", "", time.monotonic() - began


def results():
    path = WORK / "results.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    return {row[0]: row[1:] for row in rows}


def run(options):
    built = json.loads((WORK / "built.json").read_text())
    suite, known = Suite(built), results()
    wanted = [m for m in built["mutants"] if not options.file or any(m["file"].startswith(f) for f in options.file)]
    by_name = {m["name"]: m for m in built["mutants"]}
    for name, row in known.items():
        if row[1] and name in by_name and row[1] in suite.tests:
            suite.record(by_name[name], row[1])
    again = options.again or ["undecided"]
    wanted = [m for m in wanted if known.get(m["name"], ["undecided"])[0] in again]
    began, count = time.monotonic(), 0
    with ThreadPoolExecutor(options.jobs) as pool, (WORK / "results.tsv").open("a") as out:
        for done in as_completed([pool.submit(try_mutant, suite, mutant, options.budget) for mutant in wanted]):
            mutant, outcome, test, idle, seconds = done.result()
            count += 1
            row = [mutant["name"], outcome, test, idle, f"{seconds:.1f}"]
            print(f"{count}/{len(wanted)} {time.monotonic() - began:.0f}s", *row, flush=True)
            out.write("\t".join(row) + "\n")
            out.flush()


def report():
    built, known = json.loads((WORK / "built.json").read_text()), results()
    table = defaultdict(Counter)
    for mutant in built["mutants"]:
        table[mutant["file"]][known.get(mutant["name"], ["not run"])[0]] += 1
    for kind in ("rejected", "constants"):
        for mutant in built[kind]:
            table[mutant["file"]][kind] += 1
    total = Counter()
    for file, counts in sorted(table.items()):
        total += counts
        print(file, counts.total(), dict(counts))
    print("all", total.total(), dict(total))
    for name, row in known.items():
        if row[0] == "missed":
            print("missed", name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["build", "run", "report"])
    parser.add_argument("-f", "--file", nargs="+")
    parser.add_argument("--again", nargs="+", metavar="OUTCOME", help="repeat mutants with this outcome: undecided, missed, hangs, failed or crashed")
    parser.add_argument("--budget", type=float, default=1000, help="seconds of tests per mutant; beyond them the mutant is undecided")
    parser.add_argument("--jobs", type=int, default=4)
    options = parser.parse_args()
    if options.what == "build":
        build()
    elif options.what == "run":
        run(options)
    else:
        report()


if __name__ == "__main__":
    main()
