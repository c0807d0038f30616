"""What the client's core asks of whoever does its I/O, and what it is told: values, and no I/O.

A verb is a *conversation*: a generator that yields a :class:`Call`, to be sent to the server, or a
:class:`Pause`, is sent the :class:`Answer` (to a pause: ``PAUSED``), and returns the verb's result.
Where there is no answer, :class:`Disconnected` is thrown into it.  Following a stream and producing
are states of their own, which use the same values (``following``, ``producing``).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, complete but for the credentials.

    ``within_s``: how long all of it may take, None: as long as it goes on; the server may be silent
    for as long as the connection's settings say.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """Send this, and tell the whole answer.  ``renew``: with credentials that are asked for anew.

    ``is_stream``: of an answer with status 200 the body is not read, but told as it comes.
    """

    request: Request
    renew: bool = False
    is_stream: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says; the names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header, "" if it is absent."""
        return self.headers.get(name, "")

    def is_set(self, name: str) -> bool:
        """Whether a header that is a flag says true."""
        return self.header(name).lower() == "true"


PAUSED: Final = Answer(0, {})
"""What a conversation is sent after a pause."""


class Disconnected(Exception):
    """There is no answer, or not all of it; ``str()`` says why.

    ``unsent``: the request never reached the server, so that nothing was done.
    """

    def __init__(self, reason: str, *, unsent: bool = False) -> None:
        super().__init__(reason)
        self.unsent = unsent


class OutOfTime(Disconnected):
    """The request took longer than its ``within_s``."""


Conversation: TypeAlias = Generator[Call | Pause, Answer, _T]
