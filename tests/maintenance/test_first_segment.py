"""Streams that do not begin at segment 0, and the file of removed paths, before the tools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.removed_file import NAME
from durable_streams.filestore.format.removed import Removed, pack, unpack
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.dump import dump
from durable_streams.maintenance.findings import Level, State
from durable_streams.maintenance.repair import repair
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create
from durable_streams.model.offsets import Offset
from durable_streams.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.maintenance.findings import Checked, Finding

BYTES: Final = "application/octet-stream"
SETTINGS: Final = Settings(segment_bytes=30)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A stream ``s`` whose segments are 3, 4 and 5, of three appends each but the last."""
    data = tmp_path / "data"
    engine = await FileStore.at(data, SETTINGS)
    for letter in (b"o", b"n"):
        if letter == b"n":
            await engine.delete(("s",))
        await engine.create(Create(("s",), BYTES), b"")
        for _ in range(7):
            await engine.append(Append(("s",), BYTES), letter * 10)
    await engine.close()
    return data


def home(data: Path) -> Path:
    return data / "streams" / names.directory_of(("s",))


def file_of(data: Path, number: int, kind: str) -> Path:
    [found] = home(data).glob(f"{number:016d}-*.{kind}")
    return found


def findings_of(data: Path) -> tuple[Checked, list[Finding]]:
    found: list[Finding] = []
    return verify(data, found.append), found


def test_such_a_directory_is_sound(data: Path) -> None:
    checked, found = findings_of(data)
    assert found == []
    assert (checked.appends, checked.data_bytes) == (7, 70)
    assert unpack((data / NAME).read_bytes()) == Removed(0, {"s": 3})


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_flipped_bit_is_damage_in_the_first_segment_as_in_any(data: Path, number: int) -> None:
    for kind in ("seg", "idx"):
        file = file_of(data, number, kind)
        sound = file.read_bytes()
        file.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
        checked, [finding] = findings_of(data)
        assert (checked.state, finding.file) == (State.DAMAGED, file)
        file.write_bytes(sound)


@pytest.mark.parametrize("number", [3, 4])
def test_a_missing_file_makes_it_incomplete(data: Path, number: int) -> None:
    file_of(data, number, "idx").unlink()
    checked, found = findings_of(data)
    assert checked.state is State.INCOMPLETE
    [finding] = [finding for finding in found if finding.level is Level.INCOMPLETE]
    assert f"{number:016d}" in finding.file.name


async def test_repair_cuts_it_and_it_goes_on_from_there(data: Path) -> None:
    file = file_of(data, 4, "seg")
    file.write_bytes(b"n" * 12 + b"x" + b"n" * 17)
    told: list[str] = []
    outcome = await asyncio.to_thread(repair, data, told.append, apply=True)
    assert outcome.repaired == 1
    assert any(Offset(4, 10).token in line for line in told)
    engine = await FileStore.at(data, SETTINGS)
    assert (await engine.append(Append(("s",), BYTES), b"m" * 10)).tail == Offset(4, 20)
    with await engine.read(await engine.open(("s",)), Offset(3, 30)) as chunk:
        assert await engine.bytes_of(chunk) == b"n" * 10 + b"m" * 10
    await engine.close()
    checked, _ = await asyncio.to_thread(findings_of, data)
    assert checked.state in {State.SOUND, State.TORN}


def test_dump_shows_where_it_begins(data: Path) -> None:
    lines = list(dump(home(data)))
    assert '  "format": 2,' in lines
    assert '  "first": 3,' in lines
    assert f"ends at {Offset(5, 10).token}, open" in lines


def test_dump_shows_what_the_journal_says_of_a_removal(data: Path) -> None:
    lines = list(dump(data))
    assert any("delete 's' " in line and "next_segment 3" in line for line in lines)


def test_dump_shows_the_file_of_removed_paths(data: Path) -> None:
    lines = list(dump(data / NAME))
    assert '    "s": 3' in lines
    (data / NAME).write_bytes(pack(Removed(0, {"s": 3})).replace(b"3", b"4"))
    assert next(dump(data / NAME)) == "DAMAGED: its checksum does not match"


@pytest.mark.parametrize("text", [b"", b"nonsense"])
def test_verify_warns_of_a_damaged_file_of_removed_paths(data: Path, text: bytes) -> None:
    (data / NAME).write_bytes(text)
    _, [finding] = findings_of(data)
    assert (finding.level, finding.file) == (Level.WARNING, data / NAME)
    assert "caches may mix up" in finding.meaning
