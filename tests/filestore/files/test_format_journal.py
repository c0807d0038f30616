from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.format.journal import (
    BATCH_HEADER_BYTES,
    FILE_HEADER_BYTES,
    AdoptRecord,
    AppendRecord,
    CreateRecord,
    DeleteRecord,
    FileHeader,
    ForkRecord,
    Record,
    SidecarRecord,
    pack_batch,
    pack_header,
    pack_records,
    unpack_batch,
    unpack_header,
    unpack_records,
)
from tests.filestore.files.flips import every_flip
from tests.filestore.files.history import ID

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(0, 2**53)
BYTES = st.binary(max_size=40)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(CreateRecord, TEXTS, TEXTS, BYTES, BYTES, BYTES),
    st.builds(AdoptRecord, TEXTS, TEXTS),
    st.builds(AppendRecord, TEXTS, TEXTS, NUMBERS, NUMBERS, NUMBERS, BYTES, BYTES, BYTES),
    st.builds(SidecarRecord, TEXTS, TEXTS, NUMBERS, BYTES),
    st.builds(ForkRecord, TEXTS, TEXTS, TEXTS, TEXTS),
    st.builds(DeleteRecord, TEXTS, TEXTS),
)
PAYLOAD = pack_records([AppendRecord("s", ID, 0, 5, 200, b"8 bytes.", b"line\n", b"data")])
FILE = FileHeader(generation=3, first=41, salt=0x5EED)
BATCH = b"".join(pack_batch(FILE, 41, 40, 12, PAYLOAD))


def test_a_file_header_has_the_specified_bytes() -> None:
    data = pack_header(FILE)
    assert len(data) == FILE_HEADER_BYTES
    assert data[:8] == b"DSTREAMJ"
    assert struct.unpack("<I", data[8:12]) == (1,)
    assert struct.unpack("<QQQ", data[16:]) == (3, 41, 0x5EED)


def test_a_batch_has_the_specified_bytes() -> None:
    assert BATCH[:4] == b"DJSB"
    fields = struct.unpack_from("<QQQQI", BATCH, 8)
    assert fields == (3, 41, 40, 12, len(PAYLOAD[0]))
    assert [BATCH[BATCH_HEADER_BYTES:]] == PAYLOAD


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_file_header_comes_back(generation: int, first: int) -> None:
    header = FileHeader(generation, first, 7)
    assert unpack_header(pack_header(header)) == header


@given(st.lists(RECORDS, max_size=4), st.binary(max_size=9), st.binary(max_size=9))
def test_a_batch_comes_back_from_anywhere_in_a_file(
    records: list[Record], before: bytes, behind: bytes
) -> None:
    batch = b"".join(pack_batch(FILE, 41, 40, 12, pack_records(records)))
    read = unpack_batch(memoryview(before + batch + behind), len(before), FILE)
    assert read is not None
    assert (read.number, read.synced, read.checkpointed, read.size_bytes) == (
        41,
        40,
        12,
        len(batch),
    )
    assert unpack_records(read.payload) == records


@given(st.lists(RECORDS, max_size=20), st.integers(0, 20), st.booleans())
def test_large_data_is_a_piece_of_its_own_and_changes_no_byte(
    records: list[Record], place: int, first: bool
) -> None:
    data = b"x" * 65536
    large = (
        CreateRecord("s", ID, b"{}", b"line\n", data)
        if first
        else AppendRecord("s", ID, 0, 5, 200, b"8 bytes.", b"line\n", data)
    )
    records.insert(place, large)
    pieces = pack_records(records)
    assert any(piece is data for piece in pieces)
    assert b"".join(pieces) == msgspec.msgpack.encode(records)


def test_every_flipped_bit_of_a_batch_is_noticed() -> None:
    for position, damaged in every_flip(BATCH):
        assert unpack_batch(memoryview(damaged), 0, FILE) is None, f"byte {position}"


def test_every_flipped_bit_of_a_file_header_is_noticed() -> None:
    for position, damaged in every_flip(pack_header(FILE)):
        assert unpack_header(damaged) is None, f"byte {position}"


def test_a_torn_batch_is_none_wherever_it_ends() -> None:
    for size in range(len(BATCH)):
        assert unpack_batch(memoryview(BATCH[:size]), 0, FILE) is None


def test_a_torn_file_header_is_none() -> None:
    for size in range(FILE_HEADER_BYTES):
        assert unpack_header(pack_header(FILE)[:size]) is None


def test_a_batch_of_another_use_of_the_file_is_none() -> None:
    assert unpack_batch(memoryview(BATCH), 0, FILE._replace(generation=2)) is None


def test_zeros_are_no_batch_of_any_generation() -> None:
    assert unpack_batch(memoryview(bytes(1000)), 0, FILE) is None


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x91\xa5weird", b"\x80"])
def test_a_payload_that_is_no_record_list_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        unpack_records(payload)


def test_a_batch_of_another_salt_is_none() -> None:
    assert unpack_batch(memoryview(BATCH), 0, FILE._replace(salt=1)) is None
