"""SIGKILL at random moments under load: no loss, no duplicate, no gap (`scripts/prove-kills`)."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from pathlib import Path

from tools.node import node_problem
from tools.proofs.kills import Report, Run, random_gaps
from tools.proofs.load import Plan
from tools.server_process import ServerProcess


def summary(report: Report) -> str:
    """The figures, for people."""
    counters = report.counters
    rate = counters.acknowledged / report.seconds
    return (
        f"{report.kills} kills in {report.seconds:.0f} s, back after"
        f" {statistics.median(report.recoveries_s):.2f} s (median),"
        f" {max(report.recoveries_s):.2f} s (longest), start of the process included\n"
        f"{counters.acknowledged} appends acknowledged, {rate:.0f} a second;"
        f" {report.javascript_messages} messages of the JavaScript client\n"
        f"{report.streams} paths, {counters.lives} streams created, {counters.forks} forks,"
        f" {counters.deletes} deleted\n"
        f"{counters.unanswered} requests got no answer, {counters.refused} were refused (503)\n"
        f"{len(report.faults)} broken promises"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-kills", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, help="how long to kill")
    add("--streams", type=int, default=64, help="half of them are deleted and created again")
    add("--pause-ms", type=float, default=20.0, help="mean pause of a writer between appends")
    add("--segment-bytes", type=int, default=65_536, help="small, so that streams roll")
    add("--durability", default="fsync", help="fsync, interval or none: all survive a kill")
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    add("--keep", type=Path, help="directory to work in, kept; default: a temporary one")
    options = parser.parse_args()
    half = options.streams // 2
    plan = Plan(
        lasting=half,
        changing=options.streams - half,
        pause_s=options.pause_ms / 1000,
        appends=(10, 100),
        seed=options.seed,
    )
    problem = node_problem()
    if problem is not None:
        print(f"NOT EVERYTHING IS PROVED: {problem}", file=sys.stderr)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="prove-kills-") as directory:
        server = ServerProcess(
            (options.keep or Path(directory)) / "data",
            *("--segment-bytes", str(options.segment_bytes), "--durability", options.durability),
        )
        server.start()
        gaps = random_gaps(options.minutes * 60, random.Random(options.seed))
        try:
            report = asyncio.run(Run(server, plan).run(gaps, javascript=0 if problem else 2))
        finally:
            if server.running:
                server.stop()
        server.finish()
    print("\n".join(report.faults[:50]))
    print(summary(report))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
