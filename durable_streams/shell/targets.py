"""Where streams are: a server's URL, a data directory or a database; told by flags or around them.

A flag comes before the environment (``STREAM_URL``, ``STREAM_AUTH``), and that before the context
in use.  A context's token goes to that context's server only, whatever else names a server.
"""

from __future__ import annotations

import argparse
import math
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import urlsplit

from durable_streams.client.address import split_url
from durable_streams.client.retries import Retries
from durable_streams.databases import identity, is_database
from durable_streams.model.errors import DataDirectoryError, DataDirectoryInUse
from durable_streams.shell import contexts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.client.aio import RemoteStreams
    from durable_streams.streams import Streams

AnyStreams: TypeAlias = "Streams | RemoteStreams"
"""The verbs are the same."""

DEFAULT_URL: Final = "http://localhost:4437/v1/stream"
_PREFIX: Final = "/v1/stream"
URL_VARIABLE: Final = "STREAM_URL"
AUTH_VARIABLE: Final = "STREAM_AUTH"
WAIT_S: Final = 5.0
_TYPES: Final = {"json": "application/json", "text": "text/plain"}
_VISIBLE: Final = frozenset(map(chr, range(0x20, 0x7F)))


class Unusable(Exception):
    """What names the streams cannot be; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Target:
    """Streams, and who asks for them: ``auth`` is a token, or a whole ``Authorization``."""

    place: str
    auth: str | None = field(default=None, repr=False)
    is_of_context: bool = False

    @property
    def is_url(self) -> bool:
        """Whether a server is asked."""
        return self.place.startswith(("http://", "https://"))

    @property
    def identity(self) -> str:
        """What tells them from all others, wherever somebody is; it has no password."""
        if self.is_url:
            return self.place
        return identity(self.place) if is_database(self.place) else os.path.realpath(self.place)

    def at(self, path: str) -> tuple[Target, str]:
        """Which streams, and which of them: ``path`` may be the whole URL of a stream."""
        if not path.startswith(("http://", "https://")):
            return self, path
        try:
            if self.is_url and path.startswith(f"{self.place}/"):
                return self, split_url(path, urlsplit(self.place).path)[1]
            place, found = split_url(path)
        except ValueError as error:
            raise Unusable(f"{error}; say --url for the part before the path") from None
        auth = None if self.is_of_context else self.auth  # its token is for its server alone
        return Target(place, auth), found


def media_type(text: str | None) -> str | None:
    """A content type, for which there may be a short word."""
    return _TYPES.get(text, text) if text is not None else None


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the flags that say where the streams are."""
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "-u",
        "--url",
        metavar="URL",
        help=f"the server's streams, such as {DEFAULT_URL} (default: what {URL_VARIABLE} says, or "
        "the context in use, or that one)",
    )
    where.add_argument("-d", "--data-dir", metavar="PATH", help="those of a data directory")
    where.add_argument("--context", metavar="NAME", help="those of a context: see context list")
    command.add_argument(
        "--auth",
        metavar="TOKEN",
        help="what is sent as Authorization: a token, or the whole of it; @FILE reads it from a "
        f"file, which other users do not see (default: what {AUTH_VARIABLE} or the context says)",
    )
    command.add_argument(
        "--wait",
        type=seconds,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"for a server that does not answer (default: {WAIT_S:g}; inf: for ever)",
    )


def seconds(text: str) -> float:
    """A number of seconds that somebody waits."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give seconds, from 0 on")
    return value


def target_of(options: argparse.Namespace) -> Target:
    """Which streams the flags, and what is around them, name; raises :class:`Unusable`."""
    auth = options.auth or os.environ.get(AUTH_VARIABLE) or None
    said = None if auth is None else read_auth(auth)
    place = options.data_dir or options.url
    if place is None and options.context is None:
        place = os.environ.get(URL_VARIABLE) or None
    if place is not None:
        return Target(completed(place), said)
    context = _context(options.context)
    if context is None:
        return Target(DEFAULT_URL, said)
    return Target(context.streams, said or context.auth, is_of_context=said is None)


def _context(name: str | None) -> contexts.Context | None:
    """The one that is named, or else in use."""
    try:
        known = contexts.known()
        name = known.use if name is None else name
        return None if name is None else known.get(name)
    except contexts.ContextProblem as error:
        raise Unusable(str(error)) from None


def completed(place: str) -> str:
    """A server's URL with its prefix, if it has no path: others take it without."""
    if not place.startswith(("http://", "https://")):
        return place
    try:
        parts = urlsplit(place)
    except ValueError as error:
        raise Unusable(f"{place[:64]!r} is no URL: {error}") from None
    if parts.path.strip("/"):
        return place.rstrip("/")
    return parts._replace(path=_PREFIX).geturl()


def read_auth(text: str) -> str:
    """A token, or a whole ``Authorization``, or the file that it is in."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is no token"
            raise Unusable(f"--auth: {text[1:]} cannot be read: {said}") from None
    text = text.strip()
    if not text or not _VISIBLE.issuperset(text):
        raise Unusable("--auth is no token: give one line of visible ASCII characters")
    return text


@asynccontextmanager
async def opened(
    target: Target, *, wait_s: float = WAIT_S, makes: bool = False, writes: bool = False
) -> AsyncIterator[AnyStreams]:
    """The streams of a target.

    ``wait_s``: how long to try a server that does not answer.  ``makes``: a data directory that is
    not there is made.  ``writes``: they are not only looked at; else those of a directory that a
    server has open will do.
    """
    if target.is_url:
        async with _connected(target, wait_s) as remote:
            yield remote
        return
    from durable_streams.library import open_streams  # noqa: PLC0415 - servers need none of it

    if not makes:
        _check_there(target.place)
    async with AsyncExitStack() as stack:
        try:
            streams = await stack.enter_async_context(open_streams(target.place))
        except DataDirectoryInUse as error:
            yield _held(target.place, error, writes=writes or makes)
        else:
            yield streams


def _held(place: str, error: DataDirectoryInUse, *, writes: bool) -> AnyStreams:
    """The streams of a directory that a server has open."""
    from durable_streams.shell.held import HeldStreams, listening  # noqa: PLC0415 - as above

    if not writes:
        return cast("AnyStreams", HeldStreams(Path(place)))
    where = " and ".join(listening(error.pid)) if error.pid is not None else ""
    told = f", which listens on {where}" if where else ""
    raise DataDirectoryInUse(
        f"{place} is open in process {error.pid or 'unknown'}{told}: use --url with its URL, such "
        f"as {DEFAULT_URL}",
        error.pid,
    ) from None


def _check_there(place: str) -> None:
    """Nobody who only looks makes a data directory."""
    if not is_database(place) and not Path(place, "FORMAT.json").exists():
        raise DataDirectoryError(f"{place} is no data directory: it has no FORMAT.json")


def _connected(target: Target, wait_s: float) -> RemoteStreams:
    from durable_streams.client.aio import connect  # noqa: PLC0415 - directories need none of it

    auth = target.auth
    is_whole = auth is not None and " " in auth
    try:
        return connect(
            target.place,
            token=None if is_whole else auth,
            headers={"Authorization": auth} if auth is not None and is_whole else None,
            retries=Retries(give_up_s=wait_s, follow_s=math.inf),
        )
    except ValueError as error:
        raise Unusable(str(error)) from None
