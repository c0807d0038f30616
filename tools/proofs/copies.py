"""Copies of a live data directory: how they are made, and what each of them has to hold.

A copy is checked with ``verify`` before and after it was opened: it may be sound or torn, and
incomplete only in streams that were deleted meanwhile.  In between every stream that
ever was is compared with the ledger, and every producer sends its last append there once more and
then the next one.  Most copies are opened with the library, in this process; some by a server.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp

import durable_streams
from durable_streams.model.errors import StreamClosed, StreamError, StreamGone, StreamNotFound
from tools.proofs.ledger import (
    Claim,
    Damaged,
    Found,
    Life,
    Window,
    body_of,
    life_in_copy,
    lines_in,
    lines_of,
    tokens_in,
)
from tools.proofs.load import Client
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

EXIT_CODES: Final = {"cp": {0, 1}, "tar": {0, 1}, "rsync": {0, 24}, "hostile": {0}}
"""The tools, and how each may end: see docs/backup.rst."""


STATES: Final = {"sound": 0, "torn": 0, "damaged": 1, "unread": 2, "incomplete": 3}
"""What ``verify`` may say, and its exit status: see docs/maintenance.rst."""

AT_ONCE: Final = 32
"""Streams of a copy that are compared at a time."""


def missing_tools() -> list[str]:
    """The tools that this machine does not have."""
    return [tool for tool in EXIT_CODES if tool != "hostile" and shutil.which(tool) is None]


def commands(tool: str, source: Path, target: Path, seed: int = 0) -> list[list[str]]:
    """The command that copies a directory and, for an archive, the one that unpacks it."""
    match tool:
        case "cp":
            return [["cp", "-r", str(source), str(target)]]
        case "tar":
            archive = f"{target}.tar"
            return [
                ["tar", "-cf", archive, "-C", str(source), "."],
                ["tar", "-xf", archive, "-C", str(target)],
            ]
        case "rsync":
            return [["rsync", "-a", f"{source}/", f"{target}/"]]
        case "hostile":
            program = [sys.executable, "-m", "tools.proofs.hostile_copier"]
            return [[*program, str(source), str(target), str(seed)]]
        case other:
            raise ValueError(other)


async def execute(command: Sequence[str]) -> tuple[int, str]:
    """Run a command; its exit code and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


async def make_copy(tool: str, source: Path, target: Path, seed: int = 0) -> tuple[int, Window]:
    """Copy a live data directory; the tool's exit code, and when it ran."""
    copying, *unpacking = commands(tool, source, target, seed)
    began_s = time.monotonic()
    code, said = await execute(copying)
    window = Window(began_s, time.monotonic())
    if code not in EXIT_CODES[tool]:
        raise Damaged(f"{tool} ended with {code}: {said[-1000:]}")
    for command in unpacking:
        target.mkdir()
        if await execute(command) != (0, ""):
            raise Damaged(f"{tool} did not unpack")
        target.with_name(f"{target.name}.tar").unlink()
    return code, window


class OpenedCopy(Protocol):
    """A copy in use."""

    async def read(self, path: str) -> Found | None:
        """The whole stream; None if there is none."""
        ...

    async def append(self, life: Life, claim: Claim, body: bytes) -> str:
        """Append as a producer: ``stored``, ``duplicate`` or ``closed``."""
        ...


class LibraryCopy:
    """A copy opened with the library."""

    def __init__(self, streams: durable_streams.Streams) -> None:
        self._streams = streams

    async def read(self, path: str) -> Found | None:
        try:
            content_type = (await self._streams.get_metadata(path)).content_type
            lines: list[str] = []
            offset = "-1"
            while True:
                piece = await self._streams.read(path, offset)
                lines += lines_in(piece.data, content_type)
                offset = piece.next_offset
                if piece.up_to_date:
                    return Found(tokens_in(lines), piece.closed)
        except (StreamNotFound, StreamGone):
            return None

    async def append(self, life: Life, claim: Claim, body: bytes) -> str:
        producer = durable_streams.ProducerClaim(*claim)
        try:
            result = await self._streams.append(life.path, body, producer=producer)
        except StreamClosed:
            return "closed"
        return "duplicate" if result.duplicate else "stored"


