"""``create``, ``close``, ``rm`` and ``fork``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from durable_streams.program import shown
from durable_streams.shell import targets
from durable_streams.shell.exit_status import Status
from durable_streams.shell.output import Output
from durable_streams.shell.targets import Unusable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from durable_streams.outcomes import Metadata
    from durable_streams.shell.targets import AnyStreams


def add_to(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    command = add_parser("create", help="create a stream, or find that the same one is there")
    command.add_argument("path", metavar="STREAM", help="its path, or its URL")
    command.add_argument(
        "-t",
        "--content-type",
        metavar="TYPE",
        help="json, text, or any media type (default: application/octet-stream)",
    )
    _add_lifetime(command)
    command.add_argument("--closed", action="store_true", help="closed from the beginning")
    _finish(command, _create)

    command = add_parser("fork", help="create a stream that begins with another's content")
    command.add_argument("source", metavar="SOURCE", help="the other's path, or its URL")
    command.add_argument("path", metavar="STREAM", help="the new one's path")
    command.add_argument("--offset", metavar="OFFSET", help="up to there (default: all of it)")
    _add_lifetime(command)
    _finish(command, _fork)

    command = add_parser("close", help="close a stream for good: it takes nothing more")
    command.add_argument("path", metavar="STREAM", help="its path, or its URL")
    _finish(command, _close)

    command = add_parser("rm", help="delete streams and their content for good")
    command.add_argument("paths", nargs="+", metavar="STREAM", help="paths, or URLs")
    command.add_argument("-f", "--force", action="store_true", help="ask nobody")
    command.add_argument(
        "-r", "--recursive", action="store_true", help="all streams below each path as well"
    )
    _finish(command, _rm)


def _add_lifetime(command: argparse.ArgumentParser) -> None:
    ends = command.add_mutually_exclusive_group()
    ends.add_argument(
        "--ttl", type=int, metavar="SECONDS", help="it ends when nobody has used it for so long"
    )
    ends.add_argument("--expires-at", metavar="WHEN", help="it ends then: RFC 3339")


def _finish(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], object]) -> None:
    command.add_argument("--json", action="store_true", help="tell what came of it as JSON")
    targets.add_to(command)
    command.set_defaults(run_async=run)


async def _create(options: argparse.Namespace) -> int:
    target, path = targets.target_of(options).at(options.path)
    async with targets.opened(target, wait_s=options.wait, makes=True) as streams:
        found = await streams.create(
            path,
            content_type=targets.media_type(options.content_type),
            ttl_s=options.ttl,
            expires_at=options.expires_at,
            closed=options.closed,
        )
    return await _tell_created(found, as_json=options.json)


async def _fork(options: argparse.Namespace) -> int:
    target, source = targets.target_of(options).at(options.source)
    _, path = target.at(options.path)
    async with targets.opened(target, wait_s=options.wait, writes=True) as streams:
        found = await streams.fork(
            path,
            source,
            offset=options.offset,
            ttl_s=options.ttl,
            expires_at=options.expires_at,
        )
    return await _tell_created(found, as_json=options.json)


async def _tell_created(found: Metadata, *, as_json: bool) -> int:
    output = Output()
    if as_json:
        await output.json(asdict(found))
    else:
        was = "created" if found.created else "it is there already, and the same"
        await output.line(f"{shown(found.path)}: {was}, {shown(found.content_type)}")
    await output.flush()
    return Status.DONE


async def _close(options: argparse.Namespace) -> int:
    target, path = targets.target_of(options).at(options.path)
    output = Output()
    async with targets.opened(target, wait_s=options.wait, writes=True) as streams:
        closed = await streams.close(path)
    if options.json:
        await output.json({"path": path, "next_offset": closed.next_offset, "closed": True})
    else:
        await output.line(f"{shown(path)}: closed at {shown(closed.next_offset)}")
    await output.flush()
    return Status.DONE


async def _rm(options: argparse.Namespace) -> int:
    common = targets.target_of(options)
    output = Output()
    for given in options.paths:
        target, path = common.at(given)
        if not path.strip("/"):
            raise Unusable("which stream? rm needs a path, also for all below it")
        async with targets.opened(target, wait_s=options.wait, writes=True) as streams:
            for doomed in await _doomed(streams, path, options):
                await streams.delete(doomed)
                if options.json:
                    await output.json({"path": doomed, "deleted": True})
                await output.flush()
    return Status.DONE


async def _doomed(streams: AnyStreams, path: str, options: argparse.Namespace) -> list[str]:
    """What is to be deleted; :class:`Unusable` if somebody who was asked says no."""
    paths = [path]
    if options.recursive:
        paths = [stream.path async for stream in streams.list(path)]
    else:
        await streams.get_metadata(path)  # nobody is asked about what is not there
    if not options.force and sys.stdin.isatty():
        what = f"{len(paths)} streams at and below it" if options.recursive else "its content"
        sys.stderr.write(f"{shown(path)} and {what} will be gone for good; type its name: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != path:
            raise Unusable("that is not its name: nothing was deleted")
    return paths
