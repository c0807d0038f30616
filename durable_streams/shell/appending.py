"""``append``: what is given as arguments, in a file, or comes by a pipe without end.

What comes by a pipe is kept in a spool until it is stored, so that a pipe keeps its place over
restarts of the server and of this program (:mod:`.spool`).  All other input stays where it is; a
producer's number makes each append of it be stored once while this runs.
"""

from __future__ import annotations

import argparse
import math
import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamNotFound
from durable_streams.program import PROGRAM
from durable_streams.shell import targets
from durable_streams.shell.buffers import Memory
from durable_streams.shell.cutting import Cutter, Input
from durable_streams.shell.exit_status import Status
from durable_streams.shell.formats import Content
from durable_streams.shell.output import Output
from durable_streams.shell.pump import Pump
from durable_streams.shell.spool import SPOOL_BYTES, NoSpool, Spool, claimed
from durable_streams.shell.targets import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.shell.buffers import Buffer
    from durable_streams.shell.spool import Batch
    from durable_streams.shell.targets import AnyStreams, Target

STDIN: Final = 0
_LINGER_S: Final = 0.05
_BATCH_BYTES: Final = 256 * 1024
_ONCE_REACHED_S: Final = 60.0
"""How long a file's append is tried again once the server was there."""

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

_ABOUT: Final = (
    "Append arguments, a file or what comes by a pipe, also one without end. What came by a pipe "
    "is kept on disk until it is stored, and is stored once, over restarts of the server and of "
    "this command."
)


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb."""
    command = add_parser(
        "append", help="append to a stream: arguments, a file, or a pipe", description=_ABOUT
    )
    command.add_argument("path", metavar="STREAM", help="its path, such as logs/web, or its URL")
    command.add_argument(
        "data",
        nargs="*",
        metavar="TEXT",
        help="a line, or a message of JSON, each (default: stdin)",
    )
    command.add_argument("--file", metavar="FILE", help="append what is in a file")
    command.add_argument(
        "--input",
        choices=[how.value for how in Input],
        default=Input.AUTO.value,
        help="how what is read is cut: at lines of text, as a message of JSON in each line, or as "
        "it comes (default: as the stream's type wants it)",
    )
    command.add_argument(
        "--create",
        metavar="TYPE",
        help="create the stream if it is not there: json, text, or any media type",
    )
    command.add_argument("--close", action="store_true", help="close the stream at the end")
    command.add_argument(
        "--linger",
        type=_seconds,
        default=_LINGER_S,
        metavar="SECONDS",
        help=f"how long an append waits for more (default: {_LINGER_S:g})",
    )
    command.add_argument(
        "--batch",
        type=_size,
        default=_BATCH_BYTES,
        metavar="BYTES",
        help=f"an append of so much waits for nothing more (default: {_BATCH_BYTES})",
    )
    command.add_argument(
        "--spool-bytes",
        type=_size,
        default=SPOOL_BYTES,
        metavar="BYTES",
        help="how much of a pipe is kept while the server is away, before it is read no more "
        f"(default: {SPOOL_BYTES})",
    )
    command.add_argument(
        "--no-spool", action="store_true", help="keep nothing: a restart loses what is under way"
    )
    command.add_argument("--json", action="store_true", help="tell what was stored as JSON")
    targets.add_to(command)
    command.set_defaults(run_async=_append)


def _seconds(text: str) -> float:
    value = targets.seconds(text)
    if math.isinf(value):
        raise argparse.ArgumentTypeError("it has to end: give seconds, such as 0.1")
    return value


def _size(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give bytes, from 1 on")
    return int(text)


async def _append(options: argparse.Namespace) -> int:
    target, path = targets.target_of(options).at(options.path)
    source = _Source(options)
    try:
        content_type = await _content_type(target, path, options)
        patience_s = math.inf if source.is_pipe else max(options.wait, _ONCE_REACHED_S)
        async with targets.opened(target, wait_s=patience_s, makes=True) as streams:
            appending = _Appending(streams, target, path, content_type, options)
            with appending.kept:
                await appending.run(source)
    finally:
        source.close()
    if options.json:
        output = Output()
        await output.json(appending.told())
        await output.flush()
    return Status.BAD_DATA if appending.bad else Status.DONE


async def _content_type(target: Target, path: str, options: argparse.Namespace) -> str:
    """The type of the stream, which is made if that was asked for."""
    kind = options.create
    async with targets.opened(
        target, wait_s=options.wait, makes=kind is not None, writes=True
    ) as streams:
        try:
            return (await streams.get_metadata(path)).content_type
        except StreamNotFound:
            if kind is None:
                raise
        created = await streams.create(path, content_type=targets.media_type(kind))
        return created.content_type


class _Source:
    """Where it comes from."""

    def __init__(self, options: argparse.Namespace) -> None:
        if options.data and options.file is not None:
            raise Unusable("give TEXT or --file FILE, not both")
        self.data: list[str] = options.data
        self.fd: int | None = None
        self.pipe = ""
        self._is_ours = options.file is not None
        if self._is_ours:
            try:
                self.fd = os.open(options.file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise Unusable(f"{options.file} cannot be opened: {error.strerror}") from None
        elif not options.data:
            self.fd = STDIN
        if self.fd is None:
            return
        status = os.fstat(self.fd)
        if stat.S_ISDIR(status.st_mode):
            self.close()
            raise Unusable(f"{options.file or 'stdin'} is a directory")
        if os.isatty(self.fd):
            sys.stderr.write("reading from the terminal; end it with Ctrl-D\n")
        elif not stat.S_ISREG(status.st_mode) and not options.no_spool:
            boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
            self.pipe = f"{status.st_dev}:{status.st_ino}:{boot}"

    @property
    def is_pipe(self) -> bool:
        """Whether what is read is gone from where it was."""
        return bool(self.pipe)

    def close(self) -> None:
        """Let go of a file."""
        if self._is_ours and self.fd is not None:
            os.close(self.fd)
            self.fd = None


class _Appending:
    """One use of ``append``, once the server has said which type the stream has."""

    def __init__(
        self,
        streams: AnyStreams,
        target: Target,
        path: str,
        content_type: str,
        options: argparse.Namespace,
    ) -> None:
        self.kept = ExitStack()
        self._streams = streams
        self._path = path
        self._content_type = content_type
        self._options = options
        self._how = Input(options.input).for_content(Content.of(content_type))
        self._place = target.identity
        self._cutters: list[Cutter] = []
        self._next_offset: str | None = None
        self._appends = 0
        self._has_told = self._is_pipe = False

    @property
    def bad(self) -> int:
        """How many lines were no JSON."""
        return sum(cutter.bad for cutter in self._cutters)

    def told(self) -> dict[str, object]:
        """What was stored."""
        return {
            "path": self._path,
            "appends": self._appends,
            "left_out": self.bad,
            "next_offset": self._next_offset,
        }

    async def run(self, source: _Source) -> None:
        """Append all of it, and what was left of runs before."""
        self._is_pipe = source.is_pipe
        spools = self._spools(source)
        for spool in spools[1:]:
            await self._drain(spool)
        mine = spools[0] if spools else None
        buffer = await self._buffer(mine, source)
        await self._pump(buffer).run(source.fd)
        if self._options.close:
            self._next_offset = (await self._streams.close(self._path)).next_offset

    def _spools(self, source: _Source) -> list[Spool]:
        """Those that are free; none if nothing is kept, or cannot be and need not."""
        if self._options.no_spool:
            return []
        try:
            spools = claimed(self._place, self._path, self._options.spool_bytes)
        except NoSpool:
            if source.is_pipe:
                raise
            return []
        for spool in spools:
            self.kept.callback(_leave, spool)
        return spools

    async def _drain(self, spool: Spool) -> None:
        """Have all that a run before left stored."""
        self._cutters.append(spool.again(self._options.batch))
        spool.end_line()
        await self._pump(spool).run(None)

    async def _buffer(self, spool: Spool | None, source: _Source) -> Buffer:
        batch_bytes = self._options.batch
        if spool is not None and spool.goes_on(self._how, source.pipe):
            cutter = spool.again(batch_bytes)
            self._cutters.append(cutter)
            return spool
        claims = None
        cutter = Cutter(self._how, batch_bytes)
        if spool is not None:
            if spool.has_leftovers:
                await self._drain(spool)
            cutter = spool.renew(self._how, source.pipe, batch_bytes)
            if not source.is_pipe:
                claims = spool.new_claims()
        self._cutters.append(cutter)
        if spool is not None and source.is_pipe:
            return spool
        return Memory(cutter, claims, self._arguments(source))

    def _arguments(self, source: _Source) -> bytes:
        end = "" if self._how is Input.RAW else "\n"
        return b"".join(os.fsencode(f"{text}{end}") for text in source.data)

    def _pump(self, buffer: Buffer) -> Pump:
        return Pump(
            buffer,
            self._send,
            linger_s=self._options.linger,
            batch_bytes=self._options.batch,
            full=self._tell_full,
        )

    async def _send(self, batch: Batch) -> None:
        result = await self._streams.append(
            self._path, batch.body, content_type=self._content_type, producer=batch.claim
        )
        self._next_offset = result.next_offset
        self._appends += 1

    def _tell_full(self) -> None:
        """Once, and only of a pipe: others can wait unheard."""
        if not self._has_told and self._is_pipe:
            self._has_told = True
            sys.stderr.write(
                f"{PROGRAM}: {self._options.spool_bytes} bytes wait for the server: nothing more "
                "is read until it has taken some\n"
            )


def _leave(spool: Spool) -> None:
    """Say what stays in a spool, if anything does."""
    if spool.has_leftovers:
        sys.stderr.write(
            f"{PROGRAM}: what may not be stored yet is kept, and sent next time: "
            f"{spool.size_bytes} bytes in {spool.directory}\n"
        )
    spool.close()
