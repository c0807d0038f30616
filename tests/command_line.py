"""``durable-streams`` with verbs that end soon, run here: a tenth of what a process takes.

That a process says the same, a test shows that runs both (``postgres/test_store_commands``).
"""

from __future__ import annotations

import io
import os
import signal
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from durable_streams.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


def environment(**variables: str) -> dict[str, str]:
    """That of a process with these variables, and without others that the program reads."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "DURABLE_STREAMS"))
    }
    return kept | variables


def run_here(*arguments: str, **variables: str) -> Ran:
    """Run the command line with these variables; only in the main thread."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        _signals_as_before(),
        mock.patch.dict(os.environ, environment(**variables), clear=True),
        redirect_stdout(out),
        redirect_stderr(errors),
    ):
        code = main(arguments)
    return Ran(code, out.getvalue(), errors.getvalue())


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """What Ctrl-C does after the block is what it did before."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
