"""The verbs on the streams of a server: what they print, and what their exit status says."""

from __future__ import annotations

import argparse
import json
import pty
import signal
import subprocess
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from durable_streams.cli import make_parser
from durable_streams.settings import MIB
from durable_streams.shell import VERBS, commands
from durable_streams.shell.exit_status import Status

if TYPE_CHECKING:
    from tests.shell.running import Shell
    from tools.server_process import ServerProcess


def test_lines_are_appended_and_read_and_the_last_are_tailed(shell: Shell) -> None:
    assert shell.told("create", "logs/web", "-t", "text") == "logs/web: created, text/plain\n"
    shell.told("append", "logs/web", "started", "finished")
    shell.told("append", "logs/web", given="".join(f"{number}\n" for number in range(100)))
    assert shell.told("read", "logs/web").splitlines()[:3] == ["started", "finished", "0"]
    assert shell.told("tail", "logs/web").splitlines() == [str(n) for n in range(90, 100)]
    assert shell.told("read", "-n", "2", "--json", "logs/web") == '"98"\n"99"\n'
    assert shell.told("tail", "-n", "0", "logs/web") == ""


def test_messages_of_json_stay_as_they_were_sent_and_what_is_none_is_left_out(
    shell: Shell,
) -> None:
    shell.told("create", "j", "-t", "json")
    done = shell.run("append", "j", given='{"n":1e400}\n\nno json\n[1,2]\n1,2\n"é"')
    assert (done.returncode, done.stdout) == (Status.BAD_DATA, "")
    assert ["no json" in line or "1,2" in line for line in done.stderr.splitlines()] == [True] * 2
    assert shell.told("read", "j") == '{"n":1e400}\n[1,2]\n"é"\n'
    assert shell.told("tail", "-n", "1", "j") == '"é"\n'


def test_an_envelope_tells_when_where_and_by_whom(shell: Shell) -> None:
    shell.told("append", "--create", "text", "envelopes", "one")
    shell.told("append", "envelopes", given="two\n")
    shell.told("close", "envelopes")
    told = shell.told("read", "envelopes", "--format", "envelope").splitlines()
    one, two, end = map(json.loads, told)
    assert (one["data"], two["data"], two["size_bytes"]) == ("one\n", "two\n", 4)
    assert one["next_offset"] == two["offset"]
    assert two["producer"]["epoch"] == one["producer"]["epoch"] + 1
    assert two["producer"]["id"] == one["producer"]["id"]
    assert one["time"].endswith("Z")
    assert (end["closed"], end["size_bytes"], two["closed"]) == (True, 0, False)
    last = shell.told("tail", "-n", "2", "envelopes", "--format", "envelope").splitlines()
    assert last == told[1:]
    inside = f"{one['offset'][:-1]}2"
    told = shell.told("read", "envelopes", "--format", "envelope", "--offset", inside).splitlines()
    assert [json.loads(line)["data"] for line in told] == ["e\n", "two\n", ""]


def test_a_read_is_from_a_time_or_an_offset_on_and_up_to_a_time(shell: Shell) -> None:
    shell.told("append", "--create", "text", "times", "one")
    told = json.loads(shell.told("append", "--json", "times", "two"))
    assert shell.told("read", "times", "--since", "1h") == "one\ntwo\n"
    assert shell.told("read", "times", "--until", "1h") == ""
    assert shell.told("read", "times", "--offset", told["next_offset"]) == ""
    first, second = map(json.loads, shell.told("read", "times", "--format=envelope").splitlines())
    assert shell.told("read", "times", "--offset", second["offset"]) == "two\n"
    if first["time"] != second["time"]:
        assert shell.told("read", "times", "--since", second["time"]) == "two\n"
        assert shell.told("read", "times", "--until", first["time"]) == "one\n"


def test_streams_are_listed_described_forked_closed_and_deleted(shell: Shell) -> None:
    shell.told("append", "--create", "text/csv", "many/1", "a")
    shell.told("fork", "many/1", "many/2")
    assert shell.told("ls", "many") == "many/1\nmany/2\n"
    listed = [json.loads(line) for line in shell.told("ls", "--json", "many").splitlines()]
    assert [(one["path"], one["size_bytes"], one["fork_of"]) for one in listed] == [
        ("many/1", 2, None),
        ("many/2", 2, "many/1"),
    ]
    assert "text/csv" in shell.told("ls", "-l", "many")
    shell.told("close", "many/2")
    assert json.loads(shell.told("info", "--json", "many/2"))["closed"]
    assert "closed" in shell.told("info", "many/2")
    assert shell.refused("append", "many/2", "x")[0] == Status.CLOSED
    shell.told("rm", "many/1")
    assert shell.refused("read", "many/1")[0] == Status.GONE
    assert shell.refused("fork", "many/1", "many/3")[0] == Status.GONE
    assert json.loads(shell.told("rm", "--json", "-r", "many")) == {
        "path": "many/2",
        "deleted": True,
    }
    assert shell.told("ls", "many") == ""


def test_a_url_names_a_stream_whatever_else_is_said(shell: Shell, running: ServerProcess) -> None:
    shell.told("append", "--create", "text", running.url("named"), "x")
    shell.environment["STREAM_URL"] = "http://127.0.0.1:1"
    assert shell.told("read", running.url("named")) == "x\n"
    assert shell.told("read", "-u", running.url().rstrip("/"), "named") == "x\n"
    status, line = shell.refused("read", "named", "--wait", "0")
    assert status == Status.UNREACHABLE
    assert "127.0.0.1:1" in line


