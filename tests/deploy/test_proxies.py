"""The configurations of ``docs/proxies.rst``, each before a server, asked by real clients."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.deploy.proxies import NAME, PROGRAMS, FrontedServer, running
from tests.programs import run_verb
from tools.proofs.kills import Run
from tools.proofs.load import Plan
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.deploy.proxies import Proxy

REACHED_AS: Final = ("--allowed-host", NAME)
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
BYTES: Final = {"Content-Type": "application/octet-stream"}
TEXT: Final = {"Content-Type": "text/plain"}
JSON: Final = {"Content-Type": "application/json"}
PLAN: Final = Plan(lasting=4, changing=4, pause_s=0.01, appends=(3, 30), seed=1)
WITH: Final = [
    pytest.param(program, marks=pytest.mark.needs(program, "curl")) for program in PROGRAMS
]


@pytest.fixture(scope="module", params=WITH)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, programs: Path
) -> Iterator[Proxy]:
    """Each in turn, one for all tests: each has a stream of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    server = ServerProcess(directory / "data", *REACHED_AS, programs=programs)
    server.start()
    try:
        with running(request.param, directory / "proxy", server.port) as proxy:
            yield proxy
    except BaseException:
        server.kill()
        raise
    server.finish()


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """The path of a stream that no other test uses."""
    return "/v1/stream/" + re.sub(r"\W+", "-", request.node.name)


def test_clients_come_by_http_2_and_are_told_the_address_that_they_see(
    proxy: Proxy, stream: str
) -> None:
    created = proxy.ask("PUT", stream, b"hello", TEXT)
    assert (created.version, created.status) == ("2", 201)
    assert created.headers["location"] == proxy.url + stream
    read = proxy.ask("GET", stream)
    assert (read.version, read.status, read.body) == ("2", 200, b"hello")
    asked = proxy.ask("HEAD", stream)
    assert asked.headers["stream-next-offset"] == read.headers["stream-next-offset"]
    proxy.ask("POST", stream, b"more", TEXT)
    assert proxy.ask("HEAD", stream).headers["stream-next-offset"].endswith("_0000000000000009")


def test_what_clients_say_of_where_they_come_from_is_taken_away(proxy: Proxy, stream: str) -> None:
    said = {
        "Forwarded": "host=evil.example;proto=http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "http",
    }
    assert proxy.ask("PUT", stream, b"", TEXT | said).headers["location"] == proxy.url + stream


def test_below_another_path_are_the_same_streams_and_forks_of_them(
    proxy: Proxy, stream: str
) -> None:
    outside = "/api" + stream + "-100%25%20caf%C3%A9%252F"
    created = proxy.ask("PUT", outside, b"hello", TEXT)
    assert (created.status, created.headers["location"]) == (201, proxy.url + outside)
    assert proxy.ask("GET", created.headers["location"]).body == b"hello"
    assert proxy.ask("GET", outside.removeprefix("/api")).body == b"hello"
    source = {"Stream-Forked-From": outside}
    fork = proxy.ask("PUT", f"/api{stream}-fork", b"", TEXT | source)
    assert (fork.status, fork.headers["location"]) == (201, f"{proxy.url}/api{stream}-fork")
    assert proxy.ask("GET", f"/api{stream}-fork").body == b"hello"


def test_nothing_but_streams_is_shown(proxy: Proxy) -> None:
    for path in ("/", "/healthz", "/api/healthz", "/metrics"):
        assert proxy.ask("GET", path).status == 404, path


def test_a_body_is_as_large_as_the_server_takes_and_no_larger(proxy: Proxy, stream: str) -> None:
    proxy.ask("PUT", stream, b"", BYTES)
    assert proxy.ask("POST", stream, bytes(MAX_BODY_BYTES), BYTES).status == 204
    assert proxy.ask("POST", stream, bytes(MAX_BODY_BYTES + 1), BYTES).status == 413


def test_what_is_read_is_compressed_and_revalidated_and_event_streams_are_not_compressed(
    proxy: Proxy, stream: str
) -> None:
    proxy.ask("PUT", stream, b'["%s"]' % (b"x" * 10_000), JSON | {"Stream-Closed": "true"})
    wanted = {"Accept-Encoding": "gzip"}
    read = proxy.ask("GET", stream, headers=wanted)
    assert read.headers["content-encoding"] == "gzip"
    assert len(read.body) < 1_000
    again = proxy.ask("GET", stream, headers=wanted | {"If-None-Match": read.headers["etag"]})
    assert again.status == 304
    events = proxy.ask("GET", f"{stream}?offset=-1&live=sse", headers=wanted)
    assert "content-encoding" not in events.headers
    assert events.body.startswith(b"event: data\n")


def until(events: Iterator[str], end: str) -> str:
    """The events up to a line with this in it; the test hangs, and is ended, if there is none."""
    lines = []
    for line in events:
        lines.append(line)
        if end in line:
            return "".join(lines)
    raise AssertionError(f"{end} was not among {lines}")


