"""The official JavaScript client where it has to say who it is, and where it is refused.

Its producers with ``autoClaim`` take every 403 for a stale epoch, claim the next one and send
again, without end.  So nobody who sends Producer headers is refused with 403: a 401 ends them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from aiohttp import web

from tests.programs import run_verb
from tools.node import CONFORMANCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartServer

pytestmark = pytest.mark.node

PATH: Final = "chat/room-1"
PRODUCING: Final = ["produce", "finish", "write"]
REQUESTS: Final = {"write": 2}
"""Of those that take more than one: its ``close`` sends another, whatever became of the first."""

HANGS_S: Final = 60


class Bearer(NamedTuple):
    """A server with tokens, and the headers of two who have some."""

    url: str
    tokens: tuple[str, ...]
    writer: dict[str, str]
    reader: dict[str, str]


def run(verb: str, url: str, headers: dict[str, str] | None = None) -> Any:
    """What becomes of a verb of the client."""
    ended = subprocess.run(
        command(verb, url, headers), cwd=CONFORMANCE, capture_output=True, text=True, check=False
    )
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def command(verb: str, url: str, headers: dict[str, str] | None) -> list[str]:
    return ["node", "access.mjs", verb, url, json.dumps(headers or {})]


def refused(verb: str, status: int) -> dict[str, object]:
    name = "DurableStreamError" if verb == "head" else "FetchError"
    return {"outcome": name, "status": status, "requests": REQUESTS.get(verb, 1)}


@pytest.fixture
def bearer(start_server: StartServer, tmp_path: Path) -> Bearer:
    tokens = ("--tokens", str(tmp_path / "tokens.toml"))
    scopes = ("--scope", "read,create,append,delete", "--prefix", "chat")
    writer = run_verb("token", "new", *tokens, *scopes)
    reader = run_verb("token", "new", *tokens, "--id=web", "--scope=read", "--prefix=chat")
    server = start_server(*tokens)
    made, read = ({"Authorization": f"Bearer {text}"} for text in (writer, reader))
    return Bearer(server.url(PATH), tokens, made, read)


def test_with_a_token_it_does_everything(bearer: Bearer) -> None:
    verbs = ["create", "append", "produce", "finish", "head", "read", "delete"]

    became = {verb: run(verb, bearer.url, bearer.writer) for verb in verbs}

    done = {"outcome": "done", "requests": 1}
    assert became == dict.fromkeys(verbs, done) | {
        "read": {"outcome": "somemorelast", "requests": 1}
    }


@pytest.mark.parametrize(
    "verb", ["create", "append", *PRODUCING, "read", "sse", "long-poll", "head", "delete"]
)
def test_without_a_token_it_fails_at_once(bearer: Bearer, verb: str) -> None:
    run("create", bearer.url, bearer.writer)

    assert run(verb, bearer.url) == refused(verb, 401)


@pytest.mark.parametrize("verb", ["create", "append", "delete"])
def test_without_the_scope_it_fails_at_once(bearer: Bearer, verb: str) -> None:
    run("create", bearer.url, bearer.writer)

    assert run(verb, bearer.url, bearer.reader) == refused(verb, 403)


@pytest.mark.parametrize("verb", PRODUCING)
def test_a_producer_without_the_scope_ends_and_does_not_claim_epochs(
    bearer: Bearer, verb: str
) -> None:
    run("create", bearer.url, bearer.writer)

    assert run(verb, bearer.url, bearer.reader) == refused(verb, 401)
    assert run("read", bearer.url, bearer.reader)["outcome"] == ""


@pytest.mark.parametrize("verb", PRODUCING)
def test_a_producer_of_a_foreign_page_ends_as_well(start_server: StartServer, verb: str) -> None:
    url = start_server().url(PATH)
    run("create", url)

    assert run(verb, url, {"Origin": "https://evil.test"}) == refused(verb, 401)


@pytest.mark.parametrize("verb", PRODUCING)
def test_a_producer_that_uses_a_name_the_server_does_not_know_ends_as_well(
    start_server: StartServer, verb: str
) -> None:
    url = start_server("--allowed-host", "streams.example").url(PATH)

    assert run(verb, url) == refused(verb, 401)


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_who_follows_is_told_when_the_token_is_revoked(bearer: Bearer, live: str) -> None:
    run("create", bearer.url, bearer.writer)
    run("append", bearer.url, bearer.writer)
    following = command(live, bearer.url, bearer.reader)
    with subprocess.Popen(
        following, cwd=CONFORMANCE, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "reading\n"

        run_verb("token", "revoke", "web", *bearer.tokens)

        *_, last = follower.stdout
    became = json.loads(last)
    assert became.pop("requests") < 10
    assert became == {"outcome": "FetchError", "status": 401}


@asynccontextmanager
async def too_busy(asked: list[str], body: str) -> AsyncIterator[str]:
    """A server that answers 429 to the first request, and takes all others; its URL."""

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        if len(asked) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        ended = {"Stream-Next-Offset": "1", "Stream-Closed": "true", "Stream-Up-To-Date": "true"}
        status = 201 if request.method == "PUT" else 200
        text = body if request.method == "GET" else ""
        return web.Response(status=status, text=text, headers=ended)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/a"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("verb", "outcome"),
    [("read", "all"), ("create", "done"), ("append", "done"), ("delete", "done")],
)
async def test_who_is_told_to_come_back_later_does_so(verb: str, outcome: str) -> None:
    """By what docs/security.rst tells of the client: all but its producers and ``head``."""
    asked: list[str] = []
    async with asyncio.timeout(HANGS_S), too_busy(asked, "all") as url:
        became = await asyncio.to_thread(run, verb, url)

    assert became == {"outcome": outcome, "requests": 2}


@pytest.mark.parametrize("verb", ["produce", "finish", "head"])
async def test_a_producer_that_is_told_to_come_back_later_gives_up(verb: str) -> None:
    """Its caller has to send again: what it had in that batch is not sent by itself."""
    asked: list[str] = []
    async with asyncio.timeout(HANGS_S), too_busy(asked, "") as url:
        became = await asyncio.to_thread(run, verb, url)

    assert became == refused(verb, 429)
    assert len(asked) == 1
