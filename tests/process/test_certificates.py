"""The files of TLS: a pair that is good, and all that is refused in one line."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from durable_streams.process.certificates import (
    DAY_S,
    MAX_PEM_BYTES,
    Certificates,
    families_of,
)
from durable_streams.process.options import StartError
from durable_streams.settings import ProcessSettings
from tests.certificates import Files, in_pem, made_in
from tests.http.scraping import parsed
from tests.process.tls_clients import all_said, ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made_in(tmp_path)


def opened(files: Files) -> Certificates:
    return Certificates(files.certificate, files.key)


def refusal(files: Files) -> str:
    with pytest.raises(StartError) as refused:
        opened(files)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_old_versions_are_not_spoken(files: Files) -> None:
    context = opened(files).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_one_file_may_have_both(files: Files) -> None:
    both = files.certificate.read_bytes() + files.key.read_bytes()
    files.key.write_bytes(both)
    Certificates(files.key, files.key)


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    other = made_in(tmp_path, "other")
    told = refusal(Files(files.certificate, other.key))
    assert f"{files.certificate} with {other.key}: the key is not that of the first" in told


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(files: Files) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    files.key.write_bytes(in_pem(key, serialization.BestAvailableEncryption(b"secret")))
    assert f"{files.key} is encrypted, and nobody is asked for its password" in refusal(files)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be opened: No such file or directory"),
        (b"", "has no certificate in PEM"),
        (b"\x30\x82\x01\x0a", "has no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "has no certificate in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "they cannot be used (",
        ),
        (b"x" * (MAX_PEM_BYTES + 1), f"larger than {MAX_PEM_BYTES} bytes"),
    ],
)
def test_what_is_no_certificate_is_refused(files: Files, content: bytes | None, told: str) -> None:
    if content is None:
        files.certificate.unlink()
    else:
        files.certificate.write_bytes(content)
    refused = refusal(files)
    assert told in refused
    assert str(files.certificate) in refused


def test_what_is_no_key_is_refused_and_not_shown(files: Files) -> None:
    files.key.write_bytes(b"hunter2")
    assert refusal(files) == f"{files.key} has no private key in PEM: give a file that has one"
    head, tail = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    files.key.write_text(f"{head}\nhunter2\n{tail}\n")
    refused = refusal(files)
    assert "they cannot be used (" in refused
    assert "hunter2" not in refused


def test_a_directory_is_refused(files: Files) -> None:
    files.key.unlink()
    files.key.mkdir()
    assert f"{files.key} is no regular file" in refusal(files)


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_key_that_others_may_read_is_warned_about(
    files: Files, caplog: pytest.LogCaptureFixture, mode: int, is_told: bool
) -> None:
    files.key.chmod(mode)
    with caplog.at_level(logging.WARNING):
        opened(files)
    assert [f"chmod go-w,o-r {files.key}" in line for line in caplog.messages] == [True] * is_told


def test_what_is_new_is_taken_and_told_by_its_fingerprint(files: Files) -> None:
    certificates = opened(files)
    before = certificates.context()
    assert certificates.fresh() is None
    files.renew()
    pair = certificates.fresh()
    assert pair is not None
    assert certificates.context() is before
    assert certificates.use(pair).endswith(f"(SHA-256 {files.fingerprint})")
    assert certificates.context() is pair.context
    assert certificates.fresh() is None


def test_what_is_no_good_meanwhile_leaves_what_there_was(files: Files) -> None:
    certificates = opened(files)
    before, good = certificates.context(), files.key.read_bytes()
    files.key.write_bytes(b"")
    with pytest.raises(StartError):
        certificates.fresh()
    assert certificates.context() is before
    files.key.write_bytes(good)
    assert certificates.fresh() is None


# -- their end -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later_s", "told"),
    [
        (0, None),
        (16 * DAY_S - 60, None),
        (16 * DAY_S + 60, "expires in 13 days, at 20"),
        (29.5 * DAY_S, "expires in 0 days, at 20"),
        (30 * DAY_S + 60, "has expired, at 20"),
        (-2 * DAY_S, "is good from 20"),
    ],
)
def test_the_end_is_warned_of_two_weeks_before(
    files: Files, caplog: pytest.LogCaptureFixture, later_s: float, told: str | None
) -> None:
    made_s = files.end_s - 30 * DAY_S
    certificates = Certificates(files.certificate, files.key, lambda: made_s + later_s)
    certificates.fresh()  # which is what SIGHUP asks for
    said = [message for message in caplog.messages if str(files.certificate) in message]
    assert len(said) == (0 if told is None else 2)
    assert all(told is not None and told in message for message in said)


async def test_it_is_warned_of_again_and_again_while_a_server_runs(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    at_s = files.end_s - 30 * DAY_S
    certificates = await asyncio.to_thread(
        lambda: Certificates(files.certificate, files.key, lambda: at_s)
    )
    async with certificates.watched(every_s=0.0):
        for _ in range(10):
            await asyncio.sleep(0)
        assert caplog.messages == []
        at_s += 20 * DAY_S
        while len(caplog.messages) < 3:
            await asyncio.sleep(0)
        await asyncio.to_thread(files.renew, days=300)
        pair = await asyncio.to_thread(certificates.fresh)
        assert pair is not None
        certificates.use(pair)
        caplog.clear()
        for _ in range(10):
            await asyncio.sleep(0)
    assert caplog.messages == []
    assert DAY_S == 86_400


def test_metrics_say_when_the_one_expires_that_is_shown(files: Files) -> None:
    certificates = opened(files)
    for _ in range(2):
        (family,) = certificates.families()
        assert family.values == {(): files.end_s}
        files.renew(days=90)
        assert certificates.families() == [family]
        pair = certificates.fresh()
        assert pair is not None
        certificates.use(pair)
    (family,) = families_of()
    assert family.values == {}


def test_a_server_tells_of_the_end_at_its_start_and_in_its_metrics(
    start_server: StartServer, files: Files
) -> None:
    trusted = files.renew(days=5.5)
    server = start_server(*files.flags)
    status, _, body = ask(server, trusted, "GET", "/metrics")
    assert status == 200
    name = "tls_certificate_expiry_timestamp_seconds"
    assert parsed(body.decode())[name] == files.end_s
    assert f"the certificate of {files.certificate} expires in 5 days" in all_said(server)


@pytest.mark.parametrize("given", [{"tls_cert": "a"}, {"tls_key": "a"}])
def test_one_file_without_the_other_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(StartError, match="tls_cert and tls_key need each other"):
        Certificates.of(ProcessSettings(**given))  # type: ignore[arg-type]
    assert Certificates.of(ProcessSettings()) is None


def test_a_server_does_not_start_without_a_good_pair(
    start_server: StartServer, files: Files, data_dir: Path
) -> None:
    files.key.write_bytes(b"")
    with pytest.raises(AssertionError, match=f"error: {files.key} has no private key in PEM"):
        start_server(*files.flags)
    assert not data_dir.exists()
