"""The life of a run, and what its streams say of it: data, without I/O.

    RUNNING ─┬─▶ DONE       its source came to its end
             ├─▶ FAILED     its source raised, or took longer than it may
             ├─▶ STOPPED    somebody stopped it
             └─▶ ABANDONED  its process ended, or gave no sign of life

A run has two streams.  ``NAME`` has what it yields, for readers.  ``NAME/~run`` says whose it is
and how it ended: a stream of JSON, whose first message is the :class:`Claim` that it is created
with, and whose last one the :class:`End` that closes it, in one step.  So there is one claim, as
there is one creation, and one end, as there is one closing append: whoever comes second learns the
first.

The store decides both, and everything else follows from them.  What a crash leaves between any two
steps of a run, and who goes on:

    named in its worker's stream            nothing has begun: the name is free
    claimed, the stream not yet created     whoever ends it creates that closed, with the end
    created, appended to                    the worker's lease ends, and others end the run
    the end is written, the stream open     whoever ends it next closes the stream with that end

A process that is ended by others (it was paused, say) cannot append: the run's stream is closed.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from durable_streams.model.errors import InvalidRequest

DEFAULT_LEASE_S: Final = 15.0
"""So long a process may give no sign of life; three signs fit in."""


class State(Enum):
    """Where a run is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    ABANDONED = "abandoned"

    @property
    def is_over(self) -> bool:
        """Whether nothing can change any more."""
        return self is not State.RUNNING


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose a run is: the worker that carries it, and ``id``, of this start alone."""

    worker: str
    id: str
    format: str
    limit_s: float | None = None


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a run ended; ``reason``: why, in words that readers may see."""

    state: State
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.state.is_over:
            raise ValueError("a run that is running has not ended")

    def plain(self) -> dict[str, str]:
        """As readers are told."""
        return {"state": self.state.value, "reason": self.reason}


class Status(msgspec.Struct, frozen=True):
    """What is known of a run; ``path``: of the stream that has what it yields."""

    name: str
    path: str
    state: State
    reason: str
    format: str


class Piece(NamedTuple):
    """What a reader gets: text, or the value of a message; ``offset``: where to read on after it.

    The last piece has ``end``, how the run ended, and no value.
    """

    value: Any
    offset: str
    end: End | None = None


class Places:
    """Where the streams of runs are, all below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = _checked(prefix, "prefix")
        self.workers: Final = f"{self._prefix}/~workers"
        self.looks: Final = f"{self._prefix}/~looks"

    def answer(self, name: str) -> str:
        """The stream that readers read."""
        return f"{self._prefix}/{_checked(name, 'name')}"

    def control(self, name: str) -> str:
        """The stream that says whose the run is, and how it ended."""
        return f"{self.answer(name)}/~run"

    def group(self, group: str) -> str:
        """The stream that says which runs a group has had."""
        return f"{self._prefix}/~groups/{_checked(group, 'group')}"

    def worker(self, worker: str) -> str:
        """The stream of a process: its signs of life, its runs, and what it is to stop."""
        return f"{self.workers}/{worker}"


def _checked(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    if not text or any(not part or part.startswith("~") for part in text.split("/")):
        raise InvalidRequest(f"{what} must have segments that do not begin with '~', not {text!r}")
    return text
