"""The command line's verb ``import``: streams of another server, into a directory or a server.

Exit status: 0 when all that was named is there, whole; 1 when something is not, which stderr tells;
2 if it could not begin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import durable_streams.client.aio as client
from durable_streams.client.address import Address
from durable_streams.importing.copying import Copied, Differs, copy
from durable_streams.importing.source_names import names_in
from durable_streams.library import open_streams
from durable_streams.model.errors import (
    DataDirectoryError,
    StreamError,
    StreamGone,
    StreamNotFound,
    UnexpectedAnswer,
    Unreachable,
)
from durable_streams.program import PROGRAM, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable

    from durable_streams.client.aio import RemoteStreams
    from durable_streams.streams import Streams

EXIT_INCOMPLETE: Final = 1
EXIT_NOTHING: Final = 2

_AT_ONCE: Final = 4
"""Streams that are copied at the same time: small ones wait for answers, mostly."""

_REDRAW_S: Final = 0.2

_ABOUT: Final = """\
Copy streams of any server of the protocol into a data directory that no server uses, or to a
server, with their content types, lifetimes and ends. Nothing of the source changes. Run again, it
goes on where it was, and compares all that is there."""


class _Problem(Exception):
    """It cannot begin; the text is one line for the user."""


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb, which sets ``run`` to a function from options to exit status."""
    command = add_parser("import", help="copy streams of another server", description=_ABOUT)
    command.add_argument("url", metavar="URL", help="what streams are below, as .../v1/stream")
    command.add_argument("paths", metavar="PATH", nargs="*", help="streams; without: all it lists")
    command.add_argument("--paths-from", metavar="FILE", help="their paths, one a line; -: stdin")
    command.add_argument(
        "--names-in", type=Path, metavar="DIR", help="or a data directory of the reference server"
    )
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--data-dir", type=Path, metavar="DIR", help="where to put them")
    target.add_argument("--to", metavar="URL", help="or the server that takes them")
    command.add_argument("--token-file", type=Path, metavar="FILE", help="of the source")
    command.add_argument("--to-token-file", type=Path, metavar="FILE", help="of the target")
    command.add_argument("--json", action="store_true", help="one line of JSON for each stream")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        return asyncio.run(_import(options))
    except (_Problem, StreamError, DataDirectoryError, OSError, ValueError) as error:
        _say(f"error: {error}")
        return EXIT_NOTHING


async def _import(options: argparse.Namespace) -> int:
    token, to_token = _token(options.token_file), _token(options.to_token_file)
    named = _named(options)
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(client.connect(options.url, token=token))
        target: Streams | RemoteStreams
        if options.to is not None:
            target = await stack.enter_async_context(client.connect(options.to, token=to_token))
        else:
            target = await stack.enter_async_context(open_streams(options.data_dir))
        paths = _listed(source) if named is None else _each(named)
        work = _Work(source, target, paths, show=partial(_show, as_json=options.json))
        await work.all()
    return EXIT_INCOMPLETE if work.failed else 0


def _token(file: Path | None) -> str | None:
    return None if file is None else file.read_text().strip()


def _named(options: argparse.Namespace) -> list[str] | None:
    """The streams that the command names, in whatever way; None: it names none."""
    named = list(options.paths)
    if options.paths_from == "-":
        named += sys.stdin.read().splitlines()
    elif options.paths_from is not None:
        named += Path(options.paths_from).read_text().splitlines()
    if options.names_in is not None:
        found, unknown = names_in(options.names_in, Address.parse(options.url).prefix)
        named += found
        for file in unknown:
            _say(f"{file} does not tell the path of its stream: name it by PATH if it is wanted")
    is_named = named or options.paths_from is not None or options.names_in is not None
    return [path for path in named if path] if is_named else None


async def _each(paths: list[str]) -> AsyncIterator[str]:
    for path in paths:
        yield path


async def _listed(source: RemoteStreams) -> AsyncIterator[str]:
    try:
        async for stream in source.list():
            yield stream.path
    except UnexpectedAnswer as error:
        raise _Problem(f"{error}. Name the streams, or use --paths-from or --names-in") from None


@dataclass
class _Work:
    """What is to be copied, and how far that is."""

    source: RemoteStreams
    target: Streams | RemoteStreams
    paths: AsyncIterator[str]
    show: Callable[[Copied], None]
    failed: int = 0
    done: int = 0
    read_bytes: int = 0
    _shown_s: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def all(self) -> None:
        """Copy everything, several at once; ends early if a server is not there any more."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._some())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _some(self) -> None:
        while (path := await self._next()) is not None:
            try:
                copied = await copy(self.source, self.target, path, self._progress)
            except (StreamNotFound, StreamGone):
                self._fail(f"{path}: there is no such stream (any more)")
            except Unreachable as error:
                raise _Problem(f"{path}: {error}. Run it again: it goes on where it was") from None
            except (StreamError, Differs) as error:
                self._fail(f"{path}: {error}")
            else:
                self.done += 1
                self._clear()
                self.show(copied)

    async def _next(self) -> str | None:
        async with self._turn:  # an iterator is for one at a time
            return await anext(self.paths, None)

    def _fail(self, text: str) -> None:
        self.failed += 1
        self._clear()
        _say(text)

    def _progress(self, size_bytes: int) -> None:
        self.read_bytes += size_bytes
        now_s = time.monotonic()
        if sys.stderr.isatty() and now_s - self._shown_s > _REDRAW_S:
            self._shown_s = now_s
            sys.stderr.write(f"\r{self.done} streams, {self.read_bytes / 1e6:.1f} MB read")
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._shown_s:
            sys.stderr.write("\r\x1b[K")
            self._shown_s = 0.0


def _show(copied: Copied, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(copied)), flush=True)
        return
    end = ", closed" if copied.closed else ""
    print(
        f"{shown(copied.path)}: {copied.size_bytes} bytes, {copied.new_bytes} new{end}; "
        f"{shown(copied.source_offset)} is {shown(copied.offset)} here",
        flush=True,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {shown(' '.join(text.split()))}\n")
