"""Which process this is: what another one opened, that it was forked from, is not its own."""

from __future__ import annotations

import os

from durable_streams.model.errors import OpenedElsewhere

_process = object()
"""This process, as numbers of processes may be used again."""


class OwnProcess:
    """The process that makes this object, as against those that are forked from it later."""

    __slots__ = ("_process", "pid")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._process = _process

    @property
    def is_here(self) -> bool:
        """Whether this is called in that process."""
        return self._process is _process and os.getpid() == self.pid

    def check(self) -> None:
        """Raise :class:`OpenedElsewhere` in any other."""
        if not self.is_here:
            raise OpenedElsewhere(
                f"the streams were opened in another process (pid {self.pid}), which this one was "
                "forked from: open a data directory of its own in each, or talk to one server"
            )


def _is_another() -> None:
    """In the child."""
    global _process  # noqa: PLW0603 - it is another one
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_is_another)
