"""A failing machine under the real server: what clients get, what is kept, how it recovers."""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from durable_streams.settings import MIB
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import StartServer


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


def fill(filler: Path, leaving: int) -> None:
    """The server takes some of the room meanwhile, for its reserve and journal: then the rest."""
    with (filler / "0").open("wb") as file:
        while True:
            status = os.statvfs(filler)
            with suppress(OSError):  # it was not there any more, and nothing of it was taken
                os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leaving)
                return


@pytest.mark.parametrize("exhausted", ["bytes", "inodes"])
def test_a_full_disk_is_507_reads_go_on_and_room_brings_writing_back(
    small_disk: Path, start_server: StartServer, exhausted: str
) -> None:
    server = start_server(data_dir=small_disk / "data")
    first_streams(server)
    filler = small_disk / "filler"
    filler.mkdir()
    if exhausted == "bytes":
        fill(filler, leaving=16 * MIB)
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


def test_a_killed_server_starts_on_a_disk_without_a_byte_left(
    small_disk: Path, start_server: StartServer
) -> None:
    server = start_server(data_dir=small_disk / "data")
    first_streams(server)
    applied = server.data_dir / "streams" / "a@"
    while b"second" not in b"".join(path.read_bytes() for path in applied.glob("*.seg")):
        pass  # what is in the journal only could not be brought to its files
    filler = small_disk / "filler"
    filler.mkdir()
    fill(filler, leaving=0)
    server.restart()
    server.restart()
    assert stream(server, "GET", "a") == (200, b"first second")
    assert b"full" in wait_until_ready_is(server, 503)
    assert stream(server, "PUT", "refused", b"x")[0] == 507
    (filler / "0").unlink()
    wait_until_ready_is(server, 200)
    everything_is_there_and_works(server)


def test_the_server_takes_as_many_descriptors_as_it_may(start_server: StartServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (hard, hard)


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
        for method, path in (("GET", "a"), ("POST", "b")):
            client.request(method, f"/v1/stream/{path}", b"x", {"Content-Type": "text/plain"})
            response = client.getresponse()
            assert (response.status, response.headers["Retry-After"]) == (503, "1"), method
            assert b"descriptors" in response.read()
        # A new stream is in the journal, which is open, before it needs any.
        client.request("PUT", "/v1/stream/made", b"whole", {"Content-Type": "text/plain"})
        assert client.getresponse().status == 201
    client.close()
    everything_is_there_and_works(server)
    assert stream(server, "GET", "made") == (200, b"whole")
    server.restart()
    assert stream(server, "GET", "made") == (200, b"whole")


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


# -- one stream's files, and the disk below it -----------------------------------------------


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A file system of its own, and how to remount it (``ro``, ``rw``)."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512m", "none", str(mounted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED, a read-only disk: nothing can be mounted: {done.stderr}")

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(mounted)], check=True)

    yield mounted, remount
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_read_only_data_directory_is_refused_in_one_line(
    read_only_disk: tuple[Path, Callable[[str], None]],
) -> None:
    mounted, remount = read_only_disk
    server = ServerProcess(mounted / "data")
    server.data_dir.mkdir()
    remount("ro")
    server._log_path = mounted.with_name("stderr")
    with pytest.raises(AssertionError, match="ended with 2"):
        server.start()
    lines = server.stderr.splitlines()
    assert len(lines) == 1, lines
    assert "Read-only file system" in lines[0]
    assert str(server.data_dir) in lines[0]


def files_of(server: ServerProcess, path: str, suffix: str = "") -> list[Path]:
    return sorted((server.data_dir / "streams" / f"{path}@").glob(f"*{suffix}"))


@pytest.mark.parametrize("vanished", ["directory", "segment", "index", "sidecar"])
def test_a_stream_whose_files_vanish_is_answered_for_by_itself_and_others_go_on(
    start_server: StartServer, vanished: str
) -> None:
    server = start_server()
    first_streams(server)
    server.stop()
    home = server.data_dir / "streams" / "a@"
    if vanished == "directory":
        shutil.rmtree(home)
    else:
        suffix = {"segment": ".seg", "index": ".idx", "sidecar": "meta.json"}[vanished]
        for file_path in files_of(server, "a", suffix):
            file_path.unlink()
    server.start()
    # A stream is what its files prove from its beginning on: what is missing ends it there, and
    # without directory or sidecar there is none.
    wanted = (404, None) if vanished in ("directory", "sidecar") else (200, b"")
    status, text = stream(server, "GET", "a")
    assert (status, text if wanted[1] is not None else None) == wanted
    assert stream(server, "GET", "b") == (200, b"first")
    assert stream(server, "POST", "b", b" again")[0] == 204
    assert stream(server, "PUT", "fresh", b"x")[0] == 201
    server.restart()
    assert stream(server, "GET", "b") == (200, b"first again")


@pytest.mark.parametrize("vanished", ["directory", "segment", "index"])
def test_files_that_vanish_under_a_running_server_harm_no_other_stream(
    start_server: StartServer, vanished: str
) -> None:
    server = start_server()
    first_streams(server)
    server.stop()
    server.start()
    assert stream(server, "HEAD", "a")[0] == 200  # open, its segment not
    home = server.data_dir / "streams" / "a@"
    if vanished == "directory":
        shutil.rmtree(home)
    else:
        for file_path in files_of(server, "a", ".seg" if vanished == "segment" else ".idx"):
            file_path.unlink()
    wanted = 200 if vanished == "index" else 500
    assert stream(server, "GET", "a")[0] == wanted
    statuses = {stream(server, "POST", "a", b"x")[0] for _ in range(3)}
    assert statuses <= {204, 500}  # acknowledged are those before the files were looked at
    assert stream(server, "GET", "b") == (200, b"first")
    assert stream(server, "POST", "b", b" again")[0] == 204
    assert ready(server)[0] == 200
    server.restart()
    assert stream(server, "GET", "b") == (200, b"first again")
    assert stream(server, "GET", "a")[0] in {200, 404, 500}
