"""Yjs on our server: editors and its own server, every server killed, no character lost."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.yjs.programs import Editor, Programs, YjsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

PASTE_CHARACTERS: Final = 100_000
"""More than makes a snapshot due, and more than one publication or event is made of."""

SEGMENT_BYTES: Final = 300_000
"""Many segments: snapshots and readers stop at the ends of some, and go on one past them."""

DOCUMENT: Final = "desk/docs/shared/text"


class Writing:
    """Two editors at one text, one following it by event stream, the other by long-poll."""

    def __init__(self, programs: Programs, ours: ServerProcess) -> None:
        self.ours = ours
        self.programs = programs
        self.yjs = YjsServer(programs, ours.base_url)
        self.left = Editor(programs, "left", "sse")
        self.right = Editor(programs, "right", "long-poll")
        self.editors = [self.left, self.right]

    @property
    def typed(self) -> list[str]:
        """What all of them typed, in no order."""
        return [text for editor in self.editors for text in editor.typed]

    async def start(self) -> None:
        """Start everything, and write until each editor has seen the other."""
        await self.yjs.start()
        for editor in self.editors:
            await editor.start(self.yjs.url)
        while not self.left.sees or not self.right.sees:
            for editor in self.editors:
                editor.type()
            await self.arrived()

    def edit(self) -> None:
        """Everybody edits, at the same time; nothing is waited for."""
        for editor in self.editors:
            editor.paste(PASTE_CHARACTERS)
            editor.type()

    async def arrived(self) -> None:
        """Wait until everything is everywhere, and acknowledged."""
        length = sum(map(len, self.typed))
        await self.programs.until(
            lambda: all(
                editor.length == length and editor.stored == len(editor.typed)
                for editor in self.editors
            )
        )

    async def paste_into_event_stream(self) -> None:
        """Paste on both sides; whoever follows by event stream can read on in the one it has."""
        reads = self.left.reads
        for editor in (self.left, self.right):  # it gets its own paste back, before the other
            editor.paste(PASTE_CHARACTERS)
            await self.arrived()
        assert self.left.reads == reads

    @asynccontextmanager
    async def outage(self, server: ServerProcess | YjsServer) -> AsyncIterator[None]:
        """One of the servers is killed, and started again afterwards."""
        self.yjs.in_outage = True
        if isinstance(server, YjsServer):
            await server.kill()
            yield
            await server.start()
        else:
            server.kill()
            yield
            server.start()

    async def kill_amid_edits(self, server: ServerProcess | YjsServer) -> None:
        """Kill a server while edits are on their way to it, and edit on over the outage."""
        stored = self.left.stored + self.right.stored
        self.edit()
        self.edit()
        await self.programs.until(lambda: self.left.stored + self.right.stored > stored)
        self.left.in_outage = self.right.in_outage = True
        async with self.outage(server):
            self.edit()
            await self.programs.until(lambda: self.left.failed and self.right.failed)
        self.edit()
        for editor in self.editors:
            await editor.open()
        self.edit()
        await self.arrived()
        self.yjs.in_outage = False

    async def snapshot_of_all(self) -> str:
        """Paste until there is a snapshot of everything there is, and return its offset."""
        while (offset := await self._snapshot_after_paste()) != await self.tail():
            pass  # it was begun before the paste; the next one is not
        return offset

    async def _snapshot_after_paste(self) -> str:
        snapshots = self.yjs.snapshots
        known = len(snapshots)
        self.left.paste(PASTE_CHARACTERS)
        await self.arrived()
        await self.programs.until(lambda: len(snapshots) > known)
        return snapshots[-1]

    async def tail(self) -> str:
        """Where the stream of the document's updates ends, says our server."""
        url = self.ours.url(f"yjs/{DOCUMENT}/.updates")
        async with aiohttp.ClientSession() as session, session.head(url) as response:
            return response.headers["Stream-Next-Offset"]

    async def where_to_begin(self) -> str:
        """Where the Yjs server sends somebody who opens the document."""
        url = f"{self.yjs.url}/v1/yjs/{DOCUMENT}?offset=snapshot"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return response.headers["Location"].partition("offset=")[2]

    async def stored_snapshots(self) -> list[str]:
        """The offsets of all snapshots there were, from the stream that lists them."""
        url = self.ours.url(f"yjs/{DOCUMENT}/.index")
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return [entry["snapshotOffset"] for entry in await response.json()]


@pytest.mark.node
@pytest.mark.parametrize("lane", ["fast lane", "aiohttp"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_everybody_has_every_character_once_over_killed_servers_and_compactions(
    loop: str, lane: str, start_server: StartServer
) -> None:
    options = [] if lane == "fast lane" else ["--no-fast-lane"]
    ours = start_server("--loop", loop, "--segment-bytes", str(SEGMENT_BYTES), *options)
    programs = Programs()
    writing = Writing(programs, ours)
    try:
        await writing.start()
        await writing.paste_into_event_stream()
        snapshots = [await writing.snapshot_of_all()]
        for server in (ours, writing.yjs, ours, writing.yjs):
            await writing.kill_amid_edits(server)
            snapshots.append(await writing.snapshot_of_all())

        # Those who only follow come through by themselves.
        for server in (ours, writing.yjs):
            async with writing.outage(server):
                pass
        writing.yjs.in_outage = False

        # Who opens the document now begins one past its end.
        assert await writing.where_to_begin() == f"{snapshots[-1]}_snapshot"
        late = [Editor(programs, f"late {mode}", mode) for mode in ("sse", "long-poll")]
        for editor in late:
            await editor.start(writing.yjs.url)
        writing.editors += late
        for editor in late:
            editor.type()
            editor.paste(PASTE_CHARACTERS)
        await writing.arrived()

        texts = [await editor.show() for editor in writing.editors]
        stored = await writing.stored_snapshots()
    finally:
        await programs.kill()

    assert all(text == texts[0] for text in texts)
    assert [typed[:40] for typed in writing.typed if texts[0].count(typed) != 1] == []
    assert len(texts[0]) == sum(map(len, writing.typed))
    assert stored == sorted(stored)  # one may be there twice: its append was repeated after a kill
    assert set(snapshots) <= set(writing.yjs.snapshots) <= set(stored)
