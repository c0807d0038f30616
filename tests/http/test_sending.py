"""Sending: one write, slices of files, and clients that take nothing."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from durable_streams.filestore.reading import read_ahead
from durable_streams.http import sendfile, turns
from durable_streams.http.sending import Sender
from durable_streams.model.results import FileSlice
from durable_streams.wire.replies import FOR_ALL, BodyPlan, Reply
from tests.http.client import Client
from tests.http.readable import Readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SIZE = 5 * sendfile.MAX_SENDFILE_BYTES + 12_345
HEADERS = (("Content-Type", "text/plain"),)
SIGNED = "/?offset=-1&signed=a-secret"


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=tls).start()
    try:
        yield listening.getsockname()[1]
    finally:
        await runner.cleanup()


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def from_file(
    path: Path,
    outcomes: list[object],
    *,
    stall_timeout_s: float = 30.0,
    executor: Executor | None = None,
) -> Handler:
    """A handler that sends "[", two slices of a file with bytes between them, and "]"."""
    sender = Sender(stall_timeout_s=stall_timeout_s)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        with path.open("rb") as file:
            readable = Readable(file, executor)
            parts = (FileSlice(readable, 1, SIZE - 1), b"<between>", FileSlice(readable, 0, 10))
            plan = BodyPlan(b"[", parts, b"]", SIZE + 20)
            answer = sender.answer(Reply(200, HEADERS), FOR_ALL)
            try:
                await sender.send_plan(request, answer, plan)
            except BaseException as error:
                outcomes.append(error)
                raise
        outcomes.append("sent")
        return answer

    return handler


def expected(path: Path) -> bytes:
    data = path.read_bytes()
    return b"[" + data[1:] + b"<between>" + data[:10] + b"]"


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_slices_of_files_arrive_between_their_bytes_again_and_again(blob: Path) -> None:
    outcomes: list[object] = []
    async with serving(from_file(blob, outcomes)) as port:
        client = await Client.connect(port)
        await client.request("GET", "/")
        before = open_descriptors()
        for _ in range(3):
            answer = await client.request("GET", "/")
            assert (answer.status, answer.body) == (200, expected(blob))
        assert open_descriptors() == before
        await client.close()
    assert outcomes == ["sent"] * 4


async def test_pipelined_requests_for_files_do_not_mix(blob: Path) -> None:
    async with serving(from_file(blob, [])) as port:
        client = await Client.connect(port, receive_buffer_bytes=4096)
        for _ in range(3):
            client.ask("GET", "/")
        for _ in range(3):
            assert (await client.answer()).body == expected(blob)
        await client.close()


async def test_without_sendfile_the_bytes_are_copied(
    blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sendfile")
    async with serving(from_file(blob, [])) as port:
        client = await Client.connect(port, receive_buffer_bytes=4096)
        assert (await client.request("GET", "/")).body == expected(blob)
        await client.close()


async def test_a_file_system_that_cannot_sendfile_is_copied_from(
    blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse)
    async with serving(from_file(blob, [])) as port:
        client = await Client.connect(port)
        assert (await client.request("GET", "/")).body == expected(blob)
        await client.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_nothing_of_a_file_passes_by_tls(blob: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    client_side = ssl.create_default_context(cafile=str(certificate))
    client_side.check_hostname = False
    async with serving(from_file(blob, []), server_side) as port:
        client = await Client.connect(port, tls=client_side)
        assert (await client.request("GET", "/")).body == expected(blob)
        await client.close()


async def test_what_the_page_cache_lacks_is_read_by_a_thread(
    blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[tuple[int, int]] = []
    threads: set[str] = set()
    original = read_ahead._Errand.run

    def cold(*_: object) -> int:
        raise BlockingIOError

    def remember(errand: read_ahead._Errand, position: int, size: int) -> None:
        threads.add(threading.current_thread().name.partition("_")[0])
        fetched.append((position, size))
        original(errand, position, size)

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(read_ahead._Errand, "run", remember)
    with ThreadPoolExecutor(1, "ours") as executor:
        async with serving(from_file(blob, [], executor=executor)) as port:
            client = await Client.connect(port)
            assert (await client.request("GET", "/")).body == expected(blob)
            await client.close()
    assert threads == {"ours"}
    assert fetched[0] == (1, sendfile.MAX_SENDFILE_BYTES)
    assert sum(size for _, size in fetched) == SIZE - 1 + 10


@pytest.mark.parametrize("copying", [False, True])
async def test_a_client_that_takes_nothing_is_cut_off(
    blob: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    copying: bool,
) -> None:
    if copying:
        monkeypatch.delattr(os, "sendfile")
    with blob.open("ab") as file:  # more than the kernel buffers for a client
        file.truncate(64 * 1024 * 1024)
    outcomes: list[object] = []
    sender = Sender(stall_timeout_s=0.1)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        with blob.open("rb") as file:
            size = 64 * 1024 * 1024
            plan = BodyPlan(b"", (FileSlice(Readable(file), 0, size),), b"", size)
            answer = sender.answer(Reply(200, HEADERS), FOR_ALL)
            try:
                await sender.send_plan(request, answer, plan)
            except ConnectionError as error:
                outcomes.append(error)
                done.set()
                raise
            return answer

    done = asyncio.Event()
    async with serving(handler) as port:
        before = open_descriptors()
        client = await Client.connect(port, receive_buffer_bytes=4096)
        client.ask("GET", SIGNED)
        await done.wait()
        client.writer.transport.abort()
        while open_descriptors() > before:
            await asyncio.sleep(0)
    assert isinstance(outcomes[0], ConnectionResetError)
    (record,) = [record for record in caplog.records if record.name == "durable_streams"]
    assert record.levelname == "WARNING"
    assert vars(record)["path"] == "/?offset=-1&signed=[signature]"


async def test_a_file_that_is_too_short_cuts_the_answer_off_and_is_logged(
    blob: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[object] = []
    os.truncate(blob, SIZE - 1)
    async with serving(from_file(blob, outcomes)) as port:
        client = await Client.connect(port)
        client.ask("GET", SIGNED)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.answer()
        await client.close()
    (error,) = outcomes
    assert isinstance(error, ConnectionResetError)
    assert isinstance(error.__cause__, EOFError)
    (record,) = [record for record in caplog.records if record.name == "durable_streams"]
    assert "cut off an answer" in record.getMessage()
    assert record.exc_info is None
    assert vars(record)["path"] == "/?offset=-1&signed=[signature]"


async def test_a_client_that_leaves_in_the_middle_of_a_file_frees_everything(blob: Path) -> None:
    outcomes: list[object] = []
    async with serving(from_file(blob, outcomes)) as port:
        before = open_descriptors()
        client = await Client.connect(port, receive_buffer_bytes=4096)
        client.ask("GET", "/")
        await client.head()
        client.writer.transport.abort()
        while not outcomes or open_descriptors() > before:
            await asyncio.sleep(0)
    assert isinstance(outcomes[0], ConnectionError | asyncio.CancelledError)


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("GET", 200, "4"), ("HEAD", 404, "4"), ("GET", 204, None), ("GET", 304, None)],
)
async def test_a_body_goes_only_where_one_belongs(
    method: str, status: int, length: str | None
) -> None:
    sender = Sender(stall_timeout_s=1, clock=lambda: 0.0)

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return sender.answer(Reply(status, HEADERS, b"body"), FOR_ALL)

    async with serving(handler) as port:
        client = await Client.connect(port)
        for _ in range(2):
            answer = await client.request(method, "/")
            assert answer.headers.get("content-length") == length
            assert answer.body == (b"body" if (method, status) == ("GET", 200) else b"")
            assert answer.headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
        await client.close()


async def test_a_line_break_in_a_header_is_never_sent(caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender(stall_timeout_s=1)

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return sender.answer(Reply(200, (("X", "a\r\nSet-Cookie: b"),)), FOR_ALL)

    async with serving(handler) as port:
        client = await Client.connect(port)
        client.ask("GET", "/")
        assert await client.ended()
        await client.close()
    assert any(
        record.exc_info and "line break" in str(record.exc_info[1]) for record in caplog.records
    )


async def test_many_small_answers_to_a_client_that_takes_none_are_bounded() -> None:
    sender = Sender(stall_timeout_s=0.1)
    protocols: list[web.RequestHandler] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        protocols.append(request.protocol)
        return sender.answer(Reply(200, HEADERS, b"x" * 60_000), FOR_ALL)

    async with serving(handler) as port:
        client = await Client.connect(port, receive_buffer_bytes=4096)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000)
        assert (await client.head()).status == 200
        while protocols[0].transport is not None:
            await asyncio.sleep(0)
        client.writer.transport.abort()
    assert len(protocols) < 2_000


async def test_few_slices_go_per_turn_of_the_loop_and_in_order() -> None:
    shared = turns.Turns()
    served: list[int] = []

    async def reader(number: int) -> None:
        await shared.take()
        served.append(number)

    count = 3 * turns.SENDFILES_PER_TURN
    readers = [asyncio.create_task(reader(number)) for number in range(count)]
    readers[turns.SENDFILES_PER_TURN].cancel()
    sizes = []
    while not all(task.done() for task in readers):
        before = len(served)
        await asyncio.sleep(0)
        sizes.append(len(served) - before)
    assert max(sizes) <= turns.SENDFILES_PER_TURN
    assert served == [n for n in range(count) if n != turns.SENDFILES_PER_TURN]
    await asyncio.gather(*(shared.take() for _ in range(count)))
