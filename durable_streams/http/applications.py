"""What applications are served with, whatever framework they are made with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.databases import is_database
from durable_streams.http.peers import Peers
from durable_streams.library import open_streams
from durable_streams.settings import Settings
from durable_streams.streams import Streams
from durable_streams.wire.pages import Pages

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.http.askers import Authorize
    from durable_streams.settings import HttpSettings


class Source(NamedTuple):
    """Where streams come from: a data directory or database to be opened, or opened by others."""

    place: Path | str | None
    streams: Streams | None
    settings: Settings

    @classmethod
    def of(
        cls,
        caller: str,
        data_dir: str | os.PathLike[str] | None,
        streams: Streams | None,
        settings: Settings | None,
    ) -> Self:
        """Made of the arguments of a function of that name; checked."""
        if (data_dir is None) == (streams is None):
            raise TypeError(f"{caller}() takes either data_dir or streams")
        if streams is not None and settings is not None:
            raise TypeError(
                f"{caller}() takes settings with data_dir only: streams were opened with theirs"
            )
        place: Path | str | None = None
        if is_database(data_dir):
            place = str(data_dir)
        elif data_dir is not None:
            place = arguments.directory("data_dir", data_dir)
        if streams is not None:
            arguments.instance("streams", streams, Streams)
        return cls(place, streams, arguments.settings("settings", settings, Settings))

    @property
    def is_shared(self) -> bool:
        """Whether somebody else has opened them, and closes them."""
        return self.streams is not None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Streams]:
        """The streams, open while the block runs."""
        if self.streams is not None:
            yield self.streams
            return
        assert self.place is not None
        async with open_streams(self.place, self.settings) as streams:
            yield streams


def checked(authorize: Authorize | None) -> Authorize | None:
    """What says who asks; ``TypeError`` if it cannot be called."""
    if authorize is not None and not callable(authorize):
        raise TypeError(f"authorize must be a function, not {authorize!r}")
    return authorize


def pages_of(settings: HttpSettings, authorize: Authorize | None) -> Pages:
    """Which web pages are welcome; ``ValueError`` if an origin, a host or a proxy is none."""
    Peers(settings.trusted_proxy)  # which the handler asks, once the application has begun
    return Pages(
        settings.cors_origin,
        settings.allowed_host,
        any_by_default=authorize is None,
        with_cookies=authorize is not None,
    )