class ServedCopy:
    """A copy in the hands of a server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, path: str) -> Found | None:
        found = await self._client.read(path)
        return None if found is None else Found(tokens_in(found[0]), found[1])

    async def append(self, life: Life, claim: Claim, body: bytes) -> str:
        headers = {
            "Content-Type": life.content_type,
            "Producer-Id": claim.producer,
            "Producer-Epoch": str(claim.epoch),
            "Producer-Seq": str(claim.seq),
        }
        answer, _ = await self._client.insist("POST", life.path, headers, body)
        match answer.status:
            case 200:
                return "stored"
            case 204:
                return "duplicate"
            case 409 if "Stream-Closed" in answer.headers:
                return "closed"
            case status:
                raise Damaged(f"{life.name}: {status} {answer.body!r}")


@asynccontextmanager
async def served(data_dir: Path) -> AsyncIterator[ServedCopy]:
    """Start a server on a copy."""
    server = ServerProcess(data_dir)
    await asyncio.to_thread(server.start)
    try:
        async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
            yield ServedCopy(Client(session, server))
    finally:
        await asyncio.to_thread(server.finish)


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[LibraryCopy]:
    """Open a copy with the library."""
    async with durable_streams.open(data_dir) as streams:
        yield LibraryCopy(streams)


async def faults_of_copy(
    data_dir: Path, lives: Mapping[str, Sequence[Life]], window: Window, *, by_server: bool = False
) -> list[str]:
    """Everything that is wrong with a copy."""
    faults = await asyncio.to_thread(faults_verified, data_dir, lives, window)
    try:
        async with served(data_dir) if by_server else opened(data_dir) as copy:
            limit = asyncio.Semaphore(AT_ONCE)

            async def compare(path: str) -> None:
                async with limit:
                    try:
                        await _compare(copy, path, lives[path], window)
                    except (Damaged, StreamError, ValueError) as error:
                        faults.append(f"{path}: {error!r}")

            await asyncio.gather(*map(compare, list(lives)))
    except (durable_streams.DataDirectoryError, AssertionError) as error:
        faults.append(f"does not start: {error}")
    return faults + await asyncio.to_thread(faults_verified, data_dir, lives, window)


def faults_verified(
    data_dir: Path, lives: Mapping[str, Sequence[Life]], window: Window
) -> list[str]:
    """What ``verify`` finds in a copy that no copy may show, and an exit status that is not so."""
    findings, state, status = verified(data_dir)
    faults = [
        f"verify: {finding}"
        for finding in findings
        if finding["level"] in {"damage", "unread"}
        or (finding["level"] == "incomplete" and not may_be_incomplete(finding, lives, window))
    ]
    if STATES.get(state) != status:
        faults.append(f"verify: {status}, but {state}")
    return faults


def verified(data_dir: Path) -> tuple[list[dict[str, str]], str, int]:
    """The findings of ``durable-streams verify``, the state, and the exit status."""
    command = [sys.executable, "-m", "durable_streams", "verify", "--json", str(data_dir)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.stderr or not run.stdout:
        return [], f"no state: {run.stderr}", run.returncode
    *findings, summary = map(json.loads, run.stdout.splitlines())
    return findings, summary["state"], run.returncode


def may_be_incomplete(
    finding: Mapping[str, str], lives: Mapping[str, Sequence[Life]], window: Window
) -> bool:
    """Whether a copy may show this stream incomplete.

    If it was deleted meanwhile, the tool found only some of its files; a copy that was laid over
    another one has older files before younger ones.
    """
    return window.layered or any(
        life.delete_sent_s is not None
        and life.delete_sent_s <= window.ended_s
        and not window.surely(life.deleted_s)
        for life in lives.get(finding["stream"], ())
    )


async def _compare(copy: OpenedCopy, path: str, lives: Sequence[Life], window: Window) -> None:
    found = await copy.read(path)
    life = life_in_copy(lives, found, window)
    if life is None or found is None:
        return
    there = set(found.tokens)
    last: dict[str, Claim] = {}
    for append in life.appends:
        if append.claim is not None and append.token in there:
            last[append.claim.producer] = append.claim
    for claim in last.values():
        body = body_of(lines_of("once-more", 1, "x"), life.content_type)
        answers = [
            await copy.append(life, claim, body),
            await copy.append(life, claim._replace(seq=claim.seq + 1), body),
        ]
        if found.closed:
            if answers[0] == "stored" or answers[1] != "closed":
                raise Damaged(f"{life.name}, closed, answers {claim} with {answers}")
        elif answers != ["duplicate", "stored"]:
            raise Damaged(f"{life.name} answers {claim} and its successor with {answers}")
