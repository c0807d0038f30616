"""``ls`` and ``info``: which streams there are, and what is known of one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from durable_streams.program import shown
from durable_streams.shell import targets
from durable_streams.shell.exit_status import Status
from durable_streams.shell.output import Output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.details import Details
    from durable_streams.listing import ListedStream


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    command = add_parser("ls", help="list streams by their paths")
    command.add_argument(
        "path", nargs="?", default="", metavar="PREFIX", help="only those at it, and below"
    )
    command.add_argument("-l", "--long", action="store_true", help="with types, sizes and times")
    command.add_argument("--json", action="store_true", help="one line of JSON for each stream")
    targets.add_to(command)
    command.set_defaults(run_async=_ls)

    command = add_parser("info", help="tell what is known of a stream")
    command.add_argument("path", metavar="STREAM", help="its path, or its URL")
    command.add_argument("--json", action="store_true", help="as JSON")
    targets.add_to(command)
    command.set_defaults(run_async=_info)


async def _ls(options: argparse.Namespace) -> int:
    target, prefix = targets.target_of(options).at(options.path)
    output = Output()
    async with targets.opened(target, wait_s=options.wait) as streams:
        async for stream in streams.list(prefix.rstrip("/")):
            if options.json:
                await output.json(asdict(stream))
            else:
                await output.line(_row(stream) if options.long else shown(stream.path))
        await output.flush()
    return Status.DONE


def _row(stream: ListedStream) -> str:
    if stream.error is not None:
        return f"{'-':>12}  {'-':20}  {'-':24}  {shown(stream.path)}  ({shown(stream.error)})"
    kind = shown(stream.content_type) + (" closed" if stream.closed else "")
    written = _time(stream.last_write_ms or stream.created_ms)
    return f"{stream.size_bytes:12}  {written:20}  {kind:24}  {shown(stream.path)}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")


async def _info(options: argparse.Namespace) -> int:
    target, path = targets.target_of(options).at(options.path)
    output = Output()
    async with targets.opened(target, wait_s=options.wait) as streams:
        found = await streams.details(path)
    if options.json:
        await output.json(_as_json(found))
    else:
        for name, value in _told(found):
            await output.line(f"{name + ':':14} {shown(str(value))}")
    await output.flush()
    return Status.DONE


def _as_json(found: Details) -> dict[str, Any]:
    stream = asdict(found.stream)
    rest = {name: getattr(found, name) for name in found.__slots__ if name != "stream"}
    told: dict[str, Any] = msgspec.to_builtins({**stream, **rest})
    return told


def _told(found: Details) -> list[tuple[str, object]]:
    stream = found.stream
    if stream.error is not None:
        return [("path", stream.path), ("unusable", stream.error)]
    rows: list[tuple[str, object]] = [
        ("path", stream.path),
        ("type", stream.content_type),
        ("size", f"{stream.size_bytes} bytes in {found.segments} files"),
        ("begins at", found.begin),
        ("ends at", f"{stream.next_offset}, {'closed' if stream.closed else 'open'}"),
        ("created", _time(stream.created_ms)),
        ("last write", _time(stream.last_write_ms) if stream.last_write_ms else "none"),
    ]
    if found.left_s is not None:
        rows.append(("expires", f"in {found.left_s} s unless it is used"))
    if stream.fork_of is not None:
        rows.append(("fork of", f"{stream.fork_of} up to {stream.fork_offset}"))
    if found.forks:
        rows.append(("forks", ", ".join(found.forks) + (", …" if found.more_forks else "")))
    rows.extend(
        ("producer", f"{producer.id}, epoch {producer.epoch}, seq {producer.seq}")
        for producer in found.last_producers
    )
    rows.append(("followers", found.followers))
    return rows
