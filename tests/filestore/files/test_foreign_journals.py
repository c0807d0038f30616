"""Recovery with a journal that is not, or not only, the one of the files beside it."""

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.recovery import recover
from tests.filestore.files.history import OTHER_ID, History
from tests.filestore.files.recovering import FILES, applied, content, home, journal, journaled, tree
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from durable_streams.filestore.format.journal import Record


def test_what_does_not_continue_the_files_is_left_out_and_told(directory: DataDirectory) -> None:
    history, other = History(), History()
    applied(directory, other.create(b"another life."), other.append(b"longer than that"))
    before = tree(directory)
    history.create(b"one.")
    journaled(directory, history.append(b"two."), history.append(b"three."))
    recovery = recover(directory, FILES)
    assert tree(directory) == before
    assert (recovery.records, recovery.left_out) == (0, 2)
    assert "left out 2" in str(recovery)


def test_a_journal_of_another_server_changes_nothing(directory: DataDirectory) -> None:
    history = History()
    applied(directory, history.create(b"one."))
    before = tree(directory)
    foreign = History(stream_id=OTHER_ID)
    foreign.create(b"one.")
    journaled(directory, foreign.append(b"two."), foreign.change(cuts=1), foreign.delete())
    recover(directory, FILES)
    assert tree(directory) == before


def test_files_that_prove_more_than_the_journal_are_not_shortened(directory: DataDirectory) -> None:
    history = History()
    records: list[Record] = [
        history.create(b"one."),
        history.append(b"two."),
        history.append(b"three."),
    ]
    applied(directory, *records)
    before = tree(directory)
    journaled(directory, *records[:2])  # an older journal, from a backup
    recover(directory, FILES)
    assert tree(directory) == before


@pytest.mark.parametrize("journal_has", ["all of it", "one append before", "nothing before"])
@pytest.mark.parametrize("journal_rolls", [False, True])
@pytest.mark.parametrize("files_roll", [False, True])
def test_what_files_prove_is_not_overwritten_by_another_continuation(
    directory: DataDirectory, *, files_roll: bool, journal_rolls: bool, journal_has: str
) -> None:
    """The stream was copied and has lived on in two places; the journal is of the other one."""
    here = History()
    common: list[Record] = [here.create(b"common."), here.append(b"too.")]
    there = copy.deepcopy(here)
    applied(directory, *common, here.append(b"here.", roll=files_roll), here.append(b"and here."))
    before = tree(directory)
    known = {"all of it": 0, "one append before": 1, "nothing before": 2}[journal_has]
    foreign: list[Record] = [
        there.append(b"there and longer", roll=journal_rolls),
        there.append(b"than what is here."),
    ]
    journaled(directory, *common[known:], *foreign)
    recovery = recover(directory, FILES)
    assert tree(directory) == before
    assert content(directory) == b"common.too.here.and here."
    assert (recovery.records, recovery.left_out) == (2 - known, 2)


@pytest.mark.parametrize("journal_rolls", [False, True])
def test_another_continuation_that_lacks_its_bytes_proves_nothing(
    directory: DataDirectory, *, journal_rolls: bool
) -> None:
    here = History()
    created = here.create(b"common.")
    there = copy.deepcopy(here)
    applied(directory, created, here.append(b"here."))
    [segment] = home(directory).glob("*.seg")
    segment.write_bytes(b"common.he")
    journaled(directory, there.append(b"there.", roll=journal_rolls))
    recovery = recover(directory, FILES)
    assert content(directory) == b"common.there."
    assert (recovery.records, recovery.left_out) == (1, 0)


def test_the_journal_of_a_hard_link_copy_is_still_that_of_the_original(
    directory: DataDirectory, disk: StagedDisk, tmp_path: Path
) -> None:
    history = History()
    journaled(directory, history.create(b"one."), history.append(b"two."))
    link_tree(directory.root, tmp_path / "copy")
    (tmp_path / "copy" / "LOCK").unlink()
    other = DataDirectory.open(disk, tmp_path / "copy")
    with journal(other, recover(other, FILES)) as opened:
        opened.write([history.append(b"three.")])
    assert content(other) == b"one.two."
    other.close()
    recovery = recover(directory, FILES)
    assert content(directory) == b"one.two."
    assert recovery.records == 2


def link_tree(source: Path, target: Path) -> None:
    """``cp -al``."""
    for path in [source, *sorted(source.rglob("*"))]:
        new = target / path.relative_to(source)
        if path.is_dir():
            new.mkdir()
        else:
            os.link(path, new)
