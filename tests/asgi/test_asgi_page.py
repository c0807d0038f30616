"""The programs of docs/asgi.rst, as the page says to run them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.asgi.servers import AsgiServer
from tests.documents import blocks_of, named_blocks_of
from tests.http.client import Client
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., AsgiServer]

PAGE: Final = "docs/asgi.rst"
JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a program of the page under uvicorn; its log shows no error at its end."""
    servers: list[AsgiServer] = []

    def start(name: str, app: str = "app") -> AsgiServer:
        program = tmp_path / name
        program.write_text(named_blocks_of(PAGE)[name].code + "\n")
        log, data_dir = tmp_path / f"{name}.log", tmp_path / "unused"
        our_package = {"PYTHONPATH": str(ROOT)}
        servers.append(
            AsgiServer("uvicorn", app, data_dir, log, program=program, environment=our_package)
        )
        return servers[-1]

    try:
        yield start
        for server in servers:
            server.stop()
            log = server.log.read_text()
            assert "Application shutdown complete" in log
            assert "ERROR" not in log, log
    finally:
        for server in servers:
            server.close()


def test_every_program_of_the_page_is_run_here() -> None:
    programs = {block.name for block in blocks_of(PAGE) if block.language == "python"}
    assert programs == {"chat.py", "own_lifespan.py", "guarded.py", "site_asgi.py"}


async def test_fastapi_serves_rooms_that_its_handlers_open(run: Run) -> None:
    server = run("chat.py")
    client = await Client.connect(server.port)
    opened = await client.request("POST", "/rooms/one", b"")
    assert json.loads(opened.body) == {"created": True}
    written = await client.request("POST", "/v1/stream/rooms/one", b'{"hello": 1}', JSON)
    assert written.status == 204
    assert (await client.request("GET", "/v1/stream/rooms/one")).body == b'[{"hello": 1}]'
    follower = await Client.connect(server.port)
    follower.ask("GET", "/v1/stream/rooms/one?offset=-1&live=sse")
    await follower.head()
    await follower.events_until(b"upToDate")
    server.stop()
    assert await follower.chunk() == b""
    await follower.close()
    await client.close()


async def test_an_application_may_have_a_lifespan_of_its_own(run: Run) -> None:
    client = await Client.connect(run("own_lifespan.py").port)
    assert (await client.request("HEAD", "/v1/stream/news")).status == 200
    await client.close()


async def test_starlette_says_who_asks(run: Run) -> None:
    client = await Client.connect(run("guarded.py").port)
    ann = {"Authorization": "Bearer of-ann"}
    assert (await client.request("PUT", "/v1/stream/ann/a", b"x", ann)).status == 201
    assert (await client.request("PUT", "/v1/stream/bob/a", b"x", ann)).status == 403
    assert (await client.request("GET", "/v1/stream/ann/a")).status == 401
    await client.close()


async def test_django_uses_streams_that_are_around_it(run: Run) -> None:
    client = await Client.connect(run("site_asgi.py", "application").port)
    assert (await client.request("GET", "/begin")).body == b"ready\n"
    told = await client.request("GET", "/visit")
    assert told.body.endswith(b"1\n")
    assert (await client.request("GET", "/v1/stream/visits")).body == b"x"
    await client.close()


def test_the_programs_pass_a_strict_type_check(tmp_path: Path) -> None:
    named = named_blocks_of(PAGE)
    names = ["chat.py", "own_lifespan.py", "guarded.py"]  # Django has no types
    for name in names:
        (tmp_path / name).write_text(named[name].code + "\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *names],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
