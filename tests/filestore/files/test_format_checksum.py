"""The fast CRC-32 and the one that is always there agree."""

import sys
import zlib
from importlib import import_module
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.format import checksum


@pytest.fixture(scope="module", params=["isal", "zlib"])
def implementation(request: pytest.FixtureRequest) -> ModuleType:
    """The module, with ISA-L and as it is where that is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setitem(sys.modules, "isal", None)
            patch.setitem(sys.modules, "isal.isal_zlib", None)
        patch.delitem(sys.modules, checksum.__name__)
        module = import_module(checksum.__name__)
    assert (module.crc32 is zlib.crc32) == (request.param == "zlib")
    return module


@given(data=st.binary(max_size=10_000), start=st.integers(0, 2**32 - 1))
def test_it_is_zlibs_crc32(implementation: ModuleType, data: bytes, start: int) -> None:
    assert implementation.crc32(data) == zlib.crc32(data)
    assert implementation.crc32(memoryview(data), start) == zlib.crc32(data, start)
