"""What TLS costs is measured, in small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.programs import find_program
from tools.bench.tls import Costs, Sizes, measure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(find_program("openssl") is None, reason="makes a certificate with openssl")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_each_thing_is_measured_plain_and_with_tls(tmp_path: Path, loop: str) -> None:
    found = measure(tmp_path, loop, Sizes(rounds=1, mib=2, appends=5, connections=3, idle=20))
    assert len(found) == 4
    assert all(min(*plain, *tls) > 0 for plain, tls in list(found.values())[:3])


def test_what_overlaps_is_said_to_be_not_told_apart() -> None:
    assert "NOT TOLD APART" in str(Costs([3.0, 5.0], [4.0, 6.0]))
    told = "plain     2.0 (1.0 to 3.0)   TLS     4.0 (4.0 to 4.0)"
    assert str(Costs([1.0, 2.0, 3.0], [4.0])) == told
