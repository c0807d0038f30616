"""The command line's verbs ``verify``, ``repair`` and ``dump``.

Exit status of ``verify``: 0 sound or torn, 1 damaged, 2 not all could be looked at, 3 incomplete;
where several apply, the first in the order 1, 3, 2.  So it is of a database, which is never torn.
Of ``repair``: 0 if nothing has to be repaired or is left, else 1.  Of ``dump``: 0 when all was
printed.  Of all: 2 if the argument is nothing that can be looked at, or the system refused
something.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.databases import is_database
from durable_streams.maintenance.database_check import verify_database
from durable_streams.maintenance.dump import NotDumpable, dump
from durable_streams.maintenance.findings import Finding, Level, State
from durable_streams.maintenance.repair import repair
from durable_streams.maintenance.verify import verify
from durable_streams.postgres.commands import DatabaseProblem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.maintenance.findings import Checked

EXIT_DAMAGE: Final = 1
EXIT_NOTHING: Final = 2
EXIT_INCOMPLETE: Final = 3
EXITS: Final = {
    State.SOUND: 0,
    State.TORN: 0,
    State.DAMAGED: EXIT_DAMAGE,
    State.UNREAD: EXIT_NOTHING,
    State.INCOMPLETE: EXIT_INCOMPLETE,
}
_DETAILS: Final = (Level.NOTE, Level.TORN)
"""Findings that are shown on demand."""

_REDRAW_S: Final = 0.2


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the three verbs; each sets ``run`` to a function from options to exit status."""
    command = add_parser(
        "verify", help="read every byte of a data directory or database, check every checksum"
    )
    command.add_argument(
        "directory",
        help="a data directory, a copy of one, a stream's; or a database (postgresql://...)",
    )
    command.add_argument("-v", "--verbose", action="store_true", help="tell of torn ends and notes")
    command.add_argument("--json", action="store_true", help="one line of JSON for each finding")
    command.set_defaults(run=partial(_told, _verify))

    command = add_parser("repair", help="cut damaged and incomplete streams to what is sound")
    command.add_argument("directory", type=Path, help="a data directory that no server uses")
    command.add_argument("--apply", action="store_true", help="do it; without, only say what")
    command.set_defaults(run=partial(_told, _repair))

    command = add_parser("dump", help="print a journal, an index or a sidecar")
    command.add_argument("path", type=Path, help="a file, a stream's directory, a data directory")
    command.add_argument("--full", action="store_true", help="print content whole")
    command.set_defaults(run=partial(_told, _dump))


def _told(verb: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a verb; what the system refuses is one line."""
    try:
        return verb(options)
    except OSError as error:
        sys.stderr.write(f"durable-streams: error: {error}\n")
        return EXIT_NOTHING


def _verify(options: argparse.Namespace) -> int:
    progress = _Progress()

    def report(finding: Finding) -> None:
        if finding.level not in _DETAILS or options.verbose or options.json:
            progress.clear()
            print(_as_json(finding) if options.json else finding)

    if is_database(options.directory):
        try:
            checked = verify_database(options.directory, report, progress=progress)
        except DatabaseProblem as error:
            sys.stderr.write(f"durable-streams: error: {' '.join(str(error).split())}\n")
            return EXIT_NOTHING
    else:
        checked = verify(Path(options.directory), report, progress=progress)
    progress.clear()
    counts = {level.value: checked.found[level] for level in Level}
    if options.json:
        total = {"streams": checked.streams, "appends": checked.appends} | counts
        print(json.dumps(total | {"state": checked.state.name.lower()}))
    else:
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        print(
            f"{_count(checked.streams, 'stream')}, {_count(checked.appends, 'append')}, "
            f"{_count(checked.data_bytes, 'byte')}: {checked.state.value}"
            + (f" ({found})" if found else "")
        )
    return EXITS[checked.state]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_json(finding: Finding) -> str:
    return json.dumps({**asdict(finding), "level": finding.level.value, "file": str(finding.file)})


def _repair(options: argparse.Namespace) -> int:
    outcome = repair(options.directory, print, apply=options.apply)
    if not outcome.repaired and not outcome.left:
        print("nothing has to be repaired")
        return 0
    if options.apply:
        print(f"{_count(outcome.repaired, 'stream')} repaired, {outcome.left} left as they are")
        return EXIT_DAMAGE if outcome.left else 0
    print(
        f"{_count(outcome.repaired, 'stream')} to repair; nothing was changed: stop the server and "
        "say --apply, which recovers the journal first"
    )
    return EXIT_DAMAGE


def _dump(options: argparse.Namespace) -> int:
    try:
        for line in dump(options.path, full=options.full):
            print(line)
    except NotDumpable as error:
        sys.stderr.write(f"durable-streams: error: {error}\n")
        return EXIT_NOTHING
    return 0


class _Progress:
    """One line on a terminal, drawn anew now and then."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._drawn = 0.0

    def __call__(self, checked: Checked) -> None:
        now = time.monotonic()
        if self._shown and now - self._drawn > _REDRAW_S:
            self._drawn = now
            text = f"{_count(checked.streams, 'stream')}, {checked.data_bytes / 1e6:.0f} MB"
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Make room for other lines."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
