"""Streams that somebody uses do not end: what a proof notices if one does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tools.proofs.cluster_book import Faults
from tools.proofs.cluster_lasting import Lasting
from tools.proofs.cluster_load import Persistent

if TYPE_CHECKING:
    from tools.server_process import ServerProcess


class Noticed(Faults):
    """Tells when there is the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def add(self, text: str) -> None:
        super().add(text)
        self.first.set()


@pytest.mark.parametrize("use", ["only-read", "only-appended", "only-followed"])
async def test_one_that_vanishes_is_noticed_however_it_is_used(
    use: str, server: ServerProcess
) -> None:
    faults = Noticed()
    async with aiohttp.ClientSession() as session:

        def url_of(path: str) -> str:
            return f"{server.base_url}/v1/stream/{path}"

        lasting = Lasting(session, Persistent(), url_of, "p", faults)
        await lasting.create(600)
        async with session.head(url_of(f"p/{use}")) as answer:
            assert answer.headers["Stream-TTL"] == "600"
        using = asyncio.create_task(lasting.use())
        while not lasting.used:
            await asyncio.sleep(0)
        assert not faults.texts
        async with session.delete(url_of(f"p/{use}")) as answer:
            assert answer.status == 204
        await faults.first.wait()
        using.cancel()
    (text,) = faults.texts
    assert f"p/{use} has vanished while it was in use" in text
