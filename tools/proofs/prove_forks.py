"""Measure what forks cost with many of them, and delete a long chain (`scripts/prove-forks`)."""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import durable_streams
from durable_streams import Settings, Streams
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND: Final = 1.5
"""The last forks may take so many times the CPU of the first ones."""

CONCURRENT: Final = 64
SETTINGS: Final = Settings(segment_bytes=64 * KIB)
_WINDOW: Final = 1000
_LOOK_S: Final = 0.01


@dataclass
class Report:
    """``cpu_ms``: per fork, by the number of forks there were then; the rest in seconds."""

    cpu_ms: dict[int, float] = field(default_factory=dict)
    copies: int = 0
    forks_s: float = 0.0
    answered_s: float = 0.0
    gone_s: float = 0.0
    longest_stall_s: float = 0.0

    @property
    def ratio(self) -> float:
        """How much more the last forks took than the first."""
        return self.cpu_ms[max(self.cpu_ms)] / self.cpu_ms[min(self.cpu_ms)]


def cpu_s() -> float:
    """Of this process, all threads, in the system as well."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def fork_often(streams: Streams, data_dir: Path, count: int, report: Report) -> None:
    """Fork one stream, which has one sealed segment."""
    await streams.create("source", data=b"sealed" * 11_000)
    await streams.append("source", b"the segment behind it")
    began, window = time.perf_counter(), min(_WINDOW, max(1, count // 2))
    for first in range(0, count, window):
        numbers = iter(range(first, min(first + window, count)))

        async def fork_some(left: Iterator[int]) -> None:
            for number in left:
                await streams.fork(f"forks/{number}", "source")

        before = cpu_s()
        await asyncio.gather(*(fork_some(numbers) for _ in range(CONCURRENT)))
        made = min(first + window, count)
        report.cpu_ms[made] = 1000 * (cpu_s() - before) / (made - first)
    report.forks_s = time.perf_counter() - began
    sealed = data_dir.glob(f"streams/forks/*@/{0:016d}-*.seg")
    report.copies = len({path.stat().st_ino for path in sealed}) - 1


async def delete_chain(streams: Streams, data_dir: Path, length: int, report: Report) -> None:
    """Make forks of forks, delete all but the last, then that one; return when all are gone."""
    await streams.create("chain/0", data=b"shared")
    for number in range(length):
        await streams.fork(f"chain/{number + 1}", f"chain/{number}")
    for number in range(length):
        await streams.delete(f"chain/{number}")
    stall = asyncio.create_task(watch_the_loop(report))
    began = time.perf_counter()
    await streams.delete(f"chain/{length}")
    report.answered_s = time.perf_counter() - began
    while await asyncio.to_thread((data_dir / "streams" / "chain").exists):
        await asyncio.sleep(_LOOK_S)
    report.gone_s = time.perf_counter() - began
    while await asyncio.to_thread(lambda: any((data_dir / "trash").iterdir())):
        await asyncio.sleep(_LOOK_S)
    stall.cancel()


async def watch_the_loop(report: Report) -> None:
    """Measure for how long nothing else could have happened on the loop."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_LOOK_S)
        late_s = time.perf_counter() - before - _LOOK_S
        report.longest_stall_s = max(report.longest_stall_s, late_s)


async def prove(data_dir: Path, forks: int, chain: int) -> Report:
    """Do both in one data directory."""
    report = Report()
    async with durable_streams.open(data_dir, SETTINGS) as streams:
        await fork_often(streams, data_dir, forks, report)
        await delete_chain(streams, data_dir, chain, report)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-forks", description=__doc__)
    parser.add_argument("--forks", type=int, default=100_000, help="of one source")
    parser.add_argument("--chain", type=int, default=1000, help="forks of forks to be deleted")
    parser.add_argument("--directory", type=Path, help="where to make the data directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prove-forks-", dir=options.directory) as directory:
        report = asyncio.run(prove(Path(directory) / "data", options.forks, options.chain))
    print(f"{options.forks} forks of one source in {report.forks_s:.0f} s")
    shown = [made for made in report.cpu_ms if made in {1000, options.forks // 2, options.forks}]
    for made in shown or report.cpu_ms:
        print(f"  with {made}: {report.cpu_ms[made]:.2f} ms of CPU each")
    print(f"  copies of the sealed segment beside the first: {report.copies}")
    print(f"  the last took {report.ratio:.2f} times the first; bound: {BOUND}")
    print(
        f"a chain of {options.chain} forks of forks: its deletion was answered in "
        f"{report.answered_s:.2f} s, all gone in {report.gone_s:.1f} s; "
        f"the loop was held up for {1000 * report.longest_stall_s:.0f} ms at most"
    )
    return 0 if report.ratio < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
