"""The official conformance suite, whole, against the real server on a real data directory.

And against the same HTTP on another store, which is in memory.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from durable_streams.http.server import HttpServer
from durable_streams.settings import HttpSettings
from tests.certificates import made_in
from tests.conformance.suite import (
    CORE_TESTS,
    LONG_POLL_TIMEOUT_S,
    assert_all_pass,
    run_suite,
)
from tests.memory_store import MemoryStore, NeverNow
from tests.programs import run_verb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import StartServer


@pytest.mark.node
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_all_332_tests_of_the_official_suite_pass(
    loop: str, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--loop", loop, "--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))

    assert_all_pass(run_suite(server.base_url, tmp_path / "report.json"))


@pytest.mark.node
def test_all_of_them_pass_with_a_token_that_may_use_the_paths_of_the_suite(
    start_server: StartServer, tmp_path: Path
) -> None:
    tokens = ("--tokens", str(tmp_path / "tokens.toml"))
    scopes = ("--scope", "read,append,create,delete,fork")
    token = run_verb("token", "new", *tokens, *scopes, "--prefix", "")
    server = start_server(*tokens, "--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))

    assert_all_pass(run_suite(server.base_url, tmp_path / "report.json", token))


@pytest.mark.node
def test_without_a_token_it_gets_nowhere(start_server: StartServer, tmp_path: Path) -> None:
    tokens = ("--tokens", str(tmp_path / "tokens.toml"))
    run_verb("token", "new", *tokens, "--scope", "read", "--prefix", "")
    server = start_server(*tokens)

    tests = run_suite(server.base_url, tmp_path / "report.json")

    assert sum(test["status"] == "passed" for test in tests) < CORE_TESTS / 4


async def run_suite_through_a_proxy(path: Path, report: Path) -> list[dict[str, Any]]:
    """The suite, which knows no unix sockets, at a port from where its bytes go to one."""

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_unix_connection(path)
        await asyncio.gather(carry(reader, requests), carry(answers, writer))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with proxy:
        base_url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        return await asyncio.to_thread(run_suite, base_url, report)


@pytest.mark.node
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_all_of_them_pass_over_a_unix_socket(
    loop: str, start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    polls = ("--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))
    start_server("--unix-socket", str(path), "--loop", loop, *polls)

    assert_all_pass(asyncio.run(run_suite_through_a_proxy(path, tmp_path / "report.json")))


@pytest.mark.node
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_all_of_them_pass_over_tls(loop: str, start_server: StartServer, tmp_path: Path) -> None:
    files = made_in(tmp_path)
    polls = ("--long-poll-timeout", str(LONG_POLL_TIMEOUT_S))
    server = start_server(*files.flags, "--loop", loop, *polls)

    assert server.base_url.startswith("https://")
    report = tmp_path / "report.json"
    assert_all_pass(run_suite(server.base_url, report, certificate=files.certificate))


async def run_suite_on(store: MemoryStore, report: Path) -> list[dict[str, Any]]:
    """The suite against a server in this process that has this store."""
    server = HttpServer(store, HttpSettings(long_poll_timeout_s=LONG_POLL_TIMEOUT_S))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    await server.start([listening])
    try:
        return await asyncio.to_thread(run_suite, base_url, report)
    finally:
        await server.stop()
        await store.close()


@pytest.mark.node
@pytest.mark.parametrize(
    ("kind", "new_loop"),
    [(MemoryStore, uvloop.new_event_loop), (NeverNow, asyncio.new_event_loop)],
    ids=["now", "never now"],
)
def test_all_of_them_pass_on_a_store_that_has_no_files(
    kind: type[MemoryStore], new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def lead() -> list[dict[str, Any]]:
        return await run_suite_on(kind(), tmp_path / "report.json")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert_all_pass(runner.run(lead()))
