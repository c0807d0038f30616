"""A unix socket at a path: made, refused where something is in its place, removed if it is ours."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from durable_streams.process.addresses import CannotListen
from durable_streams.process.unix_socket import UnixSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


@pytest.fixture
def made(path: Path) -> Iterator[UnixSocket]:
    """A server's socket, which listens."""
    unix = UnixSocket.at(str(path))
    unix.bound.listen()
    yield unix
    unix.bound.close()
    unix.remove()


def left_behind(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """A socket whose server was killed."""
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(path))


def test_it_is_for_user_and_group_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        unix = UnixSocket.at(str(path))
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    unix.bound.close()
    unix.remove()
    assert not path.exists()


def test_one_that_a_killed_server_left_is_replaced(path: Path) -> None:
    left_behind(path)
    unix = UnixSocket.at(str(path))
    unix.bound.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    unix.bound.close()
    unix.remove()


@pytest.mark.usefixtures("made")
def test_one_that_somebody_listens_on_is_refused_and_stays(path: Path) -> None:
    with pytest.raises(CannotListen, match=r"somebody listens there: stop that server"):
        UnixSocket.at(str(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_so_it_is_while_more_wait_there_than_are_accepted(path: Path) -> None:
    clients = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        answer = 0
        while answer != errno.EAGAIN:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            answer = client.connect_ex(str(path))
        with pytest.raises(CannotListen, match="somebody listens there"):
            UnixSocket.at(str(path))
    for client in clients:
        client.close()
    assert path.exists()


def test_a_socket_of_datagrams_is_refused_while_somebody_has_it(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(CannotListen, match="somebody listens there"):
            UnixSocket.at(str(path))
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link to a dead socket", "dangling link"])
def test_what_is_no_socket_is_refused_and_stays(path: Path, tmp_path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_bytes(b"mine")
        case "directory":
            path.mkdir()
        case "link to a dead socket":
            left_behind(tmp_path / "other.sock")
            path.symlink_to("other.sock")
        case _:
            path.symlink_to("nothing")
    before = path.lstat()
    with pytest.raises(CannotListen, match="a file is there that is no socket: remove it"):
        UnixSocket.at(str(path))
    assert path.lstat() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "give --unix-socket a path"),
        ("a\0b", "give --unix-socket a path"),
        ("missing/a.sock", "No such file or directory: make its directory first"),
        ("file/a.sock", "Not a directory: give a path in a directory"),
        ("x" * 108, "path too long: give another --unix-socket"),
    ],
)
def test_a_path_that_cannot_be_is_told(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotListen, match=told):
        UnixSocket.at(f"{tmp_path}/{name}" if name else "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_end_of_a_server_leaves_the_socket_that_another_program_put_there(
    made: UnixSocket, path: Path
) -> None:
    path.unlink()
    left_behind(path)
    before = path.lstat()
    made.bound.close()
    made.remove()
    assert path.lstat() == before


def test_the_end_of_a_server_whose_socket_is_gone_is_a_proper_end(
    made: UnixSocket, path: Path
) -> None:
    path.unlink()
    made.remove()
    assert not path.exists()


def test_nobody_finds_it_dead_before_it_is_removed(made: UnixSocket, path: Path) -> None:
    made.bound.close()
    with pytest.raises(CannotListen, match="somebody listens there"):
        UnixSocket.at(str(path))


def test_two_servers_do_not_look_at_one_directory_at_once(path: Path) -> None:
    left_behind(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CannotListen, match="somebody has a lock on it"):
            UnixSocket.at(str(path))
    finally:
        os.close(descriptor)
    assert path.exists()


def test_a_refusal_leaves_no_lock_behind(path: Path) -> None:
    path.touch()
    with pytest.raises(CannotListen):
        UnixSocket.at(str(path))
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
