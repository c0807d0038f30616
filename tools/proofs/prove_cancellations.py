"""Cancellations everywhere, and Ctrl-C at random moments (`scripts/prove-cancellations`)."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tools.proofs.cancellations import Run
from tools.proofs.interrupts import of_program, of_server


async def interrupt_both(directory: Path, count: int, seed: int) -> list[str]:
    """At the same time; returns the faults."""
    seen = await asyncio.gather(
        of_program(directory / "program", count, seed), of_server(directory / "server", count, seed)
    )
    for name, one in zip(("a program with the library", "the server"), seen, strict=True):
        print(f"{name}: {one}", flush=True)
    return [fault for one in seen for fault in one.faults]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-cancellations", description=__doc__)
    add = parser.add_argument
    add("--cancellations", type=int, default=10_000, help="of all verbs, at chosen suspensions")
    add("--interrupts", type=int, default=200, help="of a program, and as many of the server")
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    # What is started can be interrupted, even where a shell runs this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"seed {options.seed}", flush=True)
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="prove-cancellations-") as directory:
        began = time.monotonic()
        if options.cancellations:
            run = Run(Path(directory, "data"), options.seed)
            seen = asyncio.run(run.run(options.cancellations))
            print(f"{seen}\n  in {time.monotonic() - began:.0f} s", flush=True)
            faults += seen.faults
        began = time.monotonic()
        if options.interrupts:
            faults += asyncio.run(interrupt_both(Path(directory), options.interrupts, options.seed))
            print(f"  in {time.monotonic() - began:.0f} s")
    print("\n".join(faults[:50]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
