"""From when to when a certificate is good, as its bytes say it."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.process.validity import Validity, validity_of
from tests.certificates import signed

KEY = ec.generate_private_key(ec.SECP256R1())


def made(begin: dt.datetime, end: dt.datetime) -> bytes:
    return signed(KEY, "localhost", begin, end).public_bytes(serialization.Encoding.DER)


GOOD = made(dt.datetime(2026, 1, 31, tzinfo=dt.UTC), dt.datetime(2027, 2, 28, tzinfo=dt.UTC))


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("1951-01-01T00:00:00", "1999-12-31T23:59:59"),
        ("2026-11-30T10:00:00", "2027-02-28T12:34:56"),
        ("2049-12-31T23:59:59", "2050-01-01T00:00:00"),  # the year is whole from then on
        ("2100-01-01T00:00:00", "9999-12-31T23:59:59"),  # never
    ],
)
def test_both_ways_to_write_a_time_are_read(begin: str, end: str) -> None:
    first, last = (dt.datetime.fromisoformat(f"{text}Z") for text in (begin, end))
    der = made(first, last)
    assert validity_of(der) == Validity(first.timestamp(), last.timestamp())
    known = x509.load_der_x509_certificate(der)
    assert known.not_valid_after_utc == last


def test_what_ends_too_early_is_none() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(ValueError, match=r"."):
            validity_of(GOOD[:size])


@given(at=st.integers(0, 200), bits=st.integers(1, 255))
def test_what_is_damaged_is_read_or_is_none(at: int, bits: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= bits
    try:
        found = validity_of(bytes(damaged))
    except ValueError:
        return
    assert isinstance(found, Validity)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_are_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        validity_of(data)
