"""Why handshakes of TLS have failed: counted by a few reasons, and told in words.

What a client sends makes no reason: all that is not among them is ``other``.
"""

from __future__ import annotations

import ssl
from typing import Final

from durable_streams.measuring import Family, Kind

_OTHER: Final = "other"
REASONS: Final = (
    "certificate",
    "cipher",
    "left",
    "malformed",
    _OTHER,
    "plain_http",
    "timeout",
    "version",
)
"""``certificate``: the client does not trust ours.  ``cipher``, ``version``: there is none that
both speak.  ``left``: it went away.  ``malformed``: what came is no TLS."""

_BY_NAME: Final = {
    "HTTP_REQUEST": "plain_http",
    "HTTPS_PROXY_REQUEST": "plain_http",
    "NO_SHARED_CIPHER": "cipher",
    "NO_SUITABLE_KEY_SHARE": "cipher",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "cipher",
    "INAPPROPRIATE_FALLBACK": "version",
    "NO_PROTOCOLS_AVAILABLE": "version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "version",
    "UNSUPPORTED_PROTOCOL": "version",
    "VERSION_TOO_LOW": "version",
    "UNEXPECTED_EOF_WHILE_READING": "left",
    "BAD_RECORD_TYPE": "malformed",
    "PACKET_LENGTH_TOO_LONG": "malformed",
    "RECORD_LAYER_FAILURE": "malformed",
    "UNEXPECTED_MESSAGE": "malformed",
    "WRONG_VERSION_NUMBER": "malformed",
}
"""By OpenSSL's names."""


class HandshakeFailures:
    """How many handshakes have failed, by the reason."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(REASONS, 0)

    def count(self, error: Exception) -> None:
        """One has failed."""
        self._counts[_reason(error)] += 1

    def families(self) -> list[Family]:
        """All of it, as it is now."""
        return [
            Family(
                Kind.COUNTER,
                "tls_handshake_failures_total",
                "Handshakes of TLS that failed, by the reason.",
                {(reason,): count for reason, count in self._counts.items()},
                ("reason",),
            )
        ]


def told(error: OSError) -> str:
    """Why a handshake has failed, for whoever reads the log."""
    reason = getattr(error, "reason", None) or str(error)
    if reason == "HTTP_REQUEST":
        return "plain HTTP came where TLS is spoken: use https://"
    return str(reason)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        is_of_certificate = "CERTIFICATE" in name or "UNKNOWN_CA" in name
        if "_ALERT_" in name and is_of_certificate:
            return "certificate"
        return _BY_NAME.get(name, _OTHER)
    if isinstance(error, ConnectionAbortedError | TimeoutError):  # asyncio's, and of the kernel
        return "timeout"
    return "left" if isinstance(error, ConnectionError) else _OTHER
