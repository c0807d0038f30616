"""Servers that send without end, too slowly, or what nobody can use: both clients bear them."""

from __future__ import annotations

import asyncio
import gzip
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams import Retries, StreamNotFound, UnexpectedAnswer, Unreachable
from durable_streams.client.bodies import REFUSAL_BYTES, Body
from durable_streams.client.steps import Answer, Disconnected
from tests.client.hostile_server import HostileServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MIB: Final = 1024 * 1024
LIMIT: Final = 256 * 1024
IN_BUFFERS: Final = 32 * MIB
"""Of the system, between the two; above what a client takes itself."""
ONCE: Final = Retries(repeats=0, follow_s=0)
SHELLS: Final = ["async", "sync"]

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nStream-Next-Offset: 1_1\r\nStream-Up-To-Date: true\r\n"
    b"Content-Type: application/octet-stream\r\nConnection: close\r\n"
)
EVENTS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CLOSED: Final = HEAD + b"Stream-Closed: true\r\nContent-Length: 0\r\n\r\n"


def use(shell: str, server: HostileServer, verb: str, *args: Any, **options: Any) -> Any:
    """Ask once for something of a stream, with one of the two clients."""
    options = {"retries": ONCE, "answer_bytes": LIMIT, **options}
    if shell == "sync":
        with durable_streams.connect_sync(server.url, **options) as streams:
            if verb == "tail":
                return next(streams.tail("s"))
            return getattr(streams, verb)("s", *args)

    async def ask() -> Any:
        async with durable_streams.connect(server.url, **options) as streams:
            if verb == "tail":
                return await anext(streams.tail("s"))
            return await getattr(streams, verb)("s", *args)

    return asyncio.run(ask())


def answering(*pieces: bytes | Iterable[bytes]) -> Callable[[bytes], Iterator[bytes]]:
    """Each request gets the same."""

    def answer(_: bytes) -> Iterator[bytes]:
        return chain.from_iterable([one] if isinstance(one, bytes) else one for one in pieces)

    return answer


