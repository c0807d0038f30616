"""An append that was decided, and waits for its place on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_streams.model.errors import StreamError
from durable_streams.model.results import Appended

if TYPE_CHECKING:
    from durable_streams.filestore.engine.operations import Operation


class Decided(msgspec.Struct, frozen=True):
    """An append that was decided: ``result`` is the answer as soon as ``after`` is durable.

    ``after`` is None if nothing the answer depends on is under way; if it fails, its error is the
    answer.
    """

    after: Operation | None
    result: Appended | StreamError

    def outcome(self) -> Appended:
        """The answer; raises what it was refused with."""
        failure = self.after.error if self.after is not None else None
        if failure is None and isinstance(self.result, StreamError):
            failure = self.result
        if failure is not None:
            raise failure.again()
        assert isinstance(self.result, Appended)
        return self.result
