"""What the tests of the benchmark share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.bench import client
from tools.compiler import find_compiler
from tools.node import running_in_ci

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def program() -> Path:
    """Compile the load client."""
    if find_compiler() is None:
        if running_in_ci():
            pytest.fail("There is no C compiler.", pytrace=False)
        pytest.skip("There is no C compiler: run scripts/setup bench.")
    return client.build()
