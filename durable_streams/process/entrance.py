"""Who may come in: what ``serve`` is told about access, as what the server asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from durable_streams.access.small_files import FileProblem
from durable_streams.http.guards import guard_of
from durable_streams.http.peers import Peers
from durable_streams.http.server import pages_of
from durable_streams.model.errors import StreamError
from durable_streams.process.options import StartError

if TYPE_CHECKING:
    from durable_streams.http.guards import Guard
    from durable_streams.process.options import Given


def guard(given: Given, *, is_on_loopback: bool) -> Guard:
    """Made of settings, and of the files that they name; :class:`StartError` if one is no good."""
    access = given.access
    try:
        Peers(given.http.trusted_proxy)  # which is refused here, before anything is opened
        pages = pages_of(given.http, is_open=not access.is_on, is_on_loopback=is_on_loopback)
        return guard_of(access, Path(given.process.data_dir), pages)
    except (ValueError, OSError, FileProblem) as error:
        raise StartError(f"{error}") from error


async def begin(guarding: Guard, store: object) -> None:
    """Read the tokens that a store keeps, if they are those; :class:`StartError`."""
    try:
        await guarding.begin(store)
    except (ValueError, StreamError, FileProblem) as error:
        raise StartError(f"{error}") from error
