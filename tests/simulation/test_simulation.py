"""What was acknowledged survives every power cut: seeded, on the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.writer import StreamWriter
from tools.simulation.world import run

if TYPE_CHECKING:
    from durable_streams.filestore.format.journal import AppendRecord

SEEDS_A_TEST = 25

# Seeds beyond those of every run that failed once.  Draws move with every change of the engine or
# of the world, so each bug has a test of its own as well, in tests/filestore.
FOUND = {
    318: "404 while the deletion was not durable yet, and then the stream was there again",
    323: "files were left open after a checkpoint that failed",
    358: "the name of the data directory was never synced; the sidecar of a fork was torn in tmp/",
    408: "a second DELETE of a source was acknowledged before the first was durable",
    739: "a deletion that failed brought a stream back that others had been told was gone",
    201764: "a source could not be deleted as another stream at a fork's path was not stored",
    201951: "a fork was refused as its source's file was shorter for a moment",
    901737: "a stream among others' files was not deleted while its sidecar was away",
    960399: "a sidecar that was torn under fsync was given up by an unsynced run",
    960876: "a deletion in pieces, unsynced: the stream came back without some of them",
    970114: "in the world: a sidecar was not put back, as nothing else of its fork was durable",
    949: "a journal file made by a server that was killed: its name was never synced",
}


@pytest.mark.parametrize("first", range(0, 300, SEEDS_A_TEST))
def test_what_was_acknowledged_survives(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        try:
            assert run(seed) > 0
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("seed", FOUND, ids=lambda seed: f"seed-{seed}")
def test_seeds_that_once_found_a_bug(seed: int) -> None:
    assert run(seed) > 0


def test_a_bug_in_a_thread_of_the_engine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(_self: StreamWriter, _first: AppendRecord, _data: bytes, _index: bytes) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(StreamWriter, "append", append)
    with pytest.raises(KeyError, match="a bug"):
        run(1)
