"""The door: who asks, by the credentials that a request shows.

Several :class:`Authenticator` may know them; each has its own kind of principal.  What is known
changes while the server runs (a token is revoked, a key is rotated): ``on_change`` is told of that,
and asks about everybody who holds a live read again (:meth:`Door.may_read`).
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from durable_streams.access.grants import Scope
from durable_streams.access.principals import ANYBODY
from durable_streams.model.errors import InvalidRequest, Unauthenticated
from durable_streams.wire.signed_query import signed_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from durable_streams.access.principals import Principal
    from durable_streams.model.paths import StreamPath
    from durable_streams.wire.requests import Headers

INVALID: Final = "invalid_token"
"""What RFC 6750 (section 3.1) calls credentials that are unknown, malformed, expired or revoked."""

_SCHEME: Final = "bearer "


class Credentials(NamedTuple):
    """What a request shows: the value of ``Authorization``, and that of ``signed`` in its query.

    None if it is absent; ``is_several``: one of them came more than once.
    """

    authorization: str | None = None
    signed: str | None = None
    is_several: bool = False

    @classmethod
    def of(cls, headers: Headers, raw_query: str) -> Credentials:
        """Those of a request."""
        said = headers.getall("Authorization", ())
        signed, is_repeated = signed_in(raw_query)
        return cls(said[0] if said else None, signed, is_repeated or len(said) > 1)


NOTHING_SHOWN: Final = Credentials()
"""Those of most requests, where nobody has to say who they are."""


class Seen:
    """An admission that is kept with a request, for others that are the same byte by byte.

    It holds until another state of what is known counts, or its time is over: :meth:`Door.still`.
    ``admitted``: what :meth:`Door.keep` was given.
    """

    __slots__ = ("admitted", "known", "until_s")

    def __init__(self) -> None:
        self.known: object = None
        self.until_s = 0.0
        self.admitted: Any = None


class Authenticator(Protocol):
    """Knows principals of one kind; ``name`` of each begins with ``kind`` and a colon."""

    @property
    def tells(self) -> bool:
        """Whether ``changed`` is called in the turn in which anybody's rights become others."""

    @property
    def kind(self) -> str:
        """What the names of its principals begin with."""

    @property
    def problem(self) -> str | None:
        """Why what is known may be out of date, for the log; None if it is not."""

    def principal(self, bearer: str) -> Principal | None:
        """Who shows a bearer token; None if it is none of this kind.

        Raises :class:`Unauthenticated` if it is of this kind and not good, and
        :class:`Unavailable` if that cannot be told now.
        """

    def as_now(self, principal: Principal) -> Principal | None:
        """A principal of this kind as it is now; None if it is none any more."""

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Follow what is known while the block runs; ``changed`` is called after a change."""


class UrlAuthenticator(Protocol):
    """Knows the holders of signed URLs, as :class:`Authenticator` does those of tokens."""

    @property
    def tells(self) -> bool:
        """Whether ``changed`` is called in the turn in which anybody's rights become others."""

    @property
    def kind(self) -> str:
        """What the names of its principals begin with."""

    @property
    def problem(self) -> str | None:
        """Why what is known may be out of date, for the log; None if it is not."""

    def holder(self, signed: str, path: StreamPath) -> Principal:
        """Who holds a URL of ``path`` with this signature; raises :class:`Unauthenticated`."""

    def as_now(self, principal: Principal) -> Principal | None:
        """A holder as it is now; None if it is none any more."""

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Follow what is known while the block runs; ``changed`` is called after a change."""


class Door:
    """Knows who asks; without any authenticator it is open, and whoever asks is anybody.

    ``clock`` is in seconds since 1970.
    """

    def __init__(
        self,
        authenticators: Sequence[Authenticator] = (),
        urls: UrlAuthenticator | None = None,
        *,
        conceal: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.is_open = not authenticators
        self.conceal = conceal
        self.on_change: list[Callable[[], None]] = []
        self._authenticators = tuple(authenticators)
        self._urls = urls
        self._clock = clock
        self._known: object = None  # another one when what is known is; None: nobody would tell
        known = (*authenticators, *(() if urls is None else (urls,)))
        self._by_kind = {authenticator.kind: authenticator for authenticator in known}

    def identify(self, credentials: Credentials, path: StreamPath | None) -> Principal:
        """Who asks for what is at ``path``, which is None if it is no stream.

        Raises :class:`Unauthenticated`; :class:`InvalidRequest` for more than one credential;
        :class:`Unavailable` if it cannot be told now.
        """
        if self.is_open:
            return ANYBODY
        authorization, signed, is_several = credentials
        if is_several or (authorization is not None and signed is not None):
            raise InvalidRequest("give one credential: an Authorization header or a signed URL")
        if signed is not None:
            if self._urls is None or path is None:
                raise Unauthenticated("signed URLs are not taken here", INVALID)
            principal = self._urls.holder(signed, path)
        elif authorization is not None:
            principal = self._bearer(authorization)
        else:
            raise Unauthenticated("this takes a token: send Authorization: Bearer and the token")
        if principal.expires_at_s <= self._clock():
            raise Unauthenticated("the credentials have expired", INVALID)
        return principal

    def keep(self, seen: Seen, principal: Principal, admitted: object) -> None:
        """Keep what became of a request of ``principal``, if it can be told how long it holds."""
        by = self._by_kind.get(principal.name.partition(":")[0])
        if self._known is not None and by is not None and by.tells:
            seen.known, seen.admitted = self._known, admitted
            seen.until_s = principal.expires_at_s

    def still(self, seen: Seen) -> bool:
        """Whether what was kept holds."""
        return self._known is seen.known and self._clock() < seen.until_s

    def as_now(self, principal: Principal) -> Principal | None:
        """A principal as it is known now; None if it is none any more.

        What nobody here has admitted, such as whom an application has, is as it was.
        """
        if principal.expires_at_s <= self._clock():
            return None
        authenticator = self._by_kind.get(principal.name.partition(":")[0])
        return principal if authenticator is None else authenticator.as_now(principal)

    def out_of_date(self) -> list[str]:
        """The kinds of principals of whom what is known may be out of date."""
        return [kind for kind, by in self._by_kind.items() if by.problem is not None]

    def may_read(self, principal: Principal, path: StreamPath) -> bool:
        """Whether a principal may go on reading a stream."""
        if principal is ANYBODY:
            return True
        now = self.as_now(principal)
        return now is not None and now.may(Scope.READ, path)

    def left_s(self, principal: Principal) -> float:
        """For how many seconds a principal is one, if nothing changes; 0 if it is none any more."""
        now = self.as_now(principal)
        return 0.0 if now is None else min(now.expires_at_s, principal.expires_at_s) - self._clock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow what is known while the block runs."""
        async with AsyncExitStack() as stack:
            for authenticator in self._by_kind.values():
                await stack.enter_async_context(authenticator.running(self._changed))
            self._known = object()
            stack.callback(self._forget)
            yield

    def _bearer(self, authorization: str) -> Principal:
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("the scheme of the credentials is not Bearer", INVALID)
        bearer = authorization[len(_SCHEME) :].strip(" \t")
        for authenticator in self._authenticators:
            principal = authenticator.principal(bearer)
            if principal is not None:
                return principal
        raise Unauthenticated("the token is not known here, or not any more", INVALID)

    def _forget(self) -> None:
        self._known = None

    def _changed(self) -> None:
        if self._known is not None:
            self._known = object()
        for tell in self.on_change:
            tell()


OPEN: Final = Door()
"""Where nobody has to say who they are."""
