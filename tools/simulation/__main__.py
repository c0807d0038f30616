"""Run many seeds: ``python -m tools.simulation --seeds 0 9999 --jobs 2 --record failed.txt``.

With ``--database``: of two nodes that share a database.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tools.simulation import nodes
from tools.simulation.world import GENERATIONS, STEPS, run

_SHARE = 20  # seeds that a process does before it reports


class _Share(NamedTuple):
    """Consecutive seeds for one process."""

    first: int
    last: int
    steps: int
    generations: int
    is_of_nodes: bool


class _Outcome(NamedTuple):
    """What a process found; ``failures``: seeds, and what each says."""

    seeds: int
    checks: int
    failures: list[tuple[int, str]]


def _run_share(share: _Share) -> _Outcome:
    checks, failures = 0, []
    for seed in range(share.first, share.last + 1):
        try:
            if share.is_of_nodes:
                logging.disable()  # what goes wrong there is meant to
                checks += nodes.run(seed, steps=share.steps)
            else:
                checks += run(seed, steps=share.steps, generations=share.generations)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failures.append((seed, _tell(error)))
    return _Outcome(share.last - share.first + 1, checks, failures)


def _tell(error: BaseException) -> str:
    """The error in one line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-6:-1])
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} ({places})"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 999), metavar=("FIRST", "LAST"))
    parser.add_argument(
        "--database", action="store_true", help="of nodes that share a model of PostgreSQL"
    )
    parser.add_argument("--steps", type=int, help="requests in a generation, or of each who writes")
    parser.add_argument("--generations", type=int, default=GENERATIONS, help="crashes of a seed")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="append a line for every seed that fails"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    if options.steps is None:
        options.steps = nodes.STEPS if options.database else STEPS
    return options


def main(arguments: list[str]) -> int:
    """Run the seeds; 1 if any of them failed."""
    options = _parse(arguments)
    first, last = options.seeds
    shares = [
        _Share(at, min(at + _SHARE - 1, last), options.steps, options.generations, options.database)
        for at in range(first, last + 1, _SHARE)
    ]
    replay = "--database " if options.database else ""
    replay += f"--steps {options.steps} --generations {options.generations} --jobs 1"
    began, seeds, checks, failed = time.monotonic(), 0, 0, 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(_run_share, share) for share in shares]):
            outcome = done.result()
            seeds, checks = seeds + outcome.seeds, checks + outcome.checks
            failed += len(outcome.failures)
            for seed, told in outcome.failures:
                again = f"scripts/simulate --seeds {seed} {seed} {replay}"
                print(f"\nseed {seed}: {told}")
                print(f"    again: {again}", flush=True)
                if options.record is not None:
                    with options.record.open("a", encoding="utf-8") as record:
                        record.write(f"{again}  # {told}\n")
            print(f"\r{seeds} of {last - first + 1} seeds", end="", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{seeds} seeds, {checks} checks, {failed} failed seeds, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
