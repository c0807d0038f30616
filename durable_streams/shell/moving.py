"""``store copy``: all streams of a data directory into a database, or back, or between two."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from durable_streams.databases import is_database
from durable_streams.filestore.transfer.source import SourceDirectory
from durable_streams.filestore.transfer.target import TargetDirectory
from durable_streams.model.errors import DataDirectoryError
from durable_streams.moving.copying import Progress, check_same, copy, retire
from durable_streams.postgres.commands import INSTALL, DatabaseProblem, without_secret
from durable_streams.postgres.urls import NoDatabaseUrl
from durable_streams.program import PROGRAM, shown
from durable_streams.shell.exit_status import Status
from durable_streams.transfers import Done, InUse, NotReached, NotUsable, Occupied, TransferError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.transfers import Source, Target

REDRAW_S: Final = 0.2
"""Between two drawings on a terminal."""

LINE_S: Final = 30.0
"""Between two lines elsewhere."""

_ABOUT: Final = """\
Copy all streams of a data directory, or of a database, into a new one of either kind: with their
offsets, producers, times, forks and ends, so that clients go on with what they have. Neither may be
served meanwhile. All is compared in the end. If it is broken off, run it again: it goes on where it
was, and what changed in the source is copied anew. Tokens, and keys of signed URLs, are not
copied."""

_STATUS: Final[tuple[tuple[type[TransferError], Status], ...]] = (
    (Occupied, Status.CONFLICT),
    (InUse, Status.BUSY),
    (NotReached, Status.UNREACHABLE),
    (NotUsable, Status.USAGE),
    (TransferError, Status.REFUSED),
)


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb, which sets ``run`` to a function from options to exit status."""
    command = add_parser(
        "copy", help="copy all streams into a database, or from one", description=_ABOUT
    )
    where = "a data directory, or postgresql://user@host1,host2/database without a password"
    command.add_argument("source", metavar="SOURCE", help=where)
    command.add_argument("target", metavar="TARGET", help="likewise, without any streams")
    command.add_argument(
        "--retire",
        action="store_true",
        help="have nobody serve SOURCE afterwards, until a mark is taken away by hand",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # Ctrl-C ends it at once, as if it were killed: it goes on where it was.  What asyncio would
    # cancel may be a commit that waits for a standby.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return asyncio.run(_copy(options.source, options.target, retires=options.retire))
    except Done as done:
        sys.stdout.write(f"{shown(str(done))}: nothing was done\n")
        return Status.DONE
    except TransferError as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return _told(error, status)
    except (NoDatabaseUrl, DatabaseProblem, DataDirectoryError) as error:
        return _told(error, Status.USAGE)
    except OSError as error:
        return _told(error, Status.REFUSED)


async def _copy(source_name: str, target_name: str, *, retires: bool) -> int:
    source = await _source(source_name)
    try:
        target = await _target_of(source, target_name, retires=retires)
        shown_here = Shown(sys.stderr, time.monotonic, is_terminal=sys.stderr.isatty())
        try:
            done = await copy(source, target, shown_here, retires=retires)
        finally:
            shown_here.clear()
            await target.close()
    finally:
        await source.close()
    _say(done, source, target)
    return Status.DONE


def _say(done: Progress, source: Source, target: Target) -> None:
    found = f", {done.found} of them there before" if done.found else ""
    sys.stdout.write(
        f"{_count(done.streams, 'stream')}{found}, {_count(done.appends, 'append')}, "
        f"{_count(done.data_bytes, 'byte')}: copied from {shown(source.name)} to "
        f"{shown(target.name)}, and found the same\n"
    )
    if done.left:
        sys.stdout.write(
            f"not copied: {done.left}, which are to be made anew in {shown(target.name)}\n"
        )
    if done.retired:
        _say_retired(source, done.retired)
    else:
        sys.stdout.write(
            f"{shown(source.name)} may still be served, and would go its own way: see to it that "
            "nobody starts that, or copy with --retire\n"
        )


def _say_retired(source: Source, taken_back: str) -> None:
    sys.stdout.write(f"{shown(source.name)} is served by nobody now, until {shown(taken_back)}\n")


async def _target_of(source: Source, name: str, *, retires: bool) -> Target:
    try:
        return await _target(name, source.identity)
    except Done as done:
        await check_same(source, done)
        if retires:
            _say_retired(source, await retire(source, name))
        raise


async def _source(name: str) -> Source:
    if not is_database(name):
        return await SourceDirectory.open(Path(name))
    url = without_secret(name)
    _need_driver()
    from durable_streams.postgres.copied_streams import SourceDatabase  # noqa: PLC0415 - an extra

    return await SourceDatabase.open(url)


async def _target(name: str, source: str) -> Target:
    if not is_database(name):
        return await TargetDirectory.open(Path(name), source)
    url = without_secret(name)
    _need_driver()
    from durable_streams.postgres.copy_target import TargetDatabase  # noqa: PLC0415 - an extra

    return await TargetDatabase.open(url, source)


def _need_driver() -> None:
    if find_spec("asyncpg") is None:
        raise DatabaseProblem(INSTALL)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _told(error: Exception, status: Status) -> int:
    sys.stderr.write(f"{PROGRAM}: error: {shown(' '.join(str(error).split()))}\n")
    return status


class Shown:
    """How far it is: one line on a terminal, drawn anew; elsewhere a line now and then.

    ``clock``: in seconds, from any moment on.
    """

    def __init__(self, to: TextIO, clock: Callable[[], float], *, is_terminal: bool) -> None:
        self._to = to
        self._clock = clock
        self._is_terminal = is_terminal
        self._told_s = clock()
        self._is_drawn = False

    def __call__(self, progress: Progress) -> None:
        """It is so far."""
        now_s = self._clock()
        if now_s - self._told_s < (REDRAW_S if self._is_terminal else LINE_S):
            return
        self._told_s = now_s
        text = f"{progress.phase.value}: {_count(progress.streams, 'stream')}"
        if progress.of:
            text += f" of {progress.of}"
        if progress.data_bytes:
            text += f", {progress.data_bytes / 1e6:.1f} MB"
        if self._is_terminal:
            self._is_drawn = True
            self._to.write(f"\r\x1b[K{text}")
        else:
            self._to.write(f"{PROGRAM}: {text}\n")
        self._to.flush()

    def clear(self) -> None:
        """Make room for other lines."""
        if self._is_drawn:
            self._to.write("\r\x1b[K")