def test_events_go_out_as_they_come(proxy: Proxy, stream: str) -> None:
    proxy.ask("PUT", stream, b"first", TEXT)
    with subprocess.Popen(
        proxy.curl(f"{stream}?offset=-1&live=sse"), stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        until(following.stdout, "data:first")
        until(following.stdout, "upToDate")
        for word in ("second", "third"):
            proxy.ask("POST", stream, word.encode(), TEXT)
            until(following.stdout, f"data:{word}")
            until(following.stdout, "upToDate")
        following.kill()


@pytest.mark.parametrize("program", WITH)
def test_the_path_is_logged_and_what_admits_is_not(
    program: str, start_server: StartServer, programs: Path, tmp_path: Path
) -> None:
    """Also when the server is down, which goes to logs of errors."""
    tokens, keys = tmp_path / "tokens.toml", tmp_path / "keys.toml"
    access = ("--tokens", str(tokens), "--signing-keys", str(keys))
    may = ("--id", "ada", "--scope", "read,create", "--prefix", "")
    token = run_verb("token", "new", *access[:2], *may, programs=programs)
    run_verb("signing-key", "new", *access[2:], programs=programs)
    server = start_server(*REACHED_AS, *access)
    with running(program, tmp_path / "proxy", server.port) as proxy:
        shown = {"Authorization": f"Bearer {token}"}
        assert proxy.ask("PUT", "/v1/stream/secret", b"hello", TEXT).status == 401
        created = proxy.ask("PUT", "/v1/stream/secret", b"hello", TEXT | shown)
        assert created.status == 201
        signed = run_verb(
            *("sign-url", *access, "--token", "ada", "--expires", "1h"),
            f"{proxy.url}/v1/stream/secret",
            programs=programs,
        )
        query = signed.partition("?")[2]
        assert proxy.ask("GET", signed).body == b"hello"
        server.stop()
        for url, headers in ((signed, {}), ("/v1/stream/secret", shown)):
            assert proxy.ask("GET", url, headers=headers).status in {502, 503}
        server.start()
    assert "/v1/stream/secret" in proxy.logs
    for parameter in (*query.split("&"), token):
        value = parameter.rpartition("=")[2]
        assert value not in proxy.logs, proxy.logs


@pytest.mark.needs("nginx", "curl")
def test_nginx_keeps_what_never_changes(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*REACHED_AS)
    with running("nginx", tmp_path / "proxy", server.port) as proxy:
        proxy.ask("PUT", "/v1/stream/long", b"", BYTES)
        for number in range(6):
            proxy.ask("POST", "/v1/stream/long", bytes([number]) * 2**20, BYTES)
        for path in ("/v1/stream/long", "/api/v1/stream/long"):
            first, second = (proxy.ask("GET", path) for _ in range(2))
            assert [first.headers["x-cache"], second.headers["x-cache"]] == ["MISS", "HIT"]
            assert first.body == second.body
            rest = f"{path}?offset={second.headers['stream-next-offset']}"
            kept = [proxy.ask("GET", rest).headers["x-cache"] for _ in range(2)]
            assert "HIT" not in kept


@pytest.mark.needs("haproxy", "curl")
def test_haproxy_finds_the_server_well(start_server: StartServer, tmp_path: Path) -> None:
    """By what it asks without being told: ``OPTIONS /``, of HTTP/1.0."""
    server = start_server(*REACHED_AS)
    with running("haproxy", tmp_path / "proxy", server.port) as proxy:
        while not (found := proxy.of_haproxy("check_status")).startswith("L"):
            pass
    assert found == "L7OK"


class Here(AbstractResolver):
    """All names are this machine's."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("program", WITH)
async def test_nothing_is_lost_behind_a_proxy_when_the_server_is_killed(
    program: str, data_dir: Path, tmp_path: Path, programs: Path
) -> None:
    server = FrontedServer(data_dir, *REACHED_AS, programs=programs)
    server.start()
    try:
        with running(program, tmp_path / "proxy", server.port) as proxy:
            server.front, server.proxy = proxy.url, proxy
            trusting = proxy.place.files.client()
            trusting.set_alpn_protocols(["http/1.1"])
            connector = aiohttp.TCPConnector(limit=0, resolver=Here(), ssl=trusting)
            report = await Run(server, PLAN).run(
                iter([0.3, 0.1, 0.5]), javascript=0, connector=connector
            )
    except BaseException:
        server.kill()
        raise
    assert report.faults == []
    assert report.kills >= 3
    assert report.counters.acknowledged > 0
    server.finish()


@pytest.mark.slow
@pytest.mark.needs(*PROGRAMS, "curl")
async def test_event_streams_and_long_polls_last_as_long_as_they_do(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The server's own times: an event stream without news ends by itself, and so does a poll."""
    server = start_server(*REACHED_AS)

    async def follow(program: str) -> None:
        with running(program, tmp_path / program, server.port) as proxy:
            path = f"/v1/stream/{program}"
            proxy.ask("PUT", path, b"hello", TEXT)
            told = ("-w", " ended with %{response_code}")
            asked = [
                await asyncio.create_subprocess_exec(
                    *proxy.curl(f"{path}?offset=now&live={how}", *told), stdout=subprocess.PIPE
                )
                for how in ("sse", "long-poll")
            ]
            (events, _), (poll, _) = await asyncio.gather(*(each.communicate() for each in asked))
            assert [each.returncode for each in asked] == [0, 0]
            assert events.endswith(b" ended with 200")
            assert events.count(b"\n:") >= 3  # comments, one in 15 seconds
            assert poll == b" ended with 204"

    await asyncio.gather(*map(follow, PROGRAMS))
