"""Where key sets are fetched from: over TLS from who can prove their name, or on loopback."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from durable_streams.access.jwks import Jwks, check_url
from tests.access.issuer import NOW_S, jwk, private_key, private_pem

if TYPE_CHECKING:
    from pathlib import Path


def self_signed(directory: Path) -> ssl.SSLContext:
    """What a server on 127.0.0.1 shows that nobody but itself vouches for."""
    private = private_key("ES256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    from_time = dt.datetime.fromtimestamp(NOW_S - 3e8, dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(from_time)
        .not_valid_after(from_time + dt.timedelta(days=36_500))
        .sign(private, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private_pem(private))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


async def test_keys_of_who_cannot_prove_their_name_are_not_taken(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"keys": [jwk("ES256", "a")]})

    application = web.Application()
    application.router.add_get("/", answer)
    server = TestServer(application, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=self_signed(tmp_path))
    try:
        source = Jwks(str(server.make_url("/")))
        await source._refresh(lambda: None)
        assert "ClientConnectorCertificateError" in (source.failure or "")
        assert source.problem == source.failure
    finally:
        await server.close()


async def test_a_server_that_is_not_there_is_a_problem_without_its_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Jwks(f"http://127.0.0.1:{unused_port()}/jwks?key=from-the-url")
    await source._refresh(lambda: None)
    assert "cannot be fetched" in (source.failure or "")
    assert "from-the-url" not in f"{source.failure} {caplog.text}"


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/jwks.json",
        "https://issuer.example:8443/jwks.json?tenant=a",
        "http://127.0.0.1/jwks",
        "http://127.8.9.1:80/jwks",
        "http://[::1]:8080/jwks",
        "http://localhost:8080/jwks",
        "http://LOCALHOST/jwks",
    ],
)
def test_a_url_of_keys_is_https_or_on_loopback(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json",
        "http://localhost.example/jwks",
        "http://127.0.0.1.example/jwks",
        "http://10.0.0.1/jwks",
        "http://[::ffff:10.0.0.1]/jwks",
        "http://0.0.0.0/jwks",
        "http://2130706433/jwks",
        "http://0x7f.1/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
        "https://",
        "https:///jwks",
        "issuer.example/jwks",
        "/etc/jwks.json",
        "https://user:from-the-url@issuer.example/",
        "https://from-the-url@issuer.example/",
        "https://issuer.example/#from-the-url",
        "https://issuer.example:port/",
        "https://[issuer/",
        "",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^jwt_jwks: ") as caught:
        Jwks(url)
    assert "from-the-url" not in str(caught.value)
