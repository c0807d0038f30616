"""Whether somebody who has a stream may use it: the table of lives, and time beside it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from durable_streams.filestore.catalog import damaged, unreadable
from durable_streams.filestore.streams.life import LIVE, RULES
from durable_streams.model.errors import NotOpen, StreamGone, StreamNotFound
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Stream


class Access:
    """Asked before each use of a stream.  ``closed``: the data directory was let go."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.closed = False

    def check(self, stream: Stream) -> None:
        """Raise if a stream is no more for who comes now: it has ended or expired."""
        if stream.state is not LIVE or self.closed:
            self.check_there(stream)
        if stream.is_mortal and stream.is_expired(self._core.now_ms()):
            raise (StreamGone if stream.forked else StreamNotFound)(path_text(stream.path))

    def check_there(self, stream: Stream) -> None:
        """Raise if its end is durable, or the data directory was closed."""
        if self.closed:
            raise NotOpen
        refused = RULES[stream.state].reads
        if refused is not None:
            raise refused(path_text(stream.path))

    @contextmanager
    def reading(self, stream: Stream) -> Iterator[None]:
        """Tell why a file is missing or cannot be read: the stream has ended, or it is damaged."""
        try:
            yield
        except FileNotFoundError as error:
            self.check_there(stream)
            reason = f"{error.filename} is missing"
            raise damaged(self._core.directory, stream.path, reason) from error
        except OSError as error:
            self.check_there(stream)
            raise unreadable(self._core.directory, stream.path, error) from error

    def use(self, stream: Stream) -> None:
        """:meth:`check`, and renew a sliding TTL."""
        self.check(stream)
        if stream.is_mortal:
            stream.use(self._core.now_ms())
