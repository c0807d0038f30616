"""The certificate of TLS and its key: two files, read at the start and again on SIGHUP.

A pair is loaded into a context of its own, which takes the place of the one before as a whole, and
only if it is good: connections that are made from then on have the new one, all others go on.

One that expires soon is warned of whenever it is read, and once a day; a metric says when it does.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from durable_streams.access.small_files import FileProblem, is_open_to_others, read_small
from durable_streams.measuring import gauge
from durable_streams.process.options import StartError
from durable_streams.process.validity import Validity, validity_of
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from durable_streams.measuring import Family
    from durable_streams.settings import ProcessSettings

MAX_PEM_BYTES: Final = 256 * KIB
"""Of each file: a chain of certificates has a few KiB."""

DAY_S: Final = 24 * 3600.0

SOON_S: Final = 14 * DAY_S
"""Before its end a certificate is warned of: those of a free authority are renewed 30 days before,
and what has gone wrong with that is still to be mended in two weeks."""

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"

_ADVICE: Final = {
    "KEY_VALUES_MISMATCH": "the key is not that of the first certificate: give the server's own "
    "certificate first, behind it those of its authority, and its key",
    "EE_KEY_TOO_SMALL": "the key is too small: make one of 2048 bits of RSA, or of P-256",
    "CA_MD_TOO_WEAK": "it was signed by a hash that is broken: have it signed by SHA-256",
}

logger = logging.getLogger("durable_streams")


class Pair(NamedTuple):
    """A certificate and its key, loaded; ``digest``: of what is in both files.

    ``fingerprint``: of the certificate, as ``openssl x509 -fingerprint -sha256`` has it.
    ``validity``: from when to when it is good, None if it does not say so as others do.
    """

    context: ssl.SSLContext
    digest: bytes
    fingerprint: str
    validity: Validity | None


class Certificates:
    """What a server shows to clients; :class:`StartError` if its files are no good.

    Blocking code, but for :meth:`context` and :meth:`use`.
    """

    def __init__(
        self, certificate: Path, key: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._pair = self._read()

    @classmethod
    def of(cls, process: ProcessSettings) -> Certificates | None:
        """Those of settings; None without TLS."""
        if not process.tls_cert and not process.tls_key:
            return None
        if not process.tls_cert or not process.tls_key:
            raise StartError("tls_cert and tls_key need each other: give a certificate and its key")
        return cls(Path(process.tls_cert), Path(process.tls_key))

    def context(self) -> ssl.SSLContext:
        """What a new connection is encrypted with."""
        return self._pair.context

    def fresh(self) -> Pair | None:
        """What is in the files, if that is new."""
        pair = self._read()
        return None if pair.digest == self._pair.digest else pair

    def use(self, pair: Pair) -> str:
        """Go on with it; what has changed, in words."""
        self._pair = pair
        return f"the certificate of {self._certificate} (SHA-256 {pair.fingerprint})"

    @asynccontextmanager
    async def watched(self, every_s: float = DAY_S) -> AsyncIterator[None]:
        """Warn of its end again and again while the block runs."""
        watching = asyncio.create_task(self._watch(every_s))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self._warn(self._pair.validity)

    def _warn(self, validity: Validity | None) -> None:
        """Log that a certificate is not good any more, or not for long, or not yet."""
        if validity is None:
            return
        now_s, what = self._clock(), f"the certificate of {self._certificate}"
        left_s = validity.end_s - now_s
        if left_s <= 0:
            end = _at(validity.end_s)
            logger.warning("%s has expired, at %s: renew it, and send SIGHUP", what, end)
        elif left_s <= SOON_S:
            days, end = int(left_s // DAY_S), _at(validity.end_s)
            words = "%s expires in %d days, at %s: renew it, and send SIGHUP"
            logger.warning(words, what, days, end)
        elif now_s < validity.begin_s:
            begin = _at(validity.begin_s)
            logger.warning("%s is good from %s on: clients refuse it until then", what, begin)

    def families(self) -> list[Family]:
        """What metrics say of it."""
        return families_of(self._pair.validity)

    def _read(self) -> Pair:
        try:
            pair = _loaded(self._certificate, self._key)
        except FileProblem as error:
            raise StartError(f"{error}") from error
        if is_open_to_others(self._key):
            logger.warning(
                "%s may be read or changed by others, who can pass for this server then: "
                "chmod go-w,o-r %s",
                self._key,
                self._key,
            )
        self._warn(pair.validity)
        return pair


def families_of(validity: Validity | None = None) -> list[Family]:
    """What metrics say of a certificate, or where there is none."""
    return [
        gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate that is shown expires, in seconds since 1970.",
            None if validity is None else validity.end_s,
        )
    ]


def _at(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _loaded(certificate: Path, key: Path) -> Pair:
    """A pair that belongs together; :class:`FileProblem` without one."""
    chain, secret = read_small(certificate, MAX_PEM_BYTES), read_small(key, MAX_PEM_BYTES)
    text = chain.decode("ascii", "replace")
    begin = text.find(_BEGIN)
    end = text.find(_END, begin) + len(_END)
    if begin < 0 or end < len(_END):
        raise FileProblem(f"{certificate} has no certificate in PEM: give a file that has one")
    if _KEY not in secret:
        raise FileProblem(f"{key} has no private key in PEM: give a file that has one")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        leaf = ssl.PEM_cert_to_DER_cert(text[begin:end])
    except _EncryptedError:
        raise FileProblem(
            f"{key} is encrypted, and nobody is asked for its password: give a file that is not "
            f"(openssl pkey -in {key} -out FILE) and that only the server may read"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or ""
        advice = _ADVICE.get(reason, f"they cannot be used ({reason or error})")
        raise FileProblem(f"{certificate} with {key}: {advice}") from None
    digest = hashlib.sha256(hashlib.sha256(chain).digest() + secret).digest()
    fingerprint = hashlib.sha256(leaf).digest().hex(":").upper()
    validity = None
    with suppress(ValueError):
        validity = validity_of(leaf)
    return Pair(context, digest, fingerprint, validity)


class _EncryptedError(Exception):
    """A key is of no use without a password."""


def _no_password() -> NoReturn:
    raise _EncryptedError
