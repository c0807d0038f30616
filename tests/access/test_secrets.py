"""What must not be told: secrets in logs, and which streams there are to whoever is nobody."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.access.grants import Kind
from durable_streams.http.logs import JsonFormatter, TextFormatter
from durable_streams.library import Streams
from durable_streams.model.paths import is_reserved
from durable_streams.settings import HttpSettings
from tests.access.guarded import PREFIX, Held, ask, guarded, on
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import out_of_service

if TYPE_CHECKING:
    from pathlib import Path

WHO = Held("who", (on("room"),))


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """All lines as both formats write them."""
    formats: list[Any] = [TextFormatter(), JsonFormatter()]
    return "\n".join(form.format(record) for record in caplog.records for form in formats)


@pytest.mark.parametrize("name", ["signed", "s%69gned", "%73igne%64"])
@pytest.mark.parametrize("way", ["lane", "aiohttp"])
async def test_no_log_holds_a_credential(
    way: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = HttpSettings(fast_lane=way == "lane", access_log=True)
    async with guarded(tmp_path, [WHO], way, settings=settings) as server:
        await server.create("room/there")
        signed = server.sign(WHO, Kind.PREFIX, "room")
        client = await server.client()
        queries = [f"?{name}={signed}", f"?offset=-1&{name}={signed}", f"?{name}={signed}&x=1"]
        for path in ("room/there", "room/never", "elsewhere", "__ds/tokens"):
            for query in (*queries, f"?{name}={signed[:-1]}", f"?{name}={signed}&{name}={signed}"):
                ask(client, "GET", f"{PREFIX}/{path}{query}")
                assert (await client.answer()).headers["referrer-policy"] == "no-referrer"
            ask(client, "GET", f"{PREFIX}/{path}", [f"Authorization: {WHO.bearer}"])
            await client.answer()
            ask(client, "GET", f"{PREFIX}/{path}", [f"Authorization: Bearer {WHO.jwt()}"])
            await client.answer()
    text = logged(caplog)
    assert "[signature]" in text
    for secret in (signed.rpartition(".")[2][:40], WHO.text, WHO.jwt()[-40:]):
        assert secret not in text


async def test_readiness_names_streams_only_where_everybody_may_know_them(tmp_path: Path) -> None:
    disk = StagedDisk()
    async with guarded(tmp_path, [WHO], disk=disk) as server:
        await server.create("room/there")
        disk.fail("pwrite", errno.EIO, "data/streams/")
        await Streams(server.store).append("room/there", b"x", content_type="text/plain")
        await out_of_service(server.store, "room/there")
        client = await server.client()
        ask(client, "GET", "/readyz")
        answer = await client.answer()
        assert answer.body == b"ok\nstreams_out_of_service\n"
        disk.heal()


def test_what_is_no_text_is_not_reserved() -> None:
    assert not is_reserved("%5f_ds\udcff/tokens")
    assert is_reserved("%5f_d%73/tokens")
