"""Compare servers, or two builds of ours, under the same load (`scripts/bench`)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.bench import everybody, instructions, pair
from tools.bench import report as tables
from tools.bench.builds import same_environment, two_builds
from tools.bench.catalog import ENTRIES, Entry, paired, select
from tools.bench.client import WORK, ClientFailed, build
from tools.bench.compare import Plan, cores, run_entry
from tools.bench.machine import describe, speeds
from tools.bench.plot import draw
from tools.bench.report import our_errors, publish
from tools.bench.servers import (
    OURS,
    Contender,
    ServerFailed,
    node_server,
    other_server,
    our_server,
    our_server_on_uvicorn,
    raise_file_limit,
)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="workloads: " + ", ".join(entry.name for entry in ENTRIES),
    )
    add = parser.add_argument
    add("--workloads", default="", help="names or patterns, with commas: 'append-*,sse-100'")
    add("--full", action="store_true", help="the long workloads too")
    add("--list", action="store_true", help="only list the workloads")
    add("--seconds", type=float, default=Plan.seconds, help="that are measured in each sample")
    add("--repeats", type=int, default=Plan.repeats, help="samples of each workload and server")
    add("--read-back", type=int, default=Plan.read_back_streams, help="streams, at most")
    add("--only", action="append", help="name of a server; may be repeated")
    add("--asgi", action="store_true", help="our server as an ASGI application in uvicorn, too")
    add("--everybody", action="store_true", help="compare every server there is at every"
        " durability it has: ours on aiohttp and on uvicorn, Node's, and rakaia")  # fmt: skip
    add("--skip-node", action="store_true", help="leave out the official Node server")
    add("--server", action="append", default=[], metavar="NAME=COMMAND", help="another server;"
        " {port} and {data_dir} in the command are filled in; may be repeated")  # fmt: skip
    add("--pair", type=Path, metavar="OTHER_CHECKOUT", help="compare two builds of our server by"
        " their CPU time for each request, this one and that of another checkout (a path, absolute"
        " or from the top of this one), which scripts/setup serve was run in")  # fmt: skip
    add("--pairs", type=int, default=pair.PAIRS, help="samples of each build, with --pair")
    add("--instructions", action="store_true", help="with --pair: count the instructions of each"
        " request instead, in one sample, which takes valgrind")  # fmt: skip
    add("--database", action="store_true", help="measure the store on PostgreSQL, and nothing else:"
        " scripts/bench --database --help")  # fmt: skip
    add("--python", default=sys.executable, help="the interpreter that runs our server")
    add("--token", default="", help="sent with every request; --options='--tokens FILE' makes a"
        " build look at it that knows tokens")  # fmt: skip
    add("--options", default="", help="more flags for our server, as one argument")
    add("--out", type=Path, help="directory for the results (default: .bench/results/TIME)")
    add("--rst", action="store_true", help="print the tables as reStructuredText")
    add("--publish", action="store_true", help="write docs/benchmarks-last.rst, or, with"
        " --everybody, docs/benchmarks-everybody.rst")  # fmt: skip
    add("--from", dest="results", type=Path, help="results.json of a run: only report again")
    options = parser.parse_args()
    if options.pair and (options.server or options.only or options.publish):
        parser.error("--pair compares two builds and no other servers, and is not published")
    if options.instructions and not options.pair:
        parser.error("--instructions compares two builds: name the other one with --pair")
    if options.everybody and (options.pair or options.asgi or options.options):
        parser.error("--everybody has ours on uvicorn, at each durability, and compares no builds")
    if options.repeats < 1 or options.pairs < 1:
        parser.error("nothing is measured in less than one sample")
    return options


def contenders(options: argparse.Namespace) -> list[Contender]:
    """The servers that take part, ours first."""
    every = options.everybody
    found = everybody.contenders(options.python) if every else out_of_the_box(options)
    found += [other_server(description) for description in options.server]
    if options.only:
        found = [contender for contender in found if contender.name in options.only]
    if not found:
        raise ValueError(f"no server is called {options.only}")
    return found


def out_of_the_box(options: argparse.Namespace) -> list[Contender]:
    """Ours, and Node's unless it is left out."""
    found = [our_server(options.python, options.options)]
    if options.asgi:
        found.append(our_server_on_uvicorn(options.python))
    if not options.skip_node and (not options.only or "node" in options.only):
        node = node_server()
        if node is None:
            print("The Node server is not installed and left out.", file=sys.stderr)
        else:
            found.append(node)
    return found


