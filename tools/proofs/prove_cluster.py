"""Everything that can happen to a database with fail-over and its nodes, in turn, under load.

Prints a table, how long each fault kept producers waiting, and every broken promise
(`scripts/prove-cluster`).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from tools.cluster import FailoverCluster, Loopback, Namespaces, clocks, problem
from tools.cluster.network import alone, namespaces_problem
from tools.node import node_problem
from tools.postgres_cluster import in_memory
from tools.proofs.cluster_faults import FAULTS, MOVED, Fault, Lasts, Trace
from tools.proofs.cluster_load import Load, Plan

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

_STAYS_S: Final = 3.0
"""How long something stays broken at least, also if writes go on at once."""

_GOES_ON_S: Final = 120.0
"""Within this, writes have to go on while something is broken that does not stop them."""

_FOLLOWS_S: Final = 30.0
"""Within this every reader has to have what was acknowledged, once all is whole again.

Less than the time after which a reader asks anew by itself.
"""

_SOME: Final = 3
"""After so many moves of the primary some append has to have been stored without an answer."""

_CREATE_S: Final = 60.0
_RUN_DOWN_S: Final = 240.0
"""Within this everything is closed and read to its end, after the last fault; and compared."""

_CALM_S: Final = 2.0
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one fault; times in seconds.

    ``waited_s``: the longest that one append waited for its answer; ``silence_s``: the longest time
    in which no append of anybody was acknowledged; ``behind_s``: the longest that a reader had not
    got something that was; ``broken_s``: until it was mended, ``whole_s``:
    from then on until all was as before.
    """

    fault: Fault
    waited_s: float
    silence_s: float
    behind_s: float
    broken_s: float
    whole_s: float
    answers: str

    def __str__(self) -> str:
        over = ""
        if self.is_over:
            since = " after it was mended" if self.fault.stops_writes else ""
            over = f"; over {self.fault.bound_s:g} s{since}"
        return (
            f"{self.fault.name:18} {self.waited_s:8.2f} {self.silence_s:8.2f}"
            f" {self.behind_s:8.2f} {self.broken_s:8.1f} {self.whole_s:7.1f}  {self.answers}{over}"
        )

    @property
    def is_over(self) -> bool:
        """Whether an append waited for longer than it should on a quiet machine."""
        excused_s = self.broken_s if self.fault.stops_writes else 0.0
        bound_s = self.fault.bound_s
        return bound_s is not None and self.waited_s - excused_s > bound_s


HEAD: Final = (
    f"{'fault':18} {'outage':>8} {'silence':>8} {'behind':>8} {'broken':>8} {'whole':>7}"
    "  answers meanwhile"
)


class Stuck(Exception):
    """It makes no sense to go on."""


class Proof:
    """One run: ``faults`` in turn, again and again until the time is over, each at least once."""

    def __init__(self, cluster: FailoverCluster, load: Load, options: argparse.Namespace) -> None:
        self._cluster = cluster
        self._load = load
        self._options = options
        self.rows: list[Row] = []

    async def run(self, faults: Sequence[Fault]) -> None:
        end = time.monotonic() + self._options.minutes * 60
        print(HEAD, flush=True)
        turn = 0
        while turn == 0 or (time.monotonic() < end and turn < self._options.turns):
            for fault in faults:
                if turn and time.monotonic() > end:
                    return
                row = await self._one(fault)
                self.rows.append(row)
                print(row, flush=True)
            turn += 1

    async def _one(self, fault: Fault) -> Row:
        await self._goes_on()
        await asyncio.to_thread(fault.prepare, self._cluster)
        await asyncio.sleep(_CALM_S)
        before = await asyncio.to_thread(self._cluster.marks)
        refused = self._load.persistent.answers.copy()
        self._load.waits.begin()
        struck_s = time.monotonic()
        mend = await asyncio.to_thread(fault.strike, self._cluster)
        await self._stay_broken(fault, struck_s)
        mended_s = time.monotonic()
        await asyncio.to_thread(mend)
        try:
            await asyncio.to_thread(self._cluster.wait_whole)
        except TimeoutError as error:
            raise Stuck(f"after {fault.name}: {error}") from None
        await self._goes_on()
        await self._readers_follow()
        waits = self._load.waits
        trace = Trace(
            before,
            await asyncio.to_thread(self._cluster.marks),
            waits.answers + (self._load.persistent.answers - refused),
            waits.silence_s,
            mended_s - struck_s,
        )
        if not fault.struck(trace):
            self._load.faults.add(f"{fault.name} did not strike: {trace}")
        answers = ", ".join(f"{count} {name}" for name, count in waits.answers.most_common(4))
        return Row(
            fault,
            waits.longest_s,
            waits.silence_s,
            waits.behind_s,
            mended_s - struck_s,
            time.monotonic() - mended_s,
            answers,
        )

    async def _stay_broken(self, fault: Fault, struck_s: float) -> None:
        await asyncio.sleep(struck_s + _least_s(fault, self._options) - time.monotonic())
        if not fault.stops_writes:
            await self._goes_on()

    async def _goes_on(self) -> None:
        """Return when whoever waited has been answered."""
        asked_s = time.monotonic()
        waits = self._load.waits
        count = waits.acknowledged
        while waits.acknowledged == count or any(at < asked_s for at in waits.waiting.values()):
            if time.monotonic() > asked_s + _GOES_ON_S:
                raise Stuck(
                    f"writes do not go on: {len(waits.waiting)} wait, the first for"
                    f" {asked_s - min(waits.waiting.values(), default=asked_s) + _GOES_ON_S:.0f} s;"
                    f" {dict(waits.answers)}; {self._cluster.members()}"
                )
            await asyncio.sleep(_LOOK_S)

    async def _readers_follow(self) -> None:
        """Return when every reader has what was acknowledged by now."""
        asked_s = time.monotonic()
        while True:
            since_s, who = self._load.furthest_behind()
            if since_s > asked_s:
                return
            if time.monotonic() > asked_s + _FOLLOWS_S:
                self._load.faults.add(f"{who} does not get what is acknowledged")
                return
            await asyncio.sleep(_LOOK_S)