def test_what_cannot_be_is_told_apart_by_the_exit_status(shell: Shell) -> None:
    assert shell.refused("read", "nowhere")[0] == Status.NOT_FOUND
    assert shell.refused("append", "nowhere", given="x\n")[0] == Status.NOT_FOUND
    assert shell.refused("rm", "nowhere")[0] == Status.NOT_FOUND
    shell.told("create", "there", "-t", "text")
    assert shell.refused("create", "there", "-t", "json")[0] == Status.CONFLICT
    assert shell.refused("create", "a//b")[0] == Status.USAGE
    assert shell.refused("ls", "-u", "http://")[0] == Status.USAGE
    assert shell.refused("ls", "-u", "http://[x")[0] == Status.USAGE
    assert shell.refused("ls", "-u", "http://a.b/s", "http://a.b/s/")[0] == Status.USAGE
    assert shell.refused("ls", "http://[x/v1/stream/a")[0] == Status.USAGE
    assert shell.refused("bench", "--size", f"{17 * MIB}", "--at-once=2")[0] == Status.REFUSED
    assert shell.refused("read", "there", "--since", "noon")[0] == Status.USAGE
    status, line = shell.refused("append", "there", "--file", "/nowhere\x1b[2J")
    assert (status, "/nowhere\\x1b[2J" in line) == (Status.USAGE, True)
    assert shell.refused("ls", "-d", "/nowhere")[0] == Status.USAGE


def test_a_follower_prints_what_comes_until_the_stream_is_closed(shell: Shell) -> None:
    shell.told("append", "--create", "text", "followed", "one")
    with shell.started("tail", "-f", "followed", stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        shell.told("append", "--close", "followed", "two")
        assert following.stdout.read() == "two\n"
    assert following.returncode == 0


def test_a_follower_ends_quietly_when_its_reader_has_seen_enough(shell: Shell) -> None:
    shell.told("append", "--create", "text", "enough", "one")
    with shell.started(
        "tail", "-f", "enough", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline() == "one\n"
        following.stdout.close()  # and nothing more is appended
        assert following.stderr.read() == ""
    assert following.returncode == Status.UNREAD


def test_ctrl_c_ends_a_follower_quietly(shell: Shell) -> None:
    shell.told("append", "--create", "text", "interrupted", "one")
    with shell.started(
        "tail", "-f", "interrupted", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline() == "one\n"
        following.send_signal(signal.SIGINT)
        assert following.stderr.read() == ""
    assert following.returncode == Status.INTERRUPTED


def test_output_that_cannot_be_written_is_told_whatever_stdout_is(shell: Shell) -> None:
    shell.told("append", "--create", "text", "printed", "one")
    with Path("/dev/full").open("w") as full:
        for verb in (["read", "printed"], ["ls"], ["info", "printed"], ["close", "printed"]):
            with shell.started(*verb, stdout=full.fileno(), stderr=subprocess.PIPE) as command:
                assert command.stderr is not None
                (line,) = command.stderr.read().splitlines()
            assert command.returncode == Status.USAGE, verb
            assert "No space left on device" in line


def test_a_data_directory_has_the_same_verbs(shell: Shell, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shell.told("append", "-d", directory, "--create", "json", "a/1", '{"n":1}')
    shell.environment["STREAM_URL"] = str(directory)
    shell.told("append", "a/1", given="2\n3\n")
    assert shell.told("tail", "-n", "2", "a/1") == "2\n3\n"
    assert shell.told("ls") == "a/1\n"
    assert len(shell.told("read", "a/1", "--format", "envelope").splitlines()) == 3
    shell.told("rm", "a/1")
    assert shell.refused("read", "a/1")[0] == Status.NOT_FOUND


def test_the_verbs_that_are_told_from_the_others_are_all_of_these() -> None:
    (all_verbs,) = (action for action in make_parser()._actions if action.dest == "command")
    ours = argparse.ArgumentParser().add_subparsers()
    commands.add_to(ours.add_parser)
    assert set(ours.choices) == VERBS
    assert isinstance(all_verbs.choices, dict)
    assert set(all_verbs.choices) >= VERBS
    assert next(iter(all_verbs.choices)) == "serve"


def test_on_a_terminal_rm_wants_the_name_and_nothing_drives_it(shell: Shell) -> None:
    shell.told("append", "--create", "text", "doomed", "\x1b[2Jhidden")
    terminal, its_other_end = pty.openpty()
    with FileIO(terminal, "r+") as keyboard, FileIO(its_other_end) as own:
        with shell.started("read", "doomed", stdout=own) as command:
            pass
        assert command.returncode == 0
        assert keyboard.read(4096) == b"\\x1b[2Jhidden\r\n"
        for name, status in (("dome", Status.USAGE), ("doomed", Status.DONE)):
            with shell.started("rm", "doomed", stdin=own, stderr=subprocess.PIPE) as command:
                keyboard.write(f"{name}\n".encode())
                assert command.stderr is not None
                assert "type its name" in command.stderr.read()
            assert command.returncode == status
    assert shell.refused("read", "doomed")[0] == Status.NOT_FOUND
