"""Values that raise in the thread that writes the journal: their own ticket fails, nobody else's.

Whatever a caller gives is checked where it comes in; these come in behind that, at the seam between
the verbs and the way of every write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_streams.filestore.pipeline.operations import (
    AdoptOperation,
    AppendOperation,
    BirthOperation,
    DeleteOperation,
)
from durable_streams.model.errors import WriteFailed
from tools.inside import change_what_is_submitted

if TYPE_CHECKING:
    from random import Random

    from durable_streams.filestore.pipeline.operations import Operation
    from durable_streams.filestore.store import FileStore
    from durable_streams.model.paths import StreamPath

_NOT_TEXT = "\ud800"


class Poison:
    """What is wrong with the writes of one generation.

    ``active``: whether anything is.  ``paths``: where something was.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.active = random.random() < 0.15
        self._rate = random.choice((0.02, 0.2))
        self.paths: set[StreamPath] = set()
        self._sources: dict[StreamPath, set[StreamPath]] = {}

    def pour_into(self, engine: FileStore) -> None:
        """Spoil some of what comes by from now on."""
        if self.active:
            change_what_is_submitted(engine, self._spoil_some)

    def _spoil_some(self, operation: Operation) -> None:
        if self._random.random() < self._rate:
            self._spoil(operation)

    def _spoil(self, operation: Operation) -> None:
        match operation:
            case AppendOperation():
                change = {"data": object()}
            case BirthOperation():
                change = {"sidecar": object()}
            case DeleteOperation() | AdoptOperation():
                change = {"path": _NOT_TEXT}
            case _:
                return
        self.paths.add(operation.stream.path)
        first, *others = operation.records
        operation.records = (msgspec.structs.replace(first, **change), *others)

    def fork(self, path: StreamPath, source: StreamPath) -> None:
        """A fork is asked for: it fails with the creation or deletion of its source."""
        self._sources.setdefault(path, set()).add(source)

    def explain(self, error: Exception, path: StreamPath) -> bool:
        """Whether a request at a path may have failed for it."""
        concerned = {path} | self._sources.get(path, set())
        return (
            isinstance(error, WriteFailed)
            and "not bytes" in str(error)
            and (not concerned.isdisjoint(self.paths))
        )
