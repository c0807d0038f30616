"""``bench``: how many appends and reads a second there are, and how long they take."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from array import array
from time import monotonic
from typing import TYPE_CHECKING, Final

from durable_streams.shell import targets
from durable_streams.shell.exit_status import Status
from durable_streams.shell.output import Output

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.shell.targets import AnyStreams

_SECONDS: Final = 5.0
_BYTES: Final = 100
_AT_ONCE: Final = 16


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb."""
    command = add_parser("bench", help="measure appends and reads, on a stream of its own")
    command.add_argument(
        "--seconds",
        type=targets.seconds,
        default=_SECONDS,
        help=f"for each of both (default: {_SECONDS:g})",
    )
    command.add_argument(
        "--size",
        type=_number,
        default=_BYTES,
        metavar="BYTES",
        help=f"of an append (default: {_BYTES})",
    )
    command.add_argument(
        "--at-once",
        type=_number,
        default=_AT_ONCE,
        metavar="N",
        help=f"how many are under way together (default: {_AT_ONCE})",
    )
    command.add_argument("--json", action="store_true", help="the figures as JSON")
    targets.add_to(command)
    command.set_defaults(run_async=_bench)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: give one from 1 on")
    return int(text)


async def _bench(options: argparse.Namespace) -> int:
    target = targets.target_of(options)
    path = f"bench-{secrets.token_hex(8)}"
    output = Output()
    async with targets.opened(target, wait_s=options.wait, writes=True) as streams:
        await streams.create(path)
        try:
            append = _appending(streams, path, bytes(options.size))
            figures = {"append": await _measured(append, options)}
            read = _reading(streams, path)
            figures["read"] = await _measured(read, options)
        finally:
            await streams.delete(path)
    for name, found in figures.items():
        if options.json:
            await output.json({"what": name, **found})
        else:
            await output.line(
                f"{name + ':':8}{found['per_s']:.0f} a second,"
                f" {found['bytes_per_s'] / 1e6:.1f} MB/s,"
                f" p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms"
            )
    await output.flush()
    return Status.DONE


def _appending(streams: AnyStreams, path: str, data: bytes) -> Callable[[], Awaitable[int]]:
    kind = "application/octet-stream"

    async def append() -> int:
        await streams.append(path, data, content_type=kind)
        return len(data)

    return append


def _reading(streams: AnyStreams, path: str) -> Callable[[], Awaitable[int]]:
    """Each read is of what follows the one before it; behind the end, from the beginning."""
    place = "-1"

    async def read() -> int:
        nonlocal place
        found = await streams.read(path, place)
        place = found.next_offset if found.has_more else "-1"
        return len(found.data)

    return read


async def _measured(
    do: Callable[[], Awaitable[int]], options: argparse.Namespace
) -> dict[str, float]:
    """Do it again and again, so many at once."""
    times = array("d")
    moved = 0
    begin_s = monotonic()

    async def work() -> None:
        nonlocal moved
        while (began_s := monotonic()) < begin_s + options.seconds:
            moved += await do()
            times.append(monotonic() - began_s)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(options.at_once):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    lasted_s = max(monotonic() - begin_s, 1e-9)
    ordered = sorted(times) or [0.0]
    return {
        "per_s": len(times) / lasted_s,
        "bytes_per_s": moved / lasted_s,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
    }
