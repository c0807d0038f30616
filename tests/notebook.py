"""A real notebook kernel, in a process of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from typing import TYPE_CHECKING, Any, Final, Self

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S: Final = 60


class Kernel:
    """Runs cells, one after another, as a notebook does."""

    def __init__(self, directory: Path) -> None:
        private = tempfile.mkdtemp(prefix="kernel-", dir=directory)
        self._manager = KernelManager(
            connection_file=f"{private}/connection.json",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # this Python's, and no other
        )
        self._manager.start_kernel(cwd=directory, env={**os.environ, "IPYTHONDIR": private})
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE_S)

    def run(self, code: str, *, interrupt: bool = False) -> str:
        """Run a cell; what it printed, and the name and text of the error that ended it.

        ``interrupt``: as the button of a notebook does, once the cell has printed something.
        """
        told: list[str] = []

        def tell(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                told.append(content["text"])
                if interrupt:
                    self._manager.interrupt_kernel()
            elif message["msg_type"] == "error":
                told.append(f"{content['ename']}: {content['evalue']}")

        self._client.execute_interactive(code, output_hook=tell, timeout=PATIENCE_S)
        return "".join(told)

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self.run("import os; print(os.getpid())"))

    def die(self) -> None:
        """End without a word, as by the machine's want of memory."""
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """End it as it is ended when its notebook is shut down."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
