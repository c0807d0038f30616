"""Verifying: every byte that carries data is covered, and what is normal is no damage."""

import asyncio
import shutil
from pathlib import Path

import pytest

import durable_streams
from durable_streams.filestore.files import names
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.findings import Checked, Finding, Level, State
from durable_streams.maintenance.repair import repair
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create
from durable_streams.model.errors import DataDirectoryError
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Settings
from tests.copying import copy_live
from tests.filestore.files.staged_disk import StagedDisk
from tests.filestore.files.test_golden import GOLDEN
from tests.maintenance.conftest import is_sound
from tests.maintenance.unreadable import UnreadableDisk


def findings_of(directory: Path) -> tuple[Checked, list[Finding]]:
    found: list[Finding] = []
    checked = verify(directory, found.append)
    assert sum(checked.found.values()) == len(found)
    return checked, found


def damage_of(directory: Path) -> list[Finding]:
    return [finding for finding in findings_of(directory)[1] if finding.level is Level.DAMAGE]


def home(data: Path, path: str) -> Path:
    return data / "streams" / names.directory_of(parse_path_text(path))


def test_a_sound_directory_has_nothing_out_of_the_ordinary(data: Path) -> None:
    checked, found = findings_of(data)
    assert found == []
    assert is_sound(checked)
    assert checked.streams == 4
    segments = (data / "streams").rglob("*.seg")
    assert checked.data_bytes == sum(path.stat().st_size for path in segments)


def test_the_golden_directory_of_format_1_is_sound() -> None:
    checked, _ = findings_of(GOLDEN)
    assert is_sound(checked)
    assert checked.appends > 0


def test_one_stream_is_verified_by_its_directory(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(home(data, "chat/room"), tmp_path / "elsewhere@")
    checked, found = findings_of(copy)
    assert found == []
    assert (checked.streams, checked.appends) == (1, 8)


def test_a_flipped_bit_in_the_mark_of_a_fork_is_warned_of(data: Path) -> None:
    [mark] = home(data, "chat/room").glob("*.forks/*")
    sound = mark.read_bytes()
    for position in range(len(sound)):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << position % 8
        mark.write_bytes(flipped)
        checked, [finding] = findings_of(data)
        assert (finding.level, finding.file) == (Level.WARNING, mark)
        assert checked.state is State.TORN


def test_what_is_no_mark_of_a_fork_is_noted(data: Path) -> None:
    [marks] = home(data, "chat/room").glob("*.forks")
    (marks / "stranger").write_bytes(b"")
    _, [finding] = findings_of(data)
    assert (finding.level, finding.file) == (Level.NOTE, marks / "stranger")


def test_a_stream_is_named_by_the_text_of_its_path(tmp_path: Path) -> None:
    async def fill() -> None:
        async with durable_streams.open(tmp_path) as streams:
            await streams.create("runs%2F1", data=b"one")
            await streams.append("runs%2F1", b"two")

    asyncio.run(fill())
    [segment] = home(tmp_path, "runs%2F1").glob("*.seg")
    assert segment.parent.name == "runs%2f1@"
    segment.write_bytes(b"onetwX")
    [finding] = damage_of(tmp_path)
    assert finding.stream == "runs%2F1"
    repair(tmp_path, lambda _text: None, apply=True)
    checked, _ = findings_of(tmp_path)
    assert (is_sound(checked), checked.data_bytes) == (True, 3)


def test_verifying_changes_nothing(data: Path) -> None:
    def tree() -> dict[Path, tuple[bytes, int]]:
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in data.rglob("*")
            if path.is_file()
        }

    before = tree()
    findings_of(data)
    assert tree() == before


def test_a_flipped_bit_in_any_byte_of_any_stream_is_found_and_named(data: Path) -> None:
    files = [path for path in (data / "streams").rglob("*.*") if path.is_file()]
    assert {path.suffix for path in files} == {".seg", ".idx", ".json"}
    for path in files:
        sound = path.read_bytes()
        for position in range(len(sound)):
            flipped = bytearray(sound)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            named = [finding.file for finding in damage_of(path.parent)]
            assert path in named, position
        path.write_bytes(sound)


