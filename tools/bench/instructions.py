"""Two builds of our server compared by the instructions they execute (``--pair --instructions``).

Valgrind counts them, in all threads of the process but not in the kernel, some fifty times slower.
What else the machine does hardly matters, so a difference of a few percent shows in one sample,
where CPU time takes ten quiet pairs.  What instructions cost does not show: caches, the kernel, and
the disk, beside which a slow server collects more writes to a commit than a fast one.

Each workload runs twice, the second time longer.  What both have in common, start-up and filling,
is not in the difference, which is divided by that of the requests.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.bench.builds import OTHER, THIS
from tools.bench.client import Client
from tools.bench.compare import cores
from tools.bench.cpu import REQUESTS
from tools.bench.report import text_table
from tools.bench.servers import RunningServer, ServerFailed
from tools.bench.workloads import Live, Stage

if TYPE_CHECKING:
    from tools.bench.catalog import Entry
    from tools.bench.compare import Plan
    from tools.bench.servers import Contender

LONGER: Final = 3
"""How many times as long the second run of a workload is."""

COLUMNS: Final = ("workload", "for each", "this/other", "this: instructions", "other: instructions")

_COUNTING: Final = (
    # The same hashes in both runs: the order of a set is chance otherwise, and its time.
    *("env", "PYTHONHASHSEED=0"),
    *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
)
_COUNTED: Final = re.compile(r"I +refs: +([0-9,]+)")


@dataclass(frozen=True)
class _Run:
    """What one run took in all; ``requests``: those that were measured."""

    instructions: int
    requests: float


def _run(entry: Entry, build: Contender, program: Path, plan: Plan, work: Path) -> _Run:
    directory = Path(tempfile.mkdtemp(prefix=f"{build.name}-", dir=work))
    server_core, client_core = cores()
    counted = replace(build, command=(*_COUNTING, *build.command))
    server = RunningServer(counted, directory, server_core)
    client = Client(program, server.port, client_core, plan.token)
    stage = Stage(server, client, seconds=plan.seconds, warmup_s=0, read_back_streams=0)
    try:
        server.start()
        entry.workload.run(stage)
    finally:
        server.stop()
    if stage.sample.errors:
        raise ServerFailed(f"{entry.name}, {build.name}: {stage.sample.first_errors}")
    found = _COUNTED.search(server.log_end(100))
    if found is None:
        raise ServerFailed(f"valgrind told no instructions of {build.name}: {server.log_end()}")
    return _Run(int(found[1].replace(",", "")), stage.sample.metrics[REQUESTS])


def per_request(entry: Entry, build: Contender, program: Path, plan: Plan, work: Path) -> float:
    """Instructions for each answered request (for each delivery, if readers follow)."""
    short = _run(entry, build, program, plan, work)
    longer = replace(plan, seconds=LONGER * plan.seconds)
    long = _run(entry, build, program, longer, work)
    if long.requests <= short.requests:
        raise ServerFailed(f"{entry.name}, {build.name}: too short, it says nothing of a request")
    return (long.instructions - short.instructions) / (long.requests - short.requests)


def table(
    entries: list[Entry], builds: list[Contender], program: Path, plan: Plan, work: Path
) -> str:
    """Both builds' figures of each workload, for the terminal."""
    lines: list[tuple[str, ...]] = []
    for entry in entries:
        took = {build.name: per_request(entry, build, program, plan, work) for build in builds}
        print(f"{entry.name}: {took}", file=sys.stderr, flush=True)
        counted = "delivery" if isinstance(entry.workload, Live) else "request"
        ratio = f"{took[THIS] / took[OTHER]:.3f}"
        lines.append((entry.name, counted, ratio, f"{took[THIS]:,.0f}", f"{took[OTHER]:,.0f}"))
    return "\n".join(text_table(COLUMNS, lines)) + "\n"
