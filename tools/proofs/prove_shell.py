"""A pipe without end over kills of both its ends and the server: each line once, in order.

    lines ──pipe──▶ durable-streams append ──▶ server ──▶ durable-streams tail -f ──▶ looked at

The server and ``append`` get SIGKILL in turn, when so many lines have arrived, and ``append`` also
while it starts; both are started again at once, ``append`` with the same pipe.  The pipe never has
more than a few lines ahead of what has arrived, so that what is killed is at work.
(`scripts/prove-shell`)
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

from tools.server_process import ROOT, ServerProcess

COMMAND: Final = [sys.executable, "-m", "durable_streams"]
_AHEAD: Final = 64
_START_S: Final = 0.5


class Broken(Exception):
    """A line was lost, repeated or moved, or a program ended that should not."""


class Run:
    """One proof."""

    def __init__(self, directory: Path, lines: int, kills: int, seed: int) -> None:
        self._lines = lines
        self._random = random.Random(seed)
        self._server = ServerProcess(directory / "data")
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STREAM_", "XDG_"))
        } | {"XDG_STATE_HOME": str(directory / "state")}
        self._room = threading.Semaphore(_AHEAD)
        every = max(1, lines // (2 * kills + 1))
        victims = [self._kill_server, self._kill_append] * kills
        self._victims = {every * (at + 1): victim for at, victim in enumerate(victims)}
        self.server_kills = self.append_kills = 0

    def run(self) -> None:
        """Raise :class:`Broken` if it does not hold."""
        self._server.start()
        self._environment["STREAM_URL"] = self._server.base_url
        subprocess.run([*COMMAND, "create", "lines", "-t", "text"], **self._how(), check=True)
        self._pipe, given = os.pipe()
        writing = threading.Thread(target=self._write, args=(given,), daemon=True)
        writing.start()
        self._append = self._appending()
        command = [*COMMAND, "tail", "-f", "--offset", "-1", "lines"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, **self._how()) as tail:
            try:
                self._look_at(tail)
                writing.join()
                self._expect("append", self._append.wait())
                self._expect("tail", tail.wait())
            except BaseException:
                self._server.kill()
                raise
            finally:
                tail.kill()
                self._append.kill()
                self._append.wait()
                os.close(self._pipe)
        self._server.finish()

    def _how(self) -> dict[str, Any]:
        return {"cwd": ROOT, "env": self._environment}

    def _appending(self) -> subprocess.Popen[bytes]:
        what = ["append", "lines", "--close", "--wait", "600", "--batch", "100", "--linger", "0"]
        return subprocess.Popen([*COMMAND, *what], stdin=self._pipe, **self._how())

    def _write(self, given: int) -> None:
        with os.fdopen(given, "wb", buffering=0) as pipe:
            for number in range(self._lines):
                self._room.acquire()
                pipe.write(b"line %d\n" % number)

    def _look_at(self, tail: subprocess.Popen[bytes]) -> None:
        assert tail.stdout is not None
        number = 0
        for line in tail.stdout:
            if line != b"line %d\n" % number:
                raise Broken(f"after {number} lines came {line!r}")
            self._room.release()
            number += 1
            victim = self._victims.get(number)
            if victim is not None:
                victim()
        if number != self._lines:
            raise Broken(f"{number} of {self._lines} lines arrived")

    def _kill_server(self) -> None:
        self._server.restart()
        self.server_kills += 1

    def _kill_append(self) -> None:
        self._end_append()
        if self._random.random() < 0.5:  # and at some moment of its start
            try:
                self._append.wait(self._random.random() * _START_S)
            except subprocess.TimeoutExpired:
                self._end_append()

    def _end_append(self) -> None:
        self._append.kill()
        self._append.wait()
        self._append = self._appending()
        self.append_kills += 1

    def _expect(self, name: str, status: int) -> None:
        if status:
            raise Broken(f"{name} ended with {status}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-shell", description=__doc__)
    add = parser.add_argument
    add("--lines", type=int, default=10_000)
    add("--kills", type=int, default=20, help="of the server, and as many of append, or more")
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="prove-shell-") as directory:
        run = Run(Path(directory), options.lines, options.kills, options.seed)
        try:
            run.run()
        except Broken as broken:
            print(f"BROKEN: {broken}")
            return 1
    print(
        f"{options.lines} lines, each once and in order, over {run.server_kills} kills of the "
        f"server and {run.append_kills} of append"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
