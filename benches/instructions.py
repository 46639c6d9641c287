#!/usr/bin/env python3
"""Counts instructions per operation with valgrind and compares them with bounds. The counts have no noise.

    instructions.py                     all workloads
    instructions.py WORKLOAD ..         these workloads
    instructions.py --where WORKLOAD    this workload, and where its locked instructions are
    instructions.py --shares WORKLOAD   this workload, and how many instructions each folder takes

A locked instruction is an atomic read-modify-write or a full fence of x86-64: `lock`, `xchg` with memory, `mfence`. One takes as
long as dozens of other instructions. Valgrind counts the executions of each instruction by its address, and objdump says which
instructions of the program are locked: those of this crate, `bytes`, Tokio and the standard library, but not those of the
allocator in libc, which clears its ten free lists by one each when a large block is allocated.

The bounds of instructions leave a margin of one eighth for other compilers. The bounds of locked instructions leave none: their
fractions are the switches of segments and, in `hop` and `life`, the scheduler's visits of its timers. Lower both when the counts
fall.
"""

import argparse
import collections
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

# As in instructions.rs.
ROUNDS, MESSAGES, LIVES = 40, 500, 1000
# `send_many` sends up to 32 messages with one reservation.
RANGES = -(-MESSAGES // 32)

# (workload, operation, operations in a run, bound of instructions, bound of locked instructions)
BOUNDS = [
    ("send", "message", ROUNDS * MESSAGES, 234, 1.05),
    ("send_recorded", "message", ROUNDS * MESSAGES, 234, 1.05),
    ("send_many", "message", ROUNDS * MESSAGES, 158, None),
    ("send_many", "range", ROUNDS * RANGES, None, 1.8),
    ("send_with", "message", ROUNDS * MESSAGES, 320, 1.05),
    ("send_external", "message", ROUNDS * MESSAGES, 328, 2.05),
    ("recv", "message", ROUNDS * MESSAGES, 175, 2.1),
    ("recv_recorded", "message", ROUNDS * MESSAGES, 177, 2.1),
    ("recv_safe", "message", ROUNDS * MESSAGES, 241, 2.15),
    ("recv_external", "message", ROUNDS * MESSAGES, 242, 2.1),
    ("recv_shared", "message", ROUNDS * MESSAGES, 295, 3.1),
    ("recv_ref", "message", ROUNDS * MESSAGES, 132, 0.1),
    ("recv_batch", "message", ROUNDS * MESSAGES, 52, 0.05),
    ("lockstep", "message", ROUNDS * MESSAGES, 1775, 7.05),
    ("hop", "message", ROUNDS * MESSAGES, 2230, 13.2),
    ("life", "channel", LIVES, 17000, 48),
]

COUNTS_LOCKED = platform.machine() == "x86_64" and shutil.which("objdump") is not None


def build():
    """Builds the workloads and returns the path of the program."""
    # Freezes the clock that decides how often a handle consumes coop budget.
    flags = os.environ.get("RUSTFLAGS", "") + " --cfg turbostream_instructions"
    command = ["cargo", "bench", "--bench", "instructions", "--no-run"]
    cargo = subprocess.run(command, env=os.environ | {"RUSTFLAGS": flags}, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(cargo.stderr)
    cargo.check_returncode()
    return re.findall(r"\((\S*instructions-[0-9a-f]+)\)", cargo.stderr)[-1]


def count(program, workload):
    """Runs a workload. Returns the executions of each instruction: {(object, address): count}."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]
        command += ["--collect-atstart=no", "--toggle-collect=instructions::counted::*", f"--callgrind-out-file={out}"]
        run = subprocess.run(command + [program, workload], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{workload}: valgrind failed\n{run.stderr}")
        executions, current, is_call = collections.Counter(), None, False
        with open(out) as lines:
            for line in lines:
                if line.startswith("ob="):
                    current = line[3:].rstrip()
                elif line.startswith("calls="):
                    is_call = True
                elif line.startswith("0x"):
                    # The line after `calls=` is the cost of the callee, which has its own lines.
                    if not is_call:
                        address, _line, cost = line.split()
                        executions[current, int(address, 16)] += int(cost)
                    is_call = False
    return executions


# Not counted: only a clock that can be paused, as the one of this program, locks anything.
PAUSABLE_CLOCK = ("tokio::time::clock::", "tokio::time::instant::")


class Object:
    """The code of a program or a library, as on disk."""

    def __init__(self, path):
        self.path = path
        # {address: (instruction, symbol)}, {address: symbol}
        self.locked, self.addresses = {}, {}
        symbol = ""
        command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", path]
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            address, colon, text = line.partition(":\t")
            if colon:
                address, text = int(address, 16), text.strip()
                self.addresses[address] = symbol
                if is_locked(text) and not symbol.startswith(PAUSABLE_CLOCK):
                    self.locked[address] = (text, symbol)
            elif line.endswith(">:"):
                symbol = line[line.index("<") + 1 : -2]

    def bias(self, executed):
        """Where it was loaded: the multiple of a page by which all executed addresses differ from those on disk."""
        first = min(executed)
        biases = [first - address for address in self.addresses if (first - address) % 4096 == 0]
        biases = [bias for bias in biases if all(address - bias in self.addresses for address in executed)]
        if len(biases) != 1:
            sys.exit(f"{self.path}: the executed addresses fit the disassembly in {len(biases)} ways")
        return biases[0]

    def places(self, addresses):
        """The innermost function of this repository at each address, with its file and line, where there is one."""
        command = ["addr2line", "--exe", self.path, "--addresses", "--inlines", "--functions", "--demangle"]
        command += [hex(address) for address in addresses]
        lines = iter(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
        root, places, address = os.getcwd() + "/", {}, None
        for line in lines:
            if line.startswith("0x"):
                address = int(line, 16)
                continue
            file = next(lines).partition(" ")[0]
            if address not in places and file.startswith(root):
                places[address] = f"{line}, {file.removeprefix(root)}"
        return places


def is_locked(instruction):
    return re.match(r"(.* )?lock |mfence|xchg .*\(", instruction) is not None


def locked(program, executions, objects):
    """The executions of the locked instructions of the program: {(object, address): count}."""
    found = {}
    by_object = collections.defaultdict(dict)
    for (path, address), executed in executions.items():
        by_object[path][address] = executed
    for path, executed in by_object.items():
        if not os.path.isfile(path) or not os.path.samefile(path, program):
            continue
        if path not in objects:
            objects[path] = Object(path)
        bias = objects[path].bias(executed)
        for address in objects[path].locked:
            if times := executed.get(address + bias):
                found[path, address] = times
    return found


def show_where(found, objects, operation, operations):
    """Lists the locked instructions, each with its function: as inlined in this repository, or else as compiled."""
    rows = []
    for path in {path for path, _ in found}:
        addresses = {address: times for (of, address), times in found.items() if of == path}
        places = objects[path].places(addresses)
        for address, times in addresses.items():
            instruction, symbol = objects[path].locked[address]
            compiled = f"{symbol}, {os.path.basename(path)}"
            rows.append((times / operations, instruction.partition("#")[0].rstrip(), places.get(address, compiled)))
    print(f"\n{'locked':>10}  a {operation}")
    for each, instruction, place in sorted(rows, reverse=True):
        if each >= 0.005:
            print(f"{each:10.2f}  {instruction:<36}  {place}")


def show_shares(program, executions, objects, operation, operations):
    """Lists the instructions by folder of this repository, inlined code included, or else by crate or library."""
    shares, by_object = collections.Counter(), collections.defaultdict(dict)
    for (path, address), executed in executions.items():
        by_object[path][address] = executed
    for path, executed in by_object.items():
        if not os.path.isfile(path) or not os.path.samefile(path, program):
            shares[os.path.basename(path).partition(".")[0]] += sum(executed.values())
            continue
        objects.setdefault(path, Object(path))
        bias, symbols = objects[path].bias(executed), objects[path].addresses
        places = objects[path].places([address - bias for address in executed])
        for address, times in executed.items():
            crate = re.match(r"[<&(]*(?:dyn |mut )?(\w+)", symbols[address - bias])
            place = places.get(address - bias)
            folder = place and "/".join(place.rpartition(", ")[2].partition(":")[0].split("/")[:2])
            shares[folder or crate[1]] += times
    print(f"\n{'instructions':>12}  a {operation}")
    for place, times in shares.most_common():
        if times / operations >= 1:
            print(f"{times / operations:12.0f}  {place}")


def main():
    names = list(dict.fromkeys(row[0] for row in BOUNDS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", nargs="*", help=", ".join(names))
    parser.add_argument("--where", metavar="WORKLOAD", choices=names, help="list the locked instructions of this workload")
    parser.add_argument("--shares", metavar="WORKLOAD", choices=names, help="list the instructions of this workload by folder")
    args = parser.parse_args()
    wanted = set(args.workload) | {args.where, args.shares} - {None} or set(names)
    if unknown := wanted - set(names):
        parser.error(f"no workload {', '.join(unknown)}")
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: apt-get install valgrind")
        return 3

    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    program, objects, counted, failed = build(), {}, {}, False
    print(f"{'workload':<14}  {'per':<8}  {'instructions':>12}  {'bound':>6}  {'locked':>7}  {'bound':>6}")
    for workload, operation, operations, most, most_locked in BOUNDS:
        if workload not in wanted:
            continue
        if workload not in counted:
            executions = count(program, workload)
            counted[workload] = executions.total(), locked(program, executions, objects) if COUNTS_LOCKED else {}
            if workload == args.shares:
                shares = program, executions, objects, operation, operations
        total, found = counted[workload]
        each, each_locked = total / operations, sum(found.values()) / operations
        missed = most is not None and not 0 < each <= most
        missed |= COUNTS_LOCKED and most_locked is not None and each_locked > most_locked
        failed |= missed
        each_locked = f"{each_locked:.2f}" if COUNTS_LOCKED else "-"
        print(
            f"{workload:<14}  {operation:<8}  {each:12.0f}  {most or '-':>6}  {each_locked:>7}  {most_locked or '-':>6}"
            + ("  TOO MANY" if missed else "")
        )
        if workload == args.where:
            where = found, objects, operation, operations
    if not COUNTS_LOCKED:
        print("locked instructions are not counted: this needs x86-64 and objdump (apt-get install binutils)")
    elif args.where:
        show_where(*where)
    if args.shares and COUNTS_LOCKED:
        show_shares(*shares)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
