"""stdin, stdout and stderr, whatever whoever started the process made of them.

- One that is closed is ``/dev/null``: no file or connection of ours ever gets its number.
- No encoding makes a write fail: what it does not have is written as an escape.
- A descriptor that does not block is waited for.
- What cannot be written to stdout (a full disk, a pipe that nobody reads any more) is
  :class:`OutputFailed`, once; what cannot be written to stderr is no error.
- A server waits for neither of them: see :func:`queue_output`.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from durable_streams.process.output_queue import OutputQueue, write_some

if TYPE_CHECKING:
    from collections.abc import Callable


class OutputFailed(Exception):
    """What a command has to say could not be written to stdout."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"cannot write to standard output: {cause.strerror}")
        self.cause = cause

    @property
    def nobody_reads(self) -> bool:
        """Whether stdout is a pipe whose reader has seen enough."""
        return isinstance(self.cause, BrokenPipeError)


def prepare() -> None:
    """Make the standard streams of this process usable; before anything else is opened.

    What a program that calls the command line put in the place of ``sys.stdout`` stays.
    """
    for fd in (0, 1, 2):
        _open_missing(fd)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text_file(_Output(1), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_file(_Errors(2), sys.stderr)


def queue_output(dropped: Callable[[str, int], None]) -> None:
    """Have everything this process says from now on written by threads.

    So the log, warnings, tracebacks and whatever a library prints: none of them waits for a reader.
    At the end of the process the rest is given a moment.  ``dropped``: to which stream how many
    writes were not written.
    """
    for name in ("stdout", "stderr"):
        file: TextIO = getattr(sys, name)
        if not isinstance(getattr(getattr(file, "buffer", None), "raw", None), _Descriptor):
            continue  # it is a program's that calls us
        queue = OutputQueue(file.fileno(), partial(dropped, name))
        atexit.register(queue.flush)
        queued: Any = _Queued(file.fileno(), queue)
        text = io.TextIOWrapper(queued, file.encoding, "backslashreplace", write_through=True)
        setattr(sys, name, text)


def _open_missing(fd: int) -> None:
    """Open a standard stream that is closed; those below it are open."""
    with suppress(OSError):
        os.fstat(fd)
        return
    try:
        os.open(os.devnull, os.O_RDWR)
    except OSError:  # a root directory without devices: a pipe that nothing comes out of
        _, writer = os.pipe()
        os.close(writer)
    os.set_inheritable(fd, True)


def _text_file(raw: io.RawIOBase, replaced: TextIO | None) -> TextIO:
    """Return a text file with the encoding and the buffering that Python chose."""
    is_prompt = isinstance(replaced, io.TextIOWrapper) and (
        replaced.line_buffering or replaced.write_through
    )
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        replaced.encoding if replaced is not None else "utf-8",
        "backslashreplace",
        line_buffering=is_prompt,
    )


class _Descriptor(io.RawIOBase):
    """A standard stream to be written to; closing it leaves the descriptor open."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True


class _Output(_Descriptor):
    """stdout: an error is told once, and what comes behind it goes nowhere."""

    _has_failed = False

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer
        view = memoryview(data)
        if self._has_failed:
            return len(view)
        try:
            return write_some(self._fd, view)
        except OSError as error:
            self._has_failed = True
            raise OutputFailed(error) from error


class _Errors(_Descriptor):
    """stderr: there is nobody to tell of an error."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer
        view = memoryview(data)
        try:
            return write_some(self._fd, view)
        except OSError:
            return len(view)


class _Queued(_Descriptor):
    """A standard stream of a server."""

    def __init__(self, fd: int, queue: OutputQueue) -> None:
        super().__init__(fd)
        self._queue = queue

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer
        text = bytes(data)
        self._queue.write(text)
        return len(text)
