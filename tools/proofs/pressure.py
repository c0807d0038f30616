"""Writers at full speed while others read the whole data directory: slowed, never refused.

The server runs in this process, so that the lengths of its queues can be seen; writers over HTTP
and the copiers are processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from durable_streams import HttpSettings, ProducerClaim, Settings, Streams
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.pipeline.admission import _Place
from durable_streams.filestore.pipeline.pipeline import QUEUE_BYTES
from durable_streams.filestore.runtime.machine import MAX_JOBS
from durable_streams.filestore.store import FileStore
from durable_streams.http.server import HttpServer
from tools.engines import file_store
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from durable_streams.filestore.core import Core

KIB: Final = 1024
MIB: Final = 1024 * KIB
CONNECTIONS: Final = 64
PRODUCERS: Final = 50
COPIERS: Final = 2
LOOK_EVERY_S: Final = 0.02
MAX_CHECKPOINT_S: Final = 60.0
"""Between two checkpoints: 30 s if nothing asks for one, and as long again for the sync itself."""


class BusyDisk(Disk):
    """Takes its time for what goes to the streams' files, as one that others use does."""

    def __init__(self, write_s: float) -> None:
        self._write_s = write_s

    def pwrite(self, fd: int, data: bytes, position: int) -> None:
        if threading.current_thread().name == "durable-streams-apply":
            time.sleep(self._write_s)
        super().pwrite(fd, data, position)


@dataclass(frozen=True)
class Load:
    """What is done for how long."""

    settings: Settings
    seconds: float
    body_bytes: int = 100
    write_s: float = 0.0005


@asynccontextmanager
async def opened(data_dir: Path, load: Load) -> AsyncIterator[Streams]:
    """Open a data directory on a busy disk."""
    engine = await FileStore.at(data_dir, load.settings, BusyDisk(load.write_s))
    try:
        yield Streams(engine)
    finally:
        await engine.close()


@dataclass
class Seen:
    """What was seen of a server; ``most``: of each length its highest value."""

    writes: int = 0
    seconds: float = 0.0
    most: dict[str, float] = field(default_factory=dict)
    checkpoints: int = 0
    longest_between_s: float = 0.0
    longest_write_s: float = 0.0
    directories_read: int = 0
    faults: list[str] = field(default_factory=list)
    is_over: bool = False

    def __str__(self) -> str:
        lengths = ", ".join(f"{name} {most:,.6g}" for name, most in self.most.items())
        return (
            f"{self.writes} writes in {self.seconds:.0f} s,"
            f" the longest {self.longest_write_s:.2f} s;"
            f" {self.checkpoints} checkpoints, {self.longest_between_s:.1f} s apart at most;"
            f" the directory was read {self.directories_read} times; at most: {lengths};"
            f" {len(self.faults)} faults"
        )


def bounds(settings: Settings, writers: int) -> dict[str, float]:
    """What no length may exceed."""
    return {
        "jobs": MAX_JOBS,
        "writers in line": writers,
        "bytes to the journal": QUEUE_BYTES + settings.max_append_bytes + 4 * KIB,
        "bytes to the files": QUEUE_BYTES + settings.journal_files * settings.journal_file_bytes,
        "full journal files": settings.journal_files,
    }


def lengths(core: Core) -> dict[str, float]:
    """The lengths now."""
    workers = core.supervisor._workers.values()
    return {
        "jobs": max(worker.jobs for worker in workers),
        "bytes to the journal": core.pipeline.committer.waiting_bytes,
        "bytes to the files": core.pipeline.lag.bytes,
        "full journal files": core.pipeline.journal.full_files(),
    }


class Line(OrderedDict[_Place, None]):
    """The line of writers, which notes how long it was: it may be empty at every look."""

    longest = 0

    def __setitem__(self, place: _Place, nothing: None) -> None:
        super().__setitem__(place, nothing)
        self.longest = max(self.longest, len(self))


