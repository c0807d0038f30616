"""Verify a database, and say what is found as of files: see ``postgres.verifying``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.maintenance.findings import Checked, Finding, Level
from durable_streams.postgres.commands import with_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.postgres.verifying import Counts, Found

_LEVELS: Final = {
    "note": Level.NOTE,
    "incomplete": Level.INCOMPLETE,
    "damage": Level.DAMAGE,
}


def verify_database(
    url: str,
    report: Callable[[Finding], None],
    *,
    progress: Callable[[Checked], None] = lambda _checked: None,
) -> Checked:
    """Check every byte of a database, which may be served; :class:`.DatabaseProblem`."""
    checked = Checked()

    def count(counts: Counts) -> None:
        checked.streams, checked.appends = counts.streams, counts.appends
        checked.data_bytes = counts.data_bytes
        progress(checked)

    def tell(found: Found) -> None:
        level = _LEVELS[found.kind.value]
        checked.found[level] += 1
        report(Finding(level, Path(found.place), found.text, "", found.stream, found.meaning))

    async def work(database: DatabaseUrl) -> None:
        from durable_streams.postgres.verifying import verify  # noqa: PLC0415 - takes the driver

        await verify(database, tell, count)

    with_url(url, work)
    return checked