def two_contenders(options: argparse.Namespace) -> list[Contender]:
    """The two builds."""
    builds = two_builds(options.pair, options.python, options.options)
    if not same_environment(builds):
        print("The builds differ in their Python or packages: so will the figures.",
              file=sys.stderr)  # fmt: skip
    return builds


def wanted(options: argparse.Namespace) -> tuple[Plan, list[Entry], list[Contender]]:
    """What is to be run, on which servers, and how often."""
    named = options.workloads or (everybody.WORKLOADS if options.everybody else "")
    patterns = [name for name in named.split(",") if name]
    if options.pair:
        plan = Plan(options.seconds, options.pairs, options.read_back, options.token)
        return plan, paired(patterns), two_contenders(options)
    plan = Plan(options.seconds, options.repeats, options.read_back, options.token)
    return plan, select(patterns, full=options.full), contenders(options)


def run(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run everything that was asked for; ``work``: an empty directory on the disk to measure."""
    plan, entries, taking_part = wanted(options)
    program = build()
    raise_file_limit()
    if cores() == (None, None):
        print("There are not two cores: servers and client share one.", file=sys.stderr)
    machine = describe(options.python, WORK)
    if machine["load_before"] > 0.5:
        print(f"This machine is busy (load {machine['load_before']}): do not trust the figures.",
              file=sys.stderr)  # fmt: skip
    results = {
        "began": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": {**machine, "speeds": speeds(work)},
        "everybody": options.everybody,
        "plan": asdict(plan),
        "servers": [asdict(contender) for contender in taking_part],
        "workloads": [run_entry(entry, taking_part, program, plan, work) for entry in entries],
    }
    return pair.complete(results, entries) if options.pair else results


def count(options: argparse.Namespace, work: Path) -> int:
    """Compare the two builds by their instructions."""
    if shutil.which("valgrind") is None:
        raise ServerFailed("there is no valgrind: Debian has it in the package of this name")
    plan, entries, builds = wanted(options)
    raise_file_limit()
    print(instructions.table(entries, builds, build(), plan, work), end="")
    return 0


def report(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write down and print what came out."""
    out = options.out or WORK / "results" / time.strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    is_pair = pair.is_pair(results)
    if is_pair and options.publish:
        raise ValueError("a comparison of two builds is not published")
    told = pair if is_pair else tables
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "table.txt").write_text(told.plain_table(results))
    (out / "tables.rst").write_text(told.rst_tables(results))
    too_many = results.get("everybody", False)  # for bars
    plots = [] if is_pair or too_many else draw(results, out)
    print(told.rst_tables(results) if options.rst else told.plain_table(results), flush=True)
    print(f"results: {out}", file=sys.stderr)
    if options.publish:
        print(f"published: {publish(results, plots)}", file=sys.stderr)


def main() -> int:
    if sys.argv[1:2] == ["--database"]:
        from tools.bench.database.__main__ import main as measure  # takes a driver

        return measure(sys.argv[2:])
    options = parse_options()
    if options.list:
        for entry in ENTRIES:
            print(f"{entry.name:22} {entry.title}{' (--full)' if entry.full else ''}")
        return 0
    WORK.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=WORK))
    try:
        if options.instructions:
            return count(options, work)
        results = json.loads(options.results.read_text()) if options.results else run(options, work)
        report(results, options)
    except (ValueError, ClientFailed, ServerFailed) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2
    finally:  # after the report: it takes minutes to remove a million files
        shutil.rmtree(work, ignore_errors=True)
    errors = pair.all_errors(results) if pair.is_pair(results) else our_errors(results, OURS)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
