"""Programs that use streams without an event loop, and how they end: each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import durable_streams
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S: Final = 60

ENDS: Final = """
import os, sys, threading
import durable_streams

streams = durable_streams.open_sync(sys.argv[1]).__enter__()
streams.create("s", content_type="text/plain")

def write(count):
    for _ in range(count):
        streams.append("s", b"x")
        os.write(1, b"x")

def create():
    for number in range(50):
        streams.create(f"made/{number}")

def follow():
    for message in streams.tail("s"):
        pass

for work, daemon in ((create, False), (lambda: write(50), False), (follow, True),
                     (lambda: write(10**9), True), (lambda: next(streams.tail("s", "now")), True)):
    threading.Thread(target=work, daemon=daemon).start()
write(10)
"""


NOT_HOW_LONG: Final = "import logging; logging.getLogger('asyncio').setLevel(logging.ERROR)"
"""In development mode the loop warns of what took a tenth of a second, as anything may."""


def run(program: str, data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = f"{NOT_HOW_LONG}\n{program}"
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(data_dir), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_program_that_does_not_close_ends_and_loses_nothing(data_dir: Path) -> None:
    """Its threads go on when the main one has ended, as Python has it, and daemons do not."""
    done = run(ENDS, data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    with durable_streams.open_sync(data_dir) as streams:
        stored = sum(len(message.data) for message in streams.tail("s", live=False))
        assert stored >= len(done.stdout) >= 60
        assert len(list(streams.list("made"))) == 50


EXITS: Final = """
import sys
import durable_streams

with durable_streams.open_sync(sys.argv[1]) as streams:
    streams.create("s", data=b"1")
    sys.exit(3)
"""


def test_an_exit_closes(data_dir: Path) -> None:
    done = run(EXITS, data_dir)
    assert (done.returncode, done.stderr) == (3, "")
    with durable_streams.open_sync(data_dir) as streams:
        assert streams.read("s").data == b"1"


FORKS: Final = """
import os, sys, warnings
import durable_streams

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork that has threads
with durable_streams.open_sync(sys.argv[1]) as streams:
    streams.create("s", data=b"1")
    tail = streams.tail("s")
    next(tail)
    way = sys.argv[2]
    pid = os.fork()
    if pid == 0:
        uses = (lambda: streams.read("s"), lambda: next(streams.tail("s")), lambda: next(tail),
                lambda: next(streams.list()), lambda: streams.append("s", b"child"))
        for use in uses:
            try:
                use()
            except durable_streams.OpenedElsewhere as error:
                assert f"(pid {os.getppid()})" in str(error)
            else:
                raise SystemExit("it was used")
        tail.close()
        with durable_streams.open_sync(sys.argv[3]) as own:
            own.create("own")
        if way == "exit":
            sys.exit(0)
        streams = tail = None
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    streams.append("s", b"2")
    assert next(tail).data == b"2"
print("whole")
"""


def test_a_child_is_told_and_its_parent_goes_on(data_dir: Path) -> None:
    for number, way in enumerate(("exit", "leave")):
        done = run(FORKS, data_dir / str(number), way, str(data_dir / f"own-{number}"))
        assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr
        with durable_streams.open_sync(data_dir / str(number)) as streams:
            assert streams.read("s").data == b"12"


INTERRUPTED: Final = """
import sys
import durable_streams

with durable_streams.open_sync(sys.argv[1]) as streams:
    streams.create("s", content_type="application/json")
    streams.append_json("s", *range(10_000))
    tail, seen, cut = streams.tail("s"), [], 0
    print("ready", flush=True)
    while len(seen) < 10_001:
        try:
            for message in tail:
                seen.append(message.json())
                if len(seen) == 10_000:
                    print("waits", flush=True)
                if len(seen) == 10_001:
                    break
        except KeyboardInterrupt:
            cut += 1
            streams.append_json("s", "more")
    assert seen == [*range(10_000), "more"]
    print(cut, flush=True)
    streams.read("s", "now", live=True, timeout_s=3600)
"""


def test_an_interruption_ends_the_wait_and_loses_nothing(data_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, str(data_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGINT
    assert complaints.splitlines()[-1] == "KeyboardInterrupt"
    with durable_streams.open_sync(data_dir) as streams:
        assert len(streams.read_json("s").values) == 10_001


WRITES: Final = """
import os, sys, threading
import durable_streams

with durable_streams.open_sync(sys.argv[1]) as streams:
    streams.create("s", content_type="text/plain")
    def write():
        while True:
            streams.append("s", b"x")
            os.write(1, b"x")
    for _ in range(8):
        threading.Thread(target=write, daemon=True).start()
    write()
"""


def test_what_was_acknowledged_to_threads_outlives_a_kill(data_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        seen = process.stdout.read(200)
        os.kill(process.pid, signal.SIGKILL)
        seen += process.stdout.read()
    with durable_streams.open_sync(data_dir) as streams:
        stored = sum(len(message.data) for message in streams.tail("s", live=False))
    assert len(seen) <= stored <= len(seen) + 9
