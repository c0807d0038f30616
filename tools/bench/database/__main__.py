"""How fast the store on PostgreSQL is, on a cluster of its own (`scripts/bench --database`).

A primary with two synchronous standbys is started, one of which each commit waits for; nodes, and
who asks them, run beside it.  The exit status is 1 if a node gave a wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.bench.client import WORK, build
from tools.bench.database.plan import Plan, Sizes
from tools.bench.machine import describe
from tools.bench.servers import raise_file_limit
from tools.postgres_cluster import PostgresCluster
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

DOCUMENT: Final = ROOT / "docs" / "beyond-one-machine-last.rst"

_SETTINGS: Final = {"shared_buffers": "256MB", "max_wal_size": "4GB", "wal_keep_size": "512MB"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    sizes = Sizes()
    parser = argparse.ArgumentParser(prog="scripts/bench --database", description=__doc__)
    parser.add_argument("--seconds", type=float, default=sizes.seconds, help="for each figure")
    parser.add_argument("--rounds", type=int, default=sizes.rounds, help="of what is compared")
    parser.add_argument("--streams", type=int, default=sizes.streams, help="where they are many")
    parser.add_argument("--publish", action="store_true", help=f"write docs/{DOCUMENT.name}")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rounds < 1:
        parser.error("nothing is measured in no time")
    WORK.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=WORK))
    work.chmod(0o755)  # the database's user goes through it
    try:
        plan = measure(work, Sizes(options.seconds, options.rounds, options.streams))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tables = plan.figures.rst(_machine(plan))
    print(tables)
    for line in [*plan.figures.missed(), *plan.errors]:
        print(line, file=sys.stderr)
    if options.publish:
        head = ":orphan:\n\n.. Written by scripts/bench --database --publish.\n\n"
        DOCUMENT.write_text(head + tables)
    return 1 if plan.errors else 0


def measure(work: Path, sizes: Sizes, databases: Path | None = None) -> Plan:
    """Run all of it; ``work``: an empty directory on the disk to measure.

    ``databases``: where to have those instead.
    """
    raise_file_limit()
    program = build()
    where = databases or work
    with PostgresCluster(2, where, _SETTINGS, wal_segment_mib=16, has_links=False) as cluster:
        plan = Plan(cluster.primary.url(), work, program, sizes)
        _run(plan.run())
    return plan


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On the event loop that the server uses if it is there."""
    try:
        import uvloop  # it need not be there
    except ModuleNotFoundError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def _machine(plan: Plan) -> list[str]:
    found = describe(sys.executable, WORK)
    clean = "" if found["commit_is_clean"] else ", with changes"
    asyncpg = importlib.metadata.version("asyncpg")
    hardware = f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB"
    python = f"Python {found['python']}, uvloop {found['uvloop']}, asyncpg {asyncpg}"
    sizes = plan.sizes
    return [
        f"{hardware}, Linux {found['kernel']}, {found['file_system']}: all on this one machine",
        "PostgreSQL with two standbys, ``ANY 1``, ``synchronous_commit = on``",
        f"{python}; commit {found['commit']}{clean}",
        f"bodies of 256 B; {sizes.seconds:g} s each, medians of {sizes.rounds} rounds",
    ]


if __name__ == "__main__":
    sys.exit(main())
