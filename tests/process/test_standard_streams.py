"""Standard streams that are closed, full, slow, or of another encoding."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from durable_streams.library import open_streams
from tests.process.commands import COMMAND, shell
from tests.test_cli import request
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import StartQuietServer

DEVNULL = "/dev/null"


@pytest.fixture
def data(data_dir: Path) -> Path:
    """A data directory with a stream that has much to print."""

    async def fill() -> None:
        async with open_streams(data_dir) as streams:
            await streams.create("a", data=b"x" * 100_000)

    asyncio.run(fill())
    return data_dir


def damage(data: Path) -> None:
    file = next((data / "streams" / "a@").glob("*.seg"))
    file.write_bytes(b"y" + file.read_bytes()[1:])


@pytest.mark.parametrize(
    ("redirections", "closed"), [(">&-", [1]), ("2>&-", [2]), ("<&- >&- 2>&-", [0, 1, 2])]
)
def test_closed_streams_are_dev_null_and_the_server_serves(
    start_quiet_server: StartQuietServer, redirections: str, closed: list[int]
) -> None:
    server = start_quiet_server(redirections)
    assert request("PUT", server.url("a"), b"x")[0] == 201
    assert [server.standard_streams()[fd] for fd in closed] == [DEVNULL] * len(closed)
    assert server.stop() == 0


def test_a_server_that_cannot_say_anything_serves(start_quiet_server: StartQuietServer) -> None:
    server = start_quiet_server(">/dev/full 2>/dev/full", "--access-log")
    assert request("PUT", server.url("a"), b"x")[0] == 201
    assert server.stop() == 0


@pytest.mark.parametrize("redirections", [">&- 2>&-", "2>/dev/full"])
def test_the_exit_status_is_what_was_found_out_if_nobody_wants_to_read_it(
    data: Path, redirections: str
) -> None:
    assert shell(redirections, "verify", data).returncode == 0
    damage(data)
    assert shell(redirections, "verify", data).returncode == 1
    assert shell(redirections, "verify", data / "missing").returncode == 2


@pytest.mark.parametrize("arguments", ["verify DATA", "dump --full DATA", "--help"])
def test_what_cannot_be_printed_is_no_finding(data: Path, arguments: str) -> None:
    done = shell(">/dev/full", *arguments.replace("DATA", str(data)).split())
    assert done.returncode == 2
    assert done.stderr == (
        "durable-streams: error: cannot write to standard output: No space left on device\n"
    )


@pytest.mark.parametrize("arguments", ["verify DATA", "dump --full DATA"])
def test_output_that_nobody_reads_any_more_ends_quietly(data: Path, arguments: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = arguments.replace("DATA", str(data)).split()
    done = subprocess.run(
        [*COMMAND, *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-16:strict"])
def test_what_an_encoding_does_not_have_is_printed_as_an_escape(data: Path, encoding: str) -> None:
    (data / "streams" / "Ω").write_bytes(b"")
    (data / "streams" / os.fsdecode(b"\xff")).write_bytes(b"")
    done = subprocess.run(
        [*COMMAND, "verify", "-v", str(data)],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    shown = done.stdout.decode(encoding.partition(":")[0])
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\\udcff: it is no stream's directory" in shown
    assert ("Ω" if encoding.startswith("utf") else "\\u03a9") in shown
    assert shown.endswith(": sound (2 note)\n")


def test_a_descriptor_that_does_not_block_is_waited_for(data: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # it is shared: whoever started the command may have done so
    command = subprocess.Popen(
        [*COMMAND, "dump", "--full", str(data)], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        shown = output.read()
    _, error = command.communicate()
    assert (command.returncode, error) == (0, b"")
    assert b"x" * 100_000 in shown


def test_no_file_of_ours_gets_the_number_of_a_standard_stream(data: Path) -> None:
    program = f"""
import os, sys
from durable_streams.filestore.files.disk import Disk
kept = os.dup(1)
for fd in (0, 1, 2):
    os.close(fd)
disk = Disk()
opened = [disk.open_read({str(data)!r}), disk.open_write({str(data / "LOCK")!r})]
os.write(kept, repr([fd > 2 for fd in opened] + [os.get_inheritable(fd) for fd in opened]).encode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[True, True, False, False]"


def test_without_a_null_device_nothing_comes_from_a_closed_stdin() -> None:
    program = """
import os, sys
from durable_streams.process import standard_streams
os.devnull = "/missing/null"
standard_streams.prepare()
print(repr(sys.stdin.read()), os.open("/", os.O_RDONLY))
"""
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -c "$1" <&-', sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("'' 3\n", "")


def test_a_bug_is_not_taken_for_damage(data: Path) -> None:
    program = f"""
import sys
from durable_streams import cli
from durable_streams.maintenance import commands
commands.verify = lambda *_, **__: {{}}[0]
sys.exit(cli.main(["verify", {str(data)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert done.stderr.endswith("KeyError: 0\n")


def test_what_the_system_refuses_is_one_line_and_exit_2(data: Path) -> None:
    damage(data)
    program = f"""
import resource, sys
from durable_streams import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(cli.main(["repair", "--apply", {str(data)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_what_a_program_put_in_the_place_of_stdout_stays_there() -> None:
    program = """
import contextlib, io
from durable_streams import cli
with contextlib.redirect_stdout(io.StringIO()) as shown:
    status = cli.main(["--version"])
print(status, shown.getvalue().startswith("durable-streams "))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 True\n"
