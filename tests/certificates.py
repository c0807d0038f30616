"""Certificates for this machine that nobody else vouches for, and clients that take them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


DAYS: Final = 30.0
"""How long certificates are good, if nobody says otherwise."""


class Files(NamedTuple):
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    name: str = "localhost"
    """What clients call the server, beside ``127.0.0.1``."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What ``serve`` is told."""
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))

    def renew(self, days: float = DAYS) -> ssl.SSLContext:
        """Put a new pair in their place, for so many days; a client that takes no other."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        begin = now - dt.timedelta(days=1)
        certificate = signed(key, self.name, begin, now + dt.timedelta(days=days))
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.touch(0o600)
        self.key.write_bytes(in_pem(key))
        return self.client()

    def client(self) -> ssl.SSLContext:
        """What a client has that takes the certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    @property
    def end_s(self) -> float:
        """When the certificate expires, in seconds since 1970."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return certificate.not_valid_after_utc.timestamp()

    @property
    def fingerprint(self) -> str:
        """By which a person knows the certificate."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def made_in(directory: Path, name: str = "server", *, host: str = "localhost") -> Files:
    """Make a pair."""
    files = Files(directory / f"{name}.pem", directory / f"{name}.key", host)
    files.renew()
    return files


def in_pem(
    key: ec.EllipticCurvePrivateKey,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> bytes:
    """A private key as a file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


def signed(
    key: ec.EllipticCurvePrivateKey, host: str, begin: dt.datetime, end: dt.datetime
) -> x509.Certificate:
    """A certificate that is good from one time to the other."""
    # Clients that trust several look for an issuer by its name, so each has its own.
    own = f"localhost {secrets.token_hex(8)}"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, own)])
    here = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
