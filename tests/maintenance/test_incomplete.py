"""What is gone and what cannot be looked at, told apart from torn ends and from damage."""

import asyncio
import json
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams.filestore.files import names
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk, StrPath
from durable_streams.filestore.files.recovery import recover
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.commands import EXITS
from durable_streams.maintenance.findings import Checked, Finding, Level, State
from durable_streams.maintenance.repair import Outcome, repair
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create
from durable_streams.model.errors import StreamNotFound
from durable_streams.settings import Settings
from tests.copying import copy_live
from tests.filestore.files.history import History
from tests.filestore.files.recovering import FILES, applied, content, journaled
from tests.filestore.files.staged_disk import StagedDisk
from tests.maintenance.conftest import SETTINGS, is_sound
from tests.maintenance.test_commands import run
from tests.maintenance.test_repair import home, repaired, tree
from tests.maintenance.test_verify import findings_of
from tests.tags import assert_agree, tags

if TYPE_CHECKING:
    from durable_streams.filestore.format.journal import Record

ROOM = "chat/room"


def told_of(directory: Path, level: Level) -> list[Finding]:
    return [finding for finding in findings_of(directory)[1] if finding.level is level]


def sealed(data: Path, kind: str) -> list[Path]:
    """The files of a stream's segments that have a successor."""
    return sorted(home(data, ROOM).glob(f"*.{kind}"))[:-1]


def own(file: Path) -> bytes:
    """Take a file's other names away: the fork's stays as it is."""
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    return content


@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_a_sealed_file_that_is_gone_makes_the_stream_incomplete(data: Path, kind: str) -> None:
    for file in sealed(data, kind):
        sound = file.read_bytes()
        file.unlink()
        checked, _ = findings_of(data)
        assert checked.state is State.INCOMPLETE
        [finding] = told_of(data, Level.INCOMPLETE)
        assert (finding.file, finding.stream) == (file, ROOM)
        assert "it is gone, though segment" in finding.text
        assert "the stream ends at" in finding.meaning
        file.write_bytes(sound)
        assert findings_of(data)[0].state is State.SOUND


@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_a_sealed_file_that_ends_early_makes_the_stream_incomplete(data: Path, kind: str) -> None:
    file = sealed(data, kind)[0]
    sound = own(file)
    for size in range(len(sound)):
        file.write_bytes(sound[:size])
        assert [each.file for each in told_of(data, Level.INCOMPLETE)] == [file], size


def test_a_sidecar_that_is_gone_makes_the_stream_incomplete(data: Path) -> None:
    (home(data, "bytes") / names.SIDECAR).unlink()
    [finding] = told_of(data, Level.INCOMPLETE)
    assert finding.file == home(data, "bytes") / names.SIDECAR
    assert finding.meaning == "the stream answers 404"


def test_one_stream_is_incomplete_by_itself(data: Path) -> None:
    file = sealed(data, "seg")[0]
    file.unlink()
    assert [each.file for each in told_of(home(data, ROOM), Level.INCOMPLETE)] == [file]


def test_a_directory_without_streams_is_incomplete_if_it_has_a_journal(data: Path) -> None:
    shutil.rmtree(data / "streams")
    checked, found = findings_of(data)
    assert checked.state is State.INCOMPLETE
    assert found[0].file == data / "streams"
    shutil.rmtree(data / "journal")
    assert findings_of(data)[0].state is State.SOUND


def test_the_exit_status_tells_each_state_and_the_last_line_names_it(data: Path) -> None:
    assert sorted(EXITS.values()) == [0, 0, 1, 2, 3]

    def last_line() -> tuple[int, str]:
        code, out, _ = run("verify", data)
        return code, out.splitlines()[-1].partition("bytes: ")[2]

    assert last_line() == (0, "sound")
    index = max(home(data, "bytes").glob("*.idx"))
    index.write_bytes(index.read_bytes() + b'{"end')
    assert last_line() == (0, "torn (1 torn)")
    (data / "streams" / "loop").symlink_to("loop")
    assert last_line() == (2, "NOT ALL LOOKED AT (1 torn, 1 unread)")
    sealed(data, "seg")[0].unlink()
    assert last_line() == (3, "INCOMPLETE (1 torn, 1 unread, 1 incomplete)")
    segment = max(home(data, "bytes").glob("*.seg"))
    segment.write_bytes(segment.read_bytes().replace(b"f", b"F", 1))
    assert last_line() == (1, "DAMAGED (1 unread, 1 incomplete, 1 damage)")
    code, out, _ = run("verify", "--json", data)
    assert (code, json.loads(out.splitlines()[-1])["state"]) == (1, "damaged")


