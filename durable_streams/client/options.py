"""What a client shows, and how long it may wait: the options of both clients, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.client.address import Address
from durable_streams.client.bodies import ANSWER_BYTES
from durable_streams.client.following import LiveMode
from durable_streams.client.retries import Retries
from durable_streams.model.errors import NotOpen
from durable_streams.version import __version__

if TYPE_CHECKING:
    from durable_streams.client.steps import Request

HeaderValue: TypeAlias = str | Callable[[], str]
"""A header that is sent with each request, or what is asked for it each time."""

SILENCE_S: Final = 90.0
"""A server that waits for news is silent for 30 s, others for up to 60: longer than any of them,
so that it is the server that ends a wait."""

CONNECT_S: Final = 10.0

_USER_AGENT: Final = f"durable-streams-server-client/{__version__}"
_IN_A_TOKEN: Final = frozenset(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Options:
    """How a client asks.  ``ValueError`` or ``TypeError`` says what cannot be.

    ``silence_s``: how long the server may send nothing before the connection counts as lost.
    ``connect_s``: how long connecting may take.  ``live``: how a tail waits (``LiveMode``).
    ``answer_bytes``: how large one answer, or event, may be.
    """

    address: Address
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    retries: Retries = field(default_factory=Retries)
    live: LiveMode = LiveMode.AUTO
    silence_s: float = SILENCE_S
    connect_s: float = CONNECT_S
    answer_bytes: int = ANSWER_BYTES

    @classmethod
    def of(
        cls,
        url: object,
        *,
        headers: Mapping[str, HeaderValue] | None,
        retries: Retries | None,
        live: str,
        silence_s: float,
        connect_s: float,
        answer_bytes: int,
    ) -> Options:
        """Checked arguments of a client."""
        try:
            mode = LiveMode(live)
        except ValueError:
            raise ValueError(f"live must be 'auto', 'long-poll' or 'sse', not {live!r}") from None
        return cls(
            Address.parse(arguments.text("url", url)),
            dict(headers or {}),
            arguments.settings("retries", retries, Retries),
            mode,
            _wait("silence_s", silence_s),
            _wait("connect_s", connect_s),
            _size("answer_bytes", answer_bytes),
        )

    def sent_headers(self, request: Request, token: str | None) -> dict[str, str]:
        """All headers of a request; ``token`` as ``Authorization: Bearer``."""
        sent = {"User-Agent": _USER_AGENT}
        for name, value in self.headers.items():
            sent[name] = value if isinstance(value, str) else value()
        if token is not None:
            sent["Authorization"] = f"Bearer {checked_token(token)}"
        return {**sent, **request.headers}


def _wait(name: str, value: object) -> float:
    seconds = arguments.seconds(name, value)
    if not seconds:
        raise ValueError(f"{name} must be above 0")
    return seconds


def _size(name: str, value: object) -> int:
    size = arguments.count(name, value)
    if not size:
        raise ValueError(f"{name} must be at least 1")
    return size


def not_open() -> NotOpen:
    """Of a client that is not open yet, or not any more."""
    error = NotOpen()
    error.args = ("the client is not open: use it within the 'with' block that opens it",)
    return error


def checked_token(token: object) -> str:
    """A token that a header can hold; its text is in no error."""
    text = arguments.text("token", token).strip()
    if not text or not _IN_A_TOKEN.issuperset(text):
        raise ValueError("a token is a word of visible ASCII characters, and this is none")
    return text
