"""A failing machine under the real server: what clients get, what is kept, how it recovers."""

from __future__ import annotations

import errno
import http.client
import os
import resource
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from durable_streams.engine.engine import Engine
from durable_streams.settings import MIB, HttpSettings, Settings
from tests.http.conftest import RunningServer
from tests.storage.staged_disk import StagedDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.server_process import ServerProcess


def ask(server: ServerProcess, method: str, url: str, body: bytes = b"") -> tuple[int, bytes]:
    asked = urllib.request.Request(url, method=method, data=body or None)
    asked.add_header("Content-Type", "text/plain")
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def stream(server: ServerProcess, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    return ask(server, method, server.url(path), body)


def ready(server: ServerProcess) -> tuple[int, bytes]:
    return ask(server, "GET", f"{server.base_url}/readyz")


def wait_until_ready_is(server: ServerProcess, status: int) -> bytes:
    while True:  # the server looks at its disk twice a second
        found, text = ready(server)
        if found == status:
            return text


def first_streams(server: ServerProcess) -> None:
    for path in ("a", "b", "doomed"):
        assert stream(server, "PUT", path, b"first")[0] == 201
    assert stream(server, "POST", "a", b" second")[0] == 204


def everything_is_there_and_works(server: ServerProcess) -> None:
    assert stream(server, "GET", "a") == (200, b"first second")
    assert stream(server, "GET", "b") == (200, b"first")
    assert stream(server, "POST", "b", b" again")[0] == 204
    assert stream(server, "GET", "b") == (200, b"first again")
    assert stream(server, "GET", "refused")[0] == 404


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 512 MiB and 4096 inodes."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512m,nr_inodes=4096", "none", str(mounted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED, a full disk: a file system cannot be mounted: {done.stderr}")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.mark.parametrize("exhausted", ["bytes", "inodes"])
def test_a_full_disk_is_507_reads_go_on_and_room_brings_writing_back(
    start_server: StartServer, small_disk: Path, exhausted: str
) -> None:
    server = start_server(data_dir=small_disk / "data")
    first_streams(server)
    filler = small_disk / "filler"
    filler.mkdir()
    if exhausted == "bytes":
        status = os.statvfs(small_disk)
        with (filler / "0").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - 16 * MIB)
    else:
        for number in range(os.statvfs(small_disk).f_favail - 500):
            (filler / str(number)).touch()
    assert b"full" in wait_until_ready_is(server, 503)
    assert stream(server, "POST", "a", b"x")[0] == 507
    assert stream(server, "PUT", "refused", b"x")[0] == 507
    assert stream(server, "GET", "a") == (200, b"first second")
    assert stream(server, "HEAD", "a")[0] == 200
    assert server.stderr.count("the disk is full") >= 1
    for file_path in filler.iterdir():
        file_path.unlink()
    wait_until_ready_is(server, 200)
    everything_is_there_and_works(server)
    server.restart()
    assert stream(server, "GET", "b") == (200, b"first again")


@contextmanager
def lowered(server: ServerProcess, limit: int, value: int) -> Iterator[None]:
    soft, hard = resource.prlimit(server.pid, limit)
    resource.prlimit(server.pid, limit, (value, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, limit, (soft, hard))


def test_writes_that_the_system_refuses_are_503_and_work_again_when_it_does_not(
    start_server: StartServer,
) -> None:
    server = start_server()
    first_streams(server)
    server.stop()
    server.start()  # all of it is in the streams' files
    with lowered(server, resource.RLIMIT_FSIZE, 0):
        for method, path in (("POST", "a"), ("PUT", "refused"), ("DELETE", "doomed")):
            status, text = stream(server, method, path, b"x")
            assert (status, b"journal" in text) == (503, True), (method, text)
        assert stream(server, "GET", "a") == (200, b"first second")
        assert stream(server, "HEAD", "b")[0] == 200
    everything_is_there_and_works(server)
    assert stream(server, "GET", "doomed") == (200, b"first")
    server.restart()
    assert stream(server, "GET", "b") == (200, b"first again")


def test_out_of_descriptors_is_503_and_nothing_acknowledged_is_lost(
    start_server: StartServer,
) -> None:
    server = start_server()
    first_streams(server)
    server.restart()  # no stream is open
    assert ready(server)[0] == 200
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("GET", "/healthz")
    assert client.getresponse().read() == b"ok\n"
    with lowered(server, resource.RLIMIT_NOFILE, 3):
        for method, path in (("GET", "a"), ("POST", "b"), ("PUT", "refused")):
            client.request(method, f"/v1/stream/{path}", b"x", {"Content-Type": "text/plain"})
            response = client.getresponse()
            assert (response.status, response.headers["Retry-After"]) == (503, "1"), method
            assert b"descriptors" in response.read()
    client.close()
    everything_is_there_and_works(server)


def test_a_data_directory_that_goes_and_comes_back_loses_nothing(
    start_server: StartServer,
) -> None:
    server = start_server()
    first_streams(server)
    away = server.data_dir.with_name("away")
    server.data_dir.rename(away)
    acknowledged = stream(server, "POST", "doomed", b" late")[0] == 204
    assert b"cannot be reached" in wait_until_ready_is(server, 503)
    assert stream(server, "POST", "a", b"x")[0] == 503
    assert stream(server, "PUT", "refused", b"x")[0] == 503
    assert stream(server, "GET", "unknown")[0] == 503  # nobody can say that there is none
    assert "the data directory cannot be reached" in server.stderr
    away.rename(server.data_dir)
    wait_until_ready_is(server, 200)
    everything_is_there_and_works(server)
    late = b"first late" if acknowledged else b"first"
    assert stream(server, "GET", "doomed") == (200, late)
    server.stop()
    server.start()
    assert stream(server, "GET", "doomed") == (200, late)


def test_a_stop_while_the_data_directory_is_away_leaves_the_journal_to_the_next_start(
    start_server: StartServer,
) -> None:
    server = start_server()
    first_streams(server)
    assert stream(server, "GET", "a") == (200, b"first second")
    away = server.data_dir.with_name("away")
    server.data_dir.rename(away)
    acknowledged = [n for n in range(5) if stream(server, "POST", "b", b"%d" % n)[0] == 204]
    server.stop()
    assert not server.data_dir.exists()
    away.rename(server.data_dir)
    server.start()
    wanted = b"first" + b"".join(b"%d" % n for n in acknowledged)
    assert stream(server, "GET", "b") == (200, wanted)


async def test_a_failed_sync_is_503_for_good_and_reads_go_on(data_dir: Path) -> None:
    disk = StagedDisk()
    engine = await Engine.open(data_dir, Settings(), disk)
    server = RunningServer(engine, HttpSettings())
    await server.start()
    await server.create("a", "text/plain", b"first")
    disk.fail("sync", errno.EIO, times=1)
    client = await server.connect()
    text = {"Content-Type": "text/plain"}
    assert (await client.request("POST", "a", b"lost", text)).status == 503
    assert (await client.request("POST", "a", b"lost", text)).status == 503  # the disk is well
    assert (await client.request("PUT", "b", b"lost", text)).status == 503
    assert (await client.request("DELETE", "a")).status == 503
    assert (await client.request("GET", "/readyz")).status == 503
    answer = await client.request("GET", "a")
    assert (answer.status, answer.body) == (200, b"first")
    await server.finish()
    assert engine.fault is not None
