"""The certificate of TLS and its key: two files, read at the start and again on SIGHUP.

A pair is loaded into a context of its own, which takes the place of the one before as a whole, and
only if it is good: connections that are made from then on have the new one, all others go on.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from durable_streams.access.small_files import FileProblem, is_open_to_others, read_small
from durable_streams.process.options import StartError
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from durable_streams.settings import ProcessSettings

MAX_PEM_BYTES: Final = 256 * KIB
"""Of each file: a chain of certificates has a few KiB."""

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
    """

    context: ssl.SSLContext
    digest: bytes
    fingerprint: str


class Certificates:
    """What a server shows to clients; :class:`StartError` if its files are no good.

    Blocking code, but for :meth:`context` and :meth:`use`.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
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
        return pair


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
    return Pair(context, digest, hashlib.sha256(leaf).digest().hex(":").upper())


class _EncryptedError(Exception):
    """A key is of no use without a password."""


def _no_password() -> NoReturn:
    raise _EncryptedError