async def _watch(core: Core, seen: Seen) -> None:
    """Look at a server."""
    applied, at_s = core.pipeline.journal.checkpointed, time.monotonic()
    while not seen.is_over:
        for name, length in lengths(core).items():
            seen.most[name] = max(seen.most.get(name, 0), length)
        now_s = time.monotonic()
        seen.longest_between_s = max(seen.longest_between_s, now_s - at_s)
        if core.pipeline.journal.checkpointed != applied:
            applied, at_s = core.pipeline.journal.checkpointed, now_s
            seen.checkpoints += 1
        await asyncio.sleep(LOOK_EVERY_S)


async def _copy(data_dir: Path, seen: Seen) -> None:
    """Read everything, again and again."""
    while not seen.is_over:
        reading = await asyncio.create_subprocess_shell(
            'tar -cf - . 2>/dev/null | cat >"$NOWHERE"', cwd=data_dir, env={"NOWHERE": "/dev/null"}
        )
        await reading.wait()
        seen.directories_read += 1


@asynccontextmanager
async def under_observation(core: Core, writers: int) -> AsyncIterator[Seen]:
    """Copiers read the directory, and what is seen meanwhile is compared with the bounds."""
    seen, began_s = Seen(), time.monotonic()
    data_dir = core.directory.root
    line = core.admission._line = Line(core.admission._line)
    tasks = [asyncio.create_task(_watch(core, seen))]
    tasks += [asyncio.create_task(_copy(data_dir, seen)) for _ in range(COPIERS)]
    try:
        yield seen
    finally:
        seen.is_over = True
        await asyncio.gather(*tasks)
        seen.seconds = time.monotonic() - began_s
        seen.most["writers in line"] = line.longest
    for name, bound in bounds(core.settings, writers).items():
        if seen.most[name] > bound:
            seen.faults.append(f"{name}: {seen.most[name]}, more than {bound}")
    if seen.longest_between_s > MAX_CHECKPOINT_S:
        seen.faults.append(f"no checkpoint for {seen.longest_between_s:.1f} s")
    if core.health.fault is not None:
        seen.faults.append(str(core.health.fault))


async def over_http(data_dir: Path, load: Load) -> Seen:
    """64 connections at full speed."""
    async with opened(data_dir, load) as streams:
        server, bound = HttpServer(streams.engine, HttpSettings()), socket.socket()
        bound.bind(("127.0.0.1", 0))
        await server.start([bound])
        arguments = [bound.getsockname()[1], CONNECTIONS, load.seconds, load.body_bytes]
        async with under_observation(file_store(streams)._core, CONNECTIONS) as seen:
            told = json.loads(await _run("tools.proofs.pressure_clients", arguments))
        await server.stop()
    statuses = {int(status): number for status, number in told["statuses"].items()}
    seen.writes = sum(number for status, number in statuses.items() if status < 300)
    seen.longest_write_s = told["longest_s"]
    if len(statuses) != 2 or set(statuses) != {201, 204}:
        seen.faults.append(f"answers {statuses}: {told['refusals']}")
    return seen


async def _run(module: str, arguments: Sequence[object]) -> bytes:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    return told


async def in_library(data_dir: Path, load: Load) -> Seen:
    """50 producers at full speed who wait for as long as it takes."""
    assert load.settings.held_up_s == math.inf
    body = b"x" * load.body_bytes
    async with opened(data_dir, load) as streams:
        async with under_observation(file_store(streams)._core, PRODUCERS) as seen:
            until_s = time.monotonic() + load.seconds

            async def produce(number: int) -> None:
                path = f"produced/{number}"
                await streams.create(path, content_type="text/plain")
                for seq in range(sys.maxsize):
                    began_s = time.monotonic()
                    if began_s >= until_s:
                        return
                    claim = ProducerClaim(f"p{number}", 0, seq)
                    await streams.append(path, body, producer=claim)
                    seen.writes += 1
                    took_s = time.monotonic() - began_s
                    seen.longest_write_s = max(seen.longest_write_s, took_s)

            ends = await asyncio.gather(*map(produce, range(PRODUCERS)), return_exceptions=True)
        seen.faults += [repr(end) for end in ends if end is not None]
    return seen
