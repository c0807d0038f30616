"""A node of ours on the cluster's database, as ``serve`` starts it, at an address of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.cluster.clocks import OURS, Clock
from tools.cluster.network import connections_to
from tools.postgres_cluster.processes import continue_all, kill_all, stop_all, wait_until

if TYPE_CHECKING:
    from tools.cluster.network import Network

PORT: Final = 4437
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_ANSWER_S: Final = 2.0


class ServedNode:
    """``number``: of its machine in the network; ``name``: ``node1``, or ``node2``."""

    def __init__(
        self, network: Network, number: int, name: str, directory: Path, clock: Clock = OURS
    ) -> None:
        self._network = network
        self._clock = clock
        self.number = number
        self.name = name
        self.directory = directory / name
        self.address = network.address(number)
        self.base_url = f"http://{self.address}:{PORT}"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, store: str, *options: str) -> None:
        """Start it, and return before it serves."""
        self._command = [
            *(sys.executable, "-m", "durable_streams", "serve", "--store", store),
            *("--host", self.address, "--port", str(PORT), *options),
        ]
        self.directory.mkdir()
        self.start_again()

    def start_again(self) -> None:
        """The same, as it was launched before."""
        with (self.directory / "log").open("ab") as log:
            self._process = self._network.start(
                self.number,
                self._command,
                as_postgres=False,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(_ROOT), **self._clock.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def readiness(self) -> tuple[int, str]:
        """The status of ``/readyz`` and what it says; 0 if nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=_ANSWER_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_ready(self, within_s: float = 60) -> None:
        """Return when it can do something; :class:`RuntimeError` if it has ended instead."""
        assert self._process is not None
        process = self._process

        def is_ready_or_over() -> bool:
            return self.readiness()[0] == 200 or process.poll() is not None

        wait_until(is_ready_or_over, f"{self.name} is ready", within_s)
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.log[-2000:]}")

    @property
    def log(self) -> str:
        """What it wrote, in all its lives."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def connections(self) -> int:
        """How many there are to it, most of them the balancer's."""
        return connections_to(self.address, PORT)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL it."""
        kill_all(self.directory)
        assert self._process is not None
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP it."""
        stop_all(self.directory, self.pid)

    def resume(self) -> None:
        """SIGCONT it."""
        continue_all(self.directory)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait()
