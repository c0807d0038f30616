"""Who may ask for what: one table, which the code, the tests and the documentation are made of.

``TABLE`` says which scopes each request takes, and on which stream; ``OUTCOMES`` what becomes of a
request.  Every front asks :func:`authorize`, once the head of a request was read: before its body
is, and before anybody looks at what exists, which a refusal must not tell.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.access.grants import Scope
from durable_streams.access.principals import ANYBODY
from durable_streams.model.commands import (
    Append,
    Create,
    Delete,
    Details,
    Head,
    Preflight,
    Read,
    Records,
)
from durable_streams.model.errors import Forbidden, StreamNotFound
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from durable_streams.access.principals import Principal
    from durable_streams.model.commands import Command, Inspection
    from durable_streams.model.paths import StreamPath


class Asked(Enum):
    """What can be asked for, as the documentation has it."""

    READ = "GET"
    HEAD = "HEAD"
    APPEND = "POST"
    CREATE = "PUT"
    FORK = "PUT with Stream-Forked-From"
    DELETE = "DELETE"
    PREFLIGHT = "OPTIONS"
    RECORDS = "GET __ds/records/<path>"
    DETAILS = "GET __ds/streams/<path>"
    LIST_TOKENS = "GET __ds/tokens"
    NEW_TOKEN = "POST __ds/tokens"  # noqa: S105 - it is a request
    REVOKE_TOKEN = "DELETE __ds/tokens/<id>"  # noqa: S105
    SIGN = "POST __ds/signed-urls"
    LIST = "GET __ds/streams"
    METRICS = "GET __ds/metrics"
    NODES = "GET __ds/nodes"
    CONSOLE = "GET __ds/console/<file>"

    __hash__ = object.__hash__  # as that of scopes


class On(Enum):
    """Where a scope is needed."""

    STREAM = "the stream"
    SOURCE = "the fork's source"
    ANY = "any stream"
    GRANTED = (
        "any stream; all that the request grants, lists or revokes has to be granted to who asks"
    )
    SIGNED = "all that the URL is for"
    LISTED = "any stream; those on which who asks has not got it are not in the answer"


class Need(NamedTuple):
    """A scope, and where it is needed."""

    scope: Scope
    on: On


TABLE: Final[dict[Asked, tuple[Need, ...]]] = {
    Asked.READ: (Need(Scope.READ, On.STREAM),),
    Asked.HEAD: (Need(Scope.READ, On.STREAM),),
    Asked.APPEND: (Need(Scope.APPEND, On.STREAM),),
    Asked.CREATE: (Need(Scope.CREATE, On.STREAM),),
    # A fork keeps what its source takes on the disk, and gives away what is in it.
    Asked.FORK: (
        Need(Scope.CREATE, On.STREAM),
        Need(Scope.FORK, On.SOURCE),
        Need(Scope.READ, On.SOURCE),
    ),
    Asked.DELETE: (Need(Scope.DELETE, On.STREAM),),
    Asked.PREFLIGHT: (),
    Asked.RECORDS: (Need(Scope.READ, On.STREAM),),
    # What its row in a list says, and its producers, as its records do.
    Asked.DETAILS: (Need(Scope.LIST, On.STREAM), Need(Scope.READ, On.STREAM)),
    Asked.LIST_TOKENS: (Need(Scope.ADMIN, On.GRANTED),),
    Asked.NEW_TOKEN: (Need(Scope.ADMIN, On.GRANTED),),
    Asked.REVOKE_TOKEN: (Need(Scope.ADMIN, On.GRANTED),),
    Asked.SIGN: (Need(Scope.READ, On.SIGNED),),
    Asked.LIST: (Need(Scope.LIST, On.LISTED),),
    Asked.METRICS: (Need(Scope.ADMIN, On.ANY),),
    Asked.NODES: (Need(Scope.ADMIN, On.ANY),),
    Asked.CONSOLE: (),  # its files are the same for everybody: what they show they ask for
}


class Outcome(Enum):
    """What becomes of a request, and the status of its answer if it is refused.

    ``status`` None: whatever it would be without authentication.
    """

    def __init__(self, text: str, status: int | None) -> None:
        self.text = text
        self.status = status

    NOBODY = ("no credentials", 401)
    UNKNOWN = ("credentials that are unknown, malformed, expired or revoked", 401)
    SEVERAL = ("more than one of them, in headers or in header and query", 400)
    MAY_NOT = ("a scope is missing", 403)
    PRODUCER_MAY_NOT = ("a scope is missing, and the request has Producer headers", 401)
    CONCEALED = ("no scope at all on the stream, with ``conceal``", 404)
    MAY = ("all scopes are there", None)


_ASKED: Final[dict[type[Command | Inspection], Asked]] = {
    Read: Asked.READ,
    Head: Asked.HEAD,
    Append: Asked.APPEND,
    Create: Asked.CREATE,
    Delete: Asked.DELETE,
    Preflight: Asked.PREFLIGHT,
    Records: Asked.RECORDS,
    Details: Asked.DETAILS,
}


def asked_by(command: Command | Inspection) -> Asked:
    """The row of the table that a command is in."""
    if isinstance(command, Create) and command.fork is not None:
        return Asked.FORK
    return _ASKED[type(command)]


def authorize(
    principal: Principal, command: Command | Inspection, *, conceal: bool = False
) -> None:
    """Return if ``principal`` may have ``command``; else raise why not.

    :class:`Forbidden`; with ``conceal`` :class:`StreamNotFound` if they have no scope on the stream
    at all, the same as if there were none.
    """
    if principal is ANYBODY:
        return
    for scope, on in TABLE[asked_by(command)]:
        path = _path(command, on)
        if not principal.may(scope, path):
            raise _refusal(principal, scope, path, conceal=conceal)


def authorize_somewhere(principal: Principal, asked: Asked) -> None:
    """Return if ``principal`` has what ``asked`` needs on some stream; else raise."""
    for scope, _ in TABLE[asked]:
        if not any(scope in grant.scopes for grant in principal.grants):
            raise Forbidden(f"that takes the scope {scope.value}", scope.value)


def _path(command: Command | Inspection, on: On) -> StreamPath:
    assert not isinstance(command, Preflight)
    if on is On.STREAM:
        return command.path
    assert on is On.SOURCE
    assert isinstance(command, Create)
    assert command.fork is not None
    return command.fork.source


def _refusal(
    principal: Principal, scope: Scope, path: StreamPath, *, conceal: bool
) -> Forbidden | StreamNotFound:
    if conceal and not principal.has_any(path):
        return StreamNotFound(path_text(path))
    return Forbidden(
        f"{principal.name} may not: that takes the scope {scope.value} on {path_text(path)!r}",
        scope.value,
    )
