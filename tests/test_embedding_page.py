"""The programs of docs/embedding.rst that need more than to be run: servers, threads, a notebook.

The others are run by ``tests/test_documents.py``, as those of all documents are.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tests.documents import blocks_of, is_cell, named_blocks_of
from tests.notebook import Kernel
from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.conftest import StartServer

PAGE: Final = "docs/embedding.rst"
RUN_HERE: Final = {"notes.py", "guestbook.py", "In [1]:", "In [2]:", "In [3]:"}
PATIENCE_S: Final = 60


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that has nothing but the files of the page; its servers take any free port."""
    for block in named_blocks_of(PAGE).values():
        if not is_cell(block):
            code = block.code.replace("port=8080", "port=0").replace("shutdown=5", "shutdown=1")
            (tmp_path / block.name).write_text(f"{code}\n")
    return tmp_path


class Program:
    """A program of the page that serves; its log is on stderr."""

    def __init__(self, directory: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", name],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self.url = ""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line
            running = re.search(r"[Rr]unning on (http://[\d.:]+)", line)
            if running:
                self.url = running[1]
                break

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, how: signal.Signals) -> int:
        """Ask it to end; returns its exit status, and has the rest of its log."""
        self._process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        _, rest = self._process.communicate(timeout=PATIENCE_S)
        self.log += rest
        return self._process.returncode

    def __enter__(self) -> Self:
        assert self.url, self.log
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return json.load(response)


def post(url: str, data: bytes) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, data, timeout=PATIENCE_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def found_at_the_next_start(start_server: StartServer, data_dir: Path) -> str:
    """What the server says of a data directory; it has nothing to recover if that was closed."""
    server = start_server(data_dir=data_dir)
    assert server.stop() == 0
    return server.announcement


def test_every_program_of_the_page_is_run() -> None:
    blocks = blocks_of(PAGE)
    commands = "\n".join(block.code for block in blocks if block.language == "sh")
    programs = [block for block in blocks if block.name and block.language == "python"]
    elsewhere = {
        block.name
        for block in programs
        if not is_cell(block) and (block.output or block.name in commands)
    }
    imported = {"consumer.py"}  # by the tests behind it
    assert {block.name for block in programs} == RUN_HERE | elsewhere | imported


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
def test_an_asgi_application_uses_streams_and_closes_them(
    directory: Path, start_server: StartServer, how: signal.Signals, followed: bool
) -> None:
    with Program(directory, "notes.py") as notes:
        assert post(f"{notes.url}/notes", b'{"n": 1}')[0] == 201
        status, text = post(f"{notes.url}/notes", b'{"n": ')
        assert status == 400
        assert "not valid JSON" in text
        live = urllib.request.urlopen(f"{notes.url}/notes/live", timeout=PATIENCE_S)
        assert live.readline() == b'{"n": 1}\n'
        assert post(f"{notes.url}/notes", b'{"n": 2}')[0] == 201
        assert live.readline() == b'{"n": 2}\n'
        assert get(f"{notes.url}/notes") == [{"n": 1}, {"n": 2}]
        if not followed:
            live.close()
        status = notes.stop(how)
        live.close()
    assert status == (0 if how == signal.SIGINT else -signal.SIGTERM)
    assert "Application shutdown complete" in notes.log
    assert ("timeout graceful shutdown exceeded" in notes.log) is followed
    assert "nothing to recover" in found_at_the_next_start(start_server, directory / "notes-data")


def test_a_second_process_is_told_what_the_page_says(directory: Path) -> None:
    text = " ".join((ROOT / PAGE).read_text().split())
    told = re.search(r"whatever it is:: (.*?) So an application", text)
    assert told
    with Program(directory, "notes.py") as notes:
        second = subprocess.run(
            [sys.executable, "notes.py"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert second.returncode != 0
        expected = told[1].replace("/srv/streams", str(directory / "notes-data"))
        assert expected.replace("4711", str(notes.pid)) in second.stderr
        assert post(f"{notes.url}/notes", b"1")[0] == 201


def test_synchronous_handlers_use_streams_at_a_time(
    directory: Path, start_server: StartServer
) -> None:
    with Program(directory, "guestbook.py") as guestbook:
        url = f"{guestbook.url}/visits"
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: post(url, b"%d" % n), range(100)))
        assert {status for status, _ in answers} == {201}
        assert sorted(get(url)) == list(range(100))
        assert post(url, b"{")[0] == 400
        assert guestbook.stop(signal.SIGINT) == 0, guestbook.log
    data_dir = directory / "guestbook-data"
    assert "nothing to recover" in found_at_the_next_start(start_server, data_dir)


def test_a_server_that_ends_without_closing_loses_nothing(
    directory: Path, start_server: StartServer
) -> None:
    with Program(directory, "guestbook.py") as guestbook:
        assert post(f"{guestbook.url}/visits", b"1")[0] == 201
        assert guestbook.stop(signal.SIGTERM) == -signal.SIGTERM
    found = found_at_the_next_start(start_server, directory / "guestbook-data")
    assert "recovered 2 writes" in found
    with Program(directory, "guestbook.py") as guestbook:
        assert get(f"{guestbook.url}/visits") == [1]


FOLLOWS: Final = """
async for message in streams.tail("measures"):
    print(message.data)
"""


def test_a_notebook_opens_again_closes_and_may_die(tmp_path: Path) -> None:
    named = named_blocks_of(PAGE)
    opens, uses, closes = (named[f"In [{number}]:"] for number in (1, 2, 3))
    measure = "\n".join(uses.output)
    with Kernel(tmp_path) as kernel:
        assert kernel.run(opens.code) == ""
        assert kernel.run(uses.code).splitlines() == uses.output
        assert kernel.run(opens.code) == ""
        assert kernel.run(uses.code).splitlines() == uses.output * 2
        followed = kernel.run(FOLLOWS, interrupt=True)
        assert "CancelledError" in followed
        assert kernel.run(uses.code).splitlines() == uses.output * 3
        with Kernel(tmp_path) as other:
            assert f"DataDirectoryInUse: the data directory {tmp_path}" in other.run(opens.code)
            assert f"(pid {kernel.pid})" in other.run(opens.code)
            assert kernel.run(closes.code) == ""
            assert kernel.run(uses.code).startswith("NotOpen: the data directory was closed")
            assert other.run(opens.code) == ""
            assert other.run(uses.code) == f"{measure}\n" * 4
            other.die()
        assert kernel.run(opens.code) == ""
        assert kernel.run(uses.code) == f"{measure}\n" * 5


def test_the_programs_of_the_documents_pass_a_strict_type_check(tmp_path: Path) -> None:
    cells = ['# mypy: disable-error-code="top-level-await"']
    for document in ("README.rst", "docs/library.rst", PAGE):
        for number, block in enumerate(blocks_of(document)):
            if is_cell(block):
                cells.append(block.code)
            elif block.language == "python":
                name = block.name or f"{Path(document).stem}_{number}.py"
                (tmp_path / name).write_text(f"{block.code}\n")
    (tmp_path / "notebook.py").write_text("\n".join(cells) + "\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *sorted(tmp_path.glob("*.py"))],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "documents")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
