"""The keys of JWTs from a URL (a JWKS, RFC 7517), fetched beside the requests and never by one.

They are fetched at the start and every 10 minutes, or sooner if a token came with a key that is not
there: at most once a minute, however many such tokens come.  What cannot be had is tried again,
after a second at first and a minute at most.

=====================================  ==========================================================
the keys were fetched                  JWTs are
=====================================  ==========================================================
never yet                              ``Unavailable`` (503)
within 24 h                            told by the keys that were fetched last
longer ago                             ``Unavailable``, and live reads of their holders end
=====================================  ==========================================================

A set that could be read counts, though none of its keys may do: then the issuer has withdrawn them
all.  What the server of the keys sends is bounded in time and size, and nowhere else is gone to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import aiohttp

from durable_streams.access.jwt_keys import Key, KeySet, jwk_key
from durable_streams.access.strict_json import load_object
from durable_streams.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_logger: Final = logging.getLogger(__name__)

FETCH_INTERVAL_S: Final = 600.0
FETCH_TIMEOUT_S: Final = 5.0
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0

ASK_INTERVAL_S: Final = 60.0
"""Anybody can send tokens of keys that are not there; the issuer must not hear of each."""

KEPT_S: Final = 24 * 3600.0
"""How long the last keys are believed if there are no others: an issuer may be down for a night,
and a key that it has withdrawn meanwhile must not count for ever."""

MAX_SET_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 64

RETRY_AFTER_S: Final = 5
"""What clients are told while there are no keys."""


class Jwks:
    """The keys at a URL: a ``KeySource``.  ``clock`` is monotonic, in seconds.

    ``failure`` says why the last fetch failed, or that it brought no key; None if it was good.
    ``ValueError`` for a URL that is not taken.
    """

    def __init__(
        self,
        url: str,
        *,
        interval_s: float = FETCH_INTERVAL_S,
        timeout_s: float = FETCH_TIMEOUT_S,
        first_retry_s: float = FIRST_RETRY_S,
        last_retry_s: float = LAST_RETRY_S,
        ask_interval_s: float = ASK_INTERVAL_S,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_url(url)
        self.failure: str | None = "the key set has not been fetched yet"
        self._url = url
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._first_retry_s = first_retry_s
        self._last_retry_s = last_retry_s
        self._ask_interval_s = ask_interval_s
        self._kept_s = kept_s
        self._clock = clock
        self._keys: KeySet | None = None
        self._good_until_s = -math.inf
        self._next_ask_s = clock()
        self._retry_s = first_retry_s
        self._asked = asyncio.Event()
        self._passed_over: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why no JWT can be admitted now; None while keys are believed, however old they are."""
        if self._keys is not None and self._keys.ids and self._is_good():
            return None
        return self.failure or "the key set is too old to be believed"

    def keys(self) -> KeySet:
        """The keys that were fetched last; raises :class:`Unavailable`."""
        if self._keys is None or not self._is_good():
            raise Unavailable("the keys of JWTs cannot be had now: try again later", RETRY_AFTER_S)
        return self._keys

    def missing(self) -> None:
        """Have the keys fetched soon, unless somebody asked for that just now."""
        now_s = self._clock()
        if now_s >= self._next_ask_s:
            self._next_ask_s = now_s + self._ask_interval_s
            self._asked.set()

    @asynccontextmanager
    async def running(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Fetch the keys while the block runs; ``changed`` is called when some are gone."""
        task = asyncio.create_task(self._follow(changed), name="jwks")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self, changed: Callable[[], None]) -> None:
        while True:
            self._asked.clear()
            try:
                await self._refresh(changed)
            except Exception:  # whatever they do who are told, keys have to be followed
                _logger.exception("telling that keys are gone went wrong")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._asked.wait()

    def _wait_s(self) -> float:
        """How long to wait after a fetch; longer after each that failed."""
        if self.failure is None:
            self._retry_s = self._first_retry_s
            return self._interval_s
        wait_s = self._retry_s
        self._retry_s = min(2 * wait_s, self._last_retry_s)
        return wait_s

    def _is_good(self) -> bool:
        """Whether the keys that were fetched last are still believed."""
        return self._clock() < self._good_until_s

    async def _refresh(self, changed: Callable[[], None]) -> None:
        """Fetch the keys once; what was there stays if that fails, for as long as it may."""
        begun_s = self._clock()
        before = frozenset() if self._keys is None else self._keys.ids
        try:
            self._take(load_object(await self._fetched()), begun_s)
        except (ValueError, TimeoutError, OSError, aiohttp.ClientError) as error:
            self._tell(_reason(error))
        except Exception as error:
            self._tell(f"fetching the key set went wrong: {type(error).__name__}")
            _logger.exception("fetching the key set went wrong; it will be tried again")
        if not self._is_good():
            self._keys = None
        now = frozenset() if self._keys is None else self._keys.ids
        if before - now:
            changed()

    async def _fetched(self) -> bytes:
        """The text at the URL, without any body coding that could make it larger than it came."""
        async with (
            asyncio.timeout(self._timeout_s),
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(
                self._url,
                allow_redirects=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as response,
        ):
            if response.status != 200:
                more = ", and redirects are not followed" if 300 <= response.status < 400 else ""
                raise _NoSet(f"the key set's server answered {response.status}{more}")
            text = bytearray()
            async for piece in response.content.iter_any():
                text += piece
                if len(text) > MAX_SET_BYTES:
                    raise _NoSet(f"the key set has more than {MAX_SET_BYTES} bytes")
            return bytes(text)

    def _take(self, found: dict[str, object], fetched_at_s: float) -> None:
        """Go on with the keys of a set."""
        listed = found.get("keys")
        if not isinstance(listed, list):
            raise _NoSet('the key set has no list of "keys"')
        if len(listed) > MAX_KEYS:
            raise _NoSet(f"the key set has more than {MAX_KEYS} keys")
        keys: list[Key] = []
        passed_over: list[str] = []
        for number, jwk in enumerate(listed, start=1):
            try:
                key = jwk_key(jwk)
                if key.kid is not None and any(key.kid == other.kid for other in keys):
                    raise ValueError("its kid is that of one before it")
                keys.append(key)
            except ValueError as error:
                passed_over.append(f"key {number}: {error}")
        self._keys = KeySet(keys, is_named=True)
        self._good_until_s = fetched_at_s + self._kept_s
        self._tell(None if keys else "the key set has no key that JWTs may be signed with")
        if tuple(passed_over) != self._passed_over:
            self._passed_over = tuple(passed_over)
            for reason in passed_over:
                _logger.warning("a key of the key set is passed over: %s", reason)

    def _tell(self, failure: str | None) -> None:
        """Note what became of a fetch; log it when that is another than before."""
        if failure == self.failure:
            return
        self.failure = failure
        if failure is None:
            _logger.info("jwt_jwks: the key set was fetched")
        else:
            _logger.warning("jwt_jwks: %s", failure)


class _NoSet(ValueError):
    """What was fetched is no key set; the text says why."""


def check_url(url: str) -> None:
    """Raise ``ValueError`` unless keys may be fetched there: what comes from there is believed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("jwt_jwks: that is no URL") from None
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError("jwt_jwks: it has to be a URL that begins with https://")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("jwt_jwks: a URL of keys, which all can read, has no password or fragment")
    if parts.scheme == "http" and not _is_loopback(parts):
        raise ValueError(
            "jwt_jwks: over http others on the way could put in keys of their own: use https "
            "(http is for 127.0.0.1, ::1 and localhost)"
        )


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    """What went wrong, without the URL, which may have what is not for logs."""
    if isinstance(error, _NoSet):
        return str(error)
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        return f"the key set cannot be read: {error}"
    if isinstance(error, TimeoutError):
        return "the key set's server took too long"
    return f"the key set cannot be fetched: {type(error).__name__}"
