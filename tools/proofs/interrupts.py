"""Ctrl-C at random moments: a program and the server end quietly, and lose nothing acknowledged."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

import durable_streams
from tools.proofs.interrupted_program import WRITERS
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

TROUBLE: Final = re.compile(
    r"Traceback|was destroyed|never (?:retrieved|awaited)|Exception (?:ignored|in)|Warning"
)
LONGEST_LIFE_S: Final = 0.3
TEXT: Final = {"Content-Type": "text/plain"}


@dataclass
class Interrupted:
    """What happened, and what was not as it should be."""

    interrupts: int = 0
    acknowledged: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.interrupts} interrupts, {len(self.acknowledged)} appends acknowledged,"
            f" {len(self.faults)} faults"
        )


async def of_program(data_dir: Path, count: int, seed: int) -> Interrupted:
    """Interrupt a program that embeds the library, as it opens, works or closes."""
    seen, chance = Interrupted(), random.Random(f"program {seed}")
    for number in range(count):
        loop = chance.choice(("asyncio", "uvloop"))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "default", "-m", "tools.proofs.interrupted_program"),
            *(str(data_dir), str(number), loop),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert program.stdout is not None
        if await program.stdout.readline() == b"up\n":
            talking = asyncio.create_task(program.communicate())
            await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE_S))
            program.send_signal(signal.SIGINT)
            printed, told = await talking
        else:
            printed, told = await program.communicate()
        seen.interrupts += 1
        seen.acknowledged += printed.decode().split()
        if program.returncode != 130 or TROUBLE.search(told.decode()):
            seen.faults.append(f"program {number} ({loop}), {program.returncode}: {told.decode()}")
    await compare(data_dir, seen)
    return seen


async def of_server(data_dir: Path, count: int, seed: int) -> Interrupted:
    """Interrupt the server while it is written to and followed."""
    seen, chance = Interrupted(), random.Random(f"server {seed}")
    server = ServerProcess(data_dir)
    for number in range(count):
        await asyncio.to_thread(server.start)
        async with aiohttp.ClientSession() as session:
            clients = [
                *(write(session, server, f"{number}.{n}", n, seen) for n in range(WRITERS)),
                *(follow(session, server.url(f"s0?offset=-1&live={how}")) for how in LIVE),
            ]
            talking = [asyncio.create_task(client) for client in clients]
            await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE_S))
            code = await asyncio.to_thread(server.interrupt)
            await asyncio.gather(*talking)
        seen.interrupts += 1
        if code != 0:
            seen.faults.append(f"server {number} ended with {code}")
    if TROUBLE.search(server.stderr):
        seen.faults.append(server.stderr)
    await compare(data_dir, seen)
    return seen


LIVE: Final = ("sse", "long-poll")


async def write(
    session: aiohttp.ClientSession, server: ServerProcess, run: str, writer: int, seen: Interrupted
) -> None:
    url, number = server.url(f"s{writer}"), 0
    try:
        async with session.put(url, headers=TEXT):
            pass
        while True:
            token = f"{run}.{number};"
            async with session.post(url, data=token.encode(), headers=TEXT) as answer:
                if answer.status >= 300:
                    return
                seen.acknowledged.append(token)
            number += 1
    except aiohttp.ClientError:
        return


async def follow(session: aiohttp.ClientSession, url: str) -> None:
    try:
        async with session.get(url) as answer:
            await answer.read()
    except aiohttp.ClientError:
        return


async def compare(data_dir: Path, seen: Interrupted) -> None:
    """Everything acknowledged is there once, and what is there is whole."""
    found: list[str] = []
    async with durable_streams.open(data_dir) as streams:
        for writer in range(WRITERS):
            await streams.create(f"s{writer}", content_type="text/plain")
            await streams.close(f"s{writer}")
            found += [m.data.decode() async for m in streams.tail(f"s{writer}")]
    if len(set(found)) < len(found):
        seen.faults.append("something was stored twice")
    missing = set(seen.acknowledged) - set(found)
    if missing:
        seen.faults.append(f"acknowledged and lost: {sorted(missing)[:10]}")
