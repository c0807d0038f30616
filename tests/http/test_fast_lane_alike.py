"""The fast lane says what aiohttp says: the same bytes to a server with it and to one without."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.settings import HttpSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.http.client import Client
    from tests.http.conftest import RunningServer, Serve

TYPE: Final = "Content-Type: text/plain"
CLOSING: Final = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NO_HTTP: Final = re.compile(
    rb"HTTP/1.[01] 400 Bad Request\r\n(?:[^\r\n]+\r\n)+\r\n"
    rb"(?:not a valid HTTP request|the body is malformed)[^\n]*\n"
)
SILENCE_S: Final = 0.5
"""After which the next piece is sent; whatever comes later is heard all the same."""

PATIENCE: Final = 6
"""Silences for which the end is waited for, before those who wait for more are told it is all."""


def request(
    method: str = "POST",
    body: bytes | None = b"data",
    *,
    target: str = "PATH",
    lines: Iterable[str] = ("Content-Type: text/plain",),
    version: str = "1.1",
) -> bytes:
    """A request; PATH stands for the path of the stream of its case."""
    head = [f"{method} {target} HTTP/{version}", "Host: a", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode("utf-8", "surrogateescape") + (body or b"")


def produce(seq: str, epoch: str = "0", name: str = "Producer-Seq") -> bytes:
    claim = ("Producer-Id: p", f"Producer-Epoch: {epoch}", f"{name}: {seq}")
    return request(lines=("Content-Type: text/plain", *claim))


def read(query: str = "", *lines: str) -> bytes:
    return request("GET", None, target=f"PATH{query}", lines=lines)


def create(
    body: bytes | None = b"first",
    lines: Iterable[str] = ("Content-Type: text/plain",),
    name: str = "NAME",
) -> bytes:
    return request("PUT", body, target=f"/v1/stream/new/{name}", lines=lines)


CASES: Final = {
    "names of requests": [
        read("", "X-Request-Id: one"),
        read("", "x-request-id:  two\t"),
        request(lines=(TYPE, f"traceparent: 00-{'a' * 32}-{'b' * 16}-01")),
        request(lines=("X-Request-Id: three", f"traceparent: 00-{'a' * 32}-{'b' * 16}-01", TYPE)),
        read("?offset=bad", "X-Request-Id: four"),
        read("?offset=now&live=long-poll", "X-Request-Id: five"),
        produce("0").replace(b"Producer-Id", b"X-Request-Id: six\r\nProducer-Id"),
        request("DELETE", None, lines=("X-Request-Id: seven",)),
        request("BREW", None, lines=("X-Request-Id: eight",)),
        request("GET", None, target="/healthz", lines=("X-Request-Id: nine",)),
    ],
    "appends and reads": [request(), read(), request(body=b"more"), read("?offset=-1"), read()],
    "a read from the middle": [request(body=b"abcdef"), read(f"?offset={0:016d}_{3:016d}")],
    "symbolic and bad offsets": [
        read("?offset=now"),
        read("?offset="),
        read("?offset=1&offset=2"),
        read(f"?offset={9:016d}_{0:016d}"),
    ],
    "long-polls": [
        read("?offset=-1&live=long-poll"),
        read(f"?offset={0:016d}_{6:016d}&live=long-poll&cursor=5"),
        read("?offset=now&live=long-poll"),
        read("?live=long-poll"),
        read("?offset=-1&live=true", "If-None-Match: *"),
        read(f"?offset={9:016d}_{0:016d}&live=long-poll"),
        read("?offset=-1&live=long-poll").replace(b"PATH", b"/v1/stream/none"),
    ],
    "long-polls of a closed stream": [
        request(lines=("Content-Type: text/plain", "Stream-Closed: true")),
        read("?offset=-1&live=long-poll"),
        read("?offset=now&live=long-poll"),
    ],
    "a long-poll of much": [
        request(body=b"x" * 300_000),
        read("?offset=-1&live=long-poll"),
        read("?offset=now&live=long-poll"),
    ],
    "a read that is not modified": [request(), read("", "If-None-Match: *")],
    "a wrong content type": [request(lines=("Content-Type: image/png",)), request(lines=())],
    "an empty body": [request(body=b""), request(body=None)],
    "a close": [
        request(lines=("Content-Type: text/plain", "Stream-Closed: true")),
        request(),
        read(),
        request(body=b"", lines=("Stream-Closed: TRUE",)),
    ],
    "no stream": [request(target="/v1/stream/none"), read().replace(b"PATH", b"/v1/stream/none")],
    "other places": [request(target="/healthz"), read().replace(b"PATH", b"/v1/streams/a")],
    "bad paths": [request(target="/v1/stream/a//b"), request(target="/v1/stream/%2e%2e")],
    "an absolute target": [request(target="http://a/v1/stream/none")],
    "absolute targets of creates": [
        create(None, name="NAME-a").replace(b" /v1", b" http://public.test:81/v1", 1),
        create(None, name="NAME-b").replace(b" /v1", b" https://public.test/v1", 1),
        create(None, name="NAME-c").replace(b" /v1", b" http://<a>/v1", 1),
    ],
    "other methods between": [
        request(),
        request("HEAD", None, lines=()),
        request("OPTIONS", None, lines=()),
        request("PUT", b"x", target="/v1/stream/put/NAME"),
        request("DELETE", None, lines=()),
        request(),
        read(),
    ],
    "creates": [
        create(),
        create(b"more"),
        create(None),
        create(lines=("Content-Type: image/png",)),
        request(target="/v1/stream/new/NAME"),
        create(lines=("Content-Type: text/plain", "Stream-Closed: true")),
        create(b"x" * 70_000),
        create(lines=("Content-Type: text/plain",), name="NAME%2Fc"),
        read().replace(b"PATH", b"/v1/stream/new/NAME"),
    ],
    "creates with a lifetime": [
        create(lines=("Content-Type: text/plain", f"Stream-TTL: {ttl}"), name=f"NAME-{number}")
        for number, ttl in enumerate(("60", "0", "-1", "x", "00", "1.0"))
    ],
    "creates of JSON": [
        create(body, lines=("Content-Type: application/json",), name=f"NAME-{number}")
        for number, body in enumerate((b"[1,2]", b"[]", b"{", b"", b"nul"))
    ],
    "creates closed": [
        create(body, lines=("Content-Type: text/plain", "Stream-Closed: true"), name=f"NAME-{at}")
        for at, body in enumerate((b"", b"all", b"", b""))
    ],
    "creates behind a proxy": [
        create(None, lines=lines, name=f"NAME-{number}")
        for number, lines in enumerate(
            (
                ("X-Forwarded-Proto: https", "X-Forwarded-Host: public.test:8443, inner"),
                ('Forwarded: proto=https;host="public.test"',),
                ("X-Forwarded-Host: a/b", "X-Forwarded-Proto: gopher"),
                ("X-Forwarded-Prefix: /api",),
                ("X-Forwarded-Prefix: //evil", "X-Forwarded-Host: public.test"),
            )
        )
    ],
    "creates without a usable host": [
        create(None).replace(b"Host: a", b"Host: <a>"),
        create(None, name="NAME-b").replace(b"Host: a\r\n", b""),
        create(None, name="NAME-c").replace(b"Host: a", b"Host: a\r\nHost: b"),
    ],
    "forks": [
        create(None, lines=("Stream-Forked-From: PATH",)),
        create(None, lines=("Stream-Forked-From: /v1/stream/none",), name="NAME-b"),
        create(b"x", lines=("Stream-Forked-From: PATH",), name="NAME-c"),
        read().replace(b"PATH", b"/v1/stream/new/NAME-c"),
    ],
    "forks behind a proxy": [
        create(None, lines=("X-Forwarded-Prefix: /api", f"Stream-Forked-From: {source}"), name=name)
        for source, name in (("/apiPATH", "NAME-d"), ("PATH", "NAME-e"), ("/v1PATH", "NAME-f"))
    ],
    "a producer": [
        produce("0"),
        produce("1"),
        produce("1"),
        produce("3"),
        produce("0", epoch="1"),
        produce("1"),
        produce("5", epoch="2"),
    ],
    "a producer's numbers": [
        produce("00"),
        produce("1", name="producer-seq"),
        produce("2", name="PRODUCER-SEQ"),
        produce("-1"),
        produce("9" * 15),
        produce("9" * 16),
        produce("9" * 17),
        produce("x"),
        produce(""),
        produce(" 3"),
    ],
    "a producer's number twice": [
        produce("0"),
        produce("1").replace(b"Host: a", b"Host: a\r\nProducer-Seq: 1"),
        request(lines=("Content-Type: text/plain", "Producer-Seq: 1")),
    ],
    "a sequence": [
        request(lines=("Content-Type: text/plain", f"Stream-Seq: {seq}")) for seq in "abab"
    ],
    "headers that change nothing": [
        request(lines=("content-TYPE: text/plain", "Accept: */*", "Connection: keep-alive")),
        request(lines=("Content-Type:text/plain  ", "X: \u00e9", "Cookie: a=b")),
    ],
    "credentials": [
        request(lines=(TYPE, *lines))
        for lines in (
            ("Authorization: Bearer one",),
            ("authorization:Basic dHdvOnR3bw==  ",),
            ("AUTHORIZATION: three", "Producer-Seq: 1"),
            ("Proxy-Authorization: four", "Authorization:"),
            ("Authorization: five", "Authorization: six"),
        )
    ],
    **{
        f"credentials that cannot be cut out, {number}": [request(lines=(TYPE, *lines)), read()]
        for number, lines in enumerate(
            (
                ("Authorization: one", " two"),
                ("Authorization: \x01",),
                ("Authorization: \u00e9",),
                ("Authorization : one",),
                ("Authorization: " + "x" * 17_000,),
            )
        )
    },
    "credentials of reads and creates": [
        read("?offset=-1", "Authorization: Bearer one"),
        read("?offset=-1&live=long-poll", "Authorization: Bearer two"),
        create(lines=("Content-Type: text/plain", "Authorization: Bearer three")),
        create(lines=("Authorization: Bearer four", "Content-Type: image/png")),
    ],
    **{
        f"credentials behind {count} headers": [
            request(lines=(TYPE, *["X: y"] * count, "Authorization: Bearer one"))
        ]
        for count in (95, 96, 97)
    },
    "a length twice": [request(lines=("Content-Type: text/plain", "Content-Length: 4"))],
    "two lengths": [request(lines=("Content-Type: text/plain", "Content-Length: 5"))],
    "a length and chunks": [request(lines=("Transfer-Encoding: chunked",))],
    "chunks": [
        request(body=None, lines=("Content-Type: text/plain", "Transfer-Encoding: chunked"))
        + b"4\r\ndata\r\n0\r\n\r\n",
        read(),
    ],
    "other transfer codings": [
        request(body=None, lines=("Content-Type: text/plain", f"Transfer-Encoding: {coding}"))
        + b"4\r\ndata\r\n0\r\n\r\n"
        for coding in ("gzip, chunked", "Chunked", "deflate,chunked", "gzip")
    ],
    "a length that is none": [request(body=None, lines=("Content-Length: +4",)) + b"data"],
    "a bare line feed": [request().replace(b"Host: a\r\n", b"Host: a\n")],
    "a folded header": [request(lines=("Content-Type: text/plain", "X: a", " b"))],
    "no host": [request().replace(b"Host: a\r\n", b"")],
    "an encoding": [request(lines=("Content-Type: text/plain", "Content-Encoding: gzip"))],
    "an old version": [request(version="1.0"), request(version="1.0")],
    "a connection to be closed": [request(lines=("Content-Type: text/plain", "Connection: close"))],
    "an upgrade": [request(lines=("Connection: Upgrade", "Upgrade: websocket")), request()],
    "a read with a body": [request("GET", b"data", lines=()), read()],
    "a large body": [request(body=b"x" * 70_000), request(), read("?offset=now")],
    "no HTTP at all": [b"\x16\x03\x01 nonsense\r\n\r\n"],
}


class Pair:
    """Two servers with the same streams, one with a fast lane and one without."""

    def __init__(self, servers: list[RunningServer]) -> None:
        self.servers = servers

    async def create(self, name: str) -> None:
        for server in self.servers:
            await server.create(name, "text/plain", b"first.")

    async def alike(self, name: str, pieces: list[bytes]) -> bytes:
        """What both say to the same bytes, sent in the same pieces."""
        fast, slow = await asyncio.gather(*(said(server, name, pieces) for server in self.servers))
        assert fast == slow, pieces
        return fast


@pytest.fixture
async def pair(serve: Serve) -> Pair:
    return Pair(
        [
            await serve(HttpSettings(fast_lane=fast, long_poll_timeout_s=0.05))
            for fast in (True, False)
        ]
    )


async def said(server: RunningServer, name: str, pieces: list[bytes]) -> bytes:
    """Everything a server says on one connection, without what differs from run to run."""
    client = await server.connect()
    text, closed = b"", False
    for piece in [*pieces, CLOSING]:
        client.send(piece.replace(b"PATH", f"/v1/stream/{name}".encode()))
        more, closed = await silence(client)
        text += more
        if closed:
            break
    for _ in range(PATIENCE):
        if not closed:
            more, closed = await silence(client)
            text += more
    if not closed:  # it waits for the rest of a request, or is very slow
        client.writer.write_eof()
    while not closed:
        more, closed = await silence(client)
        text += more
    await client.close()
    text = re.sub(rb"Date: [^\r]*", b"Date: now", text)
    text = re.sub(rb"Stream-Cursor: [0-9]+", b"Stream-Cursor: next", text)
    text = re.sub(rb"http://127.0.0.1:[0-9]+/", b"http://own/", text)
    # What is wrong with a request that ends in nonsense depends on how much came at once.
    text = NO_HTTP.sub(b"(no HTTP)", text)
    return re.sub(rb'"[0-9a-f]{24}(:[0-9_]+:[0-9_]+:)[0-9a-f]{16}', rb'"id\1chain', text)


async def silence(client: Client) -> tuple[bytes, bool]:
    """What comes until nothing more does, and whether that was the end of the connection."""
    text = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                piece = await client.reader.read(65_536)
            if not piece:
                return text, True
            text += piece
    except TimeoutError:
        return text, False
    except ConnectionResetError:  # it was sent more than it read: what it said before has come
        return text + bytes(client.reader._buffer), True  # type: ignore[attr-defined]


async def all_alike(pair: Pair, cases: dict[str, list[bytes]]) -> None:
    names = {case: f"case-{number}" for number, case in enumerate(cases)}
    for name in names.values():
        await pair.create(name)
    async with asyncio.TaskGroup() as group:
        for case, pieces in cases.items():
            named = [piece.replace(b"NAME", names[case].encode()) for piece in pieces]
            group.create_task(pair.alike(names[case], named))


async def test_the_same_answers_as_without_it(pair: Pair) -> None:
    await all_alike(pair, CASES)


async def test_the_same_answers_to_requests_in_pieces(pair: Pair) -> None:
    def cut(pieces: list[bytes], chance: random.Random) -> list[bytes]:
        return [
            part
            for piece in pieces
            for at in [chance.randrange(1, len(piece))]
            for part in (piece[:at], piece[at:])
        ]

    await all_alike(
        pair, {name: cut(pieces, random.Random(name)) for name, pieces in CASES.items()}
    )


async def test_the_same_answers_to_a_head_and_its_body_apart(pair: Pair) -> None:
    def apart(piece: bytes) -> list[bytes]:
        head, end, body = piece.partition(b"\r\n\r\n")
        return [part for part in (head + end, body) if part]

    await all_alike(
        pair,
        {name: [*itertools.chain(*map(apart, pieces))] for name, pieces in CASES.items()},
    )


async def test_the_same_answers_to_pipelined_requests(pair: Pair) -> None:
    cases = {name: [b"".join(pieces) + CLOSING] for name, pieces in CASES.items()}
    cases |= {
        f"{name} with the next": [pieces[0] + CLOSING[:20], CLOSING[20:]]
        for name, pieces in CASES.items()
    }
    await all_alike(pair, cases)


async def test_the_same_answers_to_mutated_requests(pair: Pair) -> None:
    chance = random.Random(4)
    reads = [read(), read("?offset=-1"), read("?offset=-1&live=long-poll")]
    plain = [produce("0"), request(), *reads, produce("1"), create()]

    def mutated(piece: bytes) -> bytes:
        at = chance.randrange(len(piece))
        rest = at + chance.randrange(3)
        put = chance.choice([b"", b"\r\n", b"\n", b" ", b":", b"0", b"\0", b"%", b"?", b"\xff"])
        return piece[:at] + put + piece[rest:]

    cases = {
        f"mutant {number}": [mutated(chance.choice(plain)), chance.choice(plain), CLOSING]
        for number in range(400)
    }
    await all_alike(pair, cases)
