"""Small files that are replaced at once: whose they are, editors at a time, and crashes."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from durable_streams.access.small_files import FileProblem, edit_small, read_small
from durable_streams.access.token_file import add_token, read_tokens
from tests.access.known import OTHER, record, token
from tools.descriptors import open_now
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_a_new_file_is_for_its_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        add_token(path, record("web"))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_keeps_its_mode_and_owner(path: Path) -> None:
    path.write_text(token())
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    add_token(path, record("new"))
    after = path.stat()
    assert (before.st_uid, before.st_gid, before.st_mode) == (
        after.st_uid,
        after.st_gid,
        after.st_mode,
    )
    assert before.st_ino != after.st_ino


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from durable_streams.access.token_file import add_token
from tests.access.known import record
os.setgid(34)
os.setuid(12)
add_token(Path(sys.argv[1]), record("new"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_file_whose_owner_it_would_lose_is_not_changed() -> None:
    with TemporaryDirectory() as directory:  # others have no way into those of pytest
        path = Path(directory) / "tokens.toml"
        path.parent.chmod(0o777)
        path.write_text(token())
        path.chmod(0o666)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "belongs to user 0" in done.stderr
        assert path.read_text() == token()
        assert len(list(path.parent.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_that_cannot_be_synced_is_told(path: Path) -> None:
    path.write_text(token())
    path.parent.chmod(0o300)
    try:
        with pytest.raises(FileProblem, match="was changed, and may be as it was"):
            add_token(path, record("new"))
    finally:
        path.parent.chmod(0o700)
    assert len(read_tokens(path).tokens) == 2


# Several at a time, and crashes


EDITOR = """
import sys
from pathlib import Path
from durable_streams.access.token_file import add_token, remove_token
from tests.access.known import record
path = Path(sys.argv[1])
for number in range(8):
    add_token(path, record(f"{sys.argv[2]}-{number}"))
    add_token(path, record(f"{sys.argv[2]}-{number}-gone"))
    remove_token(path, f"{sys.argv[2]}-{number}-gone")
"""


def test_editors_at_the_same_time_lose_nothing(path: Path) -> None:
    editors = [
        subprocess.Popen([sys.executable, "-c", EDITOR, str(path), name], cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [editor.wait() for editor in editors] == [0, 0, 0]
    assert {one.id for one in read_tokens(path).tokens} == {
        f"{name}-{number}" for name in ("a", "b", "c") for number in range(8)
    }
    assert len(list(path.parent.iterdir())) == 1


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_whoever_waited_for_a_file_that_was_replaced_edits_the_new_one(path: Path) -> None:
    path.write_text(token())
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        editor = in_a_thread(lambda: add_token(path, record("new")))
        while _open_times(path) < 2:
            os.sched_yield()
        other = path.with_name("other")
        other.write_text(token() + token(identity="b", digest=OTHER))
        other.rename(path)
    editor.join()
    assert [one.id for one in read_tokens(path).tokens] == ["web", "b", "new"]


def _open_times(path: Path) -> int:
    return open_now().count(str(path))


def test_a_lock_that_is_never_given_up_is_told(path: Path) -> None:
    path.write_text(token())
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FileProblem, match="locked by another program"):
            edit_small(path, lambda _: b"", max_bytes=100, patience_s=0)
    assert path.read_text() == token()


def test_a_file_that_came_to_be_meanwhile_is_edited_and_not_replaced(path: Path) -> None:
    seen: list[bytes | None] = []

    def change(old: bytes | None) -> bytes:
        seen.append(old)
        if old is None:
            path.write_bytes(b"of another\n")
        return (old or b"") + b"ours\n"

    edit_small(path, change, max_bytes=100)
    assert seen == [None, b"of another\n"]
    assert path.read_bytes() == b"of another\nours\n"


CRASHES = """
import os, sys
from pathlib import Path
from durable_streams.access import small_files
from durable_streams.access.small_files import edit_small
path, old = Path(sys.argv[1]), sys.argv[2].encode()
line = 0
while True:
    line += 1
    if old:
        path.write_bytes(old)
    else:
        path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        left = line
        def trace(frame, event, argument):
            global left
            if frame.f_code.co_filename != small_files.__file__:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os._exit(9)
            return trace
        sys.settrace(trace)
        edit_small(path, lambda _: b"new", max_bytes=100)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = path.read_bytes() if path.exists() else b""
    assert found in (old, b"new"), (line, found)
    if status == 0:
        assert found == b"new"
        print(line)
        break
    assert status == 9
"""


@pytest.mark.parametrize("old", ["old", ""])
def test_a_crash_between_any_two_lines_leaves_the_old_file_or_the_new(path: Path, old: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(path), old],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert int(done.stdout) > 30
    assert read_small(path, 100) == b"new"
