"""The command line's verbs ``verify``, ``repair`` and ``dump``.

Exit status: 0 if nothing is damaged (``verify``), is left to be repaired (``repair``), or when all
was printed (``dump``); 1 if something is; 2 if the argument is nothing that can be looked at.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.maintenance.dump import NotDumpable, dump
from durable_streams.maintenance.findings import Finding, Level
from durable_streams.maintenance.repair import repair
from durable_streams.maintenance.verify import verify

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.maintenance.findings import Checked

EXIT_DAMAGE: Final = 1
EXIT_NOTHING: Final = 2
_REDRAW_S: Final = 0.2


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the three verbs; each sets ``run`` to a function from options to exit status."""
    command = add_parser(
        "verify", help="read every byte of a data directory and check every checksum"
    )
    command.add_argument("directory", type=Path, help="a data directory, a copy of one, a stream's")
    command.add_argument("-v", "--verbose", action="store_true", help="tell of torn ends as well")
    command.add_argument("--json", action="store_true", help="one line of JSON for each finding")
    command.set_defaults(run=_verify)

    command = add_parser("repair", help="cut damaged streams to what is sound")
    command.add_argument("directory", type=Path, help="a data directory that no server uses")
    command.add_argument("--apply", action="store_true", help="do it; without, only say what")
    command.set_defaults(run=_repair)

    command = add_parser("dump", help="print a journal, an index or a sidecar")
    command.add_argument("path", type=Path, help="a file, a stream's directory, a data directory")
    command.add_argument("--full", action="store_true", help="print content whole")
    command.set_defaults(run=_dump)


def _verify(options: argparse.Namespace) -> int:
    progress = _Progress()

    def report(finding: Finding) -> None:
        if finding.level is not Level.NOTE or options.verbose or options.json:
            progress.clear()
            print(_as_json(finding) if options.json else finding)

    checked = verify(options.directory, report, progress=progress)
    progress.clear()
    counts = {level.value: checked.found[level] for level in Level}
    if options.json:
        print(json.dumps({"streams": checked.streams, "appends": checked.appends} | counts))
    else:
        print(
            f"{_count(checked.streams, 'stream')}, {_count(checked.appends, 'append')}, "
            f"{_count(checked.data_bytes, 'byte')}: "
            f"{'sound' if checked.is_sound else 'DAMAGED'} "
            f"({', '.join(f'{count} {name}' for name, count in counts.items())})"
        )
    return 0 if checked.is_sound else EXIT_DAMAGE


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
