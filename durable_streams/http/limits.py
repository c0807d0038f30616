"""How much one who asks may have: requests and bytes in a second, and live reads at a time.

Whoever is known pays by name, as a token may be used from everywhere; all others, holders of signed
URLs too, pay by their address, of IPv6 by its network of 64 bits, which is what one customer has.

A rate is kept as one number, the moment until which what was taken is paid for (GCRA, as ATM has
it): that may lie so many seconds ahead as may be taken at once.  Bytes are known only when they
have gone, so they are paid for afterwards, and the next request waits for it.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable_streams.access.principals import Principal
    from durable_streams.settings import HttpSettings

MAX_PAYERS: Final = 65_536
"""Of whom something is remembered, some 20 MiB: the one who has not asked for longest is forgotten,
with what there is to pay."""

LONGEST_WAIT_S: Final = 86_400
"""That anybody is told; with a rate near 0 it would be for ever."""

_BY_ADDRESS: Final = frozenset({"anybody", "signed"})
"""Kinds of principals that are many."""


class _Account:
    """What one has taken: until when requests and bytes are paid for, in seconds of the clock."""

    __slots__ = ("bytes_until_s", "live", "requests_until_s")

    def __init__(self) -> None:
        self.requests_until_s = -math.inf
        self.bytes_until_s = -math.inf
        self.live = 0


class Limits:
    """The limits of one server; ``clock`` is monotonic, in seconds.  0 is no limit."""

    def __init__(self, settings: HttpSettings, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._requests_per_s = self._bytes_per_s = 0.0
        self.use(settings)

    def use(self, settings: HttpSettings) -> None:
        """Go on with the limits of other settings.

        Where a rate is another one nobody has anything to pay for any more: it is kept as time, so
        a rate that was too low would refuse people for long after it was raised.
        """
        rates = (settings.requests_per_s, settings.bytes_per_s)
        if rates != (self._requests_per_s, self._bytes_per_s):
            for account in self._accounts.values():
                account.requests_until_s = account.bytes_until_s = -math.inf
        self._requests_per_s, self._bytes_per_s = rates
        self._burst_s = settings.burst_s
        self._max_live = settings.max_live_readers
        self.is_on = bool(self._requests_per_s or self._bytes_per_s or self._max_live)

    def take(self, payer: str) -> None:
        """Take one request; :class:`TooManyRequests` if there is something to pay for before."""
        account = self._account(payer)
        now_s = self._clock()
        ahead_s = max(account.requests_until_s, account.bytes_until_s) - now_s
        if ahead_s > self._burst_s:
            wait_s = math.ceil(min(ahead_s - self._burst_s, LONGEST_WAIT_S))
            raise TooManyRequests(f"too many requests or bytes: wait for {wait_s} s", wait_s)
        if self._requests_per_s:
            begin_s = max(account.requests_until_s, now_s)
            account.requests_until_s = begin_s + 1 / self._requests_per_s

    def charge(self, payer: str, size_bytes: int) -> None:
        """Put bytes on the account, of a body that came or of an answer."""
        if self._bytes_per_s and size_bytes:
            account = self._account(payer)
            begin_s = max(account.bytes_until_s, self._clock())
            account.bytes_until_s = begin_s + size_bytes / self._bytes_per_s

    @contextmanager
    def live_read(self, payer: str) -> Iterator[None]:
        """Be a live read while the block runs; :class:`TooManyRequests` if there are too many."""
        if not payer:
            yield
            return
        account = self._account(payer)
        if self._max_live and account.live >= self._max_live:
            raise TooManyRequests(f"too many live reads at a time: the limit is {self._max_live}")
        account.live += 1
        try:
            yield
        finally:
            account.live -= 1

    def _account(self, payer: str) -> _Account:
        accounts = self._accounts
        account = accounts.get(payer)
        if account is not None:
            accounts.move_to_end(payer)
            return account
        if len(accounts) >= MAX_PAYERS:
            self._forget_one()
        account = accounts[payer] = _Account()
        return account

    def _forget_one(self) -> None:
        """Forget the one who has not asked for longest, but nobody who is reading."""
        for _ in range(len(self._accounts)):
            payer, account = next(iter(self._accounts.items()))
            if not account.live:
                del self._accounts[payer]
                return
            self._accounts.move_to_end(payer)


def payer_of(principal: Principal, address: str) -> str:
    """Who pays for a request from an address."""
    is_many = principal.name.partition(":")[0] in _BY_ADDRESS
    return network(address) if is_many else principal.name


def network(address: str) -> str:
    """What pays for an address: itself, or the network that one customer has."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
