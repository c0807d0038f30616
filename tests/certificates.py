"""Certificates for this machine that nobody else vouches for, and clients that take them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import ssl
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


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

    def renew(self) -> ssl.SSLContext:
        """Put a new pair in their place; a client that takes no other."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(key, self.name)
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


def _signed(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    # Clients that trust several look for an issuer by its name, so each has its own.
    own = f"localhost {secrets.token_hex(8)}"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, own)])
    now = dt.datetime.now(dt.UTC)
    here = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
