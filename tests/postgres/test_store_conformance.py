"""The official conformance suite on PostgreSQL: on one node, and on two that take turns."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web

from durable_streams.postgres import versions
from durable_streams.postgres.urls import parse
from tests.conformance.suite import LONG_POLL_TIMEOUT_S, assert_all_pass, run_suite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.postgres.conftest import Database
    from tools.server_process import ServerProcess

ALL_IN_TURNS: Final = bool(os.environ.get("DS_ALL_IN_TURNS"))
"""Run all of the suite on two nodes, which takes minutes; else what nodes could do differently."""

IN_SHORT: Final = "Append|Close|Fork|Long-[Pp]oll|Producer|Stream-Seq|TTL"
LEAST_IN_SHORT: Final = 150
"""Tests of the suite."""

OF_ONE_CONNECTION: Final = frozenset({"connection", "host", "keep-alive", "transfer-encoding"})


async def node(database: Database, start_server: StartServer, directory: Path) -> ServerProcess:
    """A server on the database."""
    await versions.initialise(parse(database.url))
    options = ("--store", database.url, "--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))
    return await asyncio.to_thread(start_server, *options, data_dir=directory)


@pytest.mark.node
async def test_all_tests_of_the_official_suite_pass_on_a_node(
    database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    server = await node(database, start_server, tmp_path / "one")
    report = tmp_path / "report.json"
    assert_all_pass(await asyncio.to_thread(run_suite, server.base_url, report))


async def run_suite_in_turns(servers: list[ServerProcess], report: Path) -> list[dict[str, Any]]:
    """The suite, of which each request goes to the next one of some servers."""
    turns = itertools.cycle([server.base_url for server in servers])

    async def carry(request: web.Request) -> web.StreamResponse:
        headers = [
            each for each in request.headers.items() if each[0].lower() not in OF_ONE_CONNECTION
        ]
        body = await request.read()
        async with session.request(
            request.method,
            f"{next(turns)}{request.raw_path}",
            headers=headers,
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            carried = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in OF_ONE_CONNECTION:
                    carried.headers.add(name, value)
            await carried.prepare(request)
            async for piece in answer.content.iter_any():
                await carried.write(piece)
        return carried

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", carry)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    async with aiohttp.ClientSession(
        auto_decompress=False, connector=aiohttp.TCPConnector(force_close=True)
    ) as session:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            return await asyncio.to_thread(
                run_suite,
                f"http://127.0.0.1:{site.port}",
                report,
                only="" if ALL_IN_TURNS else IN_SHORT,
            )
        finally:
            await runner.cleanup()


@pytest.mark.node
async def test_they_pass_with_each_request_on_another_of_two_nodes(
    database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    servers = [await node(database, start_server, tmp_path / name) for name in ("one", "two")]
    tests = await run_suite_in_turns(servers, tmp_path / "report.json")
    if ALL_IN_TURNS:
        assert_all_pass(tests)
        return
    ran = [test for test in tests if test["status"] not in {"pending", "skipped"}]
    assert [test["fullName"] for test in ran if test["status"] != "passed"] == []
    assert len(ran) >= LEAST_IN_SHORT