def for_ever(piece: bytes) -> Iterator[bytes]:
    return repeat(piece * max(1, 65536 // len(piece)))


def with_length(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


def in_chunks(data: bytes) -> bytes:
    chunks = [data[begin : begin + 9999] for begin in range(0, len(data), 9999)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def to_the_end(data: bytes) -> bytes:
    return HEAD + b"\r\n" + data


def gzipped(data: bytes) -> bytes:
    """The same at any time: tests are called by it, in every process that runs some of them."""
    return gzip.compress(data, mtime=0)


def packed(data: bytes) -> bytes:
    body = gzipped(data)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("made", [with_length, in_chunks, to_the_end, packed])
def test_an_answer_has_as_many_bytes_as_the_client_allows_and_not_one_more(
    shell: str, made: Callable[[bytes], bytes]
) -> None:
    with HostileServer(answering(made(b"x" * LIMIT))) as server:
        assert use(shell, server, "read").data == b"x" * LIMIT
    with HostileServer(answering(made(b"x" * (LIMIT + 1)))) as server:
        with pytest.raises(UnexpectedAnswer, match=rf"{LIMIT} bytes.*answer_bytes"):
            use(shell, server, "read")
        assert use(shell, server, "read", answer_bytes=LIMIT + 1).next_offset == "1_1"


ENDLESS: Final[dict[str, tuple[Iterable[bytes | Iterable[bytes]], str, type[Exception]]]] = {
    "a body": ([to_the_end(b""), for_ever(b"x")], "read", UnexpectedAnswer),
    "chunks of a byte": (
        [HEAD, b"Transfer-Encoding: chunked\r\n\r\n", for_ever(b"1\r\nx\r\n")],
        "read",
        UnexpectedAnswer,
    ),
    "a refusal": ([b"HTTP/1.1 404 Not\r\n\r\n", for_ever(b"x")], "read", StreamNotFound),
    "a status": ([b"HTTP/1.1 200 ", for_ever(b"x")], "read", Unreachable),
    "headers": ([HEAD, for_ever(b"X-Y: z\r\n")], "read", Unreachable),
    "a header": ([HEAD, b"X-Y: ", for_ever(b"z")], "read", Unreachable),
    "trailers": (
        [HEAD, b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", for_ever(b"X-Y: z\r\n")],
        "read",
        Unreachable,
    ),
    "a line of events": ([EVENTS, b"data: ", for_ever(b"x")], "tail", UnexpectedAnswer),
    "lines of an event": ([EVENTS, for_ever(b"data:\n")], "tail", UnexpectedAnswer),
    "other lines of an event": ([EVENTS, for_ever(b"foo: bar\n")], "tail", UnexpectedAnswer),
    "events without an end": (
        [EVENTS, for_ever(b"event: data\ndata: x\n\n")],
        "tail",
        UnexpectedAnswer,
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_left(shell: str, what: str) -> None:
    pieces, verb, error = ENDLESS[what]
    read = with_length(b"")

    def answer(head: bytes) -> Iterable[bytes]:
        if verb == "tail" and b"live=" not in head:
            return [read]
        return answering(*pieces)(head)

    with HostileServer(answer) as server:
        with pytest.raises(error):
            use(shell, server, verb)
        assert server.sent_bytes < IN_BUFFERS


def drop_by_drop(server: list[HostileServer], head: bytes, drop: bytes) -> Iterator[bytes]:
    """A drop whenever a client that waits for silence would still wait."""
    yield head
    while not server[0].is_over.wait(0.02):
        yield drop


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"z"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (to_the_end(b""), b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
    ids=["head", "interim answers", "body", "the size of a chunk"],
)
def test_what_comes_drop_by_drop_counts_as_lost(shell: str, head: bytes, drop: bytes) -> None:
    known: list[HostileServer] = []
    with HostileServer(lambda _: drop_by_drop(known, head, drop)) as server:
        known.append(server)
        with pytest.raises(Unreachable):
            use(shell, server, "read", silence_s=0.2, connect_s=0.2)
        assert len(server.asked) <= 1  # none where the machine took too long to connect


@pytest.mark.parametrize("shell", SHELLS)
def test_a_small_answer_that_unpacks_to_a_large_one_takes_no_more_than_may_be(shell: str) -> None:
    bomb = packed(bytes(64 * MIB))
    with HostileServer(answering(bomb)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(UnexpectedAnswer, match="answer_bytes"):
                use(shell, server, "read")
            _, highest = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert highest < 16 * MIB


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("coding", "body", "error"),
    [
        (b"gzip", gzipped(b"x" * 1000)[:-9], Unreachable),
        (b"gzip", b"no gzip", UnexpectedAnswer),
        (b"gzip", gzipped(b"x") + gzipped(b"y"), UnexpectedAnswer),
        (b"gzip", gzipped(b"x") + b"\0", UnexpectedAnswer),
        (b"br", b"x", UnexpectedAnswer),
        (b"gzip, gzip", gzipped(gzipped(b"x")), UnexpectedAnswer),
    ],
)
def test_what_cannot_be_unpacked_is_refused(
    shell: str, coding: bytes, body: bytes, error: type[Exception]
) -> None:
    coded = b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    with (
        HostileServer(answering(HEAD + coded + body)) as server,
        pytest.raises(error),
    ):
        use(shell, server, "read")


@pytest.mark.parametrize("shell", SHELLS)
def test_events_that_are_compressed_are_left_for_long_polls(shell: str) -> None:
    packing = EVENTS.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")

    def answer(head: bytes) -> Iterable[bytes]:
        if b"live=sse" in head:
            return [packing, gzipped(b"data: x\n\n")]
        return [CLOSED if b"live=" in head else with_length(b"")]

    with HostileServer(answer) as server:
        with pytest.raises((StopIteration, StopAsyncIteration)):
            use(shell, server, "tail")
        assert b"live=long-poll" in server.asked[2]


@pytest.mark.parametrize("shell", SHELLS)
def test_redirects_are_told_and_not_followed(shell: str) -> None:
    known: list[HostileServer] = []

    def answer(_: bytes) -> Iterable[bytes]:
        there = known[0].url.encode()
        return [b"HTTP/1.1 307 R\r\nLocation: %b/s\r\nContent-Length: 0\r\n\r\n" % there]

    with HostileServer(answer) as server:
        known.append(server)
        with pytest.raises(UnexpectedAnswer, match=f"it is at '{server.url}/s'"):
            use(shell, server, "read")
        assert len(server.asked) == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_a_read_ends_though_the_server_never_says_that_it_is_at_the_tail(shell: str) -> None:
    never = HEAD.replace(b"Stream-Up-To-Date: true\r\n", b"") + b"Content-Length: 0\r\n\r\n"
    for reads in ("read", "read_messages"):
        with HostileServer(answering(never)) as server:
            if shell == "sync":
                with durable_streams.connect_sync(server.url, retries=ONCE) as blocking:
                    found = getattr(blocking, reads)("s", live=True, timeout_s=0)
            else:
                found = asyncio.run(_read_live(server.url, reads))
            assert not found.up_to_date


async def _read_live(url: str, reads: str) -> Any:
    async with durable_streams.connect(url, retries=ONCE) as streams:
        return await getattr(streams, reads)("s", live=True, timeout_s=0)


def test_a_tail_of_blocks_is_ended_from_elsewhere_while_drops_come() -> None:
    known: list[HostileServer] = []
    listening = threading.Event()

    def drops() -> Iterator[bytes]:
        for drop in drop_by_drop(known, EVENTS, b": still here\n"):
            yield drop
            listening.set()

    def answer(head: bytes) -> Iterable[bytes]:
        return drops() if b"live=" in head else [with_length(b"")]

    with HostileServer(answer) as server:
        known.append(server)
        with durable_streams.connect_sync(server.url, retries=ONCE, live="sse") as streams:
            tail = streams.tail("s")
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(list, tail)
                listening.wait()
                tail.close()
                assert waiting.result() == []


def body(status: int, **headers: str) -> tuple[Body, list[float]]:
    now = [0.0]
    head = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return Body(head, LIMIT, 10.0, lambda: now[0]), now


def test_a_body_may_take_twice_a_silence_and_a_second_for_each_kib() -> None:
    taking, now = body(200)
    now[0] = 21.0
    assert taking.take(b"x" * 1024)
    now[0] = 21.1
    with pytest.raises(Disconnected, match="only 1025 bytes"):
        taking.take(b"x")


def test_of_a_refusal_only_so_much_is_taken_and_its_status_counts() -> None:
    taking, _ = body(404)
    assert taking.take(b"x" * REFUSAL_BYTES)
    assert not taking.take(b"x")
    assert taking.whole().status == 404
    taking, _ = body(404, content_encoding="br")
    assert taking.take(b"\xff")
    assert taking.whole() == Answer(404, {"content-encoding": "br"})
