"""Who may come in: what ``serve`` is told about access, as what the server asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from durable_streams.access.door import OPEN, Door
from durable_streams.http.server import pages_of
from durable_streams.process.options import StartError

if TYPE_CHECKING:
    from durable_streams.http.control import Control
    from durable_streams.process.options import Given
    from durable_streams.wire.pages import Pages


class Guard(NamedTuple):
    """What a server asks about each request."""

    pages: Pages
    door: Door
    control: Control | None


def guard(given: Given, *, is_on_loopback: bool) -> Guard:
    """Made of settings; :class:`StartError` if one of them cannot be."""
    is_open = not given.access.is_on
    try:
        pages = pages_of(given.http, is_open=is_open, is_on_loopback=is_on_loopback)
    except ValueError as error:
        raise StartError(f"{error}") from error
    return Guard(pages, OPEN, None)
