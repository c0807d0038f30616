"""What TLS costs is measured, in small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.programs import find_program
from tools.bench.tls import Sizes, measure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(find_program("openssl") is None, reason="makes a certificate with openssl")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_each_thing_is_measured_plain_and_with_tls(tmp_path: Path, loop: str) -> None:
    found = measure(tmp_path, loop, Sizes(rounds=1, mib=2, appends=5, connections=3, idle=20))
    assert len(found) == 4
    assert all(plain > 0 and tls > 0 for plain, tls in list(found.values())[:3])