def test_a_flipped_bit_in_the_format_file_is_refused_by_name(data: Path) -> None:
    file = data / "FORMAT.json"
    sound = file.read_bytes()
    for position in range(sound.index(b"2") + 1):
        flipped = bytearray(sound)
        flipped[position] ^= 4
        file.write_bytes(flipped)
        with pytest.raises(DataDirectoryError, match=r"FORMAT\.json|data format"):
            verify(data, lambda _finding: None)


def test_a_flipped_bit_in_the_journal_is_found_and_named(data: Path) -> None:
    [file] = (data / "journal").iterdir()
    sound = file.read_bytes()
    position = sound.index(b'{"n": 3}')
    file.write_bytes(sound[:position] + b"?" + sound[position + 1 :])
    checked, [finding] = findings_of(data)
    assert finding.level is Level.WARNING
    assert "0.journal: batch" in str(finding)
    assert is_sound(checked)


@pytest.mark.parametrize("suffix", ["seg", "idx"])
def test_what_ends_early_is_normal_wherever_it_ends(data: Path, suffix: str) -> None:
    file = max(home(data, "chat/room").glob(f"*.{suffix}"))
    sound = file.read_bytes()
    file.unlink()  # not the fork's
    for size in range(len(sound) - 1):
        file.write_bytes(sound[:size])
        checked, found = findings_of(data)
        assert is_sound(checked), size
        assert [finding.level for finding in found], size


def test_files_of_different_moments_are_normal(data: Path) -> None:
    """Segment and index of the end, as a copier read them one after the other."""
    last = max(home(data, "chat/room").glob("*.seg"))
    sound = last.read_bytes()
    last.unlink()
    last.write_bytes(sound[:5])
    checked, found = findings_of(data)
    assert checked.state is State.TORN
    assert [finding.file for finding in found] == [last, data / "journal"]


def test_a_link_of_the_journal_that_leads_nowhere_is_named(data: Path) -> None:
    (data / "journal" / "9.journal").symlink_to("nowhere")
    [finding] = [found for found in findings_of(data)[1] if found.level is Level.UNREAD]
    assert finding.file == data / "journal" / "9.journal"


async def test_what_is_in_the_journal_only_is_noted_until_a_start_has_put_it_in_place(
    data: Path, tmp_path: Path
) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(data, Settings(), disk)
    disk.hold("pwrite", ".idx")
    bytes_type = "application/octet-stream"
    for path in ("new", "other", "deleted"):
        await engine.create(Create(parse_path_text(path), bytes_type), b"first")
    await engine.create(Create(("nothing-in-it",), bytes_type), b"")
    await engine.append(Append(("new",), bytes_type), b"second")
    await engine.delete(("deleted",))
    copy = copy_live(data, tmp_path / "copy")
    disk.heal()
    await engine.close()

    (note,) = (await asyncio.to_thread(findings_of, copy))[1]
    assert note.level is Level.TORN
    assert note.text == "3 streams have writes that are here only"
    await (await FileStore.at(copy, Settings())).close()
    assert (await asyncio.to_thread(findings_of, copy))[1] == []


def test_strange_files_are_noted(data: Path) -> None:
    (data / "streams" / "notes.txt").write_text("somebody's")
    (home(data, "empty") / "notes.txt").write_text("somebody's")
    (data / "streams" / "%zz@").mkdir()
    checked, found = findings_of(data)
    assert is_sound(checked)
    assert len(found) == 4  # the last one is no stream's path, and has no sidecar


def test_what_the_disk_refuses_to_read_is_damage_and_the_rest_is_checked(data: Path) -> None:
    found: list[Finding] = []
    checked = verify(data, found.append, disk=UnreadableDisk("bytes@"))
    assert [finding.stream for finding in found] == ["bytes"]
    assert not is_sound(checked)
    assert checked.streams == 4


def test_what_cannot_be_listed_is_damage_and_nothing_is_repaired_then(data: Path) -> None:
    found: list[Finding] = []
    disk = UnreadableDisk("chat")
    checked = verify(data, found.append, disk=disk)
    assert [(finding.level, finding.file.name) for finding in found] == [(Level.DAMAGE, "chat")]
    assert checked.streams == 3
    with pytest.raises(DataDirectoryError, match="chat cannot be listed"):
        repair(data, lambda _text: None, apply=False, disk=disk)


@pytest.mark.parametrize("name", ["missing", "file", "other"])
def test_what_is_no_data_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(DataDirectoryError):
        verify(tmp_path / name, lambda _finding: None)
