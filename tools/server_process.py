"""The real ``serve`` command, in a process of its own, for whoever needs the whole thing.

Starting waits for the line the server announces itself with, stopping waits for the process, so
nothing here sleeps.  Whatever the server wrote to stderr is kept over all its lives, and
:meth:`ServerProcess.finish` fails if a traceback is among it or a stop was not clean.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_ANNOUNCED: Final = ": listening on "
_ANNOUNCED_URL: Final = re.compile(r"(https?)://[^\s/]+:(\d+)")
_TROUBLE: Final = re.compile(
    r"Traceback|was never (?:awaited|retrieved)|ResourceWarning|RuntimeWarning|exception in"
)


class ServerProcess:
    """One server on one data directory; the port stays the same over restarts."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        prefix: str = "/v1/stream",
        open_files: int | None = None,
        programs: Path | None = None,
        log_dir: Path | None = None,
    ) -> None:
        """``open_files``: the hard limit of its descriptors.

        ``programs``: where those of another installation are, to be served and verified with.
        ``log_dir``: where its stderr is kept, if not beside the data directory.
        """
        self.data_dir = data_dir
        self.programs = programs
        self._limited = (
            ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh"] if open_files else []
        )
        self.options = options
        self.prefix = prefix
        self.scheme = "http"
        self.port = 0
        self.front = ""
        self.announcement = ""
        self._process: subprocess.Popen[str] | None = None
        self._highest_before = 0
        self._log_path = (log_dir or data_dir.parent) / f"{data_dir.name}.stderr"

    @property
    def base_url(self) -> str:
        """The server's address, without the prefix of the streams."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url(self, path: str = "") -> str:
        """The URL of the stream at ``path``; behind ``front``, if clients come in there."""
        return f"{self.front or self.base_url}{self.prefix}/{path}"

    @property
    def program(self) -> list[str]:
        """What a verb follows: of this checkout, or of another installation."""
        python = [sys.executable, "-W", "default"]
        if self.programs is None:
            return [*python, "-m", "durable_streams"]
        python[0] = str(self.programs / "python")
        return [*python, str(self.programs / "durable-streams-server")]

    @property
    def stderr(self) -> str:
        """Everything the server wrote to stderr, in all its lives."""
        return self._log_path.read_text() if self._log_path.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return once it has announced its address."""
        self._launch()
        process = self._process
        assert process is not None
        assert process.stdout is not None
        self.announcement = process.stdout.readline()
        if _ANNOUNCED not in self.announcement:
            code = process.wait()
            process.stdout.close()
            raise AssertionError(
                f"the server ended with {code} before it announced itself"
                f" ({self.announcement!r}):\n{self.stderr}"
            )
        match = _ANNOUNCED_URL.search(self.announcement)
        if match is not None:  # else it is on a unix socket alone
            self.scheme, self.port = match[1], int(match[2])

    def start_and_kill(self, after_s: float) -> None:
        """Start the server and SIGKILL it so soon that it may not have announced itself."""
        self._launch()
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(after_s)
            raise AssertionError(f"the server ended by itself with {code}:\n{self.stderr}")
        self.kill()

    def _launch(self) -> None:
        assert not self.running
        self._highest_before = 0
        with self._log_path.open("a") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def _command(self) -> list[str]:
        """What is run; another installation may have another."""
        data_dir = ["--data-dir", str(self.data_dir)]
        serve = [*self.program, "serve", *data_dir, "--port", str(self.port)]
        return [*self._limited, *serve, *self.options]

    def kill(self) -> None:
        """End the server the hard way, SIGKILL, and wait for it."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask the server to end, SIGTERM, wait for it and return its exit code."""
        return self._end(signal.SIGTERM)

    def interrupt(self) -> int:
        """The same by Ctrl-C, SIGINT."""
        return self._end(signal.SIGINT)

    def restart(self) -> None:
        """SIGKILL and start again, on the same directory and port."""
        self.kill()
        self.start()

    def finish(self) -> None:
        """Stop what still runs; fail if the stop or anything on stderr shows a fault."""
        code = self.stop() if self.running else 0
        trouble = _TROUBLE.search(self.stderr)
        assert code == 0, f"the server stopped with exit code {code}:\n{self.stderr}"
        assert trouble is None, f"{trouble} on the server's stderr:\n{self.stderr}"

    def rss_bytes(self) -> int:
        """The resident memory of the server now."""
        return self._status_kib("VmRSS") * 1024

    def peak_rss_bytes(self) -> int:
        """The highest resident memory of the server so far."""
        return self._status_kib("VmHWM") * 1024

    def highest_rss_bytes(self) -> int:
        """The highest resident memory of the server since it was started."""
        return max(self._highest_before, self.peak_rss_bytes())

    def reset_peak_rss(self) -> None:
        """Let :meth:`peak_rss_bytes` count from now on."""
        self._highest_before = self.highest_rss_bytes()
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_kib(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None, f"the kernel does not tell {field}"
        return int(match[1])

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        assert process is not None, "the server was never started"
        process.send_signal(how)
        code = process.wait()
        assert process.stdout is not None
        process.stdout.close()
        return code
