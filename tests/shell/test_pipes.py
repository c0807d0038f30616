"""A pipe without end, the short form of ``scripts/prove-shell``; and what else becomes of pipes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from durable_streams.settings import MIB
from durable_streams.shell.exit_status import Status
from tests.shell.running import Shell
from tools.proofs.prove_shell import Run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer


def test_each_line_arrives_once_over_kills_of_the_server_and_of_append(tmp_path: Path) -> None:
    run = Run(tmp_path, lines=1000, kills=3, seed=1)
    run.run()
    assert run.server_kills == 3
    assert run.append_kills >= 3


def test_what_does_not_fit_into_the_spool_stays_in_the_pipe_and_that_is_told_once(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(tmp_path, server.base_url)
    shell.told("append", "--create", "text", "full", "begun")
    given = b"".join(b"%06d\n" % number for number in range(40_000))
    with shell.started(
        *("append", "--spool-bytes", "16384", "--batch", "1024", "full"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as appending:
        assert appending.stdin is not None
        assert appending.stderr is not None
        appending.stdin.write("first\n")
        appending.stdin.flush()
        with shell.started("tail", "-f", "full", stdout=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            assert [tail.stdout.readline() for _ in range(2)] == ["begun\n", "first\n"]
            tail.kill()
        server.kill()
        os.set_blocking(appending.stdin.fileno(), False)
        sent = os.write(appending.stdin.fileno(), given)
        assert "16384 bytes wait" in appending.stderr.readline()  # and the pipe has the others
        server.start()
        os.set_blocking(appending.stdin.fileno(), True)
        while sent < len(given):
            sent += os.write(appending.stdin.fileno(), given[sent:])
        appending.stdin.close()
        assert appending.stderr.read() == ""
    assert appending.returncode == 0
    assert shell.told("read", "full").encode() == b"begun\nfirst\n" + given


def test_what_a_run_leaves_is_sent_by_the_next_one_whatever_that_appends(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(tmp_path, server.base_url)
    shell.told("append", "--create", "text", "left", "begun")
    shell.told("create", "gone", "-t", "text")
    with shell.started("append", "left", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert first.stdin is not None
        first.stdin.write("one\ntw")
        first.stdin.flush()
        with shell.started("tail", "-f", "left", stdout=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            assert [tail.stdout.readline() for _ in range(2)] == ["begun\n", "one\n"]
            tail.kill()
        first.kill()
    done = shell.run("append", "left", "two")
    assert done.returncode == 0
    assert shell.told("read", "left") == "begun\none\ntw\ntwo\n"


def test_what_the_server_refuses_is_kept_and_where_is_told(
    start_server: StartServer, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, start_server().base_url)
    shell.told("create", "closing", "-t", "text")
    with shell.started("append", "closing", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        assert it.stdin is not None
        assert it.stderr is not None
        it.stdin.write("one\n")
        it.stdin.flush()
        with shell.started("tail", "-f", "closing", stdout=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            assert tail.stdout.readline() == "one\n"
            shell.told("close", "closing")
            assert tail.stdout.read() == ""
        it.stdin.write("two\n")
        it.stdin.close()
        kept, error = it.stderr.read().splitlines()
    assert it.returncode == Status.CLOSED
    assert str(tmp_path / ".local" / "state") in kept
    assert "closed for good" in error


def test_a_line_of_json_is_as_long_as_a_server_takes_and_a_longer_one_is_left_out(
    start_server: StartServer, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, start_server().base_url)
    shell.told("create", "long", "-t", "json")
    longest, too_long = (f'"{"x" * (size - 2)}"\n' for size in (16 * MIB - 2, 16 * MIB - 1))
    given = f"1\n{longest}2\n{too_long}3\n"
    file = tmp_path / "lines"
    file.write_text(given)
    for source in (["--spool-bytes", "65536"], ["--file", file]):
        done = shell.run("append", "long", *source, given=given)
        (line,) = (line for line in done.stderr.splitlines() if "left out" in line)
        assert done.returncode == Status.BAD_DATA
        assert '"xxx' in line
    assert shell.told("read", "long") == f"1\n{longest}2\n3\n" * 2
    assert shell.told("append", "long", "4") == ""
