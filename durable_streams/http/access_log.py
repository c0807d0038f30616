"""The access log: a line for each exchange, whichever front it had.

A front makes an :class:`Exchanged` of what is asked for when somebody wants to be told, and
completes it at the end, which is also that of a client that leaves.  The rest is found out by
whoever is told, so that it costs nothing where nobody is.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_streams.http.logs import LeanRecord, made_id
from durable_streams.model.commands import Append, Create, Delete, Head, Live, Preflight, Read
from durable_streams.wire.signed_query import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.http.peers import Peers
    from durable_streams.model.commands import Command

logger = logging.getLogger("durable_streams.access")

CLIENT_LEFT: Final = 499
"""The status, in the access log only, of a request whose client went away before its answer."""

_REFUSALS: Final = frozenset({401, 403, 429})
_KINDS: Final = {
    Append: "append",
    Create: "create",
    Head: "head",
    Delete: "delete",
    Preflight: "preflight",
}


class Exchanged(msgspec.Struct):
    """An exchange, as its front saw it.

    ``peername``: its transport's, and ``forwarded_for`` whom proxies name (``Peers.client``).
    ``request_id``: what the request says that it is called, "" if it does not.  ``begin_s``: when
    its head had come, by the clock of the loop.  ``kind``: what it asks for if that is no command.
    ``principal``: who asks, "" if that is not known.  ``error``: the class of what went wrong.
    The bytes are those of the bodies as they went over the wire, and as far as they did.
    """

    method: str
    target: str
    peername: Any
    forwarded_for: str
    request_id: str
    begin_s: float
    kind: str = ""
    command: Command | None = None
    principal: str = ""
    error: str = ""
    received_bytes: int = 0
    status: int = 0
    sent_bytes: int = 0
    duration_s: float = 0.0

    def over(self, status: int, sent_bytes: int, now_s: float) -> None:
        """It was answered, or left."""
        self.status = status
        self.sent_bytes = sent_bytes
        self.duration_s = now_s - self.begin_s


class AccessLog:
    """Writes the lines, or a part of them.

    ``share``: of the exchanges, those that have a line.  What was refused, and what failed here,
    always has one.  ``chance``: from 0 to 1, anew each time.
    """

    def __init__(
        self, peers: Peers, share: float = 1.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._peers = peers
        self._share = share
        self._chance = chance

    def __call__(self, exchanged: Exchanged) -> None:
        """Tell of an exchange that is over."""
        status = exchanged.status
        is_always_told = status >= 500 or status in _REFUSALS or self._share == 1.0
        is_told = is_always_told or self._chance() < self._share
        if is_told and logger.isEnabledFor(logging.INFO):
            logger.handle(LeanRecord(logger.name, "request", self._fields(exchanged)))

    def _fields(self, exchanged: Exchanged) -> dict[str, object]:
        fields: dict[str, object] = {
            "client": self._peers.client(exchanged.peername, exchanged.forwarded_for),
            "method": exchanged.method,
            "path": redacted(exchanged.target),
            "status": exchanged.status,
            "kind": exchanged.kind or _kind(exchanged.command),
            "received_bytes": exchanged.received_bytes,
            "sent_bytes": exchanged.sent_bytes,
            "duration_s": round(exchanged.duration_s, 6),
            "request_id": exchanged.request_id or made_id(),
        }
        if exchanged.principal:
            fields["principal"] = exchanged.principal
        if isinstance(exchanged.command, Append) and exchanged.command.producer is not None:
            fields["producer"] = exchanged.command.producer.id
        if exchanged.error:
            fields["error"] = exchanged.error
        return fields


def _kind(command: Command | None) -> str:
    """What is asked for, in a word; "none" for what is no request of ours."""
    if command is None:
        return "none"
    if isinstance(command, Read):
        return "read" if command.live is Live.NO else command.live.value
    return _KINDS[type(command)]