# -- with the journal ----------------------------------------------------------------------


def cut_history(directory: DataDirectory) -> History:
    """A killed server's directory: all is in the journal, and a sealed segment lost its end."""
    history = History()
    records: list[Record] = [
        history.create(b"one."),
        history.append(b"two."),
        history.append(b"three.", roll=True),
        history.append(b"four."),
    ]
    applied(directory, *records)
    journaled(directory, *records)
    [segment, _] = sorted(Path(directory.stream_directory(("s",))).glob("*.seg"))
    segment.write_bytes(b"one.tw")
    return history


def test_what_a_start_completes_from_the_journal_is_torn(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    cut_history(directory)
    checked, found = findings_of(data_dir)
    assert checked.state is State.TORN
    assert found[0].meaning == "a start completes it from the journal"
    assert content(directory) == b"one."
    recover(directory, FILES)
    assert content(directory) == b"one.two.three.four."
    directory.close()
    assert findings_of(data_dir)[0].state is State.SOUND


def test_without_its_journal_it_is_incomplete(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    cut_history(directory)
    directory.close()
    (data_dir / "journal" / "0.journal").unlink()
    assert findings_of(data_dir)[0].state is State.INCOMPLETE


def test_a_repair_leaves_to_the_journal_what_it_completes(data_dir: Path) -> None:
    directory = DataDirectory.open(Disk(), data_dir)
    cut_history(directory)
    directory.close()
    told: list[str] = []
    assert repair(data_dir, told.append, apply=False) == Outcome()
    assert repair(data_dir, told.append, apply=True) == Outcome()
    assert findings_of(data_dir)[0].state is State.SOUND


async def test_a_stream_half_copied_while_it_was_deleted_is_torn_if_the_journal_tells(
    data: Path,
) -> None:
    kept = shutil.copytree(home(data, ROOM), data.parent / "kept")
    async with durable_streams.open(data, SETTINGS) as streams:
        await streams.delete("fork")
        await streams.delete(ROOM)
    (kept / names.SIDECAR).unlink()
    await asyncio.to_thread(shutil.copytree, kept, home(data, ROOM))
    checked, found = await asyncio.to_thread(findings_of, data)
    assert checked.state is State.TORN
    assert "the journal says that the stream was deleted" in {each.meaning for each in found}


async def test_what_a_start_does_not_bring_back_is_not_promised(data: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, home(data, "bytes"))
    [finding] = await asyncio.to_thread(told_of, data, Level.TORN)
    assert finding.text == "1 stream has writes here that are not in the files: bytes"
    assert finding.meaning.startswith("a start does not bring them back")
    async with durable_streams.open(data, SETTINGS) as streams:
        with pytest.raises(StreamNotFound):
            await streams.read("bytes")


async def test_appends_that_wait_for_a_stream_that_is_gone_are_not_promised(
    data: Path, tmp_path: Path
) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(data, Settings(), disk)
    disk.hold("pwrite", ".idx")
    await engine.create(Create(("new",), "text/plain"), b"first")
    await engine.append(Append(("empty",), "application/octet-stream"), b"x")
    copy = copy_live(data, tmp_path / "copy")
    disk.heal()
    await engine.close()
    await asyncio.to_thread(shutil.rmtree, home(copy, "empty"))
    found = await asyncio.to_thread(told_of, copy, Level.TORN)
    assert [each.text for each in found] == [
        "1 stream has writes that are here only",
        "1 stream has writes here that are not in the files: empty",
    ]
    async with durable_streams.open(copy, SETTINGS) as streams:
        assert (await streams.read("new")).data == b"first"
        with pytest.raises(StreamNotFound):
            await streams.read("empty")


# -- what cannot be looked at ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["loop", "loop@"])
def test_a_symbolic_link_to_itself_cannot_be_looked_at(data: Path, name: str) -> None:
    (data / "streams" / name).symlink_to(name)
    checked, [finding] = findings_of(data)
    assert (checked.state, finding.level) == (State.UNREAD, Level.UNREAD)
    assert finding.file == data / "streams" / name
    assert "Too many levels of symbolic links" in finding.text


def test_a_symbolic_link_to_a_directory_above_it_is_not_followed(data: Path) -> None:
    (data / "streams" / "chat" / "again").symlink_to("..")
    (data / "streams" / "other").mkdir()
    (data / "streams" / "other" / "back").symlink_to("../chat")
    (data / "streams" / "chat" / "forth").symlink_to("../other")
    checked, found = findings_of(data)
    assert is_sound(checked)
    assert "it is a link to a directory above it" in {each.text for each in found}
    assert len(found) < 8


def test_a_directory_in_a_file_s_place_is_named(data: Path) -> None:
    for file in (home(data, "bytes") / names.SIDECAR, *home(data, "empty").glob("meta.json")):
        file.unlink()
        file.mkdir()
    segment = max(home(data, ROOM).glob("*.seg"))
    segment.unlink()
    segment.mkdir()
    checked, found = findings_of(data)
    assert checked.state is State.UNREAD
    assert {each.file for each in found} == {
        home(data, "bytes") / names.SIDECAR,
        home(data, "empty") / names.SIDECAR,
        segment,
    }
    assert repair(data, lambda _text: None, apply=False) == Outcome(left=3)


class ForbiddingDisk(Disk):
    """Files that belong to somebody else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open_read(self, path: StrPath) -> int:
        if Path(path).name == self._name:
            raise PermissionError(13, os.strerror(13), str(path))
        return super().open_read(path)


@pytest.mark.parametrize("kind", ["seg", "idx", "json", "journal"])
def test_a_file_that_may_not_be_read_is_named(data: Path, kind: str) -> None:
    [file, *_] = (
        sorted(data.rglob(f"*.{kind}")) if kind != "json" else [home(data, "bytes") / names.SIDECAR]
    )
    found: list[Finding] = []
    checked = verify(data, found.append, disk=ForbiddingDisk(file.name))
    assert checked.state is State.UNREAD
    assert file in {each.file for each in found}
    assert all("Permission denied" in each.text for each in found)


def test_a_newer_version_s_stream_cannot_be_looked_at_and_is_left_by_a_repair(data: Path) -> None:
    sidecar = home(data, "bytes") / names.SIDECAR
    newer = sidecar.read_bytes().replace(b'"format": 1', b'"format": 3,\n  "new": 0')
    sidecar.write_bytes(newer)
    checked, found = findings_of(data)
    assert checked.state is State.UNREAD
    assert found[0].file == sidecar
    assert "written by a newer version" in found[0].text
    told: list[str] = []
    assert repair(data, told.append, apply=False) == Outcome(left=1)
    assert "written by a newer version" in told[0]
    assert sidecar.read_bytes() == newer


def test_a_tree_that_vanishes_while_it_is_looked_at_is_no_finding(data: Path) -> None:
    class VanishingDisk(Disk):
        """A server deletes a stream while it is checked."""

        def names(self, path: StrPath) -> list[str]:
            found = super().names(path)
            if Path(path) == home(data, ROOM):
                shutil.rmtree(path)
            return found

    found: list[Finding] = []
    checked: Checked = verify(data, found.append, disk=VanishingDisk())
    assert all(each.level is Level.TORN for each in found)
    assert is_sound(checked)
    assert checked.streams == 3


# -- repair ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["seg", "idx"])
def test_an_incomplete_stream_is_cut_and_everything_of_it_is_kept(data: Path, kind: str) -> None:
    sealed(data, kind)[0].unlink()
    before = tree(data)
    told: list[str] = []
    assert repair(data, told.append, apply=False) == Outcome(repaired=1)
    assert tree(data) == before
    assert "put it back if you have it, else keep everything up to offset" in told[0]
    assert "stream chat/room: incomplete, " in told[0]
    repaired(data)
    assert is_sound(findings_of(data)[0])
    kept = sum(len(each) for each in tree(data / "aside").values())
    left = sum(path.stat().st_size for path in home(data, ROOM).glob("*-*"))
    whole = sum(len(text) for path, text in before.items() if path.parent == home(data, ROOM))
    assert kept + left == whole - len(before[home(data, ROOM) / names.SIDECAR])
    assert repair(data, lambda _text: None, apply=False) == Outcome()


async def test_a_repaired_stream_goes_on_with_other_etags_and_is_no_longer_incomplete(
    data: Path,
) -> None:
    async with durable_streams.open(data, SETTINGS) as streams:
        before = await tags(streams.engine, ROOM)
    sealed(data, "seg")[0].unlink()
    await asyncio.to_thread(repaired, data)
    for _ in range(2):
        async with durable_streams.open(data, SETTINGS) as streams:
            for number in range(9):
                await streams.append(ROOM, b'{"again": %d}' % number)
            assert_agree(before, await tags(streams.engine, ROOM))
    assert is_sound((await asyncio.to_thread(findings_of, data))[0])


def test_a_stream_without_its_sidecar_is_moved_as_a_whole_and_said_to_be(data: Path) -> None:
    (home(data, "bytes") / names.SIDECAR).unlink()
    told = repaired(data)
    assert (
        "stream bytes: no sidecar tells what it is; put meta.json back if you have it, "
        "else move it aside whole"
    ) in told
    assert not home(data, "bytes").exists()
    assert list((data / "aside").rglob("bytes@"))


@pytest.mark.parametrize("apply", [False, True])
def test_a_directory_without_streams_is_left_as_it_is(data: Path, apply: bool) -> None:
    shutil.rmtree(data / "streams")
    before = tree(data)
    told: list[str] = []
    assert repair(data, told.append, apply=apply) == Outcome(left=1)
    assert "streams is gone: left" in told[0]
    assert tree(data) == before
    assert not (data / "streams").exists()


# -- what a live copy may show ---------------------------------------------------------------


def moments() -> list[dict[str, bytes]]:
    """A stream's files after each write of a server, begun segments included."""
    history = History()
    files = {names.SIDECAR: history.create().sidecar}
    seen = [dict(files)]
    for number in range(9):
        record = history.append(b"append %d." % number, roll=number % 2 == 0 and number > 0)
        segment = names.segment_file(record.segment, history.id)
        index = names.index_file(record.segment, history.id)
        for name in (segment, index):
            files.setdefault(name, b"")
            seen.append(dict(files))
        for name, more in ((segment, record.data), (index, record.index)):
            for piece in (more[:3], more[3:]):
                files[name] += piece
                seen.append(dict(files))
    return seen


def state_of(directory: Path, files: dict[str, bytes]) -> State:
    stream = directory / "s@"
    shutil.rmtree(stream, ignore_errors=True)
    stream.mkdir()
    for name, text in files.items():
        (stream / name).write_bytes(text)
    return findings_of(stream)[0].state


def test_a_copy_by_a_tool_that_lists_a_directory_first_is_sound_or_torn(tmp_path: Path) -> None:
    """In whatever order, and however much later, it copies the files that it listed."""
    rng = random.Random(3)
    seen = moments()
    for _ in range(300):
        listed = rng.randrange(len(seen))
        copied = {name: rng.choice(seen[listed:])[name] for name in seen[listed]}
        assert state_of(tmp_path, copied) in {State.SOUND, State.TORN}


def test_a_copy_by_a_tool_that_lists_it_again_may_be_incomplete(tmp_path: Path) -> None:
    """It has a file from before the end of its segment, and later ones."""
    first, last = moments()[4], moments()[-1]
    assert state_of(tmp_path, last | first) is State.INCOMPLETE


def test_a_copy_of_a_stream_that_was_deleted_meanwhile_may_be_anything_but_damaged(
    tmp_path: Path,
) -> None:
    last = moments()[-1]
    rng = random.Random(4)
    states = {
        state_of(tmp_path, {name: last[name] for name in rng.sample(sorted(last), count)})
        for count in range(len(last))
        for _ in range(10)
    }
    assert states == {State.TORN, State.INCOMPLETE}
