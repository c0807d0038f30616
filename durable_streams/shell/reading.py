"""``read`` and ``tail``: what is in a stream, and with ``-f`` what comes.

They differ in where they begin: at the beginning, or with the last ten.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.process.standard_streams import OutputFailed
from durable_streams.shell import places, targets
from durable_streams.shell.envelopes import Envelopes
from durable_streams.shell.exit_status import Status
from durable_streams.shell.formats import Content, Format, Printer
from durable_streams.shell.output import Output
from durable_streams.shell.waiting import nobody_reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.messages import Message
    from durable_streams.shell.targets import AnyStreams

_LAST: Final = 10
STDOUT: Final = 1


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs; each sets ``run_async`` to a coroutine function."""
    command = add_parser("read", help="print what is in a stream; with -f, what comes as well")
    _add_flags(command)
    command.set_defaults(run_async=partial(_read, default_last=None))
    command = add_parser("tail", help="print the last ten messages or lines; with -f, what comes")
    _add_flags(command)
    command.set_defaults(run_async=partial(_read, default_last=_LAST))


def _add_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="STREAM", help="its path, such as logs/web, or its URL")
    command.add_argument(
        "-f", "--follow", action="store_true", help="wait for more, until the stream is closed"
    )
    begin = command.add_mutually_exclusive_group()
    begin.add_argument(
        "-n",
        "--last",
        type=_count,
        metavar="N",
        help="begin with the last N lines of text, or messages",
    )
    begin.add_argument(
        "--since", type=_instant, metavar="WHEN", help=f"begin with what came then: {places.WHEN}"
    )
    begin.add_argument(
        "--offset", metavar="OFFSET", help="begin there: an offset, -1 (the beginning) or now"
    )
    command.add_argument(
        "--until", type=_instant, metavar="WHEN", help="end with what came by then, likewise"
    )
    command.add_argument(
        "--format",
        choices=[form.value for form in Format],
        default=Format.AUTO.value,
        help="how it is printed: envelope has times, offsets and producers (default: text on a "
        "terminal, else messages as lines of JSON, and bytes as they are)",
    )
    command.add_argument("--json", action="store_true", help="the same as --format jsonl")
    targets.add_to(command)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: give one from 0 on")
    return int(text)


def _instant(text: str) -> datetime:
    try:
        return places.instant(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give {places.WHEN}") from None


async def _read(options: argparse.Namespace, *, default_last: int | None) -> int:
    target, path = targets.target_of(options).at(options.path)
    async with targets.opened(target, wait_s=options.wait) as streams:
        reading = _Reading(streams, path, options, default_last)
        if options.follow:
            await _unless_nobody_reads(reading)
        else:
            await reading.run()
    return Status.DONE


async def _unless_nobody_reads(reading: _Reading) -> None:
    """Print what comes, for as long as somebody reads it: nothing may come for days."""
    running = asyncio.ensure_future(reading.run())
    left = asyncio.ensure_future(nobody_reads(STDOUT))
    try:
        await asyncio.wait({running, left}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise OutputFailed(BrokenPipeError())
        running.result()
    finally:
        for task in (running, left):
            task.cancel()
        await asyncio.wait({running, left})


class _Reading:
    """One use of ``read`` or ``tail``."""

    def __init__(
        self,
        streams: AnyStreams,
        path: str,
        options: argparse.Namespace,
        default_last: int | None,
    ) -> None:
        self._streams = streams
        self._path = path
        self._options = options
        begins = options.since is not None or options.offset is not None
        self._last: int | None = options.last
        if self._last is None and not begins:
            self._last = default_last
        self._form = Format.JSONL if options.json else Format(options.format)
        self._until: datetime | None = options.until
        self._end: str | None = None
        self._output = Output()
        self._printer: Printer | Envelopes | None = None

    async def run(self) -> None:
        """Print all of it."""
        left_s = None
        if self._until is not None:
            self._end = await places.end_of(self._streams, self._path, self._until)
            left_s = (self._until - datetime.now(UTC)).total_seconds()
        limit = asyncio.timeout(left_s if left_s and left_s > 0 else None)
        try:
            async with limit:
                await self._run()
        except TimeoutError:
            if not limit.expired():
                raise
        if self._printer is not None:
            await self._printer.end()

    async def _run(self) -> None:
        found = await self._streams.get_metadata(self._path)
        content = Content.of(found.content_type)
        start = await self._start(found.next_offset)
        messages: list[Message] = []
        if self._form is Format.ENVELOPE:
            if self._last is not None:
                start = await self._start_of_last(found.next_offset)
            self._printer = Envelopes(self._output, self._streams, self._path, content, start)
        else:
            self._printer = Printer(self._output, self._form, content)
            if self._last is not None:
                messages, start = await places.last(self._streams, self._path, content, self._last)
        if await self._put(messages):
            await self._follow(start)

    async def _start(self, tail: str) -> str:
        if self._options.since is not None:
            return await places.first_since(self._streams, self._path, self._options.since)
        offset = self._options.offset or places.BEGINNING
        return tail if offset == "now" else offset

    async def _start_of_last(self, tail: str) -> str:
        if not self._last:
            return tail
        found = await self._streams.records(self._path, last=self._last)
        return found.records[0].offset if found.records else places.BEGINNING

    async def _follow(self, start: str) -> None:
        follow = self._options.follow and self._end is None
        async with aclosing(self._streams.tail(self._path, start, live=follow)) as tail:
            while some := await tail.some():
                if not await self._put(some):
                    return

    async def _put(self, messages: list[Message]) -> bool:
        """Print messages; whether there may be more that are wanted."""
        printer = self._printer
        wanted = messages
        if self._end is not None:
            cut = [places.up_to(message, self._end) for message in messages]
            wanted = [message for message in cut if message is not None]
        if isinstance(printer, Envelopes) and wanted:
            await printer.put_some(wanted)
        elif isinstance(printer, Printer):
            for message in wanted:
                await printer.put(message)
        await self._output.flush()
        return len(wanted) == len(messages)
