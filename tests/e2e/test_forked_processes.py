"""Children of a process that has streams open: they have nothing of it, and end as they like."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from tools.descriptors import open_now
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM: Final = Path(__file__).with_name("forking.py")
PATIENCE_S: Final = 60
ENDED: Final = 7
FORKS: Final = {"fork", "thread", "grandchild", "pool"}
"""Ways to have children that have what else their parent has open."""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Forking:
    """A program of ``forking.py`` that runs; in a group of its own, which ends with the test."""

    def __init__(self, *arguments: str | Path) -> None:
        # Python 3.12 warns of every fork where there are threads.
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            start_new_session=True,
        )

    def told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def output(self) -> tuple[list[Any], str]:
        """All that it tells until its end, and what is on stderr."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, stderr
        return [json.loads(line) for line in stdout.splitlines()], stderr

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert file is not None
            file.close()


@pytest.fixture
def run() -> Iterator[Any]:
    started: list[Forking] = []

    def start(*arguments: str | Path) -> Forking:
        started.append(Forking(*arguments))
        return started[-1]

    yield start
    for forking in started:
        forking.end()


def refused(error: str, pid: int) -> bool:
    return f"another process (pid {pid})" in error and "open a data directory of its own" in error


# How a child may end


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ("exit", (ENDED, None)),
        ("_exit", (ENDED, None)),
        ("error", (1, "ZeroDivisionError")),
        ("cancelled", (1, "CancelledError")),
        ("end of the block", (1, "OpenedElsewhere")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_child_ends_as_it_likes_and_the_parent_goes_on(
    data_dir: Path, run: Any, loop: str, way: str, end: tuple[int, str | None]
) -> None:
    status, word = end
    told, stderr = run("leave", loop, data_dir, way).output()
    lines = [["status", status], ["whole", True], ["closed", True]]
    assert told == ([] if way == "_exit" else ["atexit"]) + lines
    assert "nothing more is written" not in stderr
    if word is None:
        assert stderr == ""
    else:
        assert stderr.strip().splitlines()[-1].split(":")[0].endswith(word)


def test_a_child_ends_beside_loops_that_had_ended_before_it_began(
    data_dir: Path, run: Any, loop: str
) -> None:
    told, stderr = run("leave-beside-ended-loops", loop, data_dir).output()
    assert told == ["atexit", ["status", ENDED], ["whole", True], ["closed", True]]
    assert stderr == ""


def test_a_child_does_not_read_what_wakes_the_loop_of_its_parent(data_dir: Path, run: Any) -> None:
    """Of uvloop's, which writes nothing more into it until it has read that itself."""
    (of_parent, of_child), _ = run("wake", "uvloop", data_dir).output()
    assert len(of_parent) == len(of_child) > 0
    assert set(of_parent) & set(of_child) == set()


def test_a_signal_to_a_child_is_none_to_its_parent(data_dir: Path, run: Any, loop: str) -> None:
    assert run("signal-child", loop, data_dir).output()[0] == [["whole", True], ["handled", []]]


def test_a_child_of_a_handler_ends_and_the_application_goes_on(
    data_dir: Path, run: Any, loop: str
) -> None:
    told, _ = run("leave-application", loop, data_dir).output()
    assert told[1:] == [["put", 201], ["closed", True]]
    if loop == "asyncio":  # in such a child uvloop 0.22 and 0.23 end with a segmentation fault
        assert told[0] == ["status", ENDED]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_processes_work_and_end(data_dir: Path, run: Any, loop: str, method: str) -> None:
    told, stderr = run("leave-pools", loop, data_dir, method).output()
    assert told == [
        ["executor", list(range(8))],
        ["pool", [1, 2]],
        ["process", ENDED],
        ["whole", True],
    ]
    assert stderr == ""


# What a child may do


def test_a_child_is_told_at_every_use_whose_streams_they_are(
    data_dir: Path, run: Any, loop: str
) -> None:
    forking = run("use", loop, data_dir)
    told, _ = forking.output()
    uses = [value for value in told if value[0] not in {"status", "whole"}]
    assert len(uses) >= 2 * 10
    assert [value for value in uses if not refused(value[1], forking.process.pid)] == []
    assert [value for value in told if value not in uses] == [
        ["status", ENDED],
        ["status", ENDED],
        ["whole", True],
    ]


def test_a_child_has_a_directory_of_its_own_and_its_parent_s_when_that_has_closed_it(
    data_dir: Path, run: Any, loop: str
) -> None:
    forking = run("open-own", loop, data_dir)
    told = []
    while "tried" not in told:
        told.append(forking.told())
    assert sorted(value for value in told if value != "tried") == [
        ["own", "own"],
        ["refused", True, told[-2][2]],
        ["whole", True],
    ]
    assert f"another server (pid {forking.process.pid})" in told[-2][2]
    forking.process.stdin.write("\n")
    forking.process.stdin.flush()
    assert forking.output()[0] == [["opened", "s"], ["status", ENDED]]


# What a child has


@pytest.mark.parametrize(
    "how", ["fork", "thread", "grandchild", "forkserver", "spawn", "pool", "subprocess"]
)
async def test_the_successor_of_a_killed_process_opens_at_once_beside_its_idle_children(
    data_dir: Path, run: Any, loop: str, how: str
) -> None:
    forking = run("idle", loop, data_dir, "fork" if how == "pool" else how)
    pids = forking.told()
    assert pids
    forking.process.kill()
    forking.process.wait()
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s/1")).data == b"data"
    for pid in pids:
        assert (str(data_dir.with_name("other")) in open_now(pid)) == (how in FORKS)
        opened = [name for name in open_now(pid) if name.startswith(f"{data_dir}/")]
        assert [name for name in opened if not name.startswith(f"{data_dir}/tmp/")] == []


async def test_a_directory_is_free_when_it_is_closed_whatever_children_there_are(
    data_dir: Path, run: Any, loop: str
) -> None:
    assert run("closed-beside", loop, data_dir).output()[0] == [["closed", True]]


def test_a_child_without_a_descriptor_to_spare_has_no_lock(data_dir: Path, run: Any) -> None:
    assert run("at-the-limit", "asyncio", data_dir).output()[0] == [["closed", True]]


def test_a_child_of_the_moment_in_which_a_directory_is_opened_or_closed_has_no_lock(
    data_dir: Path, run: Any
) -> None:
    assert run("fork-while-opening", "asyncio", data_dir).output()[0] == ["opened", []]
