"""Editors in Node processes, and the Yjs server between them and ours: told and listened to.

Nothing here looks at the clock.  Every program says in lines what happens to it, and a test waits
until what it wants has happened (:meth:`Programs.until`).  A program that says that something went
wrong fails the test, unless an outage was announced to it (``in_outage``).
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Final

from tools.node import YJS

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S: Final = 120
"""Not a judgement on speed: what never happens ends the test with what did."""

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A line may hold the whole text."""

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz äß€漢\n"


class Programs:
    """All programs of a test, and what went wrong in them."""

    def __init__(self) -> None:
        self.all: list[Program] = []
        self.faults: list[str] = []
        self.heard = asyncio.Condition()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; fail as soon as a program has a fault."""
        try:
            async with asyncio.timeout(PATIENCE_S), self.heard:
                await self.heard.wait_for(lambda: self.faults or condition())
        except TimeoutError:
            self.faults.append(f"nothing came of it in {PATIENCE_S} s")
        assert not self.faults, "\n".join([*self.faults, *map(str, self.all)])

    async def notify(self) -> None:
        """Something happened."""
        async with self.heard:
            self.heard.notify_all()

    async def kill(self) -> None:
        """End them all."""
        for program in self.all:
            await program.kill()


class Program:
    """A Node program; what it writes to stdout and stderr goes to :meth:`hear`."""

    def __init__(self, programs: Programs, name: str) -> None:
        self.name = name
        self.in_outage = False
        self._programs = programs
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        programs.all.append(self)

    def __str__(self) -> str:
        public = {key: value for key, value in vars(self).items() if key[0] != "_"}
        return ", ".join(f"{key} {value!s:.200}" for key, value in public.items())

    async def run(self, *command: str) -> None:
        """Start the program."""
        self._process = await asyncio.create_subprocess_exec(
            "node",
            *command,
            cwd=YJS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE_BYTES,
        )
        self._listening = asyncio.create_task(self._listen(self._process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode().removesuffix("\n")
            word, _, rest = text.partition(" ")
            if not self.hear(word, rest):
                print(f"{self.name}: {text}")  # pytest shows it if the test fails
            await self._programs.notify()
        if process is self._process:  # nobody killed it
            self._programs.faults.append(f"{self.name}: ended by itself")
            await self._programs.notify()

    def hear(self, word: str, rest: str) -> bool:
        """Take in a line that the program wrote; False if it means nothing."""
        raise NotImplementedError

    def fault(self, text: str) -> None:
        """Something went wrong: fail the test, unless there is an outage."""
        if not self.in_outage:
            self._programs.faults.append(f"{self.name}: {text}")

    def tell(self, **order: str) -> None:
        """Give an order, a line of JSON."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def kill(self) -> None:
        """SIGKILL, if it runs; after that, everything it wrote was heard."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert self._listening is not None
        await self._listening


class YjsServer(Program):
    """The Yjs server; its port stays the same over restarts."""

    def __init__(self, programs: Programs, our_url: str) -> None:
        super().__init__(programs, "Yjs server")
        self.our_url = our_url
        self.url = ""
        self.listens = False
        self.snapshots: list[str] = []

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self.listens = False
        await self.run("server.mjs", self.our_url, self.url.rpartition(":")[2] or "0")
        await self._programs.until(lambda: self.listens)

    def hear(self, word: str, rest: str) -> bool:
        """Take in a line that the server wrote."""
        match word:
            case "listening":
                self.url = rest
                self.listens = True
            case "[Compactor]" if rest.startswith("Compacted "):
                self.snapshots.append(rest.rpartition("offset=")[2])
            case "[Compactor]" | "[YjsServer]":
                self.fault(rest)
                return False
            case _:
                return False
        return True


class Editor(Program):
    """Somebody who edits the text; ``editor.mjs`` says what the lines mean."""

    def __init__(self, programs: Programs, name: str, live_mode: str) -> None:
        super().__init__(programs, name)
        self.live_mode = live_mode
        self.typed: list[str] = []
        self.sees: set[str] = set()
        self.reads = 0
        self.is_open = False
        self.failed = False
        self.length = 0
        self.stored = 0
        self.text: str | None = None

    async def start(self, url: str) -> None:
        """Start it and wait until it has opened the document."""
        await self.run("editor.mjs", url, self.name, self.live_mode)
        await self.open()

    async def open(self) -> None:
        """Open the document afresh; whatever outage there was is over."""
        self.is_open = self.failed = self.in_outage = False
        self.tell(do="open")
        await self._programs.until(lambda: self.is_open)

    def paste(self, size: int) -> None:
        """Put so many characters at the end, at once."""
        begin = f"<{self.name} pastes {len(self.typed)}: "
        filler = random.Random(begin).choices(LETTERS, k=size - len(begin) - 1)
        self._edit("paste", f"{begin}{''.join(filler)}>")

    def type(self) -> None:
        """Type a few words at the beginning, letter by letter."""
        self._edit("type", f"<{self.name} types {len(self.typed)}>")

    def _edit(self, how: str, text: str) -> None:
        self.typed.append(text)
        self.tell(do=how, text=text)

    async def show(self) -> str:
        """Return the text as this editor has it."""
        self.text = None
        self.tell(do="show")
        await self._programs.until(lambda: self.text is not None)
        return str(self.text)

    def hear(self, word: str, rest: str) -> bool:
        """Take in a line that the editor wrote."""
        match word:
            case "open":
                self.is_open = True
            case "sees":
                self.sees.add(rest)
            case "reads":
                self.reads = int(rest)
            case "length":
                self.length = int(rest)
            case "stored":
                self.stored = int(rest)
            case "text":
                self.text = json.loads(rest)
            case "lost":
                self._programs.faults.append(f"{self.name}: what was stored is lost, text {rest}")
            case "failed":
                self.failed = True
                self.fault(rest)
                return False
            case _:
                return False
        return True
