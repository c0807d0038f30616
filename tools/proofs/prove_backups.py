"""Copies of a data directory that 200 streams are written to (`scripts/prove-backups`)."""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.node import running_in_ci
from tools.proofs.copies import EXIT_CODES, execute, faults_of_copy, make_copy, missing_tools
from tools.proofs.ledger import Life, Window
from tools.proofs.load import Load, Plan, under_load
from tools.server_process import ServerProcess

BY_SERVER_EVERY: Final = 10
"""A server opens each so manieth copy, the library the others."""


class Proof:
    """One live data directory, and the copies made of it."""

    def __init__(self, data_dir: Path, load: Load, seed: int, keep: bool) -> None:
        self._data_dir = data_dir
        self._load = load
        self._seed = seed
        self._keep = keep
        self._number = 0
        self.codes: dict[str, collections.Counter[int]] = collections.defaultdict(
            collections.Counter
        )
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)
        self.faults: list[str] = []

    def _next_target(self) -> Path:
        self._number += 1
        return self._data_dir.parent / f"copy-{self._number}"

    async def _copy(self, tool: str) -> tuple[Path, Window]:
        target = self._next_target()
        code, window = await make_copy(tool, self._data_dir, target, self._seed + self._number)
        self.codes[tool][code] += 1
        self.seconds[tool].append(window.ended_s - window.began_s)
        return target, window

    async def _check(self, what: str, target: Path, window: Window, *, by_server: bool) -> None:
        lives: dict[str, list[Life]] = self._load.lives
        faults = await faults_of_copy(target, lives, window, by_server=by_server)
        self.faults += [f"{what} {target.name}: {fault}" for fault in faults]
        if not (faults and self._keep):
            await asyncio.to_thread(shutil.rmtree, target)

    async def copies(self, tool: str, count: int) -> None:
        """Copies with one tool, one after the other."""
        for number in range(count):
            target, window = await self._copy(tool)
            by_server = number % BY_SERVER_EVERY == 0
            await self._check(tool, target, window, by_server=by_server)

    async def unpacked_over_a_younger_one(self, tool: str) -> None:
        """What a hurried administrator does with a crashed data directory and a backup."""
        older, window = await self._copy(tool)
        younger, younger_window = await self._copy(tool)
        code, said = await execute(["cp", "-r", f"{older}/.", str(younger)])
        if code != 0:
            self.faults.append(f"cp -r over {younger}: {said}")
        await asyncio.to_thread(shutil.rmtree, older)
        both = Window(window.began_s, younger_window.ended_s, layered=True)
        await self._check(f"{tool} over a younger one", younger, both, by_server=False)

    async def rsync_twice(self) -> None:
        """Bring a copy up to date without removing what is no longer there."""
        target, _ = await self._copy("rsync")
        code, window = await make_copy("rsync", self._data_dir, target)
        self.codes["rsync"][code] += 1
        window = dataclasses.replace(window, layered=True)
        await self._check("rsync twice", target, window, by_server=False)

    async def run(self, tools: list[str], copies: int) -> None:
        """Everything, one tool after the other."""
        for tool in tools:
            began_s = time.monotonic()
            await self.copies(tool, copies)
            for _ in range(-(-copies // 10)):
                await self.unpacked_over_a_younger_one(tool)
                if tool == "rsync":
                    await self.rsync_twice()
            print(
                f"{tool}: {copies} copies, exit codes {dict(self.codes[tool])},"
                f" {statistics.median(self.seconds[tool]):.2f} s each (median);"
                f" with checks {time.monotonic() - began_s:.0f} s;"
                f" {len(self.faults)} faults so far",
                flush=True,
            )


async def prove(
    server: ServerProcess, plan: Plan, tools: list[str], copies: int, keep: bool
) -> int:
    """Load, copies and checks; the number of faults."""
    began_s = time.monotonic()
    async with under_load(server, plan, 20 * plan.changing) as load:
        proof = Proof(server.data_dir, load, plan.seed, keep)
        await proof.run(tools, copies)
    seconds = time.monotonic() - began_s
    counters = load.client.counters
    print(
        f"{counters.acknowledged} appends meanwhile,"
        f" {counters.acknowledged / seconds:.0f} a second;"
        f" {counters.lives} streams created, {counters.forks} of them forks,"
        f" {counters.deletes} deleted; {counters.refused} requests refused (503)"
    )
    print("\n".join(proof.faults[:50]))
    print(f"{len(proof.faults)} faults")
    return len(proof.faults)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-backups", description=__doc__)
    add = parser.add_argument
    add("--copies", type=int, default=100, help="with each tool")
    add("--tools", default=",".join(EXIT_CODES))
    add("--streams", type=int, default=200)
    add("--pause-ms", type=float, default=400.0, help="mean pause of a writer between appends")
    add("--segment-bytes", type=int, default=32_768, help="small, so that streams roll")
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    add("--keep", type=Path, help="directory to work in; copies with faults are kept")
    options = parser.parse_args()
    tools = options.tools.split(",")
    for tool in sorted(set(missing_tools()) & set(tools)):
        print(f"NOT EVERYTHING IS PROVED: {tool} is not installed", file=sys.stderr)
        tools.remove(tool)
        if running_in_ci():
            return 1
    lasting = 2  # they only grow, and every copy is read whole
    plan = Plan(
        lasting=lasting,
        changing=options.streams - lasting,
        pause_s=options.pause_ms / 1000,
        appends=(10, 150),
        seed=options.seed,
    )
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="prove-backups-") as directory:
        work = options.keep or Path(directory)
        work.mkdir(exist_ok=True)
        server = ServerProcess(work / "data", "--segment-bytes", str(options.segment_bytes))
        server.start()
        try:
            keep = options.keep is not None
            faults = asyncio.run(prove(server, plan, tools, options.copies, keep))
        finally:
            if server.running:
                server.stop()
        server.finish()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