def _least_s(fault: Fault, options: argparse.Namespace) -> float:
    """How long it stays broken at least."""
    least_s: float = {
        Lasts.SHORT: _STAYS_S,
        Lasts.CUT: options.broken_s,
        Lasts.PAUSE: options.pause_s,
        Lasts.DOWN: options.down_s,
    }[fault.lasts]
    return least_s


def _ttl_s(faults: Sequence[Fault], options: argparse.Namespace) -> int:
    """For streams that are in use: as long as nobody may reach them, by clocks that differ."""
    longest_s = max(_least_s(fault, options) for fault in faults)
    return math.ceil(clocks.APART_S + longest_s + _GOES_ON_S)


def _in_words(answers: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in answers.most_common(8)) or "nothing"


async def run_all(load: Load, proof: Proof, faults: Sequence[Fault]) -> None:
    """Load and faults together, to the end of both; whatever ends that is a broken promise.

    Each part has a limit: also a store that answers nobody any more ends as a failure.
    """
    try:
        async with asyncio.timeout(_CREATE_S):
            await load.create()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(load.run())
            await proof.run(faults)
            load.ending.set()
            async with asyncio.timeout(_RUN_DOWN_S):
                await running
        async with asyncio.timeout(_RUN_DOWN_S):
            await load.compare()
    except* Stuck as stuck:
        for one in stuck.exceptions:
            load.faults.add(str(one))
    except* Exception as errors:  # noqa: BLE001 - whatever it is, it is a failure of the run
        load.faults.add("".join(traceback.format_exception(errors)))


def page(rows: Sequence[Row], began: str) -> str:
    """The table of docs/failover.rst: the worst of each fault, in reStructuredText."""
    lines = [
        ":orphan:",
        "",
        f".. list-table:: {began}; seconds",
        "   :header-rows: 1",
        "   :widths: 12 40 9 9 10 20",
        "",
        *("   * - Fault", "     - What was done", "     - Outage", "     - Behind"),
        *("     - Broken for", "     - Answers meanwhile"),
    ]
    for fault in FAULTS:
        own = [row for row in rows if row.fault is fault]
        if own:
            worst = max(own, key=lambda row: row.waited_s)
            lines += [
                f"   * - ``{fault.name}``",
                f"     - {fault.words}",
                f"     - {worst.waited_s:.1f}",
                f"     - {max(row.behind_s for row in own):.1f}",
                f"     - {worst.broken_s:.0f}",
                f"     - {worst.answers}",
            ]
    return "\n".join([*lines, ""])


