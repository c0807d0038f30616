"""A URL that no driver reads becomes no directory, and its password is told nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable_streams import DataDirectoryError
from durable_streams import open as open_streams
from durable_streams.cli import main

SECRET = "geh3im"
NAME = f"postgresql+asyncpg://ds:{SECRET}@db1/streams"


@pytest.mark.parametrize(
    "words",
    [
        ("verify", NAME),
        ("store", "copy", "data", NAME),
        ("store", "copy", NAME, "data"),
        ("serve", "--store", NAME),
    ],
)
def test_a_verb_refuses_it(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(list(words)) not in {0, 70}
    assert SECRET not in "".join(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []


async def test_the_library_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataDirectoryError, match="postgresql://") as refused:
        async with open_streams(NAME):
            pass
    assert SECRET not in str(refused.value)
    assert await asyncio.to_thread(lambda: list(Path().iterdir())) == []