async def prove(
    cluster: FailoverCluster, faults: Sequence[Fault], options: argparse.Namespace
) -> int:
    """All of a run on a cluster; how many promises were broken."""
    plan = Plan(
        producers=options.producers,
        readers=options.readers,
        javascript=0 if node_problem() else min(8, options.readers),
        pause_s=options.pause_ms / 1000,
        ttl_s=_ttl_s(faults, options),
    )
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, skip_auto_headers=["Content-Type"]
    ) as session:
        session._retry_connection = False  # by itself it asks again, and nobody would know
        nodes = [(node.name, node.base_url) for node in cluster.nodes]
        directory = cluster.directory / "clients"
        directory.mkdir()
        load = Load(session, cluster.url, nodes, plan, directory)
        proof = Proof(cluster, load, options)
        await run_all(load, proof, faults)
    if sum(row.fault.struck is MOVED for row in proof.rows) >= _SOME and not load.waits.repeated:
        load.faults.add("no append had been stored when it was sent again, so that was not tried")
    for node in cluster.nodes:
        if "Traceback" in node.log:
            load.faults.add(f"{node.name} wrote a traceback:\n{node.log[-3000:]}")
    found = f"{load.lost} lost, {load.doubled} doubled, {load.disordered} out of order"
    print(
        f"{load.waits.acknowledged} appends acknowledged by {plan.producers} producers, read by"
        f" {plan.readers} readers, {plan.javascript} of them the JavaScript client;"
        f" {load.waits.repeated} appends were stored already when they were sent again;"
        f" readers were refused by {_in_words(load.persistent.answers)}; tails were asked for:"
        f" {_in_words(load.watched)};"
        f" {load.tails.looked} tails compared, the oldest {load.tails.stalest_s:.1f} s old;"
        f" streams with a TTL of {plan.ttl_s} s were used {load.lasting.used} times\n"
        f"{found if load.is_compared else 'NOT COMPARED to the end'},"
        f" {len(load.faults.texts)} other promises broken",
        flush=True,
    )
    if options.page:
        began = f"{time.strftime('%Y-%m-%d')}, {len(proof.rows)} faults, {plan.producers} producers"
        options.page.write_text(page(proof.rows, f"{began}, {plan.readers} readers"))
    over = sum(row.is_over for row in proof.rows) if options.bounds else 0
    return load.lost + load.doubled + load.disordered + len(load.faults.texts) + over


def main() -> int:
    options = _options()
    is_alone = not options.loopback and alone()
    chosen = [fault for fault in FAULTS if not options.faults or fault.name in options.faults]
    faults = [fault for fault in chosen if _why_not(fault, options, is_alone=is_alone) is None]
    for fault in chosen:
        if fault not in faults:
            why = _why_not(fault, options, is_alone=is_alone)
            print(f"NOT DONE: {fault.name}, {fault.words}: {why}", flush=True)
    if not faults or (options.faults and faults != chosen):
        print("nothing is proved: not all that was asked for can be done", file=sys.stderr)
        return 2
    missing = problem()
    if missing is not None:
        print(f"nothing is proved: {missing}", file=sys.stderr)
        return 2
    if node_problem():
        print(f"NOT DONE: the JavaScript client: {node_problem()}")
    if is_alone:  # in memory that ends with this process
        mount = ["mount", "-t", "tmpfs", "-o", "size=8g,mode=1777", "machines", "/dev/shm"]
        subprocess.run(mount, check=True)
    network = Namespaces() if is_alone else Loopback()
    directory = Path("/dev/shm") if is_alone else in_memory()
    with FailoverCluster(
        network, directory, has_disks=is_alone, clocks_differ=clocks.problem() is None
    ) as cluster:
        print(f"up in {cluster.started_in_s:.1f} s: {cluster.store}", flush=True)
        broken = 1
        try:
            broken = asyncio.run(prove(cluster, faults, options))
        finally:
            if broken and options.keep:
                subprocess.run(["cp", "-a", str(cluster.directory), str(options.keep)], check=False)
    return 1 if broken else 0


def _why_not(fault: Fault, options: argparse.Namespace, *, is_alone: bool) -> str | None:
    """What keeps a fault from being done here; None if nothing does."""
    if fault.needs_own_network and not is_alone:
        return "--loopback" if options.loopback else namespaces_problem()
    return clocks.problem() if fault.needs_clocks else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/prove-cluster", description=__doc__)
    add = parser.add_argument
    names = [fault.name for fault in FAULTS]
    add("--minutes", type=float, default=30.0, help="each fault is done once, however short")
    add("--turns", type=int, default=1_000_000, help="of all faults, at most")
    add("--faults", nargs="+", choices=names, metavar="FAULT", help=f"of: {', '.join(names)}")
    add("--producers", type=int, default=64)
    add("--readers", type=int, default=200)
    add("--pause-ms", type=float, default=500.0, help="mean pause of a producer between appends")
    add("--broken-s", type=float, default=15.0, help="how long networks stay cut")
    add("--pause-s", type=float, default=60.0, help="how long a machine stands still")
    add("--down-s", type=float, default=300.0, help="how long the whole database is down")
    add("--bounds", action="store_true", help="fail if an outage is longer than it should be")
    add("--loopback", action="store_true", help="no namespaces, so no cuts and no full disk")
    add("--page", type=Path, help="where to write the table of docs/failover.rst")
    add("--keep", type=Path, help="where to copy everything if a promise was broken")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
